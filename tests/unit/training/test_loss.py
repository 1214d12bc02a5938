from __future__ import annotations

import pytest
import torch
from torch import nn

from tunesmith.methods.lora import LoraLinear
from tunesmith.methods.start import Factors
from tunesmith.training import loss as loss_module
from tunesmith.training.loss import LanguageModel, cross_entropy, log_probs


def reference(
    model: LanguageModel, hidden: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor
) -> torch.Tensor:
    logits = model.head(hidden).float() * model.logit_scale
    if model.logit_softcap is not None:
        logits = model.logit_softcap * torch.tanh(logits / model.logit_softcap)
    return (nn.functional.cross_entropy(logits, targets, reduction="none") * weights).sum()


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(("scale", "softcap"), [(1.0, None), (0.25, None), (1.0, 5.0), (2.0, 3.0)])
def test_chunks_give_the_loss_and_gradients_of_the_whole(
    scale: float, softcap: float | None, bias: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    monkeypatch.setattr(loss_module, "LOGIT_CHUNK_BYTES", 4 * 53 * 32)  # 32 positions a chunk
    head = nn.Linear(16, 53, bias=bias)
    model = LanguageModel(
        decoder=nn.Identity(), head=head, logit_scale=scale, logit_softcap=softcap
    )
    hidden = torch.randn(75, 16, requires_grad=True)
    targets, weights = torch.randint(0, 53, (75,)), torch.rand(75)
    inputs = [hidden, *head.parameters()]
    ours, _ = cross_entropy(model, hidden, targets, weights)
    theirs = reference(model, hidden, targets, weights)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    for mine, other in zip(
        torch.autograd.grad(ours * 3, inputs), torch.autograd.grad(theirs * 3, inputs), strict=True
    ):
        torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("is_subtracted", [False, True])
@pytest.mark.parametrize(("scale", "softcap"), [(1.0, None), (2.0, 3.0)])
def test_an_adapter_on_the_head_has_its_part_in_loss_and_gradients(
    scale: float, softcap: float | None, is_subtracted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    monkeypatch.setattr(loss_module, "LOGIT_CHUNK_BYTES", 4 * 53 * 32)
    base = nn.Linear(16, 53).requires_grad_(False)
    start = Factors(torch.randn(4, 16), torch.randn(53, 4), is_subtracted=is_subtracted)
    head = LoraLinear(base, start, scale=0.5, dropout=0.0)
    with torch.no_grad():
        head.lora_B.add_(torch.randn(53, 4))
    model = LanguageModel(
        decoder=nn.Identity(), head=head, logit_scale=scale, logit_softcap=softcap
    )
    hidden = torch.randn(75, 16, requires_grad=True)
    targets, weights = torch.randint(0, 53, (75,)), torch.rand(75)
    inputs = [hidden, head.lora_A, head.lora_B]
    ours, _ = cross_entropy(model, hidden, targets, weights)
    theirs = reference(model, hidden, targets, weights)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    for mine, other in zip(
        torch.autograd.grad(ours * 3, inputs), torch.autograd.grad(theirs * 3, inputs), strict=True
    ):
        torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-4)
    found = log_probs(model, hidden, targets)
    torch.testing.assert_close(-(found * weights).sum(), theirs, rtol=1e-5, atol=1e-5)
    head.active = False
    off, _ = cross_entropy(model, hidden, targets, weights)
    base_model = LanguageModel(
        decoder=nn.Identity(), head=base, logit_scale=scale, logit_softcap=softcap
    )
    torch.testing.assert_close(off, reference(base_model, hidden, targets, weights))


def test_right_guesses_are_counted_when_nothing_is_trained() -> None:
    head = nn.Linear(4, 4, bias=False)
    with torch.no_grad():
        head.weight.copy_(torch.eye(4))
        model = LanguageModel(decoder=nn.Identity(), head=head)
        hidden = torch.eye(4)
        _, correct = cross_entropy(model, hidden, torch.tensor([0, 1, 0, 3]), torch.ones(4))
    assert correct == 3
