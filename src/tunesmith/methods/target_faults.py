"""What is said to a recipe whose targets the model does not have: why, and what to write."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence

from torch import nn

from tunesmith.core.errors import Fault
from tunesmith.methods.module_names import listed, short_names
from tunesmith.models.linear import is_linear

WHERE = "recipe: method.targets"
# What most recipes call a projection, and its names elsewhere; the fused ones hold several.
OTHER_NAMES: dict[str, tuple[str, ...]] = {
    "q_proj": ("qkv_proj", "c_attn", "query_key_value", "Wqkv", "W_pack", "query", "query_proj"),
    "k_proj": ("qkv_proj", "c_attn", "query_key_value", "Wqkv", "W_pack", "key", "key_proj"),
    "v_proj": ("qkv_proj", "c_attn", "query_key_value", "Wqkv", "W_pack", "value", "value_proj"),
    "o_proj": ("attn.c_proj", "attn.Wo", "attention.output.dense", "attention.dense", "out_proj"),
    "gate_proj": ("gate_up_proj", "mlp.Wi"),
    "up_proj": ("gate_up_proj", "mlp.Wi", "c_fc", "dense_h_to_4h", "intermediate.dense", "fc1"),
    "down_proj": ("mlp.c_proj", "mlp.Wo", "dense_4h_to_h", "fc2"),
}
PARTS: dict[str, tuple[str, ...]] = {
    "qkv_proj": ("q_proj", "k_proj", "v_proj"),
    "query_key_value": ("q_proj", "k_proj", "v_proj"),
    "c_attn": ("q_proj", "k_proj", "v_proj"),
    "Wqkv": ("q_proj", "k_proj", "v_proj"),
    "gate_up_proj": ("gate_proj", "up_proj"),
    "Wi": ("gate_proj", "up_proj"),
}
MLP_PROJECTIONS = ("mlp", "gate_proj", "up_proj", "down_proj", "gate_up_proj", "w1", "w2", "w3")
FUSED = frozenset({*PARTS, "W_pack"})


def explain_misses(
    model: nn.Module, linears: dict[str, nn.Module], words: Sequence[str], misses: Sequence[str]
) -> list[Fault]:
    """Return a fault for each word that matches nothing; renamed ones together, with the list."""
    renamed = {word: found for word in misses if (found := _elsewhere(word, linears))}
    faults: list[Fault] = []
    if renamed:
        faults.append(_renamed(renamed, words, linears))
    for word in misses:
        if word not in renamed:
            faults.append(_miss(model, linears, word))
    return faults


def excludes_nothing(word: str, linears: dict[str, nn.Module], chosen: set[str]) -> Fault:
    """The fault of an exclusion that leaves nothing out."""
    kept = {path: module for path, module in linears.items() if path in chosen}
    return Fault(
        found=f"{word!r} leaves nothing out: no target has that name",
        where="recipe: method.exclude_targets",
        fix=f"remove it, or choose from {listed(kept) or 'nothing: all is left out'}",
    )


def bad_expression(word: str, error: re.error, where: str) -> Fault:
    """The fault of a regular expression that is none."""
    return Fault(
        found=f"{word!r} is no regular expression: {error}",
        where=where,
        fix="correct it, or write a pattern with * instead",
    )


def _elsewhere(word: str, linears: dict[str, nn.Module]) -> tuple[str, ...]:
    """Return what this model calls the projection of that name; empty where it is unknown."""
    *_, last = word.split(".")
    found = next(
        (name for name in OTHER_NAMES.get(last, ()) if any(_ends(path, name) for path in linears)),
        None,
    )
    if found:
        return (found,)
    parts = PARTS.get(last, ())
    has_all = all(any(_ends(path, part) for path in linears) for part in parts)
    return parts if has_all else ()


def _ends(path: str, name: str) -> bool:
    return path == name or path.endswith("." + name)


def _renamed(
    renamed: dict[str, tuple[str, ...]], words: Sequence[str], linears: dict[str, nn.Module]
) -> Fault:
    written = dict.fromkeys(name for word in words for name in renamed.get(word, (word,)))
    about = ", ".join(_meaning(word, names) for word, names in renamed.items())
    return Fault(
        found=f"the model has no linear layer called {', '.join(renamed)}: {about}",
        where=WHERE,
        fix=f"write method.targets: [{', '.join(written)}], or all-linear; the model has "
        f"{listed(linears)}",
    )


def _meaning(word: str, names: tuple[str, ...]) -> str:
    first, *others = names
    if others:
        return f"{word} is {len(names)} layers, {' and '.join(names)}"
    last = first.rpartition(".")[2]
    return f"{word} is a part of {first}" if last in FUSED else f"{word} is {first}"


def _miss(model: nn.Module, linears: dict[str, nn.Module], word: str) -> Fault:
    found = f"{word!r} matches none of the model's {len(linears)} linear layers"
    for reason, fix in _reasons(model, word):
        return Fault(found=f"{found}: {reason}", where=WHERE, fix=fix)
    if not linears:
        return Fault(found=found, where=WHERE, fix="use method: full")
    near = difflib.get_close_matches(word, dict.fromkeys(short_names(linears).values()), n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    return Fault(
        found=found,
        where=WHERE,
        fix=f"{hint}choose from {listed(linears)}, or write all-linear",
    )


def _reasons(model: nn.Module, word: str) -> Iterator[tuple[str, str]]:
    """Yield why there is something of that name on which no adapter can be put."""
    experts = {
        name: tuple(parameter.shape)
        for name, parameter in model.named_parameters()
        if parameter.ndim == 3 and "experts" in name.split(".")
    }
    last = word.rpartition(".")[2]
    if experts and (last in MLP_PROJECTIONS or any(_ends(name, word) for name in experts)):
        kinds = {short: experts[name] for name, short in short_names(experts).items()}
        shown = ", ".join(f"{name} {list(shape)}" for name, shape in kinds.items())
        yield (
            f"its MLPs are experts, kept as parameters of three dimensions ({shown}), not as "
            "linear layers",
            "use targets: attention, which leaves the experts as they are, or method: full",
        )
    for path, module in model.named_modules():
        if path and _ends(path, word) and not is_linear(module):
            yield _about_module(word, module)


def _about_module(word: str, module: nn.Module) -> tuple[str, str]:
    kind = type(module).__name__
    if any(True for _ in module.children()):
        inner = [name for name, _ in module.named_children()]
        return f"{word} is a block ({kind})", f"name layers in it, e.g. *.{word}.{inner[0]}"
    if isinstance(module, nn.Embedding):
        reason = f"{word} is an embedding, which has no product that an adapter could be added to"
    elif "router" in kind.lower():
        return f"{word} is a router of experts ({kind})", "leave it out: routers stay as they are"
    else:
        reason = f"{word} is no linear layer ({kind})"
    return reason, f"train it whole with method.modules_to_save: [{word}], or leave it out"
