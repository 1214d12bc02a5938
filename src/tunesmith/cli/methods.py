"""`tunesmith methods`: which there are, what each costs, and when to take it."""

from __future__ import annotations

import difflib

from tunesmith.cli import output
from tunesmith.core.errors import Fault, UserError
from tunesmith.recipe.method_list import MethodInfo, list_methods


def methods(name: str | None = None, /, *, json: bool = False) -> int:
    """List the methods, or say all about one of them.

    Parameters
    ----------
    name:
        A method, as a recipe writes it: method: NAME.
    json:
        Print one JSON document.
    """
    known = list_methods()
    if name is not None:
        return _show(_named(known, name), json=json)
    if json:
        output.show_json({"methods": [method.as_json() for method in known.values()]})
        return 0
    rows = [
        (method.name, f"{method.values:,}", method.costs, method.take_it)
        for method in known.values()
    ]
    output.show_table(rows, ("method", "values", "what it costs", "take it when"))
    output.note(
        "values: how many are trained of SmolLM2-135M with the defaults (of 134,515,008).\n"
        "tunesmith methods NAME says more of one."
    )
    return 0


def _named(known: dict[str, MethodInfo], name: str) -> MethodInfo:
    if name in known:
        return known[name]
    near = difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.4)
    fix = f"did you mean {near[0]}? " if near else ""
    fault = Fault(
        found=f"no method {name!r}",
        where="the command line",
        fix=f"{fix}tunesmith methods lists them all",
    )
    raise UserError(fault, code="unknown_method")


def _show(method: MethodInfo, *, json: bool) -> int:
    if json:
        output.show_json(method.as_json())
        return 0
    settings = ", ".join(f"{key}: {value}" for key, value in method.settings.items())
    output.show_pairs(
        {
            "method": method.name,
            "trains": method.trains,
            "values": f"{method.values:,} of SmolLM2-135M with the defaults",
            "costs": method.costs,
            "take it when": method.take_it,
            "bases": ", ".join(method.bases),
            "merges": "yes, with tunesmith merge" if method.merges else "no",
            "at step 0": "nothing changes"
            if method.starts_at_nothing
            else "the model answers otherwise than its base",
            "settings": settings or "none",
            "computed by": method.computed_by,
            **({"source": method.source} if method.source else {}),
        }
    )
    return 0
