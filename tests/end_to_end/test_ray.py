"""Runs on a Ray cluster of two nodes on this machine: like one process, also where one dies."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.fakes.tiny_run import (
    TIMEOUT_S,
    losses_of,
    make_model_folder,
    make_rows,
    make_run,
    start_run,
    wait_for_step,
    weights_of,
)
from tunesmith.core.events import read_events
from tunesmith.core.run_dir import RunDir, read_json

pytest.importorskip("ray", reason="the extra ray is not installed")
# What Ray leaves open or uses of Python's past is not ours to mend.
pytestmark = [pytest.mark.filterwarnings("default"), pytest.mark.slow]

TWO = {"type": "ddp", "processes": 2}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    from ray.cluster_utils import Cluster

    head = {"num_cpus": 1, "include_dashboard": False}
    made = Cluster(initialize_head=True, head_node_args=head)
    made.add_node(num_cpus=1)
    yield made
    made.shutdown()


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory, cluster: Any) -> Callable[..., RunDir]:
    folder = tmp_path_factory.mktemp("ray")
    model = make_model_folder(folder / "model")
    data = make_rows(folder / "rows.jsonl", 60)

    def make_named(name: str, **parts: Any) -> RunDir:
        parts = {"method": {"type": "lora", "rank": 4}, **parts}
        training = {"epochs": 2, "micro_batch_tokens": 90, **parts.pop("training", {})}
        evaluation = {"before": False, "after": False}
        if "target" in parts:
            parts["target"] = {"type": "ray", "address": cluster.address, **parts["target"]}
        return make_run(
            folder / name, model, data, training=training, evaluation=evaluation, **parts
        )

    return make_named


def logs_of(run_dir: RunDir) -> str:
    files = [run_dir.log, *run_dir.path.glob("ranks*/rank-*/log.txt")]
    return "\n".join(f"{file}\n{file.read_text()}" for file in files)


def test_a_run_on_two_nodes_is_like_one_process_and_goes_on_when_a_node_dies(
    make: Callable[..., RunDir], cluster: Any
) -> None:
    one, two = make("one"), make("two", strategy=TWO, target={})
    assert start_run(one).wait(TIMEOUT_S) == 0
    total = read_json(one.plan_json)["total_steps"]

    process = start_run(two)
    wait_for_step(two, process, total // 2)
    assert read_json(two.environment_json)["ranks"] == 2
    cluster.remove_node(next(iter(cluster.worker_nodes)), allow_graceful=False)
    assert process.wait(TIMEOUT_S) == 0, logs_of(two)
    assert losses_of(two) == pytest.approx(losses_of(one), rel=1e-4)
    ours, theirs = weights_of(two), weights_of(one)
    assert all(ours[name].allclose(theirs[name], atol=1e-3) for name in theirs)
    (restart,) = [event for event in read_events(two.events_jsonl) if event["type"] == "restart"]
    assert (restart["ranks"], restart["restart"]) == (1, 1)
