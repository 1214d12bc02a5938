"""What is decided about a Ray cluster before and beside it; whole runs are in end_to_end."""

from __future__ import annotations

import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

import tunesmith
from tunesmith.core import extras
from tunesmith.core.errors import MachineError
from tunesmith.core.events import read_events
from tunesmith.core.run_dir import RunDir, RunState, RunStatus, write_json
from tunesmith.core.stopping import StopRequests
from tunesmith.platforms import ray as driver
from tunesmith.platforms.rank_process import NodeFacts
from tunesmith.recipe.load import load_recipe, resolved

pytest.importorskip("ray", reason="the extra ray is not installed")

from tunesmith.platforms import ray_run
from tunesmith.platforms.ray_cluster import Lost, RankActor, connected
from tunesmith.platforms.ray_folder import SharedFolder


@pytest.fixture(autouse=True)
def _what_a_process_sets_for_itself_is_put_back(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(driver, "set_up_logging", lambda: None)
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.getsignal(number) for number in numbers]
    yield
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


def run_on_ray(folder: Path, address: str) -> RunDir:
    recipe = {"model": "tiny", "task": "chat", "data": {"train": "sample:tiny"}}
    loaded = load_recipe({**recipe, "target": {"type": "ray", "address": address}})
    run_dir = RunDir(folder)
    write_json(run_dir.resolved_json, resolved(loaded))
    return run_dir


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def facts(**changes: object) -> NodeFacts:
    values = {"version": tunesmith.__version__, "sees_run": True, "devices": None, "port": 1}
    return NodeFacts(**{**values, **changes})


def test_a_cluster_that_does_not_answer_is_said_at_once(tmp_path: Path) -> None:
    address = f"127.0.0.1:{free_port()}"
    run_dir = run_on_ray(tmp_path, address)
    assert driver.main([str(run_dir.path)]) == 2
    (error,) = read_events(run_dir.events_jsonl)
    assert error["code"] == "no_cluster"
    assert f"no Ray cluster at {address}: nothing answers there" in error["faults"][0]["found"]
    assert "ray start --head" in error["faults"][0]["fix"]
    state = run_dir.read_state()
    assert state is not None
    assert state.status == "failed"


def test_an_address_for_clients_is_refused() -> None:
    with pytest.raises(MachineError, match="on one of its nodes"), connected("ray://far:10001"):
        raise AssertionError("connected")


def test_ray_that_is_not_installed_is_told_to_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extras, "find_spec", lambda _: None)
    run_dir = run_on_ray(tmp_path, "127.0.0.1:1")
    assert driver.main([str(run_dir.path)]) == 2
    (error,) = read_events(run_dir.events_jsonl)
    assert "pip install 'tunesmith[ray]'" in error["faults"][0]["fix"]


def test_a_request_to_stop_holds_before_there_are_ranks(tmp_path: Path) -> None:
    run_dir = run_on_ray(tmp_path, f"127.0.0.1:{free_port()}")
    run_dir.control.write_text("pause")
    assert driver.main([str(run_dir.path)]) == 75
    state = run_dir.read_state()
    assert state is not None
    assert state.status == "stopped"


def test_nodes_that_cannot_carry_out_the_run_are_named(tmp_path: Path) -> None:
    actors = [RankActor(handle=None, node=name, address=f"10.0.0.{name}") for name in "1234"]
    told = [facts(), facts(version="0.0.1"), facts(sees_run=False), facts()]
    with pytest.raises(MachineError) as error:
        ray_run.require_fit(RunDir(tmp_path), actors, told)
    old, blind = error.value.faults
    assert ("10.0.0.2" in old.where, "tunesmith 0.0.1" in old.found) == (True, True)
    assert ("10.0.0.3" in blind.where, str(tmp_path) in blind.found) == (True, True)
    ray_run.require_fit(RunDir(tmp_path), actors[:1], told[:1])


class Answered:
    """A method of an actor whose calls are known by what they are answered with."""

    def __init__(self, answer: object) -> None:
        self.answer = answer

    def remote(self, *_: object) -> Answered:
        return self


def follow(run_dir: RunDir, monkeypatch: pytest.MonkeyPatch, *answers: object) -> object:
    def finished(calls: list[Answered], **_: object) -> dict[Answered, object]:
        return {call: call.answer for call in calls}

    monkeypatch.setattr(ray_run, "finished", finished)
    actors = [
        RankActor(handle=SimpleNamespace(wait=Answered(answer)), node=str(rank), address="10.0.0.1")
        for rank, answer in enumerate(answers)
    ]
    return ray_run.follow(run_dir, SharedFolder(run_dir), actors, StopRequests(run_dir))


def write_status(run_dir: RunDir, status: RunStatus) -> None:
    run_dir.write_state(RunState(status=status, pid=1, heartbeat=0.0, step=9, total_steps=9))


def test_a_lost_rank_is_no_failure_of_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_dir = RunDir(tmp_path)
    write_status(run_dir, "running")
    lost = follow(run_dir, monkeypatch, 3, Lost("gone"))
    assert lost == ray_run.LostRanks({1: "on 10.0.0.1 (Ray says: gone)"})
    write_status(run_dir, "succeeded")  # nothing is left to do for which a rank is needed
    assert follow(run_dir, monkeypatch, 0, Lost("gone")) == 0
    assert follow(run_dir, monkeypatch, Lost("gone"), Lost("gone")) == 0


def test_ranks_that_fail_end_the_run_with_a_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_dir = RunDir(tmp_path)
    write_status(run_dir, "running")
    assert follow(run_dir, monkeypatch, 75, 75) == 75
    assert not run_dir.ranks.exists()
    assert follow(run_dir, monkeypatch, 3, -9) == 3
    (error,) = read_events(run_dir.of_rank(1).events_jsonl)
    assert "rank 1 ended by signal 9" in error["faults"][0]["found"]


def test_what_lost_ranks_have_left_stays_until_the_run_is_started_anew(tmp_path: Path) -> None:
    run_dir = RunDir(tmp_path)
    ray_run.make_ranks_folder(run_dir, 0)
    (run_dir.ranks / "beat-0").touch()
    ray_run.make_ranks_folder(run_dir, 1)
    assert (tmp_path / "ranks-lost-1" / "beat-0").exists()
    assert not list(run_dir.ranks.iterdir())
    ray_run.make_ranks_folder(run_dir, 0)
    assert [path.name for path in tmp_path.iterdir()] == ["ranks"]
