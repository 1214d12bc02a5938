from __future__ import annotations

import numpy as np
import pytest
import tokenizers
from transformers import PreTrainedTokenizerFast

from tests.fakes.tiny import make_tokenizer
from tunesmith.data.conversation import Conversation, Labelled, Message
from tunesmith.data.example import END, NONE, START, Example, fit
from tunesmith.data.fields import TaskName
from tunesmith.data.forms.entities import words_of
from tunesmith.data.labelled_render import render_labelled
from tunesmith.data.rows import RowFault
from tunesmith.data.tokenizer import TextEncoder, encoder_of, load_tokenizer


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> TextEncoder:
    """Bytes are tokens, and nothing is put around a text but the begin token."""
    folder = tmp_path_factory.mktemp("model")
    make_tokenizer(folder)
    return encoder_of(load_tokenizer(folder))


def sample(labelled: Labelled) -> Conversation:
    return Conversation(messages=(Message("user", "q"), Message("assistant", "a")),
                        labelled=labelled, row_id="r:1", file="r", line=1)  # fmt: skip


def render(labelled: Labelled, encoder: TextEncoder, task: TaskName) -> Example:
    (made,) = render_labelled([sample(labelled)], encoder, task)
    assert not isinstance(made, RowFault), made
    (example,) = made
    return example


def texts_at(example: Example, encoder: TextEncoder) -> list[tuple[str, str]]:
    tokens = example.tokens.tolist()
    return [
        (encoder.decode([tokens[place]]), label)
        for place, label in zip(example.places.tolist(), example.labels, strict=True)
    ]


def test_a_class_is_read_from_the_last_token(encoder: TextEncoder) -> None:
    row = Labelled(kind="classes", texts=("late",), labels=("delivery",))
    example = render(row, encoder, "classification-head")
    assert encoder.decode(example.tokens.tolist()).endswith("late")
    assert example.places.tolist() == [len(example.tokens) - 1]
    assert example.labels == ("delivery",)
    assert example.weights.tolist() == [*[0.0] * (len(example.tokens) - 1), 1.0]


def test_a_decoder_reads_a_pair_as_two_lines(encoder: TextEncoder) -> None:
    row = Labelled(kind="classes", texts=("one", "two"), labels=("x",))
    example = render(row, encoder, "classification-head")
    assert encoder.decode(example.tokens.tolist()).endswith("one\ntwo")


def test_several_classes_are_read_from_one_place_and_none_is_read_too(
    encoder: TextEncoder,
) -> None:
    both = render(Labelled(kind="classes", texts=("t",), labels=("a", "b")), encoder,
                  "classification-head")  # fmt: skip
    assert both.labels == ("a", "b")
    assert len(set(both.places.tolist())) == 1
    none = render(Labelled(kind="classes", texts=("t",), labels=()), encoder,
                  "classification-head")  # fmt: skip
    assert none.labels == ("",)
    assert none.supervised_tokens == 1


@pytest.mark.parametrize(
    ("task", "pieces"), [("ner-head", ["A", "in", "R"]), ("ner-head-causal", ["a", "in", "o"])]
)
def test_one_piece_of_each_token_is_tagged(
    encoder: TextEncoder, task: TaskName, pieces: list[str]
) -> None:
    row = Labelled(kind="tags", texts=("Ana", "in", "Rio"), labels=("B-PER", "O", "B-LOC"))
    found = texts_at(render(row, encoder, task), encoder)
    assert [text.strip() for text, _ in found] == pieces
    assert [tag for _, tag in found] == ["B-PER", "O", "B-LOC"]


def test_a_token_that_is_one_character_is_still_one(encoder: TextEncoder) -> None:
    row = Labelled(kind="tags", texts=("a", "b", "c"), labels=("B-X", "O", "I-X"))
    assert [tag for _, tag in texts_at(render(row, encoder, "ner-head"), encoder)] == [
        "B-X", "O", "I-X",
    ]  # fmt: skip


def test_an_answer_is_its_first_and_its_last_token(encoder: TextEncoder) -> None:
    row = Labelled(kind="answers", texts=("It is in Bled.", "Where?"), labels=("Bled",),
                   starts=(9,))  # fmt: skip
    example = render(row, encoder, "qa-head")
    found = {label: text for text, label in texts_at(example, encoder) if label}
    assert found == {"start": "B", "end": "d"}
    first, *context = np.unique(example.places).tolist()
    assert first == 0
    assert encoder.decode(example.tokens[context].tolist()) == "It is in Bled."


def test_no_answer_is_the_first_token(encoder: TextEncoder) -> None:
    row = Labelled(kind="answers", texts=("It is in Bled.", "When?"), labels=())
    example = render(row, encoder, "qa-head")
    marks = zip(example.places.tolist(), example.labels, strict=True)
    assert [mark for mark in marks if mark[1]] == [(0, NONE)]
    assert example.supervised_tokens == len(np.unique(example.places)) > 5


def test_a_text_that_is_cut_is_still_read_at_its_last_token(encoder: TextEncoder) -> None:
    row = Labelled(kind="classes", texts=("a long text",), labels=("x",))
    example = render(row, encoder, "classification-head")
    (cut,) = fit(example, 5, "truncate").examples
    assert cut.places.tolist() == [4]
    assert cut.labels == ("x",)
    assert cut.supervised_tokens == 1


