"""Which linear layers a method is applied to: from a recipe's words to module paths.

    all-linear    the linear layers of the decoder's or encoder's stack
    attention     those in attention blocks
    mlp           those in MLP blocks
    q_proj        a name: the last part of a path, or more of it (self_attn.q_proj)
    *.0.*_proj    a pattern: `*` stands for anything, dots included; the whole path or its end
    re:...        a regular expression of the whole path

Never by a word: the output head (often the token embedding's own matrix), a classifier's head and
pooler (new, and trained whole), and a router of experts, whose sudden change of mind about who
computes a token is no gradient step. A name may choose any linear layer but a tied head.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from torch import nn

from tunesmith.core.errors import Fault, RecipeError
from tunesmith.methods.target_faults import bad_expression, excludes_nothing, explain_misses
from tunesmith.models.linear import is_linear
from tunesmith.models.tied import tied_head

ATTENTION_WORDS = ("attn", "attention")
MLP_WORDS = ("mlp", "feed_forward", "ffn", "intermediate", "moe")
# BERT's second product stands in `output` alone, OPT's in the layer itself.
MLP_NAMES = ("output", "fc1", "fc2")
ROUTER_WORDS = ("gate", "router")
WHERE = "recipe: method.targets"
EXPRESSION = "re:"


def find_targets(
    model: nn.Module,
    targets: str | Sequence[str],
    exclude: Sequence[str] = (),
    *,
    whole: Iterable[str] = (),
) -> dict[str, nn.Module]:
    """Return the linear layers by path, in the model's order.

    `targets` are words, names, patterns or expressions (above), `exclude` what is left out of them
    again, `whole` the paths of modules that are trained whole and therefore take no adapter.

    Raises:
        RecipeError: a name matches no linear layer (the message lists those there are), an
            exclusion leaves nothing out, or an adapter on a layer would be wrong.
    """
    linears: dict[str, nn.Module] = {
        path: module for path, module in model.named_modules() if is_linear(module)
    }
    words = [targets] if isinstance(targets, str) else list(targets)
    found = {word: _matched(model, linears, word, WHERE) for word in words}
    misses = [word for word, paths in found.items() if not paths]
    if misses:
        head = tied_head(model)
        offered = {path: module for path, module in linears.items() if path != head}
        raise RecipeError(explain_misses(model, offered, words, misses))
    trained = {path for path in linears if any(f"{path}.".startswith(f"{w}.") for w in whole)}
    for word, paths in found.items():
        if paths <= trained:
            raise RecipeError(_trained_whole(word))
    chosen = set[str]().union(*found.values()) - trained
    for word in exclude:
        left_out = _matched(model, linears, word, "recipe: method.exclude_targets")
        if not left_out & chosen:
            raise RecipeError(excludes_nothing(word, linears, chosen))
        chosen -= left_out
    _require_some(chosen, words)
    _require_own_matrix(model, chosen)
    return {path: module for path, module in linears.items() if path in chosen}


def stack_linears(model: nn.Module) -> dict[str, nn.Module]:
    """Return the linear layers of the stack, which `all-linear` stands for."""
    owner: Any = model
    prefix = str(getattr(owner, "base_model_prefix", ""))
    stack = f"{prefix}." if prefix and prefix in dict(model.named_children()) else ""
    get_head = getattr(owner, "get_output_embeddings", None)
    head = get_head() if get_head else None
    return {
        path: module
        for path, module in model.named_modules()
        if is_linear(module)
        and module is not head
        and path.startswith(stack)
        and "pooler" not in path.split(".")
        and not _is_router(model, path)
    }


def _matched(model: nn.Module, linears: dict[str, nn.Module], word: str, where: str) -> set[str]:
    match word:
        case "all-linear":
            return set(stack_linears(model))
        case "attention":
            return {path for path in stack_linears(model) if _is_attention(path)}
        case "mlp":
            return {path for path in stack_linears(model) if _is_mlp(path)}
        case _:
            fits = _matcher(word, where)
            return {path for path in linears if fits(path)}


def _is_attention(path: str) -> bool:
    return any(word in part for part in path.split(".")[:-1] for word in ATTENTION_WORDS)


def _is_mlp(path: str) -> bool:
    if _is_attention(path):
        return False
    parts = path.split(".")
    has_word = any(word in part for part in parts[:-1] for word in MLP_WORDS)
    return has_word or any(name in parts for name in MLP_NAMES)


def _is_router(model: nn.Module, path: str) -> bool:
    """Routers stand beside the experts that they choose from."""
    parent, _, name = path.rpartition(".")
    if "router" in parent.split("."):
        return True
    return hasattr(model.get_submodule(parent), "experts") and any(
        word in name for word in ROUTER_WORDS
    )


def _matcher(word: str, where: str) -> Callable[[str], bool]:
    if word.startswith(EXPRESSION):
        try:
            expression = re.compile(word.removeprefix(EXPRESSION))
        except re.error as error:
            raise RecipeError(bad_expression(word, error, where)) from error
        return lambda path: expression.fullmatch(path) is not None
    if any(sign in word for sign in "*?["):
        whole, end = (re.compile(fnmatch.translate(form)) for form in (word, f"*.{word}"))
        return lambda path: bool(whole.match(path) or end.match(path))
    return lambda path: path == word or path.endswith("." + word)


def _trained_whole(word: str) -> Fault:
    return Fault(
        found=f"{word!r} is trained whole already: method.modules_to_save has it",
        where=WHERE,
        fix="leave it out of method.targets or of method.modules_to_save",
    )


def _require_some(chosen: set[str], words: Sequence[str]) -> None:
    if not chosen:
        fault = Fault(
            found=f"of {', '.join(words)} nothing is left to put an adapter on",
            where="recipe: method.exclude_targets and method.modules_to_save",
            fix="leave out less",
        )
        raise RecipeError(fault)


def _require_own_matrix(model: nn.Module, chosen: set[str]) -> None:
    head = tied_head(model)
    if head in chosen:
        fault = Fault(
            found=f"{head} is tied: its matrix is the token embedding's own, so an adapter merged "
            "into it would change what every token is read as",
            where=WHERE,
            fix=f"leave {head} out (exclude_targets: [{head}] with a pattern), or train the one "
            f"matrix whole, in both places, with method.modules_to_save: [{head}]",
        )
        raise RecipeError(fault)
