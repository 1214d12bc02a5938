"""Short names for the modules of a model: `q_proj` instead of 32 paths."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from torch import nn

from tunesmith.models.linear import in_features, out_features


def short_names(paths: Iterable[str]) -> dict[str, str]:
    """Return a name for each path: the fewest last parts, without numbers, that tell kinds apart.

    `layers.0.self_attn.q_proj` is `q_proj`; GPT-2 has `attn.c_proj` and `mlp.c_proj`.
    """
    kinds = {path: tuple(part for part in path.split(".") if not part.isdigit()) for path in paths}
    every = set(kinds.values())
    names = {kind: _shortest(kind, every) for kind in every}
    return {path: names[kind] for path, kind in kinds.items()}


def _shortest(kind: Sequence[str], every: Iterable[Sequence[str]]) -> str:
    for length in range(1, len(kind) + 1):
        end = kind[-length:]
        if sum(other[-length:] == end for other in every) == 1:
            return ".".join(end)
    return ".".join(kind)


def listed(linears: dict[str, nn.Module]) -> str:
    """Say which kinds of linear layers there are: `32 x q_proj [3072, 3072]`, outputs first."""
    groups: dict[tuple[str, int, int], int] = {}
    for path, name in short_names(linears).items():
        kind = (name, out_features(linears[path]), in_features(linears[path]))
        groups[kind] = groups.get(kind, 0) + 1
    return ", ".join(
        f"{count} x {name} [{outer}, {inner}]" for (name, outer, inner), count in groups.items()
    )
