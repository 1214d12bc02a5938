"""The methods that the PEFT library computes: one table row each, and the recipe's part for them.

A row says everything that this project knows of a method; another one of the library's is another
row. What a row does not take (a rank, say) is refused with what it takes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, cast

from pydantic import BeforeValidator, Field, model_validator

from tunesmith.recipe.part import Part
from tunesmith.recipe.target_words import Targets, as_names, as_targets

Number = int | float
Kind = Literal["layers", "norms", "prompt"]
PeftWord = Literal[
    "ia3",
    "loha",
    "lokr",
    "vera",
    "adalora",
    "oft",
    "boft",
    "hra",
    "fourierft",
    "waveft",
    "c3a",
    "miss",
    "randlora",
    "road",
    "shira",
    "vblora",
    "gralora",
    "hira",
    "ln-tuning",
    "prompt-tuning",
    "p-tuning",
    "prefix-tuning",
]


@dataclass(frozen=True, kw_only=True)
class Row:
    """One method. `takes` maps our setting to its default, `names` it to the library's name."""

    peft: str
    """The library's name of the method (its `peft_type`)."""
    kind: Kind = "layers"
    takes: Mapping[str, Number]
    names: Mapping[str, str] = field(default_factory=dict[str, str])
    fixed: Mapping[str, Any] = field(default_factory=dict[str, Any])
    learning_rate: float
    start_scale: float = 1.0
    """By what the library's random start is multiplied, where it is too large for most models."""
    starts_at_nothing: bool = True
    """Whether the model computes the same before the first step."""
    matrices: int = 0
    """How many matrices of each layer's size, in fp32, are kept from forward to backward."""
    matrices_a_rank: float = 0.0
    """How many more for each rank."""
    wide_inputs: bool = False
    """Whether each layer's input is kept in fp32 beside the model's own."""
    on_quantised: bool = False
    on_conv1d: bool = False
    """Whether it works on GPT-2's transposed layers."""
    values: int
    """How many values are trained of the catalogue's model, SmolLM2-135M, with the defaults."""
    trains: str
    """What is trained, and how many values a layer, in a phrase."""
    costs: str
    take_it: str
    source: str

    @property
    def merges(self) -> bool:
        """Whether what it does can be worked into the base's weights."""
        return self.kind != "prompt"

    @property
    def has_targets(self) -> bool:
        """Whether a recipe chooses the layers."""
        return self.kind == "layers"


_RANK = {"rank": "r"}

