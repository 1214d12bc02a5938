from __future__ import annotations

import random
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import pytest
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers

from tests.fakes.tiny import make_tokenizer
from tunesmith.data.word_memory import WordMemory

LLAMA_3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN_2 = LLAMA_3.replace("{1,3}", "")
BYTES = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
BYTES_ALONE = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)


def split(pattern: str) -> Any:
    return pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(pattern), behavior="isolated"), BYTES_ALONE]
    )


SPLITTERS = {
    "gpt-2": BYTES,
    "smollm": pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), BYTES]),
    "starcoder": pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=False), BYTES]),
    "llama-3": split(LLAMA_3),
    "qwen-2": split(QWEN_2),
}
ENGLISH = " ".join(topics[name] for name in sorted(topics)[:20])


def train(splitter: Any) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = splitter
    if splitter is SPLITTERS["qwen-2"]:
        tokenizer.normalizer = normalizers.NFC()  # as the model's own has it
    trainer = trainers.BpeTrainer(
        vocab_size=1200,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=["<|im_start|>", "<|im_end|>"],
        show_progress=False,
    )
    tokenizer.train_from_iterator([ENGLISH], trainer)
    tokenizer.add_tokens([AddedToken("<turn>", special=False, normalized=False)])
    return tokenizer


def texts() -> list[str]:
    """Ordinary text, and texts of the characters that patterns care about, in any order."""
    draw = random.Random(0)
    odd = ["  ", "\n", "\r\n", "\t", "'s", "'LL", "12345", "a", "B", " the", "...", "=", "<turn>"]
    odd += [
        "<|im_end|>",
        "<|im_",
        "\x0b",
        "\x0c",
        "\x1c",
        "\x00",
        "\x7f",
        " '",
        "''",
        "_",
        "0",
        " 7",
    ]
    made = ["".join(draw.choices(odd, k=draw.randrange(1, 12))) for _ in range(4000)]
    made += [
        "".join(chr(draw.randrange(128)) for _ in range(draw.randrange(30))) for _ in range(4000)
    ]
    other = [
        " \u00e9t\u00e9",
        "\u2019s",
        "\u00a0",
        "\u6771\u4eac",
        "\U0001f642",
        "e\u0301",
        "\u0301",
    ]
    other += ["\u0301", "\u2003", " \u201c", "\u0661\u0662", "\u017f", "\uff21", "\u200b", "\ufb01"]
    mixed = [*odd, *other, *other, " a", ". B", "x y"]
    made += ["".join(draw.choices(mixed, k=draw.randrange(1, 14))) for _ in range(8000)]
    pieces = [ENGLISH[place : place + 300] for place in range(0, 60_000, 300)]
    return ["", *made, *pieces]


@pytest.mark.parametrize("name", SPLITTERS)
def test_tokens_and_their_places_are_the_tokenizers_own(name: str) -> None:
    tokenizer = train(SPLITTERS[name])
    words = WordMemory.of(tokenizer)
    assert words is not None
    for text in texts():
        wanted = tokenizer.encode(text, add_special_tokens=False)
        ids, places = words.encode(text)
        assert ids == wanted.ids, repr(text)
        assert places.offsets == wanted.offsets, repr(text)


def test_the_fake_tokenizer_is_read_so(tmp_path: Path) -> None:
    tokenizer = Tokenizer.from_file(str(make_tokenizer(tmp_path) / "tokenizer.json"))
    words = WordMemory.of(tokenizer)
    assert words is not None
    text = "<|im_start|>user\nthe theatre, 12 o'clock<turn_end><|im_end|>\n"
    assert words.encode(text)[0] == tokenizer.encode(text, add_special_tokens=False).ids


def test_a_very_long_text_has_the_same_tokens() -> None:
    tokenizer = train(SPLITTERS["smollm"])
    words = WordMemory.of(tokenizer)
    assert words is not None
    text = (ENGLISH.encode("ascii", "ignore").decode() + " ") * 6
    assert len(text) > 2**18
    assert words.encode(text)[0] == tokenizer.encode(text, add_special_tokens=False).ids


def test_places_are_found_by_character() -> None:
    tokenizer = train(SPLITTERS["gpt-2"])
    words = WordMemory.of(tokenizer)
    assert words is not None
    text = "the \u00e9tudes of <|im_end|>the \u6771 \U0001f642!"
    _, places = words.encode(text)
    offsets = tokenizer.encode(text, add_special_tokens=False).offsets
    for char in range(len(text) + 2):
        first = next((n for n, (start, _) in enumerate(offsets) if start >= char), len(offsets))
        assert places.token_from(char) == first
    assert [places.span(token) for token in range(len(offsets))] == offsets


