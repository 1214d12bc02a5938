"""`tunesmith merge`: work an adapter into its base, checked, as a model folder of its own."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from tunesmith.cli import output as out
from tunesmith.cli.child import ask
from tunesmith.cli.program import suggest
from tunesmith.cli.what import find_what
from tunesmith.core.errors import ModelError

MODULE = "tunesmith.export.merged"


def merge(
    what: str,
    /,
    *,
    output: Path,
    base: str | None = None,
    dtype: Literal["bf16", "fp32", "original"] = "original",
    json: bool = False,
) -> int:
    """Work an adapter into its base model, as a model folder that serves by itself.

    The weights are those of the base's own files, also where the run kept them in 4 or 8 bits. The
    result is held beside the adapter on its base before the folder exists; merge.json in it holds
    the numbers.

    Parameters
    ----------
    what:
        A run's folder or its name in ./runs, its final/, or an adapter's folder.
    output:
        The folder to make.
    base:
        The base model, in place of the one that the run or the adapter names.
    dtype:
        How weights are written; by default each as the base has it.
    json:
        Print one JSON document, progress on standard error.
    """
    words = [find_what(what), "--output", str(output), "--dtype", dtype]
    words += ["--base", base] if base is not None else []
    answer = ask((sys.executable, "-m", MODULE, *words), what=what, error=ModelError)["merge"]
    if json:
        out.show_json({"output": str(output.absolute()), **answer})
        return 0
    out.say(f"merged: {output}", style="bold")
    out.show_pairs(_numbers(answer))
    if "head" in answer:
        files = ("--input", "rows.jsonl", "--output", "answers.jsonl")
        out.say("answer a file of rows with: " + suggest("predict", output, *files))
    else:
        out.say("talk to it with: " + suggest("chat", output))
    return 0


def _numbers(answer: Mapping[str, Any]) -> dict[str, str]:
    check, adapter = answer["check"], answer["adapter"]
    of_rank = f" of rank {adapter['rank']}" if "rank" in adapter else ""
    numbers = {
        "adapter": f"{adapter['type']}{of_rank} on {answer['base']['name']}",
        "weights": f"{answer['bytes'] / 1e6:,.0f} MB, {answer['merged_tensors']} tensors changed",
        "checked": f"logits differ by {check['max_abs_diff']:.2g} at most (rounding explains "
        f"{check['tolerance']:.2g}), computed in {check['computed_in']}",
        **_same_words(check),
    }
    rounded = answer.get("rounded_base")
    if rounded:
        numbers[f"base in {rounded['base']}"] = (
            f"as it was trained: logits differ by {rounded['max_abs_diff']:.2g}, "
            f"{rounded['top1_agreement']:.1%} of the likeliest tokens are the same"
        )
    return numbers


def _same_words(check: Mapping[str, Any]) -> dict[str, str]:
    share, compared = f"{check['top1_agreement']:.1%}", check["compared_tokens"]
    if "same_greedy_tokens" not in check:
        return {"the head says": f"the same in {share} of {compared} places"}
    greedy = "the same" if check["same_greedy_tokens"] else "differ"
    return {"same words": f"{share} of {compared} likeliest tokens; greedy answers {greedy}"}
