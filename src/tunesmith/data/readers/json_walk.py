"""The elements of an array and the keys of an object, met one after the other in a stream."""

from __future__ import annotations

from collections.abc import Iterator

from tunesmith.data.json_text import NotJsonError
from tunesmith.data.readers.json_stream import JsonStream, Value


def elements(stream: JsonStream) -> Iterator[Value]:
    """Yield an array's values; its opening bracket is passed already."""
    is_first = True
    while not stream.take("]"):
        if not is_first and not stream.take(","):
            raise _not_closed(stream, "array", "put a comma between two rows")
        if not is_first and stream.peek() == "]":
            fix = "remove the comma after the last row"
            raise stream.error("trailing comma", fix, back_to=",")
        if not stream.peek():
            raise _not_closed(stream, "array", "")
        is_first = False
        yield stream.value()


def keys(stream: JsonStream) -> Iterator[str]:
    """Yield an object's keys; the caller passes over each value before it asks for the next."""
    stream.take("{")
    is_first = True
    while not stream.take("}"):
        if not is_first and not stream.take(","):
            raise _not_closed(stream, "object", "put a comma between two fields")
        if stream.peek() != '"':
            raise _no_key(stream)
        is_first = False
        key = stream.value().value
        if not stream.take(":"):
            raise stream.error("a colon is missing", "put a colon after the key")
        yield key


def _not_closed(stream: JsonStream, what: str, fix: str) -> NotJsonError:
    if stream.peek():
        return stream.error("a comma is missing", fix)
    return stream.error(f"the {what} is not closed", "the file was cut off: write it again")


def _no_key(stream: JsonStream) -> NotJsonError:
    match stream.peek():
        case "":
            return _not_closed(stream, "object", "")
        case "}":
            fix = "remove the comma before the bracket"
            return stream.error("trailing comma", fix, back_to=",")
        case "'":
            return stream.error("a single quote", "JSON puts texts between double quotes")
        case _:
            return stream.error("expecting a key in quotes", 'write {"key": value, ...}')
