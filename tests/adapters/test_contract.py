"""What holds for every adapter, asked of each file in `avpea/adapters/` without naming any, inside a small ViT."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn

from avpea import registry
from avpea.adapters import Adapter, AdapterOptions, SideNetwork, Trained
from avpea.backbones import Backbone
from avpea.checkpoint import load_model, save_model
from avpea.encoders import Streams
from avpea.encoders.dual_stream import DualStreamEncoder
from avpea.experiment import class_of
from avpea.model import build
from avpea.options import option_names
from tests.tiny import event_labels, section

NAMES = registry.names("adapter")
# Widths are 16 here; an adapter takes the options that it knows.
SMALL = {"reduction": 4}


def knows(name: str, option: str) -> bool:
    return option in option_names(class_of("adapter", {"name": name}))


def config(name: str, **options: Any) -> AdapterOptions:
    return section("adapter", name, **{key: value for key, value in SMALL.items() if knows(name, key)}, **options)


def make(name: str, dtype: torch.dtype = torch.float64, seed: int = 0, cls: bool = True) -> DualStreamEncoder:
    torch.manual_seed(0)
    without: dict[str, Any] = {} if cls else {"class_token": False, "global_pool": "avg"}
    vit = timm.create_model(
        "vit_tiny_patch16_224", pretrained=False, img_size=32, embed_dim=16, depth=2, num_heads=2, num_classes=0,
        dynamic_img_size=True, **without,
    )  # fmt: skip
    torch.manual_seed(seed)
    return DualStreamEncoder(Backbone(vit, "small"), config(name)).to(dtype)


def images(dtype: torch.dtype = torch.float64, batch: int = 3, seed: int = 2, rows: int = 48) -> tuple[Tensor, Tensor]:
    """Frames and, of another size, sounds."""
    generator = torch.Generator().manual_seed(seed)
    # Drawn as float32 even for bfloat16, for which torch 2.6 draws other numbers.
    drawn = torch.float64 if dtype == torch.float64 else torch.float32
    frames, sounds = (torch.randn(batch, 3, r, 32, generator=generator, dtype=drawn).to(dtype) for r in (32, rows))
    return frames, sounds


def trained(encoder: DualStreamEncoder) -> list[tuple[str, nn.Parameter]]:
    return [
        (f"{path}.{name}", parameter)
        for path, module in encoder.named_modules()
        if isinstance(module, Trained)
        for name, parameter in module.named_parameters()
    ]


def moved(encoder: DualStreamEncoder) -> DualStreamEncoder:
    """Away from where it starts: no gate, no map is zero, and every weight must matter."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for _, parameter in trained(encoder):
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator, dtype=torch.float32))
            if parameter.dim() == 0:
                parameter.fill_(0.7)
    return encoder


def assert_equal(one: Streams, other: Streams) -> None:
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("training", [True, False])
def test_a_new_adapter_changes_nothing(name: str, training: bool) -> None:
    encoder = make(name).train(training)
    assert trained(encoder)
    frozen = DualStreamEncoder(encoder.backbone, section("adapter", streams="none"))
    assert_equal(encoder(*images()), frozen(*images()))


@pytest.mark.parametrize("name", NAMES)
def test_every_weight_gets_a_gradient_and_no_frozen_one_does(name: str) -> None:
    encoder = moved(make(name)).train()
    tokens = encoder(*images())
    torch.manual_seed(1)
    sum((t * torch.randn_like(t)).sum() for t in tokens).backward()
    assert [key for key, p in trained(encoder) if p.grad is None or not p.grad.any()] == []
    assert all(p.grad is None and not p.requires_grad for p in encoder.backbone.parameters())
    assert {id(p) for _, p in trained(encoder)} == {id(p) for p in encoder.parameters() if p.requires_grad}