ROWS: dict[str, Row] = {
    "ia3": Row(
        peft="IA3",
        takes={},
        learning_rate=5e-3,
        on_quantised=True,
        on_conv1d=True,
        values=57_600,
        trains="a factor for each key, value and inner MLP value",
        costs="least of all: no product, a hundredth of LoRA's values",
        take_it="many small variants of one model; few rows; a first try",
        source="Liu et al., 2022",
    ),
    "loha": Row(
        peft="LOHA",
        takes={"rank": 8, "alpha": 16},
        names={**_RANK, "alpha": "alpha"},
        matrices=3,
        learning_rate=2e-4,
        values=4_884_480,
        trains="two low-rank products, multiplied value by value: 2 r (in + out) a layer",
        costs="forms a whole matrix for each layer and step: slow and large beside LoRA",
        take_it="a higher rank than LoRA's from as many values matters",
        source="Hyeon-Woo et al., 2022",
    ),
    "lokr": Row(
        peft="LOKR",
        takes={"rank": 8, "alpha": 16},
        names={**_RANK, "alpha": "alpha"},
        matrices=1,
        learning_rate=1e-3,
        values=215_040,
        trains="a Kronecker product of a small matrix and a low-rank one",
        costs="fewer values than LoRA; forms a whole matrix for each layer and step",
        take_it="the adapter must be small and of high rank",
        source="Yeh et al., 2024",
    ),
    "vera": Row(
        peft="VERA",
        takes={"rank": 256, "dropout": 0.0},
        names={**_RANK, "dropout": "vera_dropout"},
        fixed={"save_projection": True, "projection_prng_key": 0},
        wide_inputs=True,
        learning_rate=4e-3,
        on_quantised=True,
        on_conv1d=True,
        values=209_280,
        trains="two vectors a layer (r + out) around random matrices that all layers share",
        costs="a twentieth of LoRA's values; products of a high rank, so slower",
        take_it="many adapters are kept at once, and each must be small",
        source="Kopiczko et al., 2024",
    ),
    "adalora": Row(
        peft="ADALORA",
        takes={"rank": 8, "alpha": 32, "dropout": 0.0},
        names={"rank": "target_r", "alpha": "lora_alpha", "dropout": "lora_dropout"},
        wide_inputs=True,
        learning_rate=1e-3,
        on_quantised=True,
        on_conv1d=True,
        values=3_665_880,
        trains="A, B and the weight of each rank, from 1.5 times the rank down to it",
        costs="1.5 times LoRA's values, their importance beside them, a penalty each step",
        take_it="layers differ much in what they need, and a run is long enough to find out",
        source="Zhang et al., 2023",
    ),
    "oft": Row(
        peft="OFT",
        takes={"block_size": 32, "dropout": 0.0},
        names={"block_size": "oft_block_size", "dropout": "module_dropout"},
        # a rotation exactly: the library's default is a truncated series, which is none
        fixed={"use_cayley_neumann": False},
        wide_inputs=True,
        learning_rate=1e-3,
        on_quantised=True,
        values=2_321_280,
        trains="a rotation of each block of inputs: in (block - 1) / 2 a layer",
        costs="as many values as LoRA of rank 8; another product over the inputs",
        take_it="what the model knows must be kept: lengths and angles of weights stay",
        source="Qiu et al., 2023",
    ),
    "boft": Row(
        peft="BOFT",
        takes={"block_size": 4, "dropout": 0.0},
        names={"block_size": "boft_block_size", "dropout": "boft_dropout"},
        matrices=3,
        learning_rate=1e-3,
        values=754_560,
        trains="rotations in butterfly order",
        costs="slow: every layer's matrix is rotated anew at each step",
        take_it="as oft, with fewer values for large blocks",
        source="Liu et al., 2024",
    ),
    "hra": Row(
        peft="HRA",
        takes={"rank": 8},
        names=_RANK,
        matrices_a_rank=2.5,
        learning_rate=1e-3,
        values=1_198_080,
        trains="r reflections of the inputs: r in a layer",
        costs="half of LoRA's values; keeps two whole matrices a rank of each layer: much memory",
        take_it="as oft, with a rank to choose",
        source="Yuan et al., 2024",
    ),
    "fourierft": Row(
        peft="FOURIERFT",
        takes={"frequencies": 1000},
        names={"frequencies": "n_frequency"},
        fixed={"random_loc_seed": 777, "init_weights": True},
        matrices=2,
        learning_rate=1e-2,
        on_quantised=True,
        on_conv1d=True,
        values=210_000,
        trains="some coefficients of the update's Fourier transform: as many a layer",
        costs="few values; a Fourier transform of a whole matrix for each layer and step",
        take_it="the adapter must be very small",
        source="Gao et al., 2024",
    ),
    "waveft": Row(
        peft="WAVEFT",
        takes={"frequencies": 2592},
        names={"frequencies": "n_frequency"},
        fixed={"random_loc_seed": 777},
        matrices=2,
        learning_rate=1e-3,
        on_quantised=True,
        on_conv1d=True,
        values=544_320,
        trains="some coefficients of the update's wavelet transform: as many a layer",
        costs="few values; a transform of a whole matrix for each layer and step",
        take_it="as fourierft, where single places of the matrix matter",
        source="Bilican et al., 2025",
    ),
    "c3a": Row(
        peft="C3A",
        takes={"block_size": 64},
        names={"block_size": "block_size"},
        fixed={"init_weights": True},
        wide_inputs=True,
        learning_rate=1e-2,
        on_quantised=True,
        values=1_658_880,
        trains="circular convolutions: in out / block a layer",
        costs="Fourier transforms of the inputs; the block must divide every width",
        take_it="updates of high rank from few values",
        source="Chen et al., 2024",
    ),
    "miss": Row(
        peft="MISS",
        takes={"rank": 16, "dropout": 0.0},
        names={**_RANK, "dropout": "miss_dropout"},
        learning_rate=2e-4,
        on_quantised=True,
        values=2_488_320,
        trains="one matrix that parts of the inputs share: r out a layer",
        costs="half of LoRA's values and fewer products",
        take_it="speed matters more than LoRA's wide support",
        source="Kang and Yin, 2024",
    ),
    "randlora": Row(
        peft="RANDLORA",
        takes={"rank": 32, "alpha": 640, "dropout": 0.0},
        names={**_RANK, "alpha": "randlora_alpha", "dropout": "randlora_dropout"},
        fixed={"save_projection": True, "projection_prng_key": 0},
        matrices=8,
        learning_rate=1e-4,
        on_quantised=True,
        on_conv1d=True,
        values=1_722_240,
        trains="factors of shared random matrices that add up to a full rank",
        costs="a full rank from fewer values than LoRA; slow, and keeps whole matrices",
        take_it="LoRA's low rank is what limits it",
        source="Albert et al., 2025",
    ),
    "road": Row(
        peft="ROAD",
        takes={"block_size": 64},
        names={"block_size": "group_size"},
        wide_inputs=True,
        learning_rate=3e-3,
        on_quantised=True,
        values=155_520,
        trains="a rotation and a length for each pair of outputs: out a layer",
        costs="little more than ia3",
        take_it="many adapters are served at once",
        source="Liao and Monz, 2024",
    ),
    "shira": Row(
        peft="SHIRA",
        takes={"rank": 16},
        names=_RANK,
        fixed={"mask_type": "random", "random_seed": 0},
        matrices=1,
        learning_rate=2e-4,
        on_quantised=True,
        values=4_884_480,
        trains="r (in + out) single weights of each matrix, scattered",
        costs="LoRA's values; a sparse matrix is added to each weight",
        take_it="adapters are to be switched fast or added up",
        source="Bhardwaj et al., 2024",
    ),
    "vblora": Row(
        peft="VBLORA",
        takes={"rank": 4, "vectors": 256, "vector_length": 64, "dropout": 0.0},
        names={
            **_RANK,
            "vectors": "num_vectors",
            "vector_length": "vector_length",
            "dropout": "vblora_dropout",
        },
        wide_inputs=True,
        learning_rate=1e-3,
        starts_at_nothing=False,
        on_quantised=True,
        on_conv1d=True,
        values=4_900_864,
        trains="a bank of vectors that all layers mix: mostly the mixture's weights",
        costs="small files; a mixture is made for each layer and step",
        take_it="the adapter must be very small and the model is large",
        source="Li et al., 2024",
    ),
    "gralora": Row(
        peft="GRALORA",
        takes={"rank": 16, "alpha": 32, "dropout": 0.0},
        names={**_RANK, "alpha": "alpha", "dropout": "gralora_dropout"},
        wide_inputs=True,
        learning_rate=2e-4,
        on_quantised=True,
        on_conv1d=True,
        values=4_884_480,
        trains="low-rank factors for each block of the matrix: r (in + out)",
        costs="as LoRA, with more small products",
        take_it="LoRA of a high rank overfits",
        source="Jung et al., 2025",
    ),
    "hira": Row(
        peft="HIRA",
        takes={"rank": 16, "dropout": 0.0},
        names={**_RANK, "dropout": "hira_dropout"},
        matrices=2,
        learning_rate=1e-3,
        on_conv1d=True,
        values=4_884_480,
        trains="low-rank factors whose product scales each weight: r (in + out)",
        costs="forms a whole matrix for each layer and step",
        take_it="a high rank from LoRA's values matters",
        source="Huang et al., 2025",
    ),
    "ln-tuning": Row(
        peft="LN_TUNING",
        kind="norms",
        takes={},
        learning_rate=1e-3,
        on_quantised=True,
        on_conv1d=True,
        values=35_136,
        trains="the norms' own weights",
        costs="next to nothing in values; no merge is needed",
        take_it="a light change of style; few rows",
        source="Zhao et al., 2023",
    ),
    "prompt-tuning": Row(
        peft="PROMPT_TUNING",
        kind="prompt",
        takes={"virtual_tokens": 20},
        names={"virtual_tokens": "num_virtual_tokens"},
        learning_rate=3e-2,
        starts_at_nothing=False,
        on_quantised=True,
        on_conv1d=True,
        values=11_520,
        trains="vectors before each text: tokens x width",
        costs="the model's own weights stay; each text is longer by the tokens",
        take_it="one model serves many tasks, and the model is large",
        source="Lester et al., 2021",
    ),
    "p-tuning": Row(
        peft="P_TUNING",
        kind="prompt",
        takes={"virtual_tokens": 20},
        names={"virtual_tokens": "num_virtual_tokens"},
        learning_rate=1e-3,
        starts_at_nothing=False,
        on_quantised=True,
        on_conv1d=True,
        values=1_008_576,
        trains="vectors before each text, and a small network that makes them",
        costs="as prompt-tuning, with more values while training",
        take_it="prompt-tuning does not get going",
        source="Liu et al., 2021",
    ),
    "prefix-tuning": Row(
        peft="PREFIX_TUNING",
        kind="prompt",
        takes={"virtual_tokens": 20},
        names={"virtual_tokens": "num_virtual_tokens"},
        start_scale=0.02,
        learning_rate=1e-2,
        starts_at_nothing=False,
        on_quantised=True,
        on_conv1d=True,
        values=230_400,
        trains="keys and values before each text: tokens x 2 x layers x key width",
        costs="as prompt-tuning; acts on every layer",
        take_it="generation in a given form; prompt-tuning is too weak",
        source="Li and Liang, 2021",
    ),
}

