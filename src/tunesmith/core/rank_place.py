"""Which of a run's processes this one is, from the variables that its launcher has set.

    launcher          rank                   of how many            on this machine
    torchrun, ours    RANK                   WORLD_SIZE             LOCAL_RANK, LOCAL_WORLD_SIZE
    SLURM (srun)      SLURM_PROCID           SLURM_NTASKS           SLURM_LOCALID
    Open MPI          OMPI_COMM_WORLD_RANK   OMPI_COMM_WORLD_SIZE   OMPI_COMM_WORLD_LOCAL_RANK
    MPICH, Intel MPI  PMI_RANK               PMI_SIZE               MPI_LOCALRANKID

The processes of our own launcher meet in a file; those of the others at MASTER_ADDR:MASTER_PORT.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass

from tunesmith.core.errors import Fault, MachineError

MEETING_FILE = "TUNESMITH_MEETING_FILE"  # set by our launcher
LAUNCHER_PID = "TUNESMITH_LAUNCHER_PID"
CORES = "TUNESMITH_CORES"  # set where a process may use some of the machine's cores only
DEFAULT_PORT = "29500"  # torchrun's
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


_TORCHRUN = _Names("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
_SLURM = _Names("SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID", "SLURM_NTASKS_PER_NODE")
_OPEN_MPI = _Names(
    "OMPI_COMM_WORLD_RANK",
    "OMPI_COMM_WORLD_SIZE",
    "OMPI_COMM_WORLD_LOCAL_RANK",
    "OMPI_COMM_WORLD_LOCAL_SIZE",
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
    local_size = _number(environment, names.local_size, size)
    if not 0 <= rank < size:
        fix = "start all ranks by one launcher, such as torchrun, srun or mpirun"
        found = f"{names.rank} is {rank} and {names.size} is {size}"
        raise MachineError(Fault(found=found, where=WHERE, fix=fix), code="ranks")
    meeting = "" if size == 1 else _meeting(environment, is_one_machine=local_size == size)
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
    # A batch script outside srun has the first two, too, and is no rank.
    if "SLURM_PROCID" in environment and "SLURM_STEP_ID" in environment:
        return _SLURM
    return next((names for names in (_OPEN_MPI, _MPICH) if names.rank in environment), None)


def _meeting(environment: Mapping[str, str], *, is_one_machine: bool) -> str:
    if file := environment.get(MEETING_FILE):
        return f"file://{file}"
    host = environment.get("MASTER_ADDR") or _first_node(environment.get("SLURM_JOB_NODELIST", ""))
    if not host and is_one_machine:
        host = "127.0.0.1"
    if not host:
        fix = "set MASTER_ADDR (and MASTER_PORT) to the machine of rank 0, for all ranks"
        found = "the ranks are on several machines, and MASTER_ADDR does not say where they meet"
        raise MachineError(Fault(found=found, where=WHERE, fix=fix), code="ranks")
    return f"tcp://{host}:{environment.get('MASTER_PORT') or DEFAULT_PORT}"


def _first_node(nodes: str) -> str:
    """The first of SLURM's list: `gpu[03-05,9],login` begins with gpu03."""
    match = re.match(r"([^,\[]+)(?:\[(\w+))?", nodes)
    return f"{match[1]}{match[2] or ''}" if match else ""


def _number(environment: Mapping[str, str], name: str, default: int | None = None) -> int:
    # SLURM writes `2(x3)` for three machines with two tasks each.
    text = environment.get(name, "").partition("(")[0].strip()
    if not text and default is not None:
        return default
    if not text.isdigit():
        found = f"{name} is {text!r}" if text else f"{name} is not set"
        fix = "start all ranks by one launcher, such as torchrun, srun or mpirun"
        raise MachineError(Fault(found=found, where=WHERE, fix=fix), code="ranks")
    return int(text)
