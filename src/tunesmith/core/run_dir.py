"""A run's folder: the contract between a run and everything else.

One class that names the files, and the two functions that read and replace its JSON files. A JSON
file is replaced by rename, so that a reader never sees half of one, whatever happens to the writer.
"""

from __future__ import annotations

import errno
import os
import platform
import re
import shutil
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, cast

import orjson
import psutil

from tunesmith.core.errors import Fault, MachineError, RunError, TunesmithError, UserError

RunStatus = Literal["created", "running", "stopped", "succeeded", "failed"]
Control = Literal["pause", "cancel"]

# A run on another machine counts as going on for so long after its last sign of life: a step or an
# evaluation may take minutes.
HEARD_WITHIN_S = 600.0

# The names that `write_bytes` gives for a while: .NAME.PROCESS.tmp
TEMPORARY = re.compile(r"\..+\.(\d+)\.tmp")

WORD_BYTES = 2**16  # more than what a process tells of its failure

# A process cannot have written a heartbeat before it existed; clocks of the two differ by ticks.
CLOCK_TOLERANCE_S = 2.0


@dataclass(frozen=True, kw_only=True)
class RunState:
    """What `state.json` holds. `heartbeat` is the unix time of the last sign of life.

    `host` is the machine of the process with the number `pid`.
    """

    status: RunStatus
    pid: int | None
    heartbeat: float
    step: int
    total_steps: int | None
    message: str = ""
    error_code: str = ""
    host: str = field(default_factory=platform.node)


@dataclass(frozen=True)
class RunDir:
    """The paths of one run. Make one with `create` (refuses what exists) or `open`."""

    path: Path

    @staticmethod
    def create(path: str | os.PathLike[str]) -> RunDir:
        """Make the folder and its parents; an existing one that is not empty is refused."""
        run_dir = RunDir(Path(path).expanduser().absolute())
        _refuse_existing(run_dir)
        try:
            run_dir.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _cannot_make(run_dir.path, error) from error
        return run_dir

    @staticmethod
    def open(path: str | os.PathLike[str]) -> RunDir:
        """The run folder that is there already."""
        run_dir = RunDir(Path(path).expanduser().absolute())
        if not run_dir.resolved_json.is_file():
            raise _not_a_run(run_dir)
        return run_dir

    @property
    def recipe_yaml(self) -> Path:
        """The recipe as it was given."""
        return self.path / "recipe.yaml"

    @property
    def resolved_json(self) -> Path:
        """The complete recipe with the origin of every value."""
        return self.path / "resolved.json"

    @property
    def reading_json(self) -> Path:
        """How the training rows were read: their form and its columns."""
        return self.path / "reading.json"

    @property
    def xray_json(self) -> Path:
        """What would be trained, in numbers, looked at before the first step."""
        return self.path / "xray.json"

    @property
    def xray_html(self) -> Path:
        """The same as a page, with the first rows token by token."""
        return self.path / "xray.html"

    @property
    def environment_json(self) -> Path:
        """Versions, device, seeds, hashes of data and base model."""
        return self.path / "environment.json"

    @property
    def plan_json(self) -> Path:
        """What the run will take."""
        return self.path / "plan.json"

    @property
    def events_jsonl(self) -> Path:
        """Everything that happened, one object a line."""
        return self.path / "events.jsonl"

    @property
    def state_json(self) -> Path:
        """Where the run stands now."""
        return self.path / "state.json"

    @property
    def control(self) -> Path:
        """The file by which a run is asked to pause or cancel."""
        return self.path / "control"

    @property
    def checkpoints(self) -> Path:
        """The folder of `step-N` folders."""
        return self.path / "checkpoints"

    @property
    def ranks(self) -> Path:
        """Of a run of several processes: the logs and signs of life of its ranks."""
        return self.path / "ranks"

    def of_rank(self, rank: int) -> RunDir:
        """The folder that a rank writes to: rank 0 writes to the run's own."""
        return RunDir(self.ranks / f"rank-{rank}") if rank else self

    @property
    def final(self) -> Path:
        """The adapter or the weights, tokenizer and chat template."""
        return self.path / "final"

    @property
    def evaluation_json(self) -> Path:
        """Losses, metrics and answers before and after."""
        return self.path / "evaluation.json"

    @property
    def result_json(self) -> Path:
        """The numbers of the finished run."""
        return self.path / "result.json"

    @property
    def report_md(self) -> Path:
        """The report as Markdown."""
        return self.path / "report.md"

    @property
    def report_html(self) -> Path:
        """The report as one self-contained page."""
        return self.path / "report.html"

    @property
    def log(self) -> Path:
        """What the run's process wrote to its standard output and error."""
        return self.path / "log.txt"

    def write_state(self, state: RunState) -> None:
        """Replace `state.json`."""
        write_json(self.state_json, asdict(state))

    def read_state(self) -> RunState | None:
        """The last state, or None when the run has not written one."""
        if not self.state_json.exists():
            return None
        values = cast(dict[str, Any], read_json(self.state_json))
        known = {one.name for one in fields(RunState)}
        return RunState(**{key: value for key, value in values.items() if key in known})

    def read_control(self) -> Control | None:
        """What the run is asked to do, if anything; other words in the file are no request."""
        try:
            word = self.control.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError):
            return None
        return word if word in ("pause", "cancel") else None


