"""From a recipe's text to plain values that remember their lines.

A small YAML, the part that people expect: `1e-4` is a number (plain YAML 1.1 reads it as text), a
date is text, a key given twice or left blank is a fault, and anchors and tags are refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

from tunesmith.core.errors import Fault

KeyPath = tuple[str | int, ...]

NUMBER = re.compile(
    r"""^(?:[-+]?(?:[0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*|[0-9][0-9_]*)(?:[eE][-+]?[0-9]+)?
    |[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$""",
    re.VERBOSE,
)
WHOLE_NUMBER = re.compile(r"^[-+]?[0-9][0-9_]*$")


@dataclass
class YamlText:
    """A parsed text: its values, the line of every key path, the keys left blank, all faults."""

    values: Any = None
    lines: dict[KeyPath, int] = field(default_factory=dict[KeyPath, int])
    blank: set[KeyPath] = field(default_factory=set[KeyPath])
    faults: list[Fault] = field(default_factory=list[Fault])


def parse_yaml(text: str, where: str) -> YamlText:
    """Parse `text`; `where` names the file in faults."""
    result = YamlText()
    try:
        node = _compose(text)
    except yaml.MarkedYAMLError as error:
        result.faults.append(_syntax_fault(error, where))
        return result
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        fix = "write the recipe as plain YAML: keys, values, lists"
        result.faults.append(Fault(found=f"no valid YAML: {error}", where=where, fix=fix))
        return result
    if node is not None:
        result.values = _build(node, (), where, result)
    return result


def parse_value(text: str) -> Any:
    """The value of a `--set key=value`, by the same rules; raises ValueError for broken text."""
    parsed = parse_yaml(text, "the value")
    if parsed.faults:
        raise ValueError(parsed.faults[0].found)
    return parsed.values


def dotted(path: KeyPath) -> str:
    """The path as people write it: `training.betas[0]`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


class _Loader(yaml.SafeLoader):
    """The safe loader with our idea of a number, and without anchors and dates."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark
            raise yaml.MarkedYAMLError(problem="an alias (*name) is not taken", problem_mark=mark)
        return super().compose_node(parent, index)


# Aliases can make a small file grow without end, and dates surprise whoever names a revision so.
_NUMBER_TAGS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float", "tag:yaml.org,2002:timestamp")
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in _NUMBER_TAGS]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:int", WHOLE_NUMBER, list("-+0123456789"))
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", NUMBER, list("-+.0123456789"))


def _compose(text: str) -> yaml.Node | None:
    loader = _Loader(text)
    try:
        return loader.get_single_node()
    finally:
        loader.dispose()


def _build(node: yaml.Node, path: KeyPath, where: str, result: YamlText) -> Any:
    line = node.start_mark.line + 1
    result.lines.setdefault(path, line)
    if isinstance(node, yaml.MappingNode):
        return {
            key: _build(value, (*path, key), where, result)
            for key, value in _entries(node, path, where, result)
        }
    if isinstance(node, yaml.SequenceNode):
        return [
            _build(item, (*path, index), where, result) for index, item in enumerate(node.value)
        ]
    return _scalar(node, path, where, result)


def _entries(
    node: yaml.MappingNode, path: KeyPath, where: str, result: YamlText
) -> Iterator[tuple[str, yaml.Node]]:
    for key_node, value_node in node.value:
        key = str(key_node.value)
        line = key_node.start_mark.line + 1
        key_path = (*path, key)
        if key_path in result.lines:
            found = f"{dotted(key_path)} is given twice, first on line {result.lines[key_path]}"
            fix = "keep one of the two"
            result.faults.append(Fault(found=found, where=f"{where}:{line}", fix=fix))
            continue
        result.lines[key_path] = line
        yield key, value_node


def _scalar(node: yaml.Node, path: KeyPath, where: str, result: YamlText) -> Any:
    text = str(node.value)
    match node.tag.rpartition(":")[2]:
        case "null":
            if text == "":
                result.blank.add(path)
                result.faults.append(_blank_fault(node, path, where))
            return None
        case "bool":
            return text.lower() in ("yes", "true", "on")
        case "int":
            return int(text.replace("_", ""))
        case "float":
            return float(text.replace("_", "").replace(".inf", "inf").replace(".nan", "nan"))
        case "str":
            return text
        case _:
            found = f"a tag ({node.tag}) in front of {dotted(path) or 'the recipe'}"
            fix = "remove the tag: a recipe holds plain values only"
            line = node.start_mark.line + 1
            result.faults.append(Fault(found=found, where=f"{where}:{line}", fix=fix))
            return None


def _blank_fault(node: yaml.Node, path: KeyPath, where: str) -> Fault:
    name = dotted(path) or "the recipe"
    return Fault(
        found=f"{name} is left blank",
        where=f"{where}:{node.start_mark.line + 1}, {name}",
        fix=f"give {name} a value, or remove the line to use the default",
    )


def _syntax_fault(error: yaml.MarkedYAMLError, where: str) -> Fault:
    mark = error.problem_mark or error.context_mark
    problem = " ".join(part for part in (error.context, error.problem) if part)
    return Fault(
        found=f"no valid YAML: {problem}",
        where=f"{where}:{mark.line + 1}, column {mark.column + 1}" if mark else where,
        fix="mend the line: `key: value`, the same indent for the keys of one part, no tabs",
    )
