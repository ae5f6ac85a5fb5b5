"""What holds for every adapter, asked of each file in `avpea/adapters/` without naming any."""

import pytest
import torch
from torch import Tensor

from avpea import registry
from avpea.adapters._base import Adapter

NAMES = registry.names("adapter")


def make(name: str, dim: int = 16, **options: object) -> Adapter:
    torch.manual_seed(0)
    settings = {"reduction": 4, "scaled_attention": False, "has_cls": True} | options
    return registry.load("adapter", name)(dim, **settings)


def streams(dtype: torch.dtype = torch.float64, batch: int = 3) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(batch, 5, 16, generator=generator, dtype=dtype)
    return x, torch.randn(batch, 8, 16, generator=generator, dtype=dtype)


def open_gates(adapter: Adapter) -> Adapter:
    """Scalars are gates and start at zero; away from it every weight must matter."""
    for parameter in adapter.parameters():
        if parameter.dim() == 0:
            torch.nn.init.constant_(parameter, 0.7)
    return adapter


@pytest.mark.parametrize("name", NAMES)
def test_a_new_adapter_changes_nothing(name: str) -> None:
    assert not make(name).double()(*streams()).any()


@pytest.mark.parametrize("name", NAMES)
def test_every_weight_gets_a_gradient(name: str) -> None:
    adapter = open_gates(make(name).double())
    residual = adapter(*streams())
    (residual * torch.randn_like(residual)).sum().backward()
    without = [key for key, p in adapter.named_parameters() if p.grad is None or not p.grad.any()]
    assert not without


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("has_cls", [True, False])
def test_batch_of_one_and_unequal_token_counts(name: str, has_cls: bool) -> None:
    x, other = streams(batch=1)
    residual = make(name, has_cls=has_cls).double()(x, other)
    assert residual.shape == x.shape


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("training", [True, False])
def test_bfloat16_tokens_with_float32_weights(name: str, training: bool) -> None:
    adapter = open_gates(make(name)).train(training)
    exact = adapter(*streams(torch.float32))
    answer = open_gates(make(name)).train(training)(*streams(torch.bfloat16))
    assert answer.dtype == torch.bfloat16
    assert all(p.dtype == torch.float32 for p in adapter.parameters())
    torch.testing.assert_close(answer.float(), exact, rtol=0.1, atol=0.15)


@pytest.mark.parametrize("name", NAMES)
def test_no_state_is_kept_between_calls(name: str) -> None:
    adapter = open_gates(make(name).double()).eval()
    x, other = streams()
    first = adapter(x, other)
    adapter(other, x)
    assert torch.equal(adapter(x, other), first)


@pytest.mark.parametrize("name", NAMES)
def test_state_round_trip(name: str) -> None:
    adapter = open_gates(make(name).double())
    adapter(*streams())  # moves BatchNorm statistics
    torch.manual_seed(1)
    other = registry.load("adapter", name)(16, reduction=4, scaled_attention=False, has_cls=True).double()
    other.load_state_dict(adapter.state_dict())
    assert torch.equal(other.eval()(*streams()), adapter.eval()(*streams()))
