"""A store by its URL: files in and out, and what goes wrong in a user's words."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest

from tunesmith.core.errors import MachineError, UserError
from tunesmith.platforms.object_store import ObjectStore, check_store, open_store, store_error


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    (tmp_path / "store").mkdir()
    return open_store(f"file://{tmp_path}/store")


def test_files_go_in_and_come_out(store: ObjectStore, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"1" * 100)
    store.put("run/a/file", file)
    store.put_bytes("run/b", b"22")
    check_store(store)
    assert store.sizes("run") == {"a/file": 100, "b": 2}
    assert store.sizes("another") == {}
    assert (store.size("run/b"), store.size("run/c")) == (2, None)
    store.get("run/a/file", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == b"1" * 100
    assert (store.get_bytes("run/b"), store.get_bytes("run/c")) == (b"22", None)
    store.delete("run/b")
    store.delete("run/b")
    assert store.sizes("run") == {"a/file": 100}


def test_a_file_that_is_not_there_leaves_nothing_here(store: ObjectStore, tmp_path: Path) -> None:
    with pytest.raises(MachineError, match="the file is not there"):
        store.get("none", tmp_path / "back")
    assert [path.name for path in tmp_path.iterdir()] == ["store"]


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("ftp://host/folder", "begins with no store that is known"),
        ("runs/here", "begins with no store that is known"),
        ("s3://", "names no bucket"),
        ("s3://key:secret@bucket/prefix", "a key in the URL"),
        ("s3://bucket/prefix?zone=eu", "Unexpected query parameter"),
        ("file:///no/such/folder", "there is no folder /no/such/folder"),
    ],
)
def test_a_url_that_is_none_is_refused(url: str, found: str) -> None:
    with pytest.raises(UserError, match=found) as caught:
        open_store(url)
    assert "secret" not in str(caught.value)


def test_a_folder_without_the_right_to_write_is_said(store: ObjectStore, tmp_path: Path) -> None:
    (tmp_path / "store" / "run").write_text("a file, where a folder should be")
    with pytest.raises(UserError, match="the object store"):
        store.put_bytes("run/a", b"1")


# As pyarrow 26 says them of a server that speaks S3.
UNREACHABLE = (
    "When initiating multiple part upload for key 'p/x' in bucket 'b': AWS Error "
    "NETWORK_CONNECTION during CreateMultipartUpload operation: curlCode: 7, Could not connect to "
    "server"
)
NO_HOST = (
    "When resolving region for bucket 'b': AWS Error NETWORK_CONNECTION during HeadBucket "
    "operation: curlCode: 6, Could not resolve hostname"
)


@pytest.mark.parametrize(
    ("error", "found"),
    [
        (OSError(UNREACHABLE), "it cannot be reached"),
        (OSError(NO_HOST), "it cannot be reached"),
        (OSError("AWS Error ACCESS_DENIED during PutObject"), "access is denied"),
        (OSError("AWS Error NO_SUCH_BUCKET during PutObject"), "there is no such bucket"),
        (PermissionError(errno.EACCES, "no"), "access is denied"),
        (OSError(errno.ENOSPC, "No space left on device"), "it is full"),
        (OSError("AWS Error SLOW_DOWN"), "it does not answer as it should"),
    ],
)
def test_what_a_store_says_is_told_with_what_to_do(error: Any, found: str) -> None:
    (fault,) = store_error(error, "s3://bucket/prefix").faults
    assert found in fault.found
    assert str(error)[:60] in fault.found
    assert fault.where == "s3://bucket/prefix"
    assert fault.fix
