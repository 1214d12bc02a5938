"""The recipe's `data` part: which rows, in which form, and what of them is trained."""

from __future__ import annotations

from typing import Annotated, Literal, cast

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from tunesmith.recipe.part import Part
from tunesmith.recipe.share import Share, parse_share

SAMPLE_PREFIX = "sample:"
FormatName = Literal[
    "messages",
    "sharegpt",
    "alpaca",
    "prompt-completion",
    "text",
    "preference",
    "classification",
    "ner",
    "entities",
    "qa",
    "summarization",
    "translation",
    "text-generation",
    "multiple-choice",
]
FormatWord = Literal["auto"] | FormatName


_PLAIN_WORDS = {
    "token": "tokens",
    "tag": "tags",
    "answer": "answers",
    "answers_text": "answer_text",
    "conversations": "messages",
}


def plain_word(word: str) -> str:
    """Return a column's word without the `_key` or `_lang` that Azure's task pipelines add."""
    plain = word.removesuffix("_key")
    if plain in ("source_lang", "target_lang"):
        plain = plain.removesuffix("_lang")
    return _PLAIN_WORDS.get(plain, plain)


def plain_columns(value: object) -> object:
    """Return a mapping of columns under their plain words."""
    if not isinstance(value, dict):
        return value
    given = cast("dict[object, object]", value)
    plain: dict[object, object] = {}
    for word, name in given.items():
        known = plain_word(word) if isinstance(word, str) else word
        # A word that is given twice stays, and is refused as unknown.
        plain[word if known in plain or (known != word and known in given) else known] = name
    return plain


class ColumnMap(Part):
    """The file's own names for the columns that a form knows under another name.

    A dotted name reaches into a column: `translation.en`.
    """

    prompt: Annotated[str | None, Field(min_length=1, description="The prompt's column.")] = None
    completion: Annotated[
        str | None, Field(min_length=1, description="The completion's column.")
    ] = None
    instruction: Annotated[
        str | None, Field(min_length=1, description="The instruction's column.")
    ] = None
    input: Annotated[
        str | None, Field(min_length=1, description="The column of the instruction's input.")
    ] = None
    output: Annotated[str | None, Field(min_length=1, description="The answer's column.")] = None
    text: Annotated[str | None, Field(min_length=1, description="The plain text's column.")] = None
    messages: Annotated[
        str | None, Field(min_length=1, description="The column of the list of messages.")
    ] = None
    system: Annotated[
        str | None, Field(min_length=1, description="The column of the system message.")
    ] = None
    tools: Annotated[
        str | None, Field(min_length=1, description="The column of the tools on offer.")
    ] = None
    history: Annotated[
        str | None,
        Field(min_length=1, description="The column of earlier pairs of question and answer."),
    ] = None
    chosen: Annotated[
        str | None, Field(min_length=1, description="The better answer's column.")
    ] = None
    rejected: Annotated[
        str | None, Field(min_length=1, description="The worse answer's column.")
    ] = None
    label: Annotated[
        str | None,
        Field(min_length=1, description="The class's column, or that of a rating (true or false)."),
    ] = None
    sentence1: Annotated[
        str | None, Field(min_length=1, description="The column of the text to classify.")
    ] = None
    sentence2: Annotated[
        str | None, Field(min_length=1, description="The column of a pair's second text.")
    ] = None
    tokens: Annotated[
        str | None, Field(min_length=1, description="The column of a sentence's list of words.")
    ] = None
    tags: Annotated[
        str | None, Field(min_length=1, description="The column of the list of the words' tags.")
    ] = None
    entities: Annotated[
        str | None,
        Field(min_length=1, description="The column of the list of a text's entities."),
    ] = None
    question: Annotated[str | None, Field(min_length=1, description="The question's column.")] = (
        None
    )
    context: Annotated[
        str | None,
        Field(min_length=1, description="The column of the text that answers the question."),
    ] = None
    answers: Annotated[str | None, Field(min_length=1, description="The answers' column.")] = None
    answer_text: Annotated[
        str | None,
        Field(min_length=1, description="The answers' texts, inside answers or beside it."),
    ] = None
    answer_start: Annotated[
        str | None,
        Field(min_length=1, description="Where the answers begin, inside answers or beside it."),
    ] = None
    is_impossible: Annotated[
        str | None,
        Field(min_length=1, description="Whether the text does not answer the question."),
    ] = None
    choices: Annotated[
        str | None,
        Field(min_length=1, description="The candidates' column, of which some are wrong."),
    ] = None
    best: Annotated[
        str | None,
        Field(
            min_length=1,
            description="The column that says which of several right candidates is best.",
        ),
    ] = None
    document: Annotated[
        str | None, Field(min_length=1, description="The column of the text to summarize.")
    ] = None
    summary: Annotated[str | None, Field(min_length=1, description="The summary's column.")] = None
    source: Annotated[
        str | None,
        Field(
            min_length=1,
            description="The column of the text to translate, named by its language, e.g. en.",
        ),
    ] = None
    target: Annotated[
        str | None,
        Field(
            min_length=1, description="The translation's column, named by its language, e.g. de."
        ),
    ] = None
    ground_truth: Annotated[
        str | None, Field(min_length=1, description="The column of what is to follow the text.")
    ] = None

    @model_validator(mode="before")
    @classmethod
    def _plain(cls, value: object) -> object:
        return plain_columns(value)


