"""What is wrong with the numbers of an X-ray, and what to do about it.

Errors stop a run: it would train on nothing useful. Warnings go with it.
"""

from __future__ import annotations

from collections.abc import Iterator

from tunesmith.data.xray.facts import SideXRay, Verdict, XRay
from tunesmith.data.xray.numbers import rows_text

# A run stops where more rows than this have nothing to train even when they are whole.
MAX_UNSUPERVISED_SHARE = 0.01
MAX_LOST_SHARE = 0.05
MAX_NEAR_SHARE = 0.1
MAX_LABEL_SHARE = 0.9
MAX_NAMES = 5

TRAIN = "train"
# How the rows of a side are called.
SIDE_ROWS = {"train": "training rows", "validation": "validation rows", "test": "test rows"}


def judge(xray: XRay) -> tuple[Verdict, ...]:
    """Return what is wrong, errors first."""
    found = [*_verdicts_on_train(xray), *_verdicts_on_sides(xray), *_verdicts_between(xray)]
    return tuple(sorted(found, key=lambda verdict: verdict.severity != "error"))


def _verdicts_on_train(xray: XRay) -> Iterator[Verdict]:
    side = xray.sides.get(TRAIN)
    if side is None:
        return
    yield from _nothing_trained(xray, side)
    yield from _end_of_turn(side)
    yield from _near_duplicates(side)
    yield from _one_label(side)


def _verdicts_on_sides(xray: XRay) -> Iterator[Verdict]:
    for name, side in xray.sides.items():
        yield from _unsupervised_rows(xray, name, side)
        yield from _too_long(xray, name, side)
        yield from _begin_tokens(xray, name, side)
        yield from _control_text(name, side)


def _verdicts_between(xray: XRay) -> Iterator[Verdict]:
    yield from _served_otherwise(xray)
    yield from _overlaps(xray)
    yield from _lonely_labels(xray)


def _nothing_trained(xray: XRay, side: SideXRay) -> Iterator[Verdict]:
    if side.trained_tokens:
        return
    if side.supervised_tokens:
        how = f"all {side.supervised_tokens:,} lie in rows longer than {xray.max_length:,} tokens"
        remedy = "raise data.max_length"
    elif side.rows:
        how, remedy = "no row has one", "give replies a weight of 1, or check data.train_on"
    else:
        how, remedy = "there are no rows on the training side", "add rows"
    yield _error(
        f"0 trainable tokens in {rows_text(side.rows)}, rendered with {xray.model}: {how}", remedy
    )


def _unsupervised_rows(xray: XRay, name: str, side: SideXRay) -> Iterator[Verdict]:
    rows, is_train = side.rows_unsupervised, name == TRAIN
    if not rows or (is_train and rows == side.rows):  # the latter is an error of its own
        return
    found = f"there is no token to train in {_of(rows, side.rows, name)}"
    remedy = "look at them with `tunesmith data show`, and mend or remove them"
    is_much = rows > MAX_UNSUPERVISED_SHARE * side.rows
    if is_much and is_train and xray.on_bad_row == "error":
        yield _error(
            f"{found}, more than {MAX_UNSUPERVISED_SHARE:.0%}",
            f"{remedy}, or set data.on_bad_row: drop to go on without them",
        )
    else:
        yield _warning(f"{found}: they are left out", remedy)


def _too_long(xray: XRay, name: str, side: SideXRay) -> Iterator[Verdict]:
    if side.lengths is None or not side.rows_too_long:
        return
    longest, limit = side.lengths.longest, f"data.max_length ({xray.max_length:,})"
    if side.rows_left_out and xray.overflow in ("error", "chunk"):
        yield _error(
            f"{_of(side.rows_left_out, side.rows, name)} exceed {limit}; the longest has "
            f"{longest:,} tokens",
            f"raise data.max_length, or set data.overflow: {_ways_out(xray)}",
        )
    elif side.lost_supervised_tokens > MAX_LOST_SHARE * side.supervised_tokens:
        lost = f"{side.lost_supervised_tokens / side.supervised_tokens:.0%}"
        yield _warning(
            f"{limit} takes away {lost} of the trained tokens of the {SIDE_ROWS[name]}: "
            f"{side.rows_cut:,} cut, {side.rows_left_out:,} left out",
            f"raise it: 95% of rows have up to {side.lengths.ninety_fifth:,} tokens, the longest "
            f"has {longest:,}",
        )


