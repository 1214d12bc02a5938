"""An object store, or any place that a URL names, as files by name: pyarrow knows how to reach it.

    s3://bucket/prefix    Amazon S3, and what speaks its protocol (?endpoint_override=HOST:PORT)
    gs://bucket/prefix    Google Cloud Storage
    abfs://container@account.dfs.core.windows.net/prefix    Azure
    file:///folder        a folder that all nodes have

Who may enter is said by each machine's environment, as with the stores' own tools; never by a URL,
which is written down. The only module that reaches a store.
"""

from __future__ import annotations

import errno
import io
import os
import re
import shutil
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tunesmith.core.errors import Fault, MachineError, RecipeError

WHERE = "recipe: target.storage"
SCHEMES = ("s3", "gs", "gcs", "abfs", "abfss", "file")
CODE = "storage"
PART_BYTES = 8 * 2**20

# What the libraries of the stores say, and what it means. The first that is found counts.
MEANINGS = (
    (
        r"access.?denied|forbidden|signature|invalid_access_key|invalidaccesskey|unauthorized|"
        r"permission|credential|authenticat",
        "access is denied",
        "give this machine the right to read and write there, in the environment that the store's "
        "own tools use (AWS_ACCESS_KEY_ID and so on) and with which Ray was started on each node",
    ),
    (
        r"no.?such.?bucket|bucket.{0,80}(not found|does not exist)|container.{0,40}not.{0,8}exist",
        "there is no such bucket",
        "make the bucket, or correct its name",
    ),
    (
        r"network_connection|resolve|connect|timed? ?out|unreachable",
        "it cannot be reached",
        "check the address and the network of this machine",
    ),
    (
        r"no_such_key|nosuchkey|path does not exist|\[errno 2\]",
        "the file is not there",
        "see whether somebody has deleted it",
    ),
    (r"no space|quota|entitytoolarge|\[errno 28\]", "it is full", "make room there"),
)


@dataclass(frozen=True)
class ObjectStore:
    """Files by name below a URL."""

    url: str
    system: Any
    base: str

    def put(self, name: str, file: Path) -> None:
        """Send a file.

        Raises:
            MachineError: the store does not take it.
            FileNotFoundError: the file is gone.
        """
        with file.open("rb") as source:
            self._write(name, source)

    def put_bytes(self, name: str, content: bytes) -> None:
        """Send a few bytes.

        Raises:
            MachineError: the store does not take them.
        """
        self._write(name, io.BytesIO(content))

    def get(self, name: str, file: Path) -> None:
        """Fetch a file; what is at `file` is replaced once all of it is here.

        Raises:
            MachineError: the store does not give it, or has none.
            OSError: it cannot be written here.
        """
        half = file.with_name(f".{file.name}.{os.getpid()}-{uuid.uuid4().hex[:8]}.tmp")
        try:
            with half.open("wb") as target:
                try:
                    source = self.system.open_input_stream(self._at(name))
                except OSError as error:
                    raise self._error(error, name) from error
                with source:
                    while part := self._read(source, name):
                        target.write(part)
            os.replace(half, file)
        finally:
            half.unlink(missing_ok=True)

    def get_bytes(self, name: str) -> bytes | None:
        """Fetch a small file; None where there is none.

        Raises:
            MachineError: the store does not give it.
        """
        try:
            with self.system.open_input_stream(self._at(name)) as source:
                return bytes(source.read())
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._error(error, name) from error

    def sizes(self, under: str) -> dict[str, int]:
        """Return the size of every file below a name, by its name from there.

        Raises:
            MachineError: the store does not say.
        """
        from pyarrow.fs import FileSelector, FileType

        self.require_folder()
        place = self._at(under)
        try:
            found = self.system.get_file_info(
                FileSelector(place, recursive=True, allow_not_found=True)
            )
        except OSError as error:
            raise self._error(error, under) from error
        return {
            one.path.removeprefix(place).lstrip("/"): int(one.size)
            for one in found
            if one.type == FileType.File
        }

    def size(self, name: str) -> int | None:
        """Return the size of a file; None where there is none.

        Raises:
            MachineError: the store does not say.
        """
        from pyarrow.fs import FileType

        try:
            (info,) = self.system.get_file_info([self._at(name)])
        except OSError as error:
            raise self._error(error, name) from error
        return int(info.size) if info.type == FileType.File else None

    def delete(self, name: str) -> None:
        """Delete a file, if there is one.

        Raises:
            MachineError: the store does not do it.
        """
        try:
            self.system.delete_file(self._at(name))
        except FileNotFoundError:
            return
        except OSError as error:
            raise self._error(error, name) from error

    def require_folder(self) -> None:
        """See to it that a store which is a folder is there: its disk may not be mounted.

        Raises:
            MachineError: it is not.
        """
        if not self._is_local or Path(self.base).is_dir():
            return
        fault = Fault(
            found=f"there is no folder {self.base}",
            where=WHERE,
            fix="make it, or see to it that its disk is mounted on every node",
        )
        raise MachineError(fault, code=CODE)

    def _write(self, name: str, source: Any) -> None:
        self.require_folder()
        place = self._at(name)
        try:
            if self._is_local:  # a bucket has no folders, and shows an object when it is whole
                self.system.create_dir(os.path.dirname(place), recursive=True)
                half = f"{place}.{uuid.uuid4().hex[:8]}.tmp"
                try:
                    with self.system.open_output_stream(half) as target:
                        shutil.copyfileobj(source, target, PART_BYTES)
                    os.replace(half, place)
                finally:
                    Path(half).unlink(missing_ok=True)
                return
            with self.system.open_output_stream(place) as target:
                shutil.copyfileobj(source, target, PART_BYTES)
        except OSError as error:
            raise self._error(error, name) from error

    def _read(self, source: Any, name: str) -> bytes:
        try:
            return bytes(source.read(PART_BYTES))
        except OSError as error:
            raise self._error(error, name) from error

    @property
    def _is_local(self) -> bool:
        return self.system.type_name == "local"

    def _at(self, name: str) -> str:
        return f"{self.base}/{name}" if name else self.base

    def _error(self, error: Exception, name: str) -> MachineError:
        return store_error(error, f"{self.url.partition('?')[0]}/{name}")


