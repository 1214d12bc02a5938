"""Calls a function in several processes that have met, as the ranks of a run do."""

from __future__ import annotations

import multiprocessing
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from tempfile import TemporaryDirectory
from typing import Any

import torch

from tunesmith.core.rank_place import RankPlace
from tunesmith.training.strategies.ranks import ONE_RANK, join

TIMEOUT_S = 300.0


def in_ranks(work: Callable[..., Any], size: int, *arguments: Any) -> list[Any]:
    """Return what `work(ranks, *arguments)` returns in each of `size` processes."""
    if size == 1:
        return [work(ONE_RANK, *arguments)]
    # One process imports torch and the test's module; the ranks are forked from it.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", "tests.fakes.ranks", work.__module__])
    with TemporaryDirectory() as folder:
        started = [_start(context, work, rank, size, folder, arguments) for rank in range(size)]
        try:
            return [_result(pipe) for _, pipe in started]
        finally:
            for process, _ in started:
                process.kill()
                process.join()


def _start(
    context: Any,
    work: Callable[..., Any],
    rank: int,
    size: int,
    folder: str,
    arguments: tuple[Any, ...],
) -> tuple[Any, Connection]:
    ours, theirs = context.Pipe(duplex=False)
    place = RankPlace(
        rank=rank, size=size, local_rank=rank, local_size=size, meeting=f"file://{folder}/meeting"
    )
    process = context.Process(target=_be_rank, args=(theirs, work, place, arguments), daemon=True)
    process.start()
    theirs.close()
    return process, ours


def _be_rank(
    pipe: Connection, work: Callable[..., Any], place: RankPlace, arguments: tuple[Any, ...]
) -> None:
    torch.set_num_threads(1)
    try:
        pipe.send((work(join(place), *arguments), None))
    except BaseException:
        pipe.send((None, traceback.format_exc()))


def _result(pipe: Connection) -> Any:
    assert pipe.poll(TIMEOUT_S), "a rank gives no answer"
    value, error = pipe.recv()
    assert error is None, error
    return value
