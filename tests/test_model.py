"""The model: how sound becomes an image, how pixels are normalised, and what is trained."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from avpea.adapters import Adapter, Trained
from avpea.encoders import Encoder, Streams
from avpea.experiment import Experiment
from avpea.model import AVModel, build, log_mel_image
from tests.tiny import event_labels, section

Make = Callable[..., Experiment]
PLAIN: dict[str, Any] = {"mean": 0.0, "std": 0.5}  # (x - 0) / (2 * 0.5): the values themselves


@pytest.fixture
def model(tiny_experiment: Make) -> AVModel:
    torch.manual_seed(0)
    return build(tiny_experiment(), event_labels())


def test_native_pads_with_zeros_and_cuts() -> None:
    config = section("audio", layout="native", rows=102, mel_bins=8, **PLAIN)
    short, long = torch.randn(2, 98, 8), torch.randn(2, 110, 8)
    padded = log_mel_image(short, config, 32)
    assert padded.shape == (2, 3, 102, 8)
    assert torch.equal(padded[:, 0, :98], short)
    assert not padded[:, :, 98:].any()
    assert torch.equal(log_mel_image(long, config, 32)[:, 0], long[:, :102])


def test_native_pads_the_normalised_image() -> None:
    config = section("audio", layout="native", rows=4, mel_bins=2, mean=-4.0, std=3.0)
    image = log_mel_image(torch.full((1, 3, 2), 2.0), config, 32)
    assert torch.equal(image[0, 0], torch.tensor([[1.0, 1.0]] * 3 + [[0.0, 0.0]]))


def test_vggish_log_mel_stays_as_it_is() -> None:
    log_mel = torch.randn(2, 96, 64)
    image = log_mel_image(log_mel, section("audio", features="vggish", mel_bins=64), 32)
    assert torch.equal(image, torch.stack([log_mel] * 3, dim=1))


def test_image_layout_has_the_size_of_the_frame() -> None:
    config = section("audio", mel_bins=8, **PLAIN)
    assert log_mel_image(torch.randn(2, 98, 8), config, 32).shape == (2, 3, 32, 32)
    # A constant stays constant, and what has the right size already is not touched.
    torch.testing.assert_close(log_mel_image(torch.full((1, 98, 8), 0.7), config, 32), torch.full((1, 3, 32, 32), 0.7))
    same = torch.randn(1, 32, 32)
    assert torch.equal(log_mel_image(same, config, 32)[:, 0], same)


@pytest.mark.parametrize("layout", ["image", "native"])
def test_three_equal_channels_with_time_downwards(layout: str) -> None:
    rows = torch.arange(98.0)[:, None].expand(98, 8)
    image = log_mel_image(rows[None], section("audio", layout=layout, mel_bins=8, **PLAIN), 32)[0]
    assert torch.equal(image[0], image[1])
    assert torch.equal(image[0], image[2])
    if layout == "image":
        assert (image[0].diff(dim=0) > 0).all()
    torch.testing.assert_close(image[0][:, 0], image[0][:, -1])


def test_values_lose_the_mean_and_are_divided_by_twice_the_deviation() -> None:
    log_mel = torch.randn(2, 32, 32)
    image = log_mel_image(log_mel, section("audio", mean=-4.1426, std=3.2001, mel_bins=32), 32)
    torch.testing.assert_close(image[:, 0], (log_mel + 4.1426) / 6.4002)


def test_pixels_are_normalised_as_the_weights_expect(model: AVModel) -> None:
    backbone = model.encoder.backbone
    backbone.mean, backbone.std = (0.1, 0.2, 0.3), (0.5, 0.25, 2.0)
    frames = torch.randint(0, 256, (2, 3, 32, 32, 3), dtype=torch.uint8)
    images, sounds = model.pixels(frames, torch.randn(2, 3, 98, 32))
    assert images.shape == sounds.shape == (6, 3, 32, 32)
    for channel in range(3):
        plain = (frames[1, 2, ..., channel] / 255 - backbone.mean[channel]) / backbone.std[channel]
        torch.testing.assert_close(images[5, channel], plain)


def test_segments_of_a_video_stay_together(model: AVModel) -> None:
    frames = torch.zeros(2, 3, 32, 32, 3, dtype=torch.uint8)
    frames[1, 0] = 255
    images, _ = model.pixels(frames, torch.zeros(2, 3, 98, 32))
    assert [i for i in range(6) if images[i].mean() > 0] == [3]


def test_half_precision_is_for_frozen_weights_only(model: AVModel) -> None:
    model.half_precision()
    assert {p.dtype for p in model.encoder.backbone.parameters()} == {torch.bfloat16}
    assert {p.dtype for group in model.trained_parameters().values() for p in group} == {torch.float32}
    streams = model.encode(torch.zeros(1, 3, 32, 32, 3, dtype=torch.uint8), torch.zeros(1, 3, 98, 32))
    assert streams.visual is not None
    assert streams.audio is not None
    assert streams.visual.dtype == streams.audio.dtype == torch.float32


def test_trained_state_is_adapters_and_head_with_their_buffers(model: AVModel) -> None:
    state = model.trained_state()
    frozen = {value.data_ptr() for value in model.encoder.backbone.state_dict().values()}
    assert not frozen & {value.data_ptr() for value in state.values()}
    assert any("running_var" in key for key in state)
    adapters = [m for m in model.modules() if isinstance(m, Adapter)]
    expected = sum(len(m.state_dict()) for m in adapters) + len(model.task.state_dict())
    assert len(state) == expected


def test_adapters_are_found_by_their_type(model: AVModel) -> None:
    found = dict(model.trained_modules())
    assert list(found) == [
        *("adapters.0.attn.visual", "adapters.0.attn.audio", "adapters.1.attn.visual", "adapters.1.attn.audio"),
        "head",
    ]
    assert all(isinstance(module, Adapter) for name, module in found.items() if name != "head")


def test_what_takes_a_gradient_is_what_is_trained(model: AVModel) -> None:
    trained = {id(p) for group in model.trained_parameters().values() for p in group}
    assert {id(p) for p in model.parameters() if p.requires_grad} == trained
    assert not any(id(p) in trained for p in model.encoder.backbone.parameters())


def test_without_adapters_only_the_head_is_trained(tiny_experiment: Make) -> None:
    model = build(tiny_experiment(**{"adapter.streams": "none"}), event_labels())
    assert [name for name, _ in model.trained_modules()] == ["head"]
    assert model.trained_parameters()["adapters"] == []


def test_a_backbone_can_be_shared(tiny_experiment: Make, model: AVModel) -> None:
    shared = model.encoder.backbone
    assert build(tiny_experiment(), event_labels(), shared).encoder.backbone is shared


class _Ears(Trained):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.layer = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        answer: Tensor = self.layer(x)
        return answer


class _PlainEncoder(Encoder):
    """A frozen audio network of its own and a trained layer, both written for float32."""

    def __init__(self, backbone: Any) -> None:
        super().__init__()
        self.backbone, self.visual_dim, self.audio_dim = backbone, backbone.dim, 8
        self.audio = nn.Conv2d(3, 8, 8, stride=8).requires_grad_(False)
        self.ears = _Ears(8)

    @classmethod
    def build(cls, backbone: Any, experiment: Any) -> "_PlainEncoder":
        return cls(backbone)

    def forward(self, frames: Tensor, sounds: Tensor) -> Streams:
        return Streams(self.see(frames), self.ears(self.audio(sounds).flatten(2).transpose(1, 2)))


def test_an_encoder_of_plain_layers_works_in_bfloat16(model: AVModel) -> None:
    encoder = _PlainEncoder(model.encoder.backbone)
    frames, sounds = (torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)) for _ in range(2))
    exact = encoder(frames, sounds)
    encoder.half_precision()
    assert {p.dtype for p in encoder.audio.parameters()} == {torch.bfloat16}
    assert {p.dtype for p in encoder.ears.parameters()} == {torch.float32}
    rough = encoder(frames.bfloat16(), sounds.bfloat16())
    for one, other in zip(rough, exact, strict=True):
        assert one.dtype == torch.bfloat16
        assert (one.float() - other).norm() < 0.1 * other.norm()
