"""In which numbers answers are computed.

In bf16 the words of an answer depend on what shares its batch: a sum that is taken in another order
is rounded otherwise, and two tokens that are nearly as likely change places. Of 48 answers of 64
tokens by a model of 135M parameters 25 were other ones alone than in a batch; in fp32 none of 16.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from tunesmith.core.hardware import available_memory_bytes
from tunesmith.inference.predict_request import DtypeWord
from tunesmith.models.load import DTYPES

_ROOM = 1.3  # beside the weights there are the cache and the tensors of a step


def settle_dtype(model: nn.Module, word: DtypeWord, *, tell: Callable[[str], None]) -> str:
    """Bring a model's weights into the dtype to compute in; return its name.

    By itself that is fp32 on a CPU, where there is room for it. A model with quantised weights
    stays as it is.
    """
    names = {dtype: name for name, dtype in DTYPES.items()}
    kept = next(one.dtype for one in model.parameters() if one.is_floating_point())
    known = names.get(kept, str(kept).removeprefix("torch."))
    if any(not one.is_floating_point() for one in model.parameters()):
        return known
    if word == "auto":
        word = "fp32" if _has_room(model) else "bf16"
        if word == "bf16" and known == "bf16":
            tell(
                "computing in bf16: fp32, in which an answer is the same in any batch, has no room"
            )
    if word != known:
        model.to(DTYPES[word])
    return word


def _has_room(model: nn.Module) -> bool:
    """Whether its weights fit in fp32, on a device where that is not many times as slow."""
    parameters = list(model.parameters())
    if parameters[0].device.type != "cpu":
        return False
    more = sum(one.numel() * (4 - one.element_size()) for one in parameters)
    return more * _ROOM < available_memory_bytes()
