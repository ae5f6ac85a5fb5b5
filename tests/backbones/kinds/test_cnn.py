"""CNNs as backbones: the map is timm's own, what comes after it is gone, and BatchNorm does not move."""

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from avpea.backbones import CNN, Backbone, build, classifier_parameters, shape_only
from avpea.errors import ExperimentError, WeightsError
from tests.tiny import section


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize(
    ("name", "dim", "parameters", "classifier"),
    [
        ("resnet152.tv2_in1k", 2048, 60_192_808 - 2_049_000, 2_049_000),
        ("vgg19.tv_in1k", 512, 20_024_384, 4_097_000),  # sixteen convolutions, without the hidden linear layers
        ("efficientnet_b0", 1280, 4_007_548, 1_281_000),
        ("convnext_tiny", 768, 27_818_592, 769_000),  # without the LayerNorm of its head
    ],
)
def test_the_map_alone_is_kept(name: str, dim: int, parameters: int, classifier: int) -> None:
    cnn = shape_only(section("backbone", name, image_size=64))
    assert isinstance(cnn, CNN)
    assert (cnn.dim, count(cnn), classifier_parameters(name)) == (dim, parameters, classifier)
    assert (cnn.num_prefix_tokens, cnn.has_cls, cnn.image_size) == (0, False, 64)
    pretrained = timm.models.get_pretrained_cfg(name)
    assert pretrained is not None
    assert cnn.mean == pretrained.mean
    with pytest.raises(ValueError, match="no weights to fingerprint"):
        cnn.fingerprint()


def test_tokens_are_timms_map_row_by_row() -> None:
    cnn = build(section("backbone", "test_resnet", weights="random", image_size=64)).train()
    assert not any(module.training for module in cnn.modules())
    assert not any(p.requires_grad for p in cnn.parameters())
    torch.manual_seed(0)
    model: Any = timm.create_model("test_resnet", pretrained=False, num_classes=0).eval()
    pixels = torch.randn(2, 3, 64, 96)
    feature_map = model.forward_features(pixels)
    before = {key: value.clone() for key, value in cnn.state_dict().items()}
    tokens = cnn(pixels)
    assert tokens.shape == (2, 2 * 3, 96)
    for row in range(2):
        for column in range(3):
            assert torch.equal(tokens[:, 3 * row + column], feature_map[:, :, row, column])
    assert all(torch.equal(value, before[key]) for key, value in cnn.state_dict().items())


def test_random_weights_are_the_same_each_time_and_a_cast_keeps_the_fingerprint() -> None:
    config = section("backbone", "test_resnet", weights="random", image_size=0)
    one, other = build(config), build(config)
    assert one.fingerprint() == other.to(torch.bfloat16).fingerprint()
    assert one.image_size == 160  # the weights' own
    assert other(torch.randn(1, 3, 64, 64)).dtype == torch.bfloat16


@pytest.mark.parametrize("old", [False, True])
def test_files_with_and_without_what_is_not_needed(old: bool, tmp_path: Path) -> None:
    torch.manual_seed(3)
    model: Any = timm.create_model("test_resnet", pretrained=False)  # with its classifier
    state = {key: value.clone() for key, value in model.state_dict().items()}
    if old:  # files from before BatchNorm counted its batches
        state = {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}
    file = tmp_path / "resnet.safetensors"
    save_file(state, file)
    cnn = build(section("backbone", "test_resnet", weights=str(file), image_size=64))
    pixels = torch.randn(1, 3, 64, 64)
    expected = model.eval().forward_features(pixels).flatten(2).transpose(1, 2)
    assert torch.equal(cnn(pixels), expected)

    first = next(iter(state))
    broken = {key: value for key, value in state.items() if key != first} | {"layer9.weight": torch.zeros(1)}
    save_file(broken, file)
    with pytest.raises(WeightsError, match=rf"does not fit backbone\.name: it lacks {first}; name the timm model"):
        build(section("backbone", "test_resnet", weights=str(file), image_size=64))
    save_file(state | {"layer9.weight": torch.zeros(1)}, file)
    with pytest.raises(WeightsError, match=r"it has unknown layer9\.weight"):
        build(section("backbone", "test_resnet", weights=str(file), image_size=64))


def test_hidden_layers_of_a_classifier_may_be_in_the_file(tmp_path: Path) -> None:
    model = timm.create_model("vgg11", pretrained=False, num_classes=0)
    features = {key: value for key, value in model.state_dict().items() if key.startswith("features.")}
    file = tmp_path / "vgg.pth"
    torch.save({**features, "classifier.0.weight": torch.zeros(1), "pre_logits.fc1.bias": torch.zeros(1)}, file)
    cnn = build(section("backbone", "vgg11", weights=str(file), image_size=64))
    assert cnn(torch.zeros(1, 3, 64, 64)).shape == (1, 4, 512)
    assert not any(p.is_meta for p in cnn.parameters())


def test_what_a_cnn_cannot_do_is_refused() -> None:
    with pytest.raises(
        ExperimentError, match=r"\.depth is an option of .*, but .*\.name is 'test_resnet'; leave it out\.$"
    ):
        shape_only(section("backbone", "test_resnet", depth=2))
    with pytest.raises(ExperimentError, match=r"VGG cannot read frames of 8x8 pixels .*choose another .*image_size\.$"):
        shape_only(section("backbone", "vgg19.tv_in1k", image_size=8))


def test_vits_are_what_they_were() -> None:
    assert isinstance(shape_only(section("backbone", "test_vit", image_size=32)), Backbone)