def open_store(url: str) -> ObjectStore:
    """Return the store that a URL names.

    Raises:
        RecipeError: it is no such URL.
        MachineError: the store cannot be reached, or has no such bucket.
    """
    require_url(url)
    from pyarrow import ArrowInvalid
    from pyarrow.fs import FileSystem

    try:
        system, base = FileSystem.from_uri(url)
    except ArrowInvalid as error:
        fix = "correct the URL; what may stand in it is in docs/distributed.md"
        raise RecipeError(Fault(found=f"{url}: {error}", where=WHERE, fix=fix)) from error
    except (OSError, NotImplementedError) as error:
        raise store_error(error, url) from error
    base = base.rstrip("/")
    store = ObjectStore(url.rstrip("/"), system, base)
    store.require_folder()
    return store


def require_url(url: str) -> None:
    """See to it that a URL names a place in a store, without a key in it.

    Raises:
        RecipeError: it does not.
    """
    parts = urlsplit(url)
    known = ", ".join(f"{scheme}://" for scheme in ("s3", "gs", "abfs", "file"))
    if parts.scheme not in SCHEMES:
        found, fix = f"{url!r} begins with no store that is known", f"use one of {known}"
    elif not parts.path.strip("/") and not parts.netloc:
        found, fix = f"{url!r} names no bucket", "write s3://BUCKET/PREFIX"
    elif parts.password or (parts.username and parts.scheme not in ("abfs", "abfss")):
        shown = url.replace(f"{parts.username}:{parts.password or ''}@", "...@")
        found = f"a key in the URL ({shown}), which is written down with every run"
        fix = "remove it, and set it in the environment of the nodes (AWS_ACCESS_KEY_ID and so on)"
    else:
        return
    raise RecipeError(Fault(found=found, where=WHERE, fix=fix), code=CODE)


def check_store(store: ObjectStore) -> None:
    """See to it that files can be written, read and deleted there.

    Raises:
        MachineError: they cannot.
    """
    name, content = f"mark-{uuid.uuid4().hex}", b"tunesmith was here\n"
    store.put_bytes(name, content)
    found = store.get_bytes(name)
    store.delete(name)
    if found != content:
        fault = Fault(
            found="what was written is not there a moment later",
            where=f"{WHERE}: {store.url}",
            fix="use a store in which a file can be read as soon as it is written",
        )
        raise MachineError(fault, code=CODE)


def store_error(error: Exception, place: str) -> MachineError:
    """Return the error of a store in a user's words, with its own."""
    text = " ".join(str(error).split())
    meaning = next(
        ((found, fix) for words, found, fix in MEANINGS if re.search(words, text.lower())), None
    )
    if meaning is None and isinstance(error, PermissionError):
        meaning = MEANINGS[0][1:]
    if meaning is None and getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
        meaning = MEANINGS[-1][1:]
    found, fix = meaning or ("it does not answer as it should", "see what the store says")
    return MachineError(
        Fault(found=f"the object store: {found} ({text[:300]})", where=place, fix=fix), code=CODE
    )
