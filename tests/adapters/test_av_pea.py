"""AV-PEA against the paper's equations, written out with loops and sharing no code with the package."""

import math
from typing import Any, TypeVar

import pytest
import torch
from torch import Tensor, nn

from avpea.adapters.av_pea import AVPEA
from avpea.adapters.av_pea_tokens import AVPEATokens
from avpea.adapters.lavish import LAVISH
from avpea.errors import ExperimentError

ModuleT = TypeVar("ModuleT", bound=nn.Module)


def randomised(module: ModuleT, seed: int = 0) -> ModuleT:
    """Every parameter and buffer away from its initial value, so that none can hide behind a zero or a one."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in module.state_dict().items():
        if tensor.is_floating_point():
            values = torch.randn(tensor.shape, generator=generator, dtype=tensor.dtype)
            tensor.copy_(values.abs() + 0.5 if "running_var" in name else values * 0.6)
    return module


def layer_norm(row: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    mean = sum(row) / len(row)
    variance = sum((v - mean) ** 2 for v in row) / len(row)
    return torch.stack(
        [(v - mean) / (variance + 1e-5).sqrt() * w + b for v, w, b in zip(row, weight, bias, strict=True)]
    )


def plain_heard(query: Tensor, others: Tensor, scaled: bool, normalised: bool) -> Tensor:
    """What one token hears, Eq. (7): Θ X', in the paper's form unless it is said otherwise."""
    one, zero, dim = torch.ones_like(query), torch.zeros_like(query), len(query)
    asks = layer_norm(query, one, zero) if normalised else query
    keys = [layer_norm(other, one, zero) if normalised else other for other in others]
    logits: list[Any] = [sum(asks[i] * key[i] for i in range(dim)) for key in keys]
    logits = [value / math.sqrt(dim) for value in logits] if scaled else logits
    highest = max(float(value) for value in logits)
    powers = [(value - highest).exp() for value in logits]
    return torch.stack([power / sum(powers) * other for power, other in zip(powers, others, strict=True)]).sum(dim=0)


def plain_adapter(
    adapter: nn.Module, x: Tensor, other: Tensor, *, scaled: bool = False, normalised: bool = False, every: bool = False
) -> Tensor:
    """Eq. (5)-(8) and Algorithm 1, token by token; `adapter` only lends its weights and its mode."""
    weights = dict(adapter.state_dict())
    g, h = weights["cross_gate"], weights["output_gate"]
    batch, tokens, dim = x.shape
    rows = []
    for b in range(batch):
        hears = range(tokens) if every else [0]
        sequence = [  # CA || X_p
            x[b, t] + g * plain_heard(x[b, t], other[b], scaled, normalised) if t in hears else x[b, t]
            for t in range(tokens)
        ]
        for token in sequence:
            normed = layer_norm(token, weights["norm_before.weight"], weights["norm_before.bias"])
            rows.append(torch.stack([(line * normed).sum() for line in weights["down.weight"]]))
    rows = plain_batch_norm(rows, "batch_norm_down", weights, adapter.training)
    rows = [torch.stack([v if v > 0 else v * 0 for v in row]) for row in rows]
    rows = [torch.stack([(line * row).sum() for line in weights["up.weight"]]) for row in rows]
    rows = plain_batch_norm(rows, "batch_norm_up", weights, adapter.training)
    rows = [h * layer_norm(row, weights["norm_after.weight"], weights["norm_after.bias"]) for row in rows]
    return torch.stack(rows).view(batch, tokens, dim)


def plain_batch_norm(rows: list[Tensor], name: str, weights: dict[str, Tensor], training: bool) -> list[Tensor]:
    mean: Any = weights[f"{name}.running_mean"]
    variance: Any = weights[f"{name}.running_var"]
    if training:
        mean = sum(rows) / len(rows)
        variance = sum((row - mean) ** 2 for row in rows) / len(rows)
    scale = weights[f"{name}.weight"] / (variance + 1e-5).sqrt()
    return [(row - mean) * scale + weights[f"{name}.bias"] for row in rows]


@pytest.fixture
def streams() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(3, 5, 16, generator=generator, dtype=torch.float64)
    return x, torch.randn(3, 7, 16, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("training", [True, False])
def test_equals_the_equations_written_out(streams: tuple[Tensor, Tensor], training: bool) -> None:
    adapter = randomised(AVPEA(16).double()).train(training)
    expected = plain_adapter(adapter, *streams)
    assert (adapter(*streams) - expected).abs().max() < 1e-12


FORMS = [
    {"scaled": True},
    {"normalised": True},
    {"every": True},
    {"scaled": True, "normalised": True},
    {"scaled": True, "normalised": True, "every": True},
]


def in_form(reduction: int = 8, scaled: bool = False, normalised: bool = False, every: bool = False) -> AVPEA:
    adapter = AVPEA(
        16,
        reduction=reduction,
        scaled_attention=scaled,
        normalised_attention=normalised,
        queries="all" if every else "cls",
    )
    return randomised(adapter.double())


@pytest.mark.parametrize("form", FORMS)
def test_other_forms_of_the_exchange_equal_their_formulas(
    streams: tuple[Tensor, Tensor], form: dict[str, bool]
) -> None:
    adapter = in_form(**form)
    x, other = streams
    assert (adapter(x, other) - plain_adapter(adapter, x, other, **form)).abs().max() < 1e-12
    assert sum(p.numel() for p in adapter.parameters()) == sum(p.numel() for p in AVPEA(16).parameters())
    assert (adapter(*streams) - randomised(AVPEA(16).double())(*streams)).abs().max() > 1e-3


@pytest.mark.parametrize("training", [True, False])
def test_the_form_in_which_all_tokens_ask_equals_its_formula(streams: tuple[Tensor, Tensor], training: bool) -> None:
    adapter = randomised(AVPEATokens(16).double()).train(training)
    assert (adapter(*streams) - plain_adapter(adapter, *streams, scaled=True, every=True)).abs().max() < 1e-12
    assert sum(p.numel() for p in adapter.parameters()) == sum(p.numel() for p in AVPEA(16).parameters())


def test_the_papers_form_is_the_default_to_the_bit() -> None:
    """As it was computed before there were other forms."""
    torch.manual_seed(0)
    adapter, x, other = randomised(AVPEA(64)), 5 * torch.randn(3, 9, 64), 5 * torch.randn(3, 7, 64)
    assert adapter.cross_gate is not None
    heard = adapter.cross_gate * ((x[:, :1] @ other.transpose(1, 2)).softmax(dim=-1) @ other)
    rows = torch.cat((adapter.project(x[:, :1] + heard), adapter.project(x)[:, 1:]), dim=1)
    again = randomised(AVPEA(64))
    assert torch.equal(again(x, other), adapter.finish(rows))
    assert {name: float(gate) for name, gate in AVPEA(64).gates().items()} == {"cross_gate": 0.0, "output_gate": 0.0}


def test_gradients_of_another_form(streams: tuple[Tensor, Tensor]) -> None:
    adapter = in_form(4, **FORMS[-1])
    x, other = (s[:2, :3].clone().requires_grad_() for s in streams)
    assert torch.autograd.gradcheck(lambda x, y, *_: adapter(x, y), (x, other, *adapter.parameters()))


def test_g_starts_where_it_is_told_and_a_new_adapter_still_changes_nothing(streams: tuple[Tensor, Tensor]) -> None:
    adapter = AVPEA(16, cross_gate_init=0.5).double()
    assert adapter.gates() == {"cross_gate": 0.5, "output_gate": 0.0}
    assert not adapter(*streams).any()
    assert LAVISH(16, cross_gate_init=-2.0).gates() == {"cross_gate": -2.0, "output_gate": 0.0}


def test_gradients_equal_those_of_finite_differences(streams: tuple[Tensor, Tensor]) -> None:
    adapter = randomised(AVPEA(16, reduction=4).double())
    x, other = (s[:2, :4].clone().requires_grad_() for s in streams)
    assert torch.autograd.gradcheck(lambda x, y, *_: adapter(x, y), (x, other, *adapter.parameters()))


def test_running_statistics_are_those_of_batch_norm(streams: tuple[Tensor, Tensor]) -> None:
    adapter = randomised(AVPEA(16).double()).train()
    reference = nn.BatchNorm1d(16).double()
    reference.load_state_dict(adapter.batch_norm_up.state_dict())
    seen: list[Tensor] = []
    adapter.batch_norm_down.register_forward_hook(lambda _m, _i, out: seen.append(out.relu()))
    for _ in range(3):
        adapter(*streams)
        reference(seen[-1] @ adapter.up.weight.T)
    for name, value in reference.state_dict().items():
        torch.testing.assert_close(adapter.batch_norm_up.state_dict()[name], value, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("dim", "blocks", "expected"), [(768, 12, 3_654_192), (1024, 24, 12_890_208)])
def test_parameter_count_is_the_closed_form(dim: int, blocks: int, expected: int) -> None:
    with torch.device("meta"):
        each = sum(p.numel() for p in AVPEA(dim).parameters())
    d = dim // 8
    assert each == 2 + 6 * dim + 2 * d + 2 * dim * d
    assert 2 * blocks * each == expected


def test_attention_map_sums_to_one_and_is_unscaled(streams: tuple[Tensor, Tensor]) -> None:
    x, other = streams
    theta = AVPEA(16).double().attention_map(x, other)
    assert theta.shape == (3, 1, 7)
    torch.testing.assert_close(theta, torch.softmax(x[:, :1] @ other.transpose(1, 2), -1))
    scaled = AVPEA(16, scaled_attention=True).double().attention_map(x, other)
    torch.testing.assert_close(scaled, torch.softmax(x[:, :1] @ other.transpose(1, 2) / math.sqrt(16), -1))


def test_attention_map_keeps_its_precision_in_bfloat16() -> None:
    x, other = (torch.randn(2, 9, 64).bfloat16() * 6 for _ in range(2))
    exact = AVPEA(64).double().attention_map(x.double(), other.double())
    theta = AVPEA(64).attention_map(x, other)
    assert theta.dtype == torch.float32
    torch.testing.assert_close(theta.double(), exact, rtol=1e-3, atol=1e-4)


def test_without_cls_the_mean_asks_and_every_token_hears(streams: tuple[Tensor, Tensor]) -> None:
    x, other = streams
    adapter = randomised(AVPEA(16, reduction=2, has_cls=False).double()).eval()
    theta = adapter.attention_map(x, other)
    torch.testing.assert_close(theta, torch.softmax(x.mean(1, keepdim=True) @ other.transpose(1, 2), -1))
    moved = adapter(x, other.flip(-1)) - adapter(x, other)
    assert (moved.abs().amax(dim=-1) > 0).all()
    each = AVPEA(16, has_cls=False, queries="all").double().attention_map(x, other)
    torch.testing.assert_close(each, torch.softmax(x @ other.transpose(1, 2), -1))


def test_reduction_must_divide_the_width() -> None:
    with pytest.raises(ExperimentError, match=r"reduction is 5.*width 16"):
        AVPEA(16, reduction=5)