SETTINGS = (
    "rank",
    "alpha",
    "dropout",
    "block_size",
    "frequencies",
    "vectors",
    "vector_length",
    "virtual_tokens",
)


class PeftMethod(Part):
    """A method that the PEFT library computes; `tunesmith methods NAME` says what it takes."""

    type: Annotated[PeftWord, Field(description="One of the names that `tunesmith methods` lists.")]
    targets: Annotated[
        Targets | None,
        BeforeValidator(as_targets),
        Field(description="Which linear layers, as for lora; ia3 has its own default."),
    ] = None
    exclude_targets: Annotated[
        tuple[Annotated[str, Field(min_length=1)], ...],
        BeforeValidator(as_names),
        Field(description="What to leave out of targets, in the same words."),
    ] = ()
    rank: Annotated[int | None, Field(ge=1, description="The rank of each adapter.")] = None
    alpha: Annotated[float | None, Field(gt=0, description="Scales the adapter's output.")] = None
    dropout: Annotated[
        float | None, Field(ge=0, lt=1, description="The share that is set to zero in training.")
    ] = None
    block_size: Annotated[
        int | None, Field(ge=1, description="The width of a block (oft, boft, c3a, road).")
    ] = None
    frequencies: Annotated[
        int | None, Field(ge=1, description="Coefficients a layer (fourierft, waveft).")
    ] = None
    vectors: Annotated[int | None, Field(ge=2, description="The bank's vectors (vblora).")] = None
    vector_length: Annotated[int | None, Field(ge=1, description="Their length (vblora).")] = None
    virtual_tokens: Annotated[
        int | None, Field(ge=1, description="Trained positions before each text (prompts).")
    ] = None

    @model_validator(mode="before")
    @classmethod
    def _fill(cls, values: object) -> object:
        """Put the row's defaults in, so that a resolved recipe shows them."""
        if not isinstance(values, dict):
            return values
        given = cast("dict[str, Any]", values)
        row = ROWS.get(str(given.get("type")))
        if row is None:
            return given
        defaults: dict[str, Any] = dict(row.takes)
        if row.has_targets and row.peft != "IA3":
            defaults["targets"] = "all-linear"
        return {**defaults, **{key: value for key, value in given.items() if value is not None}}

    @property
    def row(self) -> Row:
        """What is known of the method."""
        return ROWS[self.type]

    @property
    def settings(self) -> dict[str, Number]:
        """The settings that hold, by our names."""
        values = {name: getattr(self, name) for name in SETTINGS}
        return {name: value for name, value in values.items() if value is not None}

    @property
    def foreign(self) -> tuple[str, ...]:
        """The settings that are given and that this method does not have."""
        surplus = [name for name in self.settings if name not in self.row.takes]
        if not self.row.has_targets:
            surplus += ["targets"] if self.targets is not None else []
            surplus += ["exclude_targets"] if self.exclude_targets else []
        return tuple(surplus)
