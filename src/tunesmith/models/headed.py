"""Models with a head of their own in place of the one that writes text: classes, tags, spans.

    kind      a number for each label                    transformers' class
    classes   of the whole text                          AutoModelForSequenceClassification
    tags      of each token                              AutoModelForTokenClassification
    span      of each token: it begins, or ends, the     AutoModelForQuestionAnswering
              answer

A decoder's classes are read from its last token. The head is new where the model's folder has none,
and starts from a seed: small random weights, no bias.

Shapes: B rows, T tokens, S places that are read, K labels, C hidden width.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, assert_never

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tunesmith.core.errors import Fault, ModelError
from tunesmith.models.device import CPU
from tunesmith.models.facts import is_decoder
from tunesmith.models.hidden_states import hidden_states
from tunesmith.models.load import DTYPES, choose_dtype, load_weights, require_bitsandbytes
from tunesmith.recipe.model import ModelPart

HeadKind = Literal["classes", "tags", "span"]
START_STD = 0.02  # of new weights, as transformers starts them


@dataclass(frozen=True)
class Head:
    """What a head says: a number for each of `labels`.

    `several` may be right at once; `abstains` where there may be no answer.
    """

    kind: HeadKind
    labels: tuple[str, ...]
    several: bool = False
    abstains: bool = False


@dataclass(frozen=True, eq=False)
class HeadedModel:
    """A model with its head; `new` are the paths of modules that its folder did not hold."""

    model: nn.Module
    head: Head
    new: tuple[str, ...]
    separator: int | None = None

    @property
    def backbone(self) -> nn.Module:
        """The part below the head."""
        owner: Any = self.model
        return self.model.get_submodule(owner.base_model_prefix)

    @property
    def is_decoder(self) -> bool:
        """Whether it reads from left to right."""
        return reads_left_to_right(self.model)

    def logits(
        self,
        tokens_BT: Tensor,
        lengths_B: Tensor,
        asked_BT: Tensor,
        *,
        share_prefix: bool = True,
        recompute: bool = False,
    ) -> Tensor:
        """Return [S, K] in fp32: what the head says at each place that is asked for, row by row."""
        if not self.is_decoder:
            return self._encoded(tokens_BT, lengths_B, asked_BT).float()
        hidden_SC = hidden_states(
            self.backbone,
            tokens_BT,
            lengths_B,
            asked_BT,
            share_prefix=share_prefix,
            recompute=recompute,
        )
        last: Any = self.last_layer
        hidden_SC = F.dropout(hidden_SC.float(), self._dropout, self.model.training)
        bias = None if last.bias is None else last.bias.float()
        return F.linear(hidden_SC, last.weight.float(), bias)

    @property
    def last_layer(self) -> nn.Linear:
        """The linear layer that gives the numbers."""
        (*_, last) = (one for _, one in _outside(self.model) if isinstance(one, nn.Linear))
        return last

    @property
    def _dropout(self) -> float:
        drops = [one.p for _, one in _outside(self.model) if isinstance(one, nn.Dropout)]
        return drops[0] if drops else 0.0

    def _encoded(self, tokens_BT: Tensor, lengths_B: Tensor, asked_BT: Tensor) -> Tensor:
        model: Any = self.model
        device = self.last_layer.weight.device
        real_BT = (torch.arange(tokens_BT.shape[1])[None, :] < lengths_B[:, None]).to(device)
        tokens_BT, asked_BT = tokens_BT.to(device), asked_BT.to(device)
        kinds_BT = self._kinds(tokens_BT)
        given = {} if kinds_BT is None else {"token_type_ids": kinds_BT}
        output = model(input_ids=tokens_BT, attention_mask=real_BT.long(), **given)
        match self.head.kind:
            case "classes":
                return output.logits
            case "tags":
                return output.logits[asked_BT]
            case "span":
                return torch.stack([output.start_logits, output.end_logits], -1)[asked_BT]

    def _kinds(self, tokens_BT: Tensor) -> Tensor | None:
        """Return 0 for tokens of the first text and 1 for those of the second, as BERT wants it."""
        config: Any = self.model.config
        if getattr(config, "type_vocab_size", 0) < 2 or self.separator is None:
            return None
        is_end_BT = (tokens_BT == self.separator).long()
        return (is_end_BT.cumsum(1) - is_end_BT).clamp(max=1)


def load_headed(
    folder: Path,
    part: ModelPart,
    head: Head,
    *,
    seed: int,
    pad_id: int | None = None,
    separator: int | None = None,
    device: torch.device = CPU,
) -> HeadedModel:
    """Load a folder's model with a head for these labels onto a device, frozen, to evaluate.

    `pad_id` goes into its configuration: other libraries find a row's last token by it. `separator`
    stands between the two texts of a pair.

    Raises:
        ModelError: the folder holds no model that can be loaded with such a head.
        MachineError: bitsandbytes is needed and not installed.
    """
    if part.base:
        require_bitsandbytes(part.base)
    dtype = DTYPES[choose_dtype(part, device)]
    kind = _class_of(head)
    settings = {**_settings(head), **_names_of(_class_for(folder, kind))}
    model, report = load_weights(folder, "auto" if part.base else dtype, kind, settings)
    _keep_own_names(model)
    new = _new_modules(model, folder, report)
    model.eval()
    model.requires_grad_(False)
    owner: Any = model
    if pad_id is not None:  # transformers finds a row's last token by it
        owner.config.get_text_config().pad_token_id = pad_id
    _start(model, new, seed)
    headed = HeadedModel(model, head, new, separator)
    if part.base:
        # Loads bitsandbytes, which few runs need.
        from tunesmith.models.quantise import quantise_model

        kept = [module for _, module in _outside(model)]
        kept += [model.get_submodule(path) for path in new]
        quantise_model(model, kept, part.base, double_quant=part.double_quant, dtype=dtype)
    model.to(device)
    return headed


def reads_left_to_right(model: nn.Module) -> bool:
    """Say whether a model is a decoder: each token knows those before it only."""
    owner: Any = model
    return is_decoder(str(owner.config.get_text_config().model_type))


def _class_of(head: Head) -> Any:
    import transformers

    match head.kind:
        case "classes":
            return transformers.AutoModelForSequenceClassification
        case "tags":
            return transformers.AutoModelForTokenClassification
        case "span":
            return transformers.AutoModelForQuestionAnswering
        case _:
            assert_never(head.kind)


def _settings(head: Head) -> dict[str, Any]:
    """What transformers is told of the head."""
    if head.kind == "span":
        return {"num_labels": len(head.labels)}
    labels = {
        "id2label": dict(enumerate(head.labels)),
        "label2id": {label: index for index, label in enumerate(head.labels)},
    }
    if head.kind == "tags":
        return labels
    several = "multi_label_classification" if head.several else "single_label_classification"
    return {**labels, "problem_type": several}


def _names_of(model_class: Any) -> dict[str, Any]:
    """Llama's and Qwen's classes for spans call the model by another name than its files do."""
    if model_class.base_model_prefix != "transformer":
        return {}
    return {"key_mapping": {r"^model\.": "transformer."}}


def _keep_own_names(model: nn.Module) -> None:
    """Let the model be saved under the names of its class, by which other libraries load it.

    transformers would undo the renaming above when it saves.
    """
    owner: Any = model
    renamed = set(_names_of(type(model)).get("key_mapping", {}))
    owner._weight_conversions = [
        one for one in owner._weight_conversions if renamed.isdisjoint(one.source_patterns)
    ]


def _class_for(folder: Path, kind: Any) -> Any:
    """Return the class that transformers has for a folder's architecture.

    Raises:
        ModelError: it has none.
    """
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    if type(config) in kind._model_mapping:
        return kind._model_mapping[type(config)]
    fault = Fault(
        found=f"transformers has no {kind.__name__.removeprefix('AutoModelFor')} of the "
        f"architecture {config.model_type}",
        where=str(folder),
        fix="set task.head: false, so that the answer is written, or choose another model",
    )
    raise ModelError(fault, code="model_unsupported")


def _outside(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield the modules that are not of the backbone."""
    owner: Any = model
    prefix = str(owner.base_model_prefix)
    for path, module in model.named_modules():
        if path and path != prefix and not path.startswith(f"{prefix}."):
            yield path, module


def _new_modules(model: nn.Module, folder: Path, report: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the modules whose weights the folder lacks: the head, and a pooler before it.

    Raises:
        ModelError: weights of the model itself are absent.
    """
    absent = sorted({str(key) for key in [*report["missing_keys"], *report["mismatched_keys"]]})
    paths = dict.fromkeys(name.rpartition(".")[0] for name in absent)
    outside = {path for path, _ in _outside(model)}
    lost = [path for path in paths if path not in outside and "pooler" not in path.split(".")]
    if lost:
        fault = Fault(
            found=f"the weight files lack tensors of {len(lost)} modules of the model, such as "
            f"{lost[0]}",
            where=str(folder),
            fix="name a folder whose config.json belongs to its weights",
        )
        raise ModelError(fault, code="model_incomplete")
    return tuple(paths)


def _start(model: nn.Module, new: Sequence[str], seed: int) -> None:
    """Give new modules their first values: the same ones in every process and every library."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for path in new:
            for name, parameter in model.get_submodule(path).named_parameters(recurse=False):
                if parameter.ndim > 1:
                    values = torch.randn(parameter.shape, generator=generator) * START_STD
                    parameter.copy_(values)
                else:
                    parameter.fill_(0.0 if name == "bias" else 1.0)
