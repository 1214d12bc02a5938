"""Which of a run's processes this one is, from the variables that its launcher has set.

    launcher          rank                   of how many            on this machine
    torchrun, ours    RANK                   WORLD_SIZE             LOCAL_RANK, LOCAL_WORLD_SIZE
    SLURM (srun)      SLURM_PROCID           SLURM_STEP_NUM_TASKS   SLURM_LOCALID
    Open MPI          OMPI_COMM_WORLD_RANK   OMPI_COMM_WORLD_SIZE   OMPI_COMM_WORLD_LOCAL_RANK
    MPICH, Intel MPI  PMI_RANK               PMI_SIZE               MPI_LOCALRANKID

The processes of our own launcher meet in a file; those of the others at MASTER_ADDR:MASTER_PORT.
Where no port is set it follows from the name of the launcher's job, which all its processes know,
so that jobs side by side on a machine do not meet; of MPICH and Intel MPI no name is known.
"""

from __future__ import annotations

import os
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass

from tunesmith.core.errors import Fault, MachineError

MEETING_FILE = "TUNESMITH_MEETING_FILE"  # set by our launcher
LAUNCHER_PID = "TUNESMITH_LAUNCHER_PID"
CORES = "TUNESMITH_CORES"  # set where a process may use some of the machine's cores only
DEFAULT_PORT = 29500  # torchrun's
JOB_PORTS = range(20_000, 30_000)  # below those that systems give to outgoing connections
WHERE = "the environment"


@dataclass(frozen=True, kw_only=True)
class RankPlace:
    """Rank `rank` of `size`; on this machine it is `local_rank` of `local_size`.

    `meeting` is the address at which the ranks find each other, as torch.distributed takes it;
    `cores` are those that were given to this rank, where its launcher gives out any.
    """

    rank: int
    size: int
    local_rank: int
    local_size: int
    meeting: str
    cores: int | None = None


ALONE = RankPlace(rank=0, size=1, local_rank=0, local_size=1, meeting="")


@dataclass(frozen=True)
class _Names:
    rank: str
    size: str
    local_rank: str
    local_size: str
    job: tuple[str, ...] = ()  # what names the job, if anything


_TORCHRUN = _Names("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
_SLURM = _Names(
    "SLURM_PROCID",
    "SLURM_STEP_NUM_TASKS",
    "SLURM_LOCALID",
    "SLURM_STEP_TASKS_PER_NODE",
    job=("SLURM_JOB_ID", "SLURM_STEP_ID"),
)
_OPEN_MPI = _Names(
    "OMPI_COMM_WORLD_RANK",
    "OMPI_COMM_WORLD_SIZE",
    "OMPI_COMM_WORLD_LOCAL_RANK",
    "OMPI_COMM_WORLD_LOCAL_SIZE",
    job=("PMIX_NAMESPACE",),
)
_MPICH = _Names("PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID", "MPI_LOCALNRANKS")


def rank_place(environment: Mapping[str, str] | None = None) -> RankPlace | None:
    """Return this process's place, or None where no launcher has set one.

    Raises:
        MachineError: the variables contradict each other, or do not say where the ranks meet.
    """
    environment = os.environ if environment is None else environment
    names = _launcher(environment)
    if names is None:
        return None
    rank, size = _number(environment, names.rank), _number(environment, names.size)
    local_rank = _number(environment, names.local_rank, rank)
    local_size = _local_size(environment, names, size)
    if not 0 <= rank < size:
        fix = "start all ranks by one launcher, such as torchrun, srun or mpirun"
        found = f"{names.rank} is {rank} and {names.size} is {size}"
        raise MachineError(Fault(found=found, where=WHERE, fix=fix), code="ranks")
    meeting = "" if size == 1 else _meeting(environment, names, is_one_machine=local_size == size)
    return RankPlace(
        rank=rank,
        size=size,
        local_rank=local_rank,
        local_size=local_size,
        meeting=meeting,
        cores=_number(environment, CORES) if CORES in environment else None,
    )


def _launcher(environment: Mapping[str, str]) -> _Names | None:
    if "RANK" in environment and "WORLD_SIZE" in environment:
        return _TORCHRUN
    # An mpirun inside a job of SLURM's starts its processes by srun, whose numbers these have, too.
    if _OPEN_MPI.rank in environment:
        return _OPEN_MPI
    if _MPICH.rank in environment and _MPICH.local_rank in environment:
        return _MPICH
    # A batch script outside srun has SLURM_PROCID, too, and is no rank.
    if "SLURM_PROCID" in environment and "SLURM_STEP_ID" in environment:
        return _SLURM
    return _MPICH if _MPICH.rank in environment else None


def _meeting(environment: Mapping[str, str], names: _Names, *, is_one_machine: bool) -> str:
    if file := environment.get(MEETING_FILE):
        return f"file://{file}"
    host = environment.get("MASTER_ADDR") or _first_node(environment.get("SLURM_STEP_NODELIST", ""))
    if not host and is_one_machine:
        host = "127.0.0.1"
    if not host:
        fix = "set MASTER_ADDR (and MASTER_PORT) to the machine of rank 0, for all ranks"
        found = "the ranks are on several machines, and MASTER_ADDR does not say where they meet"
        raise MachineError(Fault(found=found, where=WHERE, fix=fix), code="ranks")
    return f"tcp://{host}:{environment.get('MASTER_PORT') or _port(environment, names)}"


def _port(environment: Mapping[str, str], names: _Names) -> int:
    job = [environment[name] for name in names.job if environment.get(name)]
    if not job or len(job) < len(names.job):
        return DEFAULT_PORT
    return JOB_PORTS[zlib.crc32(".".join(job).encode()) % len(JOB_PORTS)]


def _first_node(nodes: str) -> str:
    """The first of SLURM's list: `gpu[03-05,9],login` begins with gpu03."""
    match = re.match(r"([^,\[]+)(?:\[(\w+))?", nodes)
    return f"{match[1]}{match[2] or ''}" if match else ""


def _local_size(environment: Mapping[str, str], names: _Names, size: int) -> int:
    """How many ranks this machine has; SLURM lists all: `2(x3),1` is 2, 2, 2 and 1."""
    tasks = re.findall(r"(\d+)(?:\(x(\d+)\))?", environment.get(names.local_size, ""))
    if names is not _SLURM or not tasks:
        return _number(environment, names.local_size, size)
    counts = [int(count) for count, times in tasks for _ in range(int(times or 1))]
    return counts[min(_number(environment, "SLURM_NODEID", 0), len(counts) - 1)]


def _number(environment: Mapping[str, str], name: str, default: int | None = None) -> int:
    text = environment.get(name, "").strip()
    if not text and default is not None:
        return default
    if not text.isdigit():
        found = f"{name} is {text!r}" if text else f"{name} is not set"
        fix = "start all ranks by one launcher, such as torchrun, srun or mpirun"
        raise MachineError(Fault(found=found, where=WHERE, fix=fix), code="ranks")
    return int(text)
