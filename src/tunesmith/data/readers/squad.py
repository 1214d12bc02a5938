"""SQuAD's nesting made flat: each question is a row with its paragraph and its answers.

{"title": t, "paragraphs": [{"context": c, "qas": [{"question": q, "id": i, "answers": [...]}]}]}
-> {"title": t, "context": c, "question": q, "id": i,
    "answers": {"text": [...], "answer_start": [...]}}
"""

from __future__ import annotations

from typing import Any, cast


def flatten(article: object) -> list[dict[str, Any]] | None:
    """Return an article's questions as rows, or None where the value is no article."""
    fields = _object(article)
    if "paragraphs" not in fields:
        return None
    paragraphs = [_object(paragraph) for paragraph in _list(fields.get("paragraphs"))]
    if not paragraphs or not any("qas" in paragraph for paragraph in paragraphs):
        return None
    title = {"title": fields["title"]} if "title" in fields else {}
    rows: list[dict[str, Any]] = []
    for paragraph in paragraphs:
        context = {"context": paragraph["context"]} if "context" in paragraph else {}
        for question in _list(paragraph.get("qas")):
            own = dict(_object(question))
            if isinstance(own.get("answers"), list):
                own["answers"] = _turned(own["answers"])
            rows.append({**title, **context, **own})
    return rows


def _turned(answers: list[Any]) -> dict[str, list[Any]]:
    listed = [_object(answer) for answer in answers]
    return {name: [answer.get(name) for answer in listed] for name in ("text", "answer_start")}


def _object(value: object) -> dict[str, Any]:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def _list(value: object) -> list[Any]:
    return cast("list[Any]", value) if isinstance(value, list) else []