def test_tags_that_are_cut_off_are_counted_as_lost(encoder: TextEncoder) -> None:
    row = Labelled(kind="tags", texts=("Ana", "in", "Rio"), labels=("B-PER", "O", "B-LOC"))
    fitted = fit(render(row, encoder, "ner-head"), 4, "truncate")
    assert fitted.lost_supervised_tokens == 2
    assert fitted.examples[0].labels == ("B-PER",)


def test_an_answer_that_is_cut_off_leaves_nothing_to_learn(encoder: TextEncoder) -> None:
    row = Labelled(kind="answers", texts=("It is in Bled.", "Where?"), labels=("Bled",),
                   starts=(9,))  # fmt: skip
    (cut,) = fit(render(row, encoder, "qa-head"), 12, "truncate").examples
    assert cut.supervised_tokens == 0


@pytest.fixture(scope="module")
def joining(tmp_path_factory: pytest.TempPathFactory) -> TextEncoder:
    """A tokenizer whose piece may reach over a space, as SentencePiece's may."""
    backend = tokenizers.Tokenizer(
        tokenizers.models.BPE(
            vocab={one: number for number, one in enumerate(["a", " ", "b", "a ", "a b"])},
            merges=[("a", " "), ("a ", "b")],
        )
    )
    folder = tmp_path_factory.mktemp("joining")
    PreTrainedTokenizerFast(tokenizer_object=backend).save_pretrained(folder)
    return encoder_of(load_tokenizer(folder))


@pytest.mark.parametrize("task", ["ner-head", "ner-head-causal"])
def test_two_tokens_in_one_piece_are_read_once(joining: TextEncoder, task: TaskName) -> None:
    row = Labelled(kind="tags", texts=("a", "b"), labels=("O", "O"))
    example = render(row, joining, task)
    assert (example.places.tolist(), example.labels) == ([0], ("O",))


def test_two_tokens_in_one_piece_cannot_have_two_tags(joining: TextEncoder) -> None:
    row = Labelled(kind="tags", texts=("a", "b"), labels=("O", "B-X"))
    (fault,) = render_labelled([sample(row)], joining, "ner-head")
    assert isinstance(fault, RowFault)
    assert fault.reason == "two tokens in one piece"
    assert "'b' of B-X" in fault.found


def windows(encoder: TextEncoder, answer: str, max_length: int, stride: int) -> list[Example]:
    context = "It is in Bled, by the lake, and near the old church."
    row = Labelled(kind="answers", texts=(context, "Where?"), labels=(answer,) * bool(answer),
                   starts=(context.find(answer),) * bool(answer))  # fmt: skip
    example = render(row, encoder, "qa-head")
    return list(fit(example, max_length, "chunk", stride=stride).examples)


def answers_in(examples: list[Example], encoder: TextEncoder) -> list[str]:
    """The answer that each window teaches, empty for none."""
    found: list[str] = []
    for example in examples:
        ends = {label: place for place, label in zip(example.places.tolist(), example.labels,
                                                     strict=True) if label}  # fmt: skip
        assert set(ends) in ({NONE}, {START, END})
        words = example.tokens[ends[START] : ends[END] + 1] if START in ends else []
        found.append(encoder.decode(list(words)))
    return found


def test_a_long_context_is_read_in_windows_that_overlap(encoder: TextEncoder) -> None:
    made = windows(encoder, "lake", 30, 8)
    (whole,) = windows(encoder, "lake", 1000, 8)
    num_question = int(np.unique(whole.places)[1])
    assert len(made) > 2
    assert {tuple(one.tokens[:num_question].tolist()) for one in made} == {
        tuple(whole.tokens[:num_question].tolist())
    }
    read: list[int] = []
    for one in made:
        assert len(one.tokens) <= 30
        assert sorted({*one.places.tolist()}) == np.flatnonzero(one.weights).tolist()
        begin = one.skipped
        assert len(read) - begin == (8 if read else 0)
        read[begin:] = one.tokens[num_question:].tolist()
    assert read == whole.tokens[num_question:].tolist()
    assert set(answers_in(made, encoder)) == {"lake", ""}


def test_a_window_that_holds_no_answer_teaches_none(encoder: TextEncoder) -> None:
    assert set(answers_in(windows(encoder, "", 30, 8), encoder)) == {""}


def test_a_context_of_which_no_window_holds_the_answer_does_not_fit(encoder: TextEncoder) -> None:
    assert windows(encoder, "in Bled, by the lake", 24, 0) == []
    assert windows(encoder, "lake", 8, 4) == []  # the question leaves no room


def test_the_words_of_a_text_are_read_at_their_own_places(encoder: TextEncoder) -> None:
    whole = "Ana,\n in Rio."
    words = words_of(whole)
    row = Labelled(
        kind="tags", texts=tuple(word for word, _ in words), whole=whole,
        starts=tuple(start for _, start in words), labels=("B-PER", "O", "O", "B-LOC", "O"),
    )  # fmt: skip
    example = render(row, encoder, "ner-head")
    assert encoder.decode(example.tokens.tolist()).endswith(whole)
    assert [text.strip() for text, _ in texts_at(example, encoder)] == ["A", ",", "in", "R", "."]
