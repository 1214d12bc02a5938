"""In which numbers answers are computed.

In bf16 the words of an answer depend on what shares its batch: a sum that is taken in another order
is rounded otherwise, and two tokens that are nearly as likely change places. Of 48 answers of 64
tokens by a model of 135M parameters 25 were other ones alone than in a batch; in fp32 none of 16.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager

from torch import Tensor, nn

from tunesmith.core.hardware import available_memory_bytes
from tunesmith.inference.predict_request import DtypeWord
from tunesmith.models.linear import device_of
from tunesmith.models.load import DTYPES

_NO_ROOM = "fp32, in which an answer is the same in any batch, has no room"
_ROOM = 1.3  # beside the weights there are the cache and the tensors of a step


def settle_dtype(model: nn.Module, word: DtypeWord, *, tell: Callable[[str], None]) -> str:
    """Bring a model's weights into the dtype to compute in; return its name.

    By itself that is fp32 on a CPU, where there is room for it. A model with quantised weights
    stays as it is.
    """
    names = {dtype: name for name, dtype in DTYPES.items()}
    kept = next(one.dtype for one in model.parameters() if one.is_floating_point())
    known = names.get(kept, str(kept).removeprefix("torch."))
    if _is_quantised(model):
        return known
    if word == "auto":
        word = "fp32" if _has_room(model) else "bf16"
        if word == "bf16" and known == "bf16" and device_of(model).type == "cpu":
            tell(f"computing in bf16: {_NO_ROOM}")
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


def _is_quantised(model: nn.Module) -> bool:
    return any(not one.is_floating_point() for one in model.parameters())


def _narrow(model: nn.Module) -> list[Tensor]:
    """Its parameters and buffers of less than 32 bits, each once."""
    tensors = {id(one): one for one in (*model.parameters(), *model.buffers())}
    return [one for one in tensors.values() if one.is_floating_point() and one.element_size() < 4]


@contextmanager
def computing_in_fp32(model: nn.Module) -> Generator[None]:
    """Its weights are fp32 inside; afterwards each parameter holds the very tensor that it held."""
    kept = [(one, one.data) for one in _narrow(model)]
    try:
        for one, data in kept:
            one.data = data.float()
        yield
    finally:
        for one, data in kept:
            one.data = data


@contextmanager
def exact_answers(model: nn.Module, tell: Callable[[str], None]) -> Generator[None]:
    """Compute in fp32 inside, so that an answer is the same in any batch.

    So on a CPU where there is room for it. Quantised weights stay as they are.
    """
    if _is_quantised(model) or not _narrow(model) or device_of(model).type != "cpu":
        yield
    elif not _has_room(model):
        tell(f"answers are computed in 16 bits: {_NO_ROOM}")
        yield
    else:
        with computing_in_fp32(model):
            yield