def unknown_parts() -> dict[str, Tokenizer]:
    lower = train(SPLITTERS["gpt-2"])
    lower.normalizer = normalizers.Lowercase()
    strips = train(SPLITTERS["gpt-2"])
    strips.add_tokens([AddedToken("<s>", lstrip=True)])
    prefix = train(SPLITTERS["gpt-2"])
    prefix.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    metaspace = train(SPLITTERS["gpt-2"])
    metaspace.pre_tokenizer = pre_tokenizers.Metaspace()
    behind = train(split(r"(?<=a)b|\w+"))
    twice = train(SPLITTERS["gpt-2"])
    twice.pre_tokenizer = pre_tokenizers.Sequence([BYTES_ALONE, BYTES])
    no_bytes = train(SPLITTERS["gpt-2"])
    no_bytes.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits()])
    # "b" is taken out of "ab" before tokens that are sought in normal form are looked for.
    in_turn = train(SPLITTERS["gpt-2"])
    in_turn.add_tokens([AddedToken("b", normalized=False), AddedToken("ab", normalized=True)])
    folded = train(SPLITTERS["gpt-2"])
    folded.normalizer = normalizers.NFKC()
    folded.add_tokens([AddedToken("\ufb01", normalized=True)])  # found in "fish"
    over_a_cut = train(SPLITTERS["gpt-2"])
    over_a_cut.normalizer = normalizers.NFKC()
    over_a_cut.add_tokens([AddedToken("x, y", normalized=True)])  # found in "\uff58, y"
    unigram = Tokenizer(models.Unigram([("a", 0.0)], unk_id=0))
    unigram.pre_tokenizer = BYTES
    return {
        "lower": lower, "strips": strips, "prefix": prefix, "metaspace": metaspace,
        "behind": behind, "unigram": unigram, "twice": twice, "no bytes": no_bytes,
        "in turn": in_turn, "folded": folded, "over a cut": over_a_cut,
    }  # fmt: skip


def test_a_tokenizer_with_a_part_that_is_not_known_is_not_read_so() -> None:
    for name, tokenizer in unknown_parts().items():
        assert WordMemory.of(tokenizer) is None, name


@pytest.mark.parametrize(
    "pattern",
    [
        r"^a|\p{L}+",  # of a line in the one engine, of the text in the other
        r"a$|\p{L}+",
        r"[a-z&&[^b]]+|.",  # a class within a class
        r"[[:alpha:]]+|\s",
        r"[^\S\n]+|\p{L}+",
        r"(?m:a.b)|\p{L}",  # a dot that matches a line break in the one, lines in the other
        r"\p{L}*",  # may match nothing
        r"a*?|\p{L}",
        r"\p{L}{2}?|\s",
        r"[\\s]+|\p{L}",
        r"foo(?=bar)|\p{L}",
    ],
)
def test_a_pattern_that_two_engines_may_read_otherwise_is_not_read(pattern: str) -> None:
    tokenizer = train(SPLITTERS["gpt-2"])
    tokenizer.pre_tokenizer = split(pattern)
    assert WordMemory.of(tokenizer) is None


def test_a_word_that_alone_would_be_cut_again_keeps_its_tokens() -> None:
    tokenizer = train(SPLITTERS["gpt-2"])
    tokenizer.pre_tokenizer = split(r"t(?!he)|th|\p{L}+| ")
    words = WordMemory.of(tokenizer)
    assert words is not None
    for text in ("the", "th", "t", "at the"):
        wanted = tokenizer.encode(text, add_special_tokens=False).ids
        assert words.encode(text)[0] == wanted, text


def test_added_tokens_of_both_kinds_that_never_meet_are_read() -> None:
    tokenizer = train(SPLITTERS["gpt-2"])
    tokenizer.add_tokens([AddedToken("    ", normalized=True), AddedToken("  ", normalized=True)])
    words = WordMemory.of(tokenizer)
    assert words is not None
    text = "the     cat<turn>   \n<|im_end|>  x"
    assert words.encode(text)[0] == tokenizer.encode(text, add_special_tokens=False).ids


@pytest.mark.parametrize("unknown", [None, "<unk>"])
def test_a_character_that_has_no_token_moves_no_other(unknown: str | None) -> None:
    tokenizer = Tokenizer(models.BPE(unk_token=unknown))
    tokenizer.pre_tokenizer = BYTES
    special = [unknown] if unknown else []
    trainer = trainers.BpeTrainer(special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(["the cat sat on the mat"], trainer)
    words = WordMemory.of(tokenizer)
    assert words is not None
    for text in ("the Zcat", "Q", "sat onQQ the\u00e9 mat, the cat"):
        wanted = tokenizer.encode(text, add_special_tokens=False)
        ids, places = words.encode(text)
        assert ids == wanted.ids
        assert places.offsets == wanted.offsets
