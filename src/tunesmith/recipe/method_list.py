"""Every method's word, with what it trains, what it costs and when to take it."""

from __future__ import annotations

from dataclasses import dataclass, fields

from tunesmith.recipe.method import FullMethod, LoraMethod
from tunesmith.recipe.peft_method import ROWS, Row


@dataclass(frozen=True, kw_only=True)
class MethodInfo:
    """What people need to choose. `values` are those trained of SmolLM2-135M with the defaults."""

    name: str
    computed_by: str
    values: int
    trains: str
    costs: str
    take_it: str
    source: str
    bases: tuple[str, ...]
    merges: bool
    starts_at_nothing: bool
    settings: dict[str, object]

    def as_json(self) -> dict[str, object]:
        """All of it, by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


ANY_BASE = ("fp32", "bf16", "int8", "nf4", "fp4")
WHOLE_BASE = ("fp32", "bf16")
QUANTISED = ("int8", "nf4", "fp4")
LORA_VALUES, DORA_VALUES, FULL_VALUES = 4_884_480, 5_040_000, 134_515_008


def list_methods() -> dict[str, MethodInfo]:
    """Return all methods by name, our own layers first."""
    return {**_own(), **{word: _of_library(word, row) for word, row in ROWS.items()}}


def _own() -> dict[str, MethodInfo]:
    lora = {
        name: field.default for name, field in LoraMethod.model_fields.items() if name != "type"
    }
    rows = (
        ("lora", LORA_VALUES, ANY_BASE, "two factors beside each linear layer: r (in + out)",
         "little memory, fast: the first thing to try", "nearly always", "Hu et al., 2021"),
        ("qlora", LORA_VALUES, QUANTISED, "as lora, on a base of 4 bits (model.base: nf4)",
         "the least memory; each matrix is made again at each product, so slower",
         "the model does not fit otherwise", "Dettmers et al., 2023"),
        ("dora", DORA_VALUES, ANY_BASE, "as lora, and a length for each output",
         "somewhat slower than lora", "lora of a low rank falls short of full",
         "Liu et al., 2024"),
        ("qdora", DORA_VALUES, QUANTISED, "as dora, on a base of 4 bits",
         "as qlora and dora", "as dora, where memory is short", "Liu et al., 2024"),
        ("rslora", LORA_VALUES, ANY_BASE, "as lora, scaled by alpha / sqrt(r)",
         "as lora", "ranks of 64 and more", "Kalajdzievski, 2023"),
        ("pissa", LORA_VALUES, WHOLE_BASE, "as lora, from the principal part of each weight",
         "as lora of twice the rank, and a decomposition at the start",
         "few steps must bring much", "Meng et al., 2024"),
        ("loftq", LORA_VALUES, QUANTISED, "as qlora, from what quantising took",
         "as qlora, and a decomposition at the start", "a 4-bit base loses too much",
         "Li et al., 2023"),
        ("lora+", LORA_VALUES, ANY_BASE, "as lora, B at 16 times the rate of A", "as lora",
         "lora learns too slowly", "Hayou et al., 2024"),
        ("full", FULL_VALUES, WHOLE_BASE, "every weight",
         "16 bytes a value with adamw, a whole model as the result",
         "much data, a new language or domain, a small model", ""),
    )  # fmt: skip
    return {
        name: MethodInfo(
            name=name,
            computed_by="tunesmith",
            values=values,
            bases=bases,
            trains=trains,
            costs=costs,
            take_it=take_it,
            source=source,
            merges=name != "full",
            starts_at_nothing=name != "loftq",
            settings={} if name == FullMethod().type else lora,
        )
        for name, values, bases, trains, costs, take_it, source in rows
    }


def _of_library(word: str, row: Row) -> MethodInfo:
    targets = {"targets": "all-linear"} if row.has_targets else {}
    if word == "ia3":
        targets = {"targets": "keys, values, MLP inputs"}
    return MethodInfo(
        name=word,
        computed_by="PEFT",
        values=row.values,
        trains=row.trains,
        costs=row.costs,
        take_it=row.take_it,
        source=row.source,
        bases=ANY_BASE if row.on_quantised else WHOLE_BASE,
        merges=row.merges,
        starts_at_nothing=row.starts_at_nothing,
        settings={**targets, **row.takes},
    )
