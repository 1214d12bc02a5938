"""A run through an object store, on nodes that are folders: what goes there and what comes back."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.fakes.tiny_run import make_rows, make_run
from tunesmith.core.errors import MachineError, RunError
from tunesmith.core.events import read_events
from tunesmith.core.run_dir import RunDir, read_json
from tunesmith.core.stopping import StopRequests
from tunesmith.platforms.stored_run import bring_back, read_place, whole_steps
from tunesmith.recipe.load import load_recipe

pytest.importorskip("ray", reason="the extra ray is not installed")

from tunesmith.platforms import ray_folder
from tunesmith.platforms.ray_cluster import Lost, LostRanks, RankActor

# What a rank of a run does, as seen from its folder: steps 1 to 9, a checkpoint after 4 and 8.
RANK = """
import hashlib, json, os, signal, sys, time
from pathlib import Path

folder, rank = Path(sys.argv[1]), int(os.environ["RANK"])
own = folder / "ranks" / f"rank-{rank}" if rank else folder
rows = json.loads((folder / "resolved.json").read_text())["recipe"]["data"]["train"]
asked, parent = [], os.getppid()
signal.signal(signal.SIGTERM, lambda *_: asked.append(1))

def tell(kind, **values):
    with (own / "events.jsonl").open("a") as file:
        file.write(json.dumps({"type": kind, **values}, separators=(",", ":")) + chr(10))

def write(status, step):
    state = {"status": status, "pid": os.getpid(), "heartbeat": 0.0, "step": step,
             "total_steps": 9}
    (own / ".state").write_text(json.dumps(state))
    (own / ".state").replace(own / "state.json")

def save(step):
    half, content = folder / "checkpoints" / ".half", b"values of %d" % step
    half.mkdir(parents=True)
    (half / "trained.safetensors").write_bytes(content)
    listed = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    (half / "manifest.json").write_text(json.dumps({"files": {"trained.safetensors": listed}}))
    half.rename(folder / "checkpoints" / f"step-{step}")

begun = max((int(path.name[5:]) for path in folder.glob("checkpoints/step-*")), default=0)
tell("run", begun=begun)
for step in range(begun + 1, 10):
    tell("step", step=step)
    write("running", step)
    if rank == 0 and step in (4, 8):
        save(step)
    while step == 6 and not (folder / "go").exists() and not asked:
        time.sleep(0.01)
        if os.getppid() != parent:
            sys.exit(3)
    if asked:
        if rank == 0:
            save(step)
        sys.exit(75)
if rank == 0:
    (folder / "final").mkdir()
    here = os.environ["TUNESMITH_INPUTS"] + rows
    (folder / "final" / "rows").write_text(Path(here).read_text())
    (folder / "result.json").write_text("{}")
