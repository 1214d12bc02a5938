"""Runs on nodes that share no disk: all they have comes through an object store, and goes back.

The store is a folder. `TUNESMITH_S3=s3://bucket/prefix?endpoint_override=HOST:PORT&scheme=http` in
the environment names another, with the keys that it wants.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.fakes.ray_nodes import add_node, make_cluster, node_of
from tests.fakes.tiny_run import (
    logs_of,
    losses_of,
    make_model_folder,
    make_rows,
    make_run,
    start_run,
    wait_for_event,
    wait_for_step,
    weights_of,
)
from tunesmith.core.events import read_events
from tunesmith.core.run_dir import RunDir, read_json
from tunesmith.platforms.object_store import open_store
from tunesmith.platforms.stored_run import StoredRun, read_place

pytest.importorskip("ray", reason="the extra ray is not installed")
# What Ray leaves open, or uses of Python's past, is not ours to mend.
pytestmark = [
    pytest.mark.filterwarnings("default"),
    pytest.mark.slow,
    pytest.mark.long,
    pytest.mark.timeout(3600),
]
WITHIN_S = 900


@pytest.fixture(scope="module")
def caches(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The folder of each node, in which the others do not look."""
    return [tmp_path_factory.mktemp(f"node-{number}") for number in range(2)]


@pytest.fixture(scope="module")
def cluster(caches: list[Path]) -> Iterator[Any]:
    made = make_cluster()
    for cache in caches:
        add_node(made, num_cpus=1, env_vars={"TUNESMITH_CACHE": str(cache)})
    yield made
    made.shutdown()


@pytest.fixture
def url(tmp_path: Path) -> str:
    (tmp_path / "store").mkdir()
    return os.environ.get("TUNESMITH_S3") or f"file://{tmp_path}/store"


def test_a_run_through_a_store_goes_on_when_the_node_of_rank_0_dies(
    tmp_path: Path,
    cluster: Any,
    caches: list[Path],
    url: str,
    request: pytest.FixtureRequest,
) -> None:
    model = make_model_folder(tmp_path / "model")
    rows = make_rows(tmp_path / "rows.jsonl", 60)
    parts: dict[str, Any] = {
        "method": {"type": "lora", "rank": 4},
        "training": {"epochs": 2, "micro_batch_tokens": 90},
        "evaluation": {"before": False, "after": True},
    }
    one = make_run(tmp_path / "one", model, rows, **parts)
    assert start_run(one).wait(WITHIN_S) == 0, logs_of(one)
    target = {"type": "ray", "address": cluster.address, "storage": url}
    strategy = {"type": "ddp", "processes": 2}
    two = make_run(tmp_path / "two", model, rows, strategy=strategy, target=target, **parts)
    process = start_run(two)
    request.addfinalizer(process.kill)
    wait_for_event(two, process, "through the object store", within_s=WITHIN_S)
    # from here on nobody finds them by the path that the recipe names
    model.rename(tmp_path / "model-elsewhere")
    rows.rename(tmp_path / "rows-elsewhere.jsonl")

    total = read_json(one.plan_json)["total_steps"]
    wait_for_step(two, process, total // 2, within_s=WITHIN_S)
    own = [folder_of(two, rank) for rank in range(2)]
    assert {next(cache for cache in caches if cache in folder.parents) for folder in own} == set(
        caches
    )
    assert not any(folder.joinpath("checkpoints").samefile(two.path) for folder in own)
    cluster.remove_node(node_of(cluster, two, 0), allow_graceful=False)
    assert process.wait(WITHIN_S) == 0, logs_of(two)

    expected = losses_of(one)
    events = read_events(two.events_jsonl)
    steps = [event for event in events if event["type"] == "step"]
    assert {step["step"] for step in steps} == expected.keys()
    for step in steps:
        assert step["loss"] == pytest.approx(expected[step["step"]], rel=1e-4), step
    (resumed,) = [event for event in events if event.get("status") == "resumed"]
    assert resumed["step"] > 0
    ours, theirs = weights_of(two), weights_of(one)
    assert ours.keys() == theirs.keys()
    assert all(ours[name].allclose(theirs[name], atol=1e-3) for name in theirs)

    for file in ("result.json", "report.md", "plan.json", "evaluation.json", "environment.json"):
        assert (two.path / file).is_file(), file
    named = read_json(two.final / "adapter_config.json")["base_model_name_or_path"]
    assert named == str(model)
    state = two.read_state()
    assert state is not None
    assert state.status == "succeeded"
    place = read_place(two)
    assert place is not None
    assert StoredRun(open_store(url), place["name"]).steps()[0] == total
    left = [path for cache in caches for path in cache.glob("stored-runs/*")]
    # but what the node has left that was lost
    assert [path for path in left if not path.name.startswith(own[0].name)] == []


def folder_of(run_dir: RunDir, rank: int) -> Path:
    """Where a rank has its run folder, and that it has nothing of the driver's open."""
    state = run_dir.of_rank(rank).read_state()
    assert state is not None
    assert state.pid is not None
    process = psutil.Process(state.pid)
    assert not [file for file in process.open_files() if str(run_dir.path) in file.path]
    return Path(process.cmdline()[-1])