def _ways_out(xray: XRay) -> str:
    """Name what else may be done with rows that are too long.

    Only a plain text can be cut up, and the context of a question that a head answers.
    """
    is_cut = xray.format == "text" or (xray.task == "qa-head" and xray.overflow != "chunk")
    return "chunk, truncate or drop" if is_cut else "truncate or drop"


def _end_of_turn(side: SideXRay) -> Iterator[Verdict]:
    rows = side.rows_without_end_of_turn
    if not rows:
        return
    where = "any training row" if rows == side.rows else _of(rows, side.rows, TRAIN)
    yield _warning(
        f"the end of a reply is not trained in {where}: the model may not learn to stop",
        "use a chat template that ends turns with a token of its own; for prompt and completion "
        "or plain text, leave data.end_token on",
    )


def _near_duplicates(side: SideXRay) -> Iterator[Verdict]:
    if side.near is None or side.near.rows <= MAX_NEAR_SHARE * side.rows:
        return
    yield _warning(
        f"{_of(side.near.rows, side.rows, TRAIN)} nearly repeat another, the largest cluster "
        f"is {side.near.largest:,} rows",
        "keep one row of each cluster, unless the small differences are what is to be learned",
    )


def _one_label(side: SideXRay) -> Iterator[Verdict]:
    if side.labels is None:
        return
    first, rows = side.labels.most_frequent[0], side.labels.labelled_rows
    if side.labels.labels > 1 and first.rows <= MAX_LABEL_SHARE * rows:
        return
    yield _warning(
        f"the label {first.label!r} is that of {_of(first.rows, rows, TRAIN)}: always answering "
        "it would be right as often",
        "add rows of other labels, and judge by a score that counts all labels alike",
    )


def _begin_tokens(xray: XRay, name: str, side: SideXRay) -> Iterator[Verdict]:
    if side.bos.several:
        yield _warning(
            f"there are two begin tokens in {_of(side.bos.several, side.rows, name)}",
            "take the text of the begin token out of the rows, or out of the chat template",
        )
    if side.bos.none and xray.adds_bos:
        yield _warning(
            f"the begin token that {xray.model} expects is missing in "
            f"{_of(side.bos.none, side.rows, name)}",
            "use the tokenizer files that belong to the model",
        )


def _control_text(name: str, side: SideXRay) -> Iterator[Verdict]:
    if side.rows_with_control_text:
        yield _warning(
            "the text of a control token, which the model reads as the token itself, is in "
            f"{_of(side.rows_with_control_text, side.rows, name)}",
            "look at them with `tunesmith data show`, and write it otherwise where it is not meant",
        )


def _served_otherwise(xray: XRay) -> Iterator[Verdict]:
    if xray.serving is not None and xray.serving.difference:
        yield _warning(
            f"what is trained is not what a server sends: {xray.serving.summary}",
            "serve with the chat template and the tokenizer that the run saves",
        )


def _overlaps(xray: XRay) -> Iterator[Verdict]:
    for overlap in xray.overlaps:
        num_rows = xray.sides[overlap.side].rows
        seen = "trained" if overlap.other == TRAIN else "measured before"
        if overlap.exact:
            yield _warning(
                f"{_of(overlap.exact, num_rows, overlap.side)} are {SIDE_ROWS[overlap.other]} too",
                f"remove them from one side: what they measure was {seen}",
            )
        if overlap.near:
            yield _warning(
                f"{_of(overlap.near, num_rows, overlap.side)} are nearly the same as one of the "
                f"{SIDE_ROWS[overlap.other]}",
                f"look at the pairs, and keep rows of a kind on one side: what they measure was "
                f"nearly {seen}",
            )


def _lonely_labels(xray: XRay) -> Iterator[Verdict]:
    for lonely in xray.lonely_labels:
        if lonely.missing_in != TRAIN:
            continue
        names = ", ".join(map(repr, lonely.names[:MAX_NAMES]))
        more = f" and {lonely.labels - MAX_NAMES:,} more" if lonely.labels > MAX_NAMES else ""
        yield _warning(
            f"labels of the {SIDE_ROWS[lonely.side]} that no training row has: {names}{more}",
            "add training rows with these labels, or correct their spelling",
        )


def _error(sentence: str, remedy: str) -> Verdict:
    return Verdict("error", sentence, remedy)


def _warning(sentence: str, remedy: str) -> Verdict:
    return Verdict("warning", sentence, remedy)


def _of(part: int, whole: int, side: str) -> str:
    return f"{part:,} of {whole:,} {SIDE_ROWS[side]}"