write("succeeded", 9)
"""


@dataclass(eq=False)
class Nodes:
    """Nodes as a driver of a cluster sees them, each a folder, with calls that take time."""

    folder: Path
    patch: pytest.MonkeyPatch
    pool: ThreadPoolExecutor
    made: list[Any] = field(default_factory=list[Any])

    def actors(self, kind: Callable[[str], Any], *names: str) -> list[RankActor]:
        made: list[RankActor] = []
        for name in names:
            self.patch.setenv("TUNESMITH_CACHE", str(self.folder / name))
            cls, arguments = kind(name)
            actor = cls(*arguments)
            self.made.append(actor)
            made.append(RankActor(handle=Handle(self, actor), node=name, address=name))
        return made


class Handle:
    def __init__(self, nodes: Nodes, actor: Any) -> None:
        self.actor, self._pool = actor, nodes.pool

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.actor, name)
        return SimpleNamespace(remote=lambda *a, **k: self._pool.submit(method, *a, **k))


@pytest.fixture
def nodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Nodes]:
    def finished(calls: Sequence[Future[Any]], *, within_s: float) -> dict[Future[Any], Any]:
        return {call: call.result() for call in wait(calls, within_s).done}

    def answers(calls: Sequence[Future[Any]], _between: object, **_: object) -> list[Any]:
        return [call.result(30) for call in calls]

    script = tmp_path / "rank.py"
    script.write_text(RANK)
    monkeypatch.setattr(ray_folder, "finished", finished)
    monkeypatch.setattr(ray_folder, "answers", answers)
    monkeypatch.setattr(ray_folder, "LOOK_EVERY_S", 0.05)
    monkeypatch.setattr("tunesmith.platforms.sender.LOOK_EVERY_S", 0.05)
    monkeypatch.setattr(
        "tunesmith.platforms.rank_process.run_command",
        lambda folder, python: (python, str(script), str(folder)),
    )
    with ThreadPoolExecutor(16) as pool:
        made = Nodes(tmp_path, monkeypatch, pool)
        yield made
        for actor in made.made:
            actor.end_at_once()


@dataclass(eq=False)
class Driver:
    """A driver's part in a run."""

    run_dir: RunDir
    folder: ray_folder.StoredFolder
    actors: list[RankActor]
    waiting: list[Future[int]]

    def until(self, is_it: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 30
        while not is_it():
            assert time.monotonic() < deadline
            self.folder.look(self.actors)
            time.sleep(0.01)

    def codes(self) -> list[int]:
        self.until(lambda: all(call.done() for call in self.waiting))
        self.folder.catch_up(self.actors)
        return [call.result() for call in self.waiting]

    def steps(self) -> list[int]:
        return [
            event["step"]
            for event in read_events(self.run_dir.events_jsonl)
            if event["type"] == "step"
        ]

    def let_go_on(self) -> None:
        for actor in self.actors:
            Path(actor.handle.actor.where(), "go").touch()


@pytest.fixture
def run_dir(tmp_path: Path) -> RunDir:
    (tmp_path / "store").mkdir()
    rows = make_rows(tmp_path / "rows.jsonl", 3)
    target = {"type": "ray", "storage": f"file://{tmp_path}/store"}
    return make_run(tmp_path / "run", Path("smollm2-135m-instruct"), rows, target=target)


def begin(run_dir: RunDir, nodes: Nodes, *names: str, wait_s: float = 30.0) -> Driver:
    """Start the ranks on nodes of these names, as ray_run.py does."""
    recipe = load_recipe(read_json(run_dir.resolved_json)["recipe"]).recipe
    url = f"file://{nodes.folder}/store"
    told: list[str] = []
    stop = StopRequests(run_dir)
    folder = ray_folder.stored_folder(
        run_dir, recipe, url, wait_s, stop, lambda _, message: told.append(message)
    )
    return start(run_dir, nodes, folder, *names)


def start(run_dir: RunDir, nodes: Nodes, folder: ray_folder.StoredFolder, *names: str) -> Driver:
    run_dir.ranks.mkdir(exist_ok=True)
    folder.begin()
    actors = nodes.actors(folder.actor, *names)
    facts = [actor.handle.describe.remote("mark").result() for actor in actors]
    assert [fact.fault for fact in facts] == [None] * len(actors)
    assert folder.bring(actors) is None
    for rank, actor in enumerate(actors):
        actor.handle.start.remote(rank, {"RANK": str(rank)}, "127.0.0.1").result()
    waiting = [actor.handle.wait.remote() for actor in actors]
    return Driver(run_dir, folder, actors, waiting)


def test_all_that_ranks_write_comes_to_the_driver(
    run_dir: RunDir, nodes: Nodes, tmp_path: Path
) -> None:
    driver = begin(run_dir, nodes, "a", "b")
    (tmp_path / "rows.jsonl").rename(tmp_path / "elsewhere")
    driver.until(lambda: driver.steps() == [1, 2, 3, 4, 5, 6])
    driver.until(lambda: (run_dir.of_rank(1).events_jsonl).exists())
    state = run_dir.read_state()
    assert state is not None
    assert state.status == "running"
    driver.let_go_on()
    assert driver.codes() == [0, 0]
    after = run_dir.read_state()
    assert after is not None
    assert after.status == "running"  # until its results are here
    driver.folder.end(driver.actors, 0)
    assert driver.steps() == list(range(1, 10))
    assert (run_dir.final / "rows").read_text() == (tmp_path / "elsewhere").read_text()
    assert (run_dir.path / "result.json").is_file()
    last = run_dir.read_state()
    assert last is not None
    assert last.status == "succeeded"
    assert driver.folder.run.steps() == [8, 4]
    for name in "ab":
        assert list((tmp_path / name / "stored-runs").iterdir()) == []


def test_a_run_goes_on_elsewhere_when_the_node_of_rank_0_is_lost(
    run_dir: RunDir, nodes: Nodes
) -> None:
    driver = begin(run_dir, nodes, "a", "b")
    driver.until(lambda: driver.folder.run.steps() == [4])
    driver.until(lambda: 6 in driver.steps())
    for actor in driver.actors:
        actor.handle.end_at_once.remote().result()
    driver.folder.end(driver.actors, LostRanks({0: "gone"}))
    again = start(run_dir, nodes, driver.folder, "b")
    again.let_go_on()
    assert again.codes() == [0]
    again.folder.end(again.actors, 0)
    begun = [e["begun"] for e in read_events(run_dir.events_jsonl) if e["type"] == "run"]
    assert begun == [0, 4]
    assert again.steps() == [1, 2, 3, 4, 5, 6, 5, 6, 7, 8, 9]


def test_a_store_that_fails_ends_the_run_and_loses_nothing(
    run_dir: RunDir, nodes: Nodes, tmp_path: Path
) -> None:
    driver = begin(run_dir, nodes, "a", wait_s=0.2)
    driver.until(lambda: driver.folder.run.steps() == [4] and 6 in driver.steps())
    place = tmp_path / "store" / driver.folder.run.name
    place.rename(tmp_path / "aside")
    place.write_text("a file, where the run's folder should be")
    nodes.patch.setattr("tunesmith.platforms.sender.FILES_EVERY_S", 0.0)
    Path(driver.actors[0].handle.actor.where(), "new").touch()  # which is to be sent now
    assert driver.codes() == [75]
    with pytest.raises(RunError, match="for longer than 0 s; what was not sent is in") as caught:
        driver.folder.end(driver.actors, 75)
    kept = Path(driver.actors[0].handle.actor.where())
    assert str(kept) in caught.value.faults[0].found
    assert sorted(whole_steps(kept / "checkpoints")) == [4, 6]

    place.unlink()
    (tmp_path / "aside").rename(place)
    again = begin(run_dir, nodes, "b", "a")
    again.let_go_on()
    assert again.codes() == [0, 0]
    begun = [e["begun"] for e in read_events(run_dir.events_jsonl) if e["type"] == "run"]
    assert begun == [0, 6]


def test_a_run_that_was_stopped_may_go_on_without_the_store(run_dir: RunDir, nodes: Nodes) -> None:
    driver = begin(run_dir, nodes, "a")
    driver.until(lambda: 6 in driver.steps())
    driver.actors[0].handle.send.remote(15)
    assert driver.codes() == [75]
    assert not run_dir.checkpoints.exists()
    bring_back(run_dir, driver.folder.url, print)  # it goes on with the store
    assert not run_dir.checkpoints.exists()
    bring_back(run_dir, None, print)
    assert list(whole_steps(run_dir.checkpoints)) == [6]


def test_a_node_that_does_not_reach_the_store_is_named(run_dir: RunDir, nodes: Nodes) -> None:
    driver = begin(run_dir, nodes, "a")
    place = read_place(run_dir)
    assert place is not None
    driver.let_go_on()
    driver.codes()
    (nodes.folder / "store").rename(nodes.folder / "gone")
    fact = driver.actors[0].handle.describe.remote("mark").result()
    assert "there is no folder" in fact.fault.found
    with pytest.raises(MachineError, match="node a of the Ray cluster"):
        driver.folder.bring(driver.actors)


def test_a_lost_actor_is_asked_no_more(run_dir: RunDir, nodes: Nodes) -> None:
    driver = begin(run_dir, nodes, "a", "b")
    driver.until(lambda: 6 in driver.steps())
    driver.actors[1].handle.actor.news = lambda: Lost("gone")
    driver.until(lambda: driver.folder._gone == {1})
    driver.let_go_on()
    assert driver.codes() == [0, 0]
    assert driver.steps() == list(range(1, 10))