def write_json(path: Path, value: object) -> None:
    """Replace `path` by `value` as JSON."""
    options = orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE
    write_bytes(path, orjson.dumps(value, option=options))


def write_bytes(path: Path, content: bytes | Iterable[bytes]) -> None:
    """Replace `path` by `content`: a temporary file beside it, flushed, then renamed."""
    parts = [content] if isinstance(content, bytes) else content
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.writelines(parts)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise disk_error(path, error) from error


def clear_half_written(folder: Path) -> None:
    """Delete the temporary files that processes have left which were killed while writing."""
    for path in folder.rglob(".*.tmp"):
        writer = TEMPORARY.fullmatch(path.name)
        if writer and path.is_file() and not psutil.pid_exists(int(writer[1])):
            path.unlink(missing_ok=True)


def read_json(path: Path) -> Any:
    """The content of a JSON file; one that is missing or broken is a fault that names it."""
    try:
        return orjson.loads(path.read_bytes())
    except OSError as error:
        fix = "check that the run folder is complete and readable"
        raise UserError(Fault(found=_reason(error), where=str(path), fix=fix)) from error
    except orjson.JSONDecodeError as error:
        fix = "the file was changed or damaged: restore it, or start a new run"
        raise UserError(Fault(found=f"no valid JSON: {error}", where=str(path), fix=fix)) from error


def is_alive(state: RunState) -> bool:
    """Whether the process that wrote `state` still runs here (its number may have a new owner)."""
    if state.pid is None or _is_elsewhere(state):
        return False
    try:
        process = psutil.Process(state.pid)
        started = process.create_time()
        ended = process.status() == psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False
    return not ended and started <= state.heartbeat + CLOCK_TOLERANCE_S


def describe_status(state: RunState | None) -> str:
    """The status for people: a running state whose process is gone is "interrupted".

    The process of a run on another machine cannot be asked for; its last sign of life is old.
    """
    if state is None:
        return "not started"
    if state.status != "running":
        return state.status
    heard = _is_elsewhere(state) and time.time() - state.heartbeat < HEARD_WITHIN_S
    return "running" if heard or is_alive(state) else "interrupted"


def _is_elsewhere(state: RunState) -> bool:
    return state.host != platform.node()


def disk_error(path: Path, error: OSError) -> TunesmithError:
    """The error for a write that failed; a full disk has the code `no_space`."""
    if error.errno not in (errno.ENOSPC, errno.EDQUOT):
        fix = "check the folder's permissions and that its disk is mounted for writing"
        return RunError(Fault(found=_reason(error), where=str(path), fix=fix), code="cannot_write")
    free = shutil.disk_usage(path.parent).free if path.parent.exists() else 0
    found = f"no space: the disk is full, {free:,} bytes are free, writing needs more"
    fix = "free some space and resume, or use --run-dir on another disk"
    return RunError(Fault(found=found, where=str(path), fix=fix), code="no_space")


def refusal_of_disk(folder: Path) -> TunesmithError | None:
    """Return why a folder's disk takes no word, such as of a failure; None where it does."""
    probe = folder / ".probe"
    try:
        with probe.open("wb") as file:
            file.write(bytes(WORD_BYTES))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        return disk_error(folder, error)
    finally:
        with suppress(OSError):
            probe.unlink(missing_ok=True)
    return None


def _refuse_existing(run_dir: RunDir) -> None:
    path = run_dir.path
    if path.is_dir() and not any(path.iterdir()):
        return
    if not path.exists():
        return
    if run_dir.resolved_json.is_file():
        found = f"a run folder that exists already (status: {_safe_status(run_dir)})"
        fix = "continue it with --resume, or name another folder with --run-dir"
    elif path.is_dir():
        found = "a folder that is not empty and is not a run"
        fix = "name a new or an empty folder with --run-dir"
    else:
        found = "a file, where the run's folder should be"
        fix = "name another folder with --run-dir"
    raise MachineError(Fault(found=found, where=str(path), fix=fix), code="run_exists")


def _safe_status(run_dir: RunDir) -> str:
    try:
        return describe_status(run_dir.read_state())
    except (UserError, TypeError):
        return "unknown"


def _not_a_run(run_dir: RunDir) -> UserError:
    path = run_dir.path
    if not path.exists():
        found, fix = "no such folder", "list the runs with: tunesmith runs list"
    elif path.is_dir():
        inner = [child.parent.name for child in sorted(path.glob("*/resolved.json"))]
        found = "no run in this folder: it has no resolved.json"
        fix = "name the run's own folder" + (f", e.g. {path / inner[-1]}" if inner else "")
    else:
        found, fix = "a file, not a run folder", "name the folder that the run was written to"
    return UserError(Fault(found=found, where=str(path), fix=fix), code="no_such_run")


def _cannot_make(path: Path, error: OSError) -> TunesmithError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return disk_error(path, error)
    fix = "name a folder that you may write to with --run-dir"
    fault = Fault(
        found=f"the run folder cannot be made: {_reason(error)}", where=str(path), fix=fix
    )
    return MachineError(fault)


def _reason(error: OSError) -> str:
    return (error.strerror or type(error).__name__).lower()
