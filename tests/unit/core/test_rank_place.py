from __future__ import annotations

import pytest

from tunesmith.core.errors import MachineError
from tunesmith.core.rank_place import RankPlace, rank_place


def test_without_a_launcher_there_is_no_place() -> None:
    assert rank_place({}) is None


@pytest.mark.parametrize(
    ("environment", "place"),
    [
        (
            {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2",
             "MASTER_ADDR": "one", "MASTER_PORT": "7"},
            (3, 4, 1, 2, "tcp://one:7"),
        ),
        ({"RANK": "0", "WORLD_SIZE": "1"}, (0, 1, 0, 1, "")),
        (
            {"RANK": "1", "WORLD_SIZE": "2", "TUNESMITH_MEETING_FILE": "/run/meeting"},
            (1, 2, 1, 2, "file:///run/meeting"),
        ),
        (
            {"SLURM_STEP_ID": "0", "SLURM_PROCID": "5", "SLURM_STEP_NUM_TASKS": "6",
             "SLURM_LOCALID": "1", "SLURM_NODEID": "2", "SLURM_STEP_TASKS_PER_NODE": "2(x3)",
             "SLURM_STEP_NODELIST": "gpu[03-05],login", "MASTER_PORT": "29500"},
            (5, 6, 1, 2, "tcp://gpu03:29500"),
        ),
        (
            {"SLURM_STEP_ID": "0", "SLURM_PROCID": "5", "SLURM_STEP_NUM_TASKS": "6",
             "SLURM_LOCALID": "0", "SLURM_NODEID": "2", "SLURM_STEP_TASKS_PER_NODE": "3,2,1",
             "SLURM_STEP_NODELIST": "a,b,c", "MASTER_PORT": "29500"},
            (5, 6, 0, 1, "tcp://a:29500"),
        ),
        (
            {"OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_SIZE": "2",
             "OMPI_COMM_WORLD_LOCAL_RANK": "1", "OMPI_COMM_WORLD_LOCAL_SIZE": "2"},
            (1, 2, 1, 2, "tcp://127.0.0.1:29500"),
        ),
        (
            {"PMI_RANK": "1", "PMI_SIZE": "2", "MASTER_ADDR": "one"},
            (1, 2, 1, 2, "tcp://one:29500"),
        ),
        (
            {"PMI_RANK": "1", "PMI_SIZE": "2", "MPI_LOCALRANKID": "1", "MPI_LOCALNRANKS": "2",
             "SLURM_PROCID": "0", "SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "1"},
            (1, 2, 1, 2, "tcp://127.0.0.1:29500"),
        ),
    ],
)  # fmt: skip
def test_each_launchers_variables_are_read(
    environment: dict[str, str], place: tuple[int, int, int, int, str]
) -> None:
    rank, size, local_rank, local_size, meeting = place
    assert rank_place(environment) == RankPlace(
        rank=rank, size=size, local_rank=local_rank, local_size=local_size, meeting=meeting
    )


def port_of(environment: dict[str, str]) -> int:
    place = rank_place(environment)
    assert place is not None
    return int(place.meeting.rpartition(":")[2])


def test_runs_side_by_side_on_a_machine_meet_at_ports_of_their_own() -> None:
    place = {"OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_SIZE": "2"}
    first, again, second = (
        port_of({**place, "PMIX_NAMESPACE": name}) for name in ("host-1@1", "host-1@1", "host-2@1")
    )
    assert first == again != second
    place = {"SLURM_PROCID": "1", "SLURM_STEP_NUM_TASKS": "2", "SLURM_STEP_NODELIST": "a"}
    ports = [
        port_of({**place, "SLURM_JOB_ID": job, "SLURM_STEP_ID": step})
        for job, step in (("7", "0"), ("7", "1"), ("8", "0"))
    ]
    assert len({first, second, *ports}) == 5
    assert all(20_000 <= port < 30_000 for port in ports)


def test_a_batch_script_of_slurm_is_no_rank() -> None:
    assert rank_place({"SLURM_PROCID": "0", "SLURM_NTASKS": "4"}) is None


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"RANK": "2", "WORLD_SIZE": "2"}, "RANK is 2 and WORLD_SIZE is 2"),
        ({"RANK": "x", "WORLD_SIZE": "2"}, "RANK is 'x'"),
        (
            {"OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_SIZE": "4",
             "OMPI_COMM_WORLD_LOCAL_SIZE": "2"},
            "MASTER_ADDR does not say where they meet",
        ),
    ],
)  # fmt: skip
def test_what_contradicts_itself_is_refused(environment: dict[str, str], words: str) -> None:
    with pytest.raises(MachineError, match=words):
        rank_place(environment)
