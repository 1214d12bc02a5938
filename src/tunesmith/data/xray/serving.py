"""Is what is trained what a server would send? Held against each other, token by token."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice

from tunesmith.core.errors import DataError
from tunesmith.data.conversation import Sample
from tunesmith.data.fields import TaskName
from tunesmith.data.render import Example, prompt_tokens
from tunesmith.data.tokenizer import Tokenizer
from tunesmith.recipe.data import DataPart

MAX_ROWS = 3


@dataclass(frozen=True, slots=True)
class ServingCheck:
    """In how many of the rows looked at training and serving agree; `difference` is the first."""

    rows: int
    same: int
    difference: str = ""

    @property
    def summary(self) -> str:
        """The result in a line."""
        same = f"same in {self.same} of {self.rows} rows"
        return f"{same}; {self.difference}" if self.difference else same


def check_serving(
    rows: Iterable[tuple[Sample, Example]],
    tokenizer: Tokenizer,
    part: DataPart,
    task: TaskName,
    *,
    max_rows: int = MAX_ROWS,
) -> ServingCheck:
    """Compare the beginning of each example with the prompt that is served for its sample.

    `rows` are samples with their (last) examples; no more of them are read than are looked at.
    """
    differences = [
        _compare(sample, example, tokenizer, part, task)
        for sample, example in islice(rows, max_rows)
    ]
    found = [difference for difference in differences if difference]
    return ServingCheck(len(differences), len(differences) - len(found), next(iter(found), ""))


def _compare(
    sample: Sample, example: Example, tokenizer: Tokenizer, part: DataPart, task: TaskName
) -> str:
    try:
        served = prompt_tokens(sample, tokenizer, part, task).tokens
    except DataError as error:
        return f"{example.row_id}: no prompt can be served: {error.faults[0].found}"
    trained: list[int] = example.tokens.tolist()
    place = _first_difference(trained, served)
    if place is None:
        return ""
    in_training, in_serving = (
        _token_text(tokens, place, tokenizer) for tokens in (trained, served)
    )
    return (
        f"{example.row_id}: token {place + 1} is {in_training} in training and {in_serving} "
        "in serving"
    )


def _first_difference(trained: Sequence[int], served: Sequence[int]) -> int | None:
    """Return the place where they part; an example that was cut within its prompt does not."""
    pairs = zip(trained, served, strict=False)
    return next((place for place, (one, other) in enumerate(pairs) if one != other), None)


def _token_text(tokens: Sequence[int], place: int, tokenizer: Tokenizer) -> str:
    token = tokens[place]
    return f"{tokenizer.decode([token])!r} ({token})"
