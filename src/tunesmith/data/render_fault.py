"""Why a sample has no exact rendering: what was found, and what to do about it."""

from __future__ import annotations

import os

from tunesmith.data.abilities import takes_system
from tunesmith.data.conversation import Sample
from tunesmith.data.printed import Unprinted
from tunesmith.data.rows import RowFault
from tunesmith.data.tokenizer import TemplateRefusalError, TextEncoder


def place_of(sample: Sample, field: str = "") -> RowFault:
    """Return an empty fault at the row of a sample, to be filled by `saying`."""
    # A row of an array is named by its number too, as in rows.json:12#3.
    number = sample.row_id.removeprefix(os.path.basename(sample.file)).rpartition("#")[2]
    return RowFault(
        file=sample.file,
        line=sample.line,
        row_id=sample.row_id,
        row=int(number) if "#" in sample.row_id and number.isdecimal() else None,
        field=field,
    )


def no_template(encoder: TextEncoder, file: str) -> RowFault:
    """Return what to say where a conversation meets a model that cannot chat."""
    return RowFault(
        file=file,
        found=f"the model {encoder.name} has no chat template",
        expected="a model that can chat",
        fix="choose an instruct model, or task: completion",
        reason="no chat template",
    )


def refused(
    encoder: TextEncoder, refusal: TemplateRefusalError, place: RowFault, *, has_system: bool
) -> RowFault:
    """Return what to say where the template raised."""
    if has_system and not takes_system(encoder):
        return place.saying(
            found=f"the chat template of {encoder.name} takes no system message: {refusal}",
            expected="messages that it accepts",
            fix=(
                "set data.system_role: fold to put its text at the start of the first user "
                "message, or data.system_role: drop to leave it out"
            ),
            reason="refused by the chat template",
        )
    return place.saying(
        found=f"the chat template of {encoder.name} does not accept this conversation: {refusal}",
        expected="messages that it accepts",
        fix="change the row's roles or their order to what the model knows, or remove the row",
        reason="refused by the chat template",
    )


def cannot_mask(
    encoder: TextEncoder, why: str, place: RowFault, *, num_replies: int, trains_all: bool
) -> RowFault:
    """Return what to say where the template does not show a reply as it is served."""
    if trains_all:
        fix = "set data.train_on: assistant, or take the weight 0 out of the row"
    elif num_replies > 1:
        fix = (
            "set data.unstable_template: split to get one example a reply, or data.train_on: "
            "last-assistant"
        )
    else:
        fix = (
            "change the template so that its generation prompt is what it prints before a reply, "
            "or choose another model"
        )
    return place.saying(
        found=f"the chat template of {encoder.name} does not show where the replies are: {why}",
        expected="a template that prints replies as they are served",
        fix=fix,
        reason="no exact mask from the chat template",
    )


def unprinted(encoder: TextEncoder, lost: Unprinted, place: RowFault) -> RowFault:
    """Return what to say where the template leaves a part of the row out."""
    return place.saying(
        found=f"the chat template of {encoder.name} {lost.what}",
        expected="a template that prints all of the row",
        fix=lost.fix,
        reason="left out by the chat template",
        field=lost.field,
    )


def straddles(place: RowFault) -> RowFault:
    """Return what to say where a token reaches over the border of a reply."""
    return place.saying(
        found="one token reaches over the border between a prompt and its reply",
        expected="a reply that begins with a token of its own",
        fix=(
            "remove the white space at the reply's start, or set data.unstable_template: split or "
            "data.train_on: last-assistant"
        ),
        reason="a token over the border of a reply",
    )
