"""Which linear layers a method is applied to: from a recipe's words to module paths.

The output head is never among them: it is a linear layer too, but often the token embedding's own
matrix, and an adapter on the one would change the other.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from tunesmith.core.errors import Fault, RecipeError

ATTENTION_WORDS = ("attn", "attention")
MLP_WORDS = ("mlp", "feed_forward", "ffn")
WHERE = "recipe: method.targets"


def find_targets(model: nn.Module, targets: str | Sequence[str]) -> dict[str, nn.Linear]:
    """Return the linear layers by path, in the model's order.

    `targets` is all-linear, attention or mlp, or names: the last part of a module's path
    (`q_proj`) or more of it (`layers.0.self_attn.q_proj`).

    Raises:
        RecipeError: a name matches no linear layer; the message lists the names there are.
    """
    linears = _linear_layers(model)
    match targets:
        case "all-linear":
            chosen = linears
        case "attention":
            chosen = _with_words(linears, ATTENTION_WORDS)
        case "mlp":
            chosen = _with_words(linears, MLP_WORDS)
        case str():
            chosen = _with_names(linears, [targets])
        case _:
            chosen = _with_names(linears, targets)
    if not chosen:
        raise RecipeError(_nothing_matches(str(targets), linears))
    return chosen


def _linear_layers(model: nn.Module) -> dict[str, nn.Linear]:
    get_head = getattr(model, "get_output_embeddings", None)
    head = get_head() if get_head else None
    return {
        path: module
        for path, module in model.named_modules()
        if isinstance(module, nn.Linear) and module is not head
    }


def _with_words(linears: dict[str, nn.Linear], words: Sequence[str]) -> dict[str, nn.Linear]:
    return {
        path: module
        for path, module in linears.items()
        if any(word in part for part in path.split(".")[:-1] for word in words)
    }


def _with_names(linears: dict[str, nn.Linear], names: Sequence[str]) -> dict[str, nn.Linear]:
    faults = [
        _nothing_matches(name, linears)
        for name in names
        if not any(_is_named(path, name) for path in linears)
    ]
    if faults:
        raise RecipeError(faults)
    return {
        path: module
        for path, module in linears.items()
        if any(_is_named(path, name) for name in names)
    }


def _is_named(path: str, name: str) -> bool:
    return path == name or path.endswith("." + name)


def _nothing_matches(name: str, linears: dict[str, nn.Linear]) -> Fault:
    known = list(dict.fromkeys(path.rsplit(".", 1)[-1] for path in linears))
    fix = f"choose from {', '.join(known)}, or write all-linear" if known else "use method: full"
    return Fault(
        found=f"{name!r} matches none of the model's {len(linears)} linear layers",
        where=WHERE,
        fix=fix,
    )
