"""The fused steps of the bottleneck and of the exchange against the plain layers that they stand for."""

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from avpea import registry
from avpea.adapters import _fused
from avpea.adapters._fused import Exchange, linear_norm, norm_linear
from avpea.adapters.av_pea import AVPEA
from avpea.adapters.lavish import LAVISH
from avpea.model import build
from tests.adapters.test_av_pea import randomised


def drawn(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@pytest.fixture(params=["cpu", "card"])
def on(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Whether it is computed as on a CPU or as on a card, here on a CPU."""
    where: str = request.param
    monkeypatch.setattr(_fused, "_on_cpu", lambda _: where == "cpu")
    return where


@pytest.fixture
def norm() -> nn.LayerNorm:
    return randomised(nn.LayerNorm(6).double())


def test_layer_norm_before_a_product(norm: nn.LayerNorm, on: str) -> None:
    x, weight = (3 * drawn(2, 3, 6) + 1).requires_grad_(), drawn(4, 6, seed=1).requires_grad_()
    torch.testing.assert_close(norm_linear(x, norm, weight), F.linear(norm(x), weight), rtol=0, atol=1e-12)
    assert torch.autograd.gradcheck(lambda x, w, *_: norm_linear(x, norm, w), (x, weight, *norm.parameters()))


def test_layer_norm_after_a_product(norm: nn.LayerNorm, on: str) -> None:
    z, weight, bias = (drawn(*s, seed=i).requires_grad_() for i, s in enumerate([(2, 3, 4), (6, 4), (6,)]))
    gate = torch.tensor(-0.7, dtype=torch.float64, requires_grad=True)

    def fused(z: Tensor, weight: Tensor, bias: Tensor, gate: Tensor, *_: Tensor) -> Tensor:
        return linear_norm(z, weight, bias, norm, gate, onto)

    onto = drawn(2, 3, 6, seed=9)
    expected = onto + gate * norm(F.linear(z, weight, bias))
    torch.testing.assert_close(fused(z, weight, bias, gate), expected, rtol=0, atol=1e-12)
    assert torch.autograd.gradcheck(fused, (z, weight, bias, gate, *norm.parameters()))


@pytest.mark.parametrize("queries", [1, 3])
def test_exchange_is_attention_without_projections(queries: int) -> None:
    query, key = drawn(2, queries, 6).requires_grad_(), drawn(2, 5, 6, seed=1).requires_grad_()
    expected = F.scaled_dot_product_attention(query, key, key, scale=0.3)
    torch.testing.assert_close(Exchange.apply(query, key, 0.3), expected, rtol=0, atol=1e-12)
    assert torch.autograd.gradcheck(lambda q, k: Exchange.apply(q, k, 0.3), (query, key))


@pytest.mark.parametrize("kind", [AVPEA, LAVISH])
@pytest.mark.parametrize("training", [True, False])
def test_gradients_in_bfloat16_are_as_near_as_rounding_lets_them(kind: Any, training: bool, on: str) -> None:
    """Against float64 on the same bfloat16 inputs, rounded to 0.4 %; of the best draw, as in others a ReLU turns."""
    errors = []
    for seed in range(7):
        adapter = randomised(kind(64), seed).train(training)
        exact = kind(64).double().train(training)
        exact.load_state_dict(adapter.state_dict())
        x, other, grad = (drawn(16, 20, 64, seed=10 * seed + i, dtype=torch.float32).bfloat16() / 4 for i in range(3))
        results = []
        for module, dtype in ((adapter, torch.bfloat16), (exact, torch.float64)):
            inputs = [one.to(dtype).detach().requires_grad_() for one in (x, other)]
            answer = module(*inputs)
            answer.backward(grad.to(dtype))
            assert answer.dtype == dtype
            results.append([answer.detach(), *(one.grad for one in inputs)])
        pairs = zip(*results, strict=True)
        errors.append([float((found.double() - expected).norm() / expected.norm()) for found, expected in pairs])
    assert all(error < (0.02 if on == "cpu" else 0.04) for error in torch.tensor(errors).amin(dim=0))


@pytest.mark.parametrize("kind", [AVPEA, LAVISH])
def test_little_is_kept_for_the_backward_pass(kind: Any) -> None:
    """Of AV-PEA nothing as wide as the tokens, except the tokens, which the frozen layers keep anyway."""
    adapter = kind(64).train()
    x, other = (drawn(4, 50, 64, seed=seed, dtype=torch.float32).bfloat16().requires_grad_() for seed in range(2))
    kept: dict[int, int] = {}

    def note(one: Tensor) -> Tensor:
        kept[one.untyped_storage().data_ptr()] = one.untyped_storage().nbytes()
        return one

    with torch.autograd.graph.saved_tensors_hooks(note, lambda one: one):
        adapter(x, other)
    for given in (x, other):
        kept.pop(given.untyped_storage().data_ptr(), None)
    assert kind is LAVISH or max(kept.values()) < x.untyped_storage().nbytes()


@pytest.mark.parametrize("kind", [AVPEA, LAVISH])
def test_a_residual_can_be_added_at_once(kind: Any) -> None:
    adapter = randomised(kind(64).double())
    x, other, onto = drawn(3, 7, 64), drawn(3, 5, 64, seed=1), drawn(3, 7, 64, seed=2)
    torch.testing.assert_close(adapter(x, other, onto), onto + adapter(x, other), rtol=0, atol=1e-12)
    assert kind.adds

    class Mine(kind):  # type: ignore[misc]
        def forward(self, x: Tensor, other: Tensor) -> Tensor:
            return 2 * x

    assert not Mine.adds  # and so it is asked for its residual alone


@pytest.mark.parametrize("kind", [AVPEA, LAVISH])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("value", [0.0, 1.0, 1e4])
def test_tokens_that_are_all_alike_give_numbers(kind: Any, training: bool, value: float, on: str) -> None:
    """A black, silent clip: all variances are 0, and nothing is divided by it."""
    adapter = randomised(kind(64)).train(training)
    x = torch.full((2, 5, 64), value, requires_grad=True)
    answer = adapter(x, x)
    answer.sum().backward()
    assert answer.isfinite().all()
    assert x.grad is not None
    assert x.grad.isfinite().all()
    with torch.no_grad():
        assert adapter.eval().folded()(x, x).isfinite().all()


FORMS: list[tuple[Any, dict[str, Any]]] = [
    (AVPEA, {}),
    (AVPEA, {"queries": "all", "scaled_attention": True}),
    (AVPEA, {"normalised_attention": True, "has_cls": False}),
    (AVPEA, {"cross_modal": False}),
    (LAVISH, {}),
    (LAVISH, {"batch_norm": False, "groups": 4}),
]


@pytest.mark.parametrize(("kind", "options"), FORMS)
def test_folded_is_the_same_for_inference(kind: Any, options: dict[str, Any]) -> None:
    adapter = randomised(kind(64, **options)).eval()
    x, other = drawn(3, 7, 64, dtype=torch.float32), drawn(3, 5, 64, seed=1, dtype=torch.float32)
    folded = adapter.folded()
    with torch.no_grad():
        assert (folded(x, other) - adapter(x, other)).abs().max() < 1e-5
        half = folded(x.bfloat16(), other.bfloat16())
        assert folded.fold is not None
        assert adapter.fold is None  # nothing has become of the adapter itself
        assert half.dtype == torch.bfloat16
        torch.testing.assert_close(half.float(), folded(x, other), rtol=0.05, atol=0.1)
    assert folded.folded() is folded
    assert folded.state_dict().keys() == adapter.state_dict().keys()


def trained_further(adapter: Any) -> None:
    adapter.train()
    randomised(adapter, 5)
    adapter.eval()


def given_weights(adapter: Any) -> None:
    adapter.load_state_dict({name: 1.5 * weight for name, weight in adapter.state_dict().items()})


@pytest.mark.parametrize("change", [trained_further, given_weights, nn.Module.double])
def test_what_changes_a_folded_adapter_gives_its_constants_up(change: Callable[[Any], None]) -> None:
    x, other = drawn(3, 7, 64), drawn(3, 5, 64, seed=1)
    folded = randomised(AVPEA(64)).eval().folded()
    change(folded)
    plain = AVPEA(64).double().eval()
    plain.load_state_dict(folded.state_dict())
    with torch.no_grad():
        folded.double()
        torch.testing.assert_close(folded(x, other), plain(x, other), rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", [AVPEA, LAVISH])
def test_a_folded_adapter_follows_weights_that_are_changed_in_place(kind: Any) -> None:
    x, other = drawn(3, 7, 64), drawn(3, 5, 64, seed=1)
    adapter = randomised(kind(64)).double().eval()
    folded = adapter.folded()
    for mode in (torch.no_grad, torch.inference_mode):
        for weight in (*adapter.parameters(), *adapter.buffers()):
            with mode():
                before = folded.fold
                weight.mul_(2)
                torch.testing.assert_close(folded(x, other), adapter(x, other), rtol=0, atol=1e-11)
                assert folded.fold is not before
                assert folded.fold is folded.fold


def test_a_folded_adapter_has_gradients() -> None:
    x, other = drawn(3, 7, 64), drawn(3, 5, 64, seed=1)
    adapter = randomised(AVPEA(64)).double().eval()
    adapter.folded()(x, other).square().sum().backward()
    found = [parameter.grad for parameter in adapter.parameters()]
    adapter.zero_grad()
    adapter(x, other).square().sum().backward()
    torch.testing.assert_close(found, [parameter.grad for parameter in adapter.parameters()])


def test_a_folded_adapter_can_be_copied_and_pickled() -> None:
    x, other = drawn(3, 7, 64), drawn(3, 5, 64, seed=1)
    folded = randomised(AVPEA(64)).double().eval().folded()
    with torch.no_grad():
        for again in (copy.deepcopy(folded), pickle.loads(pickle.dumps(folded))):
            assert again.fold is not None
            assert torch.equal(again(x, other), folded(x, other))


def test_a_subclass_that_changes_the_bottleneck_is_not_folded() -> None:
    class Mine(AVPEA):
        def forward(self, x: Tensor, other: Tensor) -> Tensor:  # type: ignore[override, unused-ignore]
            return self.finish(self.project(x) + 1)

    mine = randomised(Mine(64)).eval()
    assert mine.folded() is mine


def test_there_is_no_second_derivative_rather_than_a_wrong_one() -> None:
    x, other = drawn(2, 3, 64).requires_grad_(), drawn(2, 3, 64, seed=1)
    (grad,) = torch.autograd.grad(randomised(AVPEA(64)).double()(x, other).sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        grad.sum().backward()


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("adapter", registry.names("adapter"))
def test_a_folded_model_answers_as_the_model(
    adapter: str, precision: str, tiny_experiment: Callable[..., Any], tiny_data: Any
) -> None:
    from avpea import data

    experiment = tiny_experiment(**{"adapter.name": adapter})
    torch.manual_seed(0)
    model = build(experiment, data.read(experiment.data).labels).eval()
    for _, part in model.trained_modules():
        randomised(part)
    if precision == "bf16":
        model.half_precision()
    folded = model.folded()
    frames = torch.randint(0, 256, (2, 3, 32, 32, 3), dtype=torch.uint8)
    log_mel = drawn(2, 3, 100, experiment.audio.mel_bins, dtype=torch.float32)
    with torch.no_grad():
        found, expected = folded(frames, log_mel), model(frames, log_mel)
        difference = (found - expected).norm() / expected.norm()
    assert difference < (1e-5 if precision == "fp32" else 0.02)
    assert (folded is model) == (adapter not in ("av_pea", "av_pea_tokens", "lavish"))
    assert folded.encoder.backbone is model.encoder.backbone
    assert folded.task is model.task


@pytest.mark.parametrize("kind", [AVPEA, LAVISH])
@pytest.mark.parametrize("halves", [False, True])
def test_autocast_changes_neither_answer_nor_gradients(kind: Any, halves: bool) -> None:
    adapter = randomised(kind(64))
    dtype = torch.bfloat16 if halves else torch.float32
    x, other = (drawn(3, 7, 64, seed=i, dtype=torch.float32).to(dtype).requires_grad_() for i in range(2))

    def step(forward: bool, backward: bool) -> list[Tensor | None]:
        for one in (x, other, *adapter.parameters()):
            one.grad = None
        with torch.autocast("cpu", torch.bfloat16, enabled=forward):
            answer = adapter(x, other)
        loss = answer.float().square().sum()
        with torch.autocast("cpu", torch.bfloat16, enabled=backward):
            loss.backward()
        return [answer, *(one.grad for one in (x, other, *adapter.parameters()))]

    expected = step(False, False)
    assert expected[0] is not None
    assert expected[0].dtype == dtype
    torch.testing.assert_close(step(True, False), expected, rtol=0, atol=0)
    if halves:  # torch's own products have a type of their own in a backward pass under autocast
        return
    step(True, True)


@pytest.mark.parametrize("kind", [AVPEA, LAVISH])
def test_the_other_stream_may_be_of_another_type(kind: Any) -> None:
    adapter, x = randomised(kind(64)), drawn(3, 7, 64, dtype=torch.float32).requires_grad_()
    other = drawn(3, 5, 64, seed=1, dtype=torch.float32).bfloat16().requires_grad_()
    answer = adapter(x, other)
    answer.square().sum().backward()
    assert answer.dtype == torch.float32
    assert x.grad is not None
    assert other.grad is not None
    assert other.grad.dtype == torch.bfloat16