def _refuse_all_or_nothing(value: Share | str) -> Share | str:
    if isinstance(value, Share) and not 0 < value.fraction < 1:
        raise ValueError(f"{value} leaves no rows on one side")
    return value


class DataPart(Part):
    """The rows to learn from and the rows held out."""

    train: Annotated[
        str,
        Field(
            min_length=1,
            description=(
                "The training rows: a file, a folder, a pattern such as data/*.jsonl, files side "
                "by side such as train.{en,de}, a data set of the Hugging Face hub "
                "(owner/name:split), or a built-in one such as sample:support-desk."
            ),
        ),
    ]
    validation: Annotated[
        Share | str,
        BeforeValidator(parse_share),
        AfterValidator(_refuse_all_or_nothing),
        Field(
            description=(
                "A file of held-out rows, or a share such as 10% split off by a stable hash after "
                "duplicates are removed."
            ),
        ),
    ] = Share(0.1)
    group: Annotated[
        str | None,
        Field(
            min_length=1,
            description=(
                "A column whose value several rows share, such as the article that questions are "
                "about: the share held out is then of whole groups, so that nothing measured "
                "afterwards belongs to something that was trained."
            ),
        ),
    ] = None
    format: Annotated[
        FormatWord,
        Field(
            description=(
                "The form of a row; auto finds it from the columns. From classification on: a "
                "task's columns, which become a question with a short instruction, and its answer."
            )
        ),
    ] = "auto"
    columns: Annotated[
        ColumnMap | None,
        Field(
            description=(
                "Own column names, e.g. {prompt: question, completion: answer}, dotted for a "
                "nested column. The column keys of Azure's task pipelines are understood."
            )
        ),
    ] = None
    system: Annotated[
        str | None,
        Field(
            min_length=1,
            description=(
                "A system message for conversations that do not bring one. It takes the place of "
                "the instruction that a task's columns get."
            ),
        ),
    ] = None
    train_on: Annotated[
        Literal["assistant", "last-assistant", "all"],
        Field(description="Which turns are trained."),
    ] = "assistant"
    max_length: Annotated[int, Field(ge=2, description="The most tokens of a row.")] = 1024
    overflow: Annotated[
        Literal["error", "drop", "truncate", "chunk"],
        Field(
            description=(
                "What happens to a row that is too long; always counted. chunk: a plain text "
                "becomes several examples and loses nothing, and for a qa head a context is read "
                "in windows that overlap."
            ),
        ),
    ] = "error"
    stride: Annotated[
        int,
        Field(
            ge=0,
            description=(
                "How many tokens two neighbouring windows of a context share, at most half a "
                "window: more than the longest answer has."
            ),
        ),
    ] = 128
    limit: Annotated[int | None, Field(ge=1, description="Only the first so many rows.")] = None
    test: Annotated[
        str | None,
        Field(
            min_length=1,
            description=(
                "A file of rows for a last test: never trained, only held against the others for "
                "rows that are in both."
            ),
        ),
    ] = None
    on_bad_row: Annotated[
        Literal["error", "drop"],
        Field(
            description=(
                "What happens to a row with a fault: all faults are an error, or the row is left "
                "out, counted, and listed in the run folder."
            ),
        ),
    ] = "error"
    turn_order: Annotated[
        Literal["strict", "merge"],
        Field(
            description=(
                "Conversations whose turns do not alternate: a fault, or neighbours of one role "
                "are joined with a blank line."
            ),
        ),
    ] = "strict"
    system_role: Annotated[
        Literal["keep", "fold", "drop"],
        Field(
            description=(
                "A system message that the chat template refuses: an error, put at the start of "
                "the first user message, or left out."
            ),
        ),
    ] = "keep"
    unstable_template: Annotated[
        Literal["split", "error"],
        Field(
            description=(
                "A chat template that prints earlier turns otherwise than they were served: the "
                "row becomes one example a reply, or an error."
            ),
        ),
    ] = "split"
    end_token: Annotated[
        bool,
        Field(
            description=(
                "Whether the end token closes a prompt with its completion, and a plain text."
            )
        ),
    ] = True
    documents: Annotated[
        Literal["auto", "line", "block", "file"],
        Field(
            description=(
                "What one row of a text file is: a line, a block up to a blank line, or the file. "
                "auto: lines of .txt, tunes of .abc, the whole of .md."
            ),
        ),
    ] = "auto"
    rows_at: Annotated[
        str | None,
        Field(
            min_length=1,
            description="Where the list of rows is in a JSON object, e.g. data or result.rows.",
        ),
    ] = None

    @model_validator(mode="after")
    def _group_needs_a_share(self) -> DataPart:
        if self.group and not isinstance(self.validation, Share):
            raise ValueError(
                "data.group decides which rows of data.train are held out, and data.validation is "
                "a file: leave one of them out"
            )
        return self