@pytest.mark.parametrize("name", NAMES)
def test_gradients_are_those_of_finite_differences(name: str) -> None:
    encoder = moved(make(name)).eval()
    _, parameter = max(trained(encoder), key=lambda pair: pair[1].numel())
    frames, sounds = images(batch=1)
    weight = torch.randn(1, 5, 16, generator=torch.Generator().manual_seed(3), dtype=torch.float64)

    def loss() -> Tensor:
        return (encoder(frames, sounds).visual * weight).sum()

    (gradient,) = torch.autograd.grad(loss(), parameter)
    index = gradient.abs().flatten().argmax()
    values = []
    with torch.no_grad():
        for step in (1e-6, -1e-6):
            parameter.view(-1)[index] += step
            values.append(loss())
            parameter.view(-1)[index] -= step
    slope = (values[0] - values[1]) / 2e-6
    torch.testing.assert_close(slope, gradient.flatten()[index], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("cls", [True, False])
def test_batch_of_one_and_unequal_token_counts(name: str, cls: bool) -> None:
    tokens = moved(make(name, cls=cls)).eval()(*images(batch=1))
    assert (tokens.visual.shape, tokens.audio.shape) == ((1, 4 + cls, 16), (1, 6 + cls, 16))


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_is_its_videos_one_by_one(name: str) -> None:
    encoder = moved(make(name)).eval()
    frames, sounds = images()
    together = encoder(frames, sounds)
    for index in range(len(frames)):
        alone = encoder(frames[index : index + 1], sounds[index : index + 1])
        for a, b in zip(alone, together, strict=True):
            torch.testing.assert_close(a[0], b[index], rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("training", [True, False])
def test_bfloat16_backbone_with_float32_weights(name: str, training: bool) -> None:
    exact = moved(make(name, torch.float32)).train(training)(*images(torch.float32))
    encoder = moved(make(name, torch.float32)).train(training)
    encoder.backbone.to(torch.bfloat16)
    answer = encoder(*images(torch.bfloat16))
    assert {t.dtype for t in answer} == {torch.bfloat16}
    assert {p.dtype for _, p in trained(encoder)} == {torch.float32}
    for a, b in zip(answer, exact, strict=True):
        assert (a.float() - b).norm() < 0.1 * b.norm()


class Plain(Adapter):
    """Layers that compute in the type of their weights only, as most are written."""

    cross_modal = True

    def __init__(self, dim: int) -> None:
        super().__init__(dim)
        self.layer = nn.Linear(2 * dim, dim)

    def forward(self, x: Tensor, other: Tensor) -> Tensor:
        heard = other.mean(dim=1, keepdim=True).expand_as(x)
        answer: Tensor = self.layer(torch.cat((x, heard), dim=-1))
        return answer


class Below(registry.load("adapter", "av_pea")):  # type: ignore[misc]
    """A subclass of a built-in adapter with a plain layer of its own."""

    def __init__(self, dim: int) -> None:
        super().__init__(dim, reduction=4)
        self.layer = nn.Linear(dim, dim)

    def forward(self, x: Tensor, other: Tensor) -> Tensor:
        return super().forward(x, other) + self.layer(x)


@pytest.mark.parametrize("kind", [Plain, Below])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_layers_written_for_one_type_get_that_type(kind: type[Adapter], dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    adapter = kind(16)
    x, other = torch.randn(2, 5, 16, dtype=dtype, requires_grad=True), torch.randn(2, 7, 16, dtype=dtype)
    answer = adapter(x, other)
    assert answer.dtype == dtype
    assert torch.equal(answer, adapter.forward(x.float(), other.float()).to(dtype))
    answer.sum().backward()  # through the casts, to the tokens and to the weights
    assert x.grad is not None
    assert x.grad.dtype == dtype
    assert {p.grad.dtype for p in adapter.parameters() if p.grad is not None} == {torch.float32}


@pytest.mark.parametrize("name", NAMES)
def test_ours_compute_in_the_type_of_the_tokens(name: str) -> None:
    """Nothing is cast on the way in: that would be slower, and other numbers than before."""
    kind = registry.load("adapter", name)
    assert kind.follows_dtype or kind.copies_weights


@pytest.mark.parametrize("name", NAMES)
def test_no_state_is_kept_between_calls(name: str) -> None:
    encoder = moved(make(name)).eval()
    frames, sounds = images()
    first = encoder(frames, sounds)
    encoder(frames.flip(0), images(seed=9, rows=32)[1])
    assert_equal(encoder(frames, sounds), first)


@pytest.mark.parametrize("name", NAMES)
def test_a_stream_hears_the_other_where_the_adapter_says_so(name: str) -> None:
    encoder = moved(make(name)).eval()
    frames, sounds = images()
    other_frames, other_sounds = images(seed=9)
    kinds = {m.cross_modal for m in encoder.modules() if isinstance(m, Adapter | SideNetwork)} or {False}
    assert len(kinds) == 1
    before = encoder(frames, sounds)
    visual = not torch.equal(encoder(frames, other_sounds).visual, before.visual)
    audio = not torch.equal(encoder(other_frames, sounds).audio, before.audio)
    assert {visual, audio} == kinds


@pytest.mark.parametrize("name", [name for name in NAMES if knows(name, "cross_modal")])
def test_without_its_cross_modal_part_it_hears_nothing_and_every_weight_matters(name: str) -> None:
    backbone = make(name).backbone
    encoder = moved(DualStreamEncoder(backbone, config(name, cross_modal=False)).double()).train()
    assert not any(m.cross_modal for m in encoder.modules() if isinstance(m, Adapter | SideNetwork))
    frames, sounds = images()
    tokens = encoder(frames, sounds)
    sum((t * torch.randn_like(t)).sum() for t in tokens).backward()
    assert all(p.grad is not None and p.grad.any() for _, p in trained(encoder))
    assert torch.equal(encoder(frames, images(seed=9)[1]).visual, tokens.visual)


@pytest.mark.parametrize("name", NAMES)
def test_checkpoint_round_trip(name: str, tiny_experiment: Callable[..., Any], tmp_path: Path) -> None:
    experiment = tiny_experiment(**{"adapter.name": name})
    torch.manual_seed(0)
    model = build(experiment, event_labels()).train()
    assert isinstance(model.encoder, DualStreamEncoder)
    moved(model.encoder)
    frames, log_mel = torch.randint(0, 255, (2, 3, 32, 32, 3), dtype=torch.uint8), torch.randn(2, 3, 98, 32)
    model(frames, log_mel)  # moves BatchNorm statistics
    file = tmp_path / "model.safetensors"
    save_model(file, model, experiment, event_labels(), {})
    torch.manual_seed(1)
    again, info = load_model(file)
    assert info.experiment == experiment
    assert info.labels == event_labels()
    assert torch.equal(again(frames, log_mel), model.eval()(frames, log_mel))
    frozen = {id(p) for p in model.encoder.backbone.parameters()}
    assert not frozen & {id(p) for group in model.trained_parameters().values() for p in group}
