"""VGGish against its layers written out, its counts, and files with the real names of its weights."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from avpea.backbones import VGGish, build_vggish
from avpea.errors import WeightsError

CONVOLUTIONS = {0: (64, 1), 3: (128, 64), 6: (256, 128), 8: (256, 256), 11: (512, 256), 13: (512, 512)}
LINEARS = {0: (4096, 512 * 4 * 6), 2: (4096, 4096), 4: (128, 4096)}


def test_names_and_shapes_are_those_of_the_public_checkpoint() -> None:
    expected: dict[str, tuple[int, ...]] = {}
    for number, (after, before) in CONVOLUTIONS.items():
        expected |= {f"features.{number}.weight": (after, before, 3, 3), f"features.{number}.bias": (after,)}
    for number, (after, before) in LINEARS.items():
        expected |= {f"embeddings.{number}.weight": (after, before), f"embeddings.{number}.bias": (after,)}
    with torch.device("meta"):
        model = VGGish()
        model.freeze()
    assert {key: tuple(value.shape) for key, value in model.state_dict().items()} == expected
    assert sum(p.numel() for p in model.parameters()) == 72_141_184
    with pytest.raises(ValueError, match="no weights to fingerprint"):
        model.fingerprint()


def small_state(seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shapes = {key: value.shape for key, value in VGGish().state_dict().items()}
    return {key: torch.randn(shape, generator=generator) * 0.3 for key, shape in shapes.items()}


def plain_vggish(state: dict[str, Tensor], log_mel: Tensor) -> Tensor:
    """One example, channels last as the network was made, convolutions as sums over shifted maps."""
    maps = log_mel[:, :, None]  # rows, columns, channels
    for number in CONVOLUTIONS:
        rows, columns, _ = maps.shape
        weight, bias = state[f"features.{number}.weight"].double(), state[f"features.{number}.bias"].double()
        padded = torch.zeros(rows + 2, columns + 2, maps.shape[2]).double()
        padded[1:-1, 1:-1] = maps
        maps = bias.expand(rows, columns, -1).clone()
        for i in range(3):
            for j in range(3):
                maps = maps + padded[i : i + rows, j : j + columns] @ weight[:, :, i, j].T
        maps = maps.clamp_min(0)
        if number in (0, 3, 8, 13):  # each stage ends in the maximum of 2 x 2
            maps = maps.reshape(rows // 2, 2, columns // 2, 2, -1).amax(dim=(1, 3))
    x = torch.cat([maps[row, column] for row in range(6) for column in range(4)])
    for number in LINEARS:
        x = (state[f"embeddings.{number}.weight"].double() @ x + state[f"embeddings.{number}.bias"].double()).clamp_min(
            0
        )
    return x


@pytest.mark.usefixtures("small_vggish")
@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_equals_its_layers_written_out(suffix: str, tmp_path: Path) -> None:
    state, file = small_state(), tmp_path / f"vggish{suffix}"
    save_file(state, file) if suffix == ".safetensors" else torch.save(state, file)
    model = build_vggish(str(file))
    assert not any(p.requires_grad for p in model.parameters())
    assert not model.training
    log_mel = torch.randn(2, 1, 96, 64, dtype=torch.float64)
    exact = model.double()(log_mel)
    assert exact.shape == (2, 128)
    assert exact.any()
    for answer, one in zip(exact, log_mel[:, 0], strict=True):
        torch.testing.assert_close(answer, plain_vggish(state, one), rtol=1e-10, atol=1e-12)


@pytest.mark.usefixtures("small_vggish")
def test_fingerprints_tell_weights_apart_and_survive_a_cast(tmp_path: Path) -> None:
    files = [tmp_path / f"{seed}.safetensors" for seed in (0, 1)]
    for seed, file in enumerate(files):
        save_file(small_state(seed), file)
    first, second = (build_vggish(str(file)) for file in files)
    assert first.fingerprint() != second.fingerprint()
    assert first.to(torch.bfloat16).fingerprint() == build_vggish(str(files[0])).fingerprint()
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    assert build_vggish("random").fingerprint() == build_vggish("random").fingerprint()
    assert torch.equal(torch.rand(1), expected)


@pytest.mark.usefixtures("small_vggish")
def test_what_does_not_fit_is_named(tmp_path: Path) -> None:
    file, state = tmp_path / "vggish.safetensors", small_state()
    without = {key: value for key, value in state.items() if key != "embeddings.4.bias"}
    cases = [
        (without, r"does not fit VGGish: it lacks embeddings\.4\.bias; name a file"),
        (state | {"pproc.pca": torch.zeros(1)}, r"does not fit VGGish: it has unknown pproc\.pca; name a file"),
        (state | {"features.0.bias": torch.zeros(9)}, r"'features\.0\.bias' has shape \(9,\), expected \(2,\)"),
    ]
    for wrong, message in cases:
        save_file(wrong, file)
        with pytest.raises(WeightsError, match=message):
            build_vggish(str(file))
    file.write_bytes(b"no weights")
    with pytest.raises(WeightsError, match="cannot be read as weights"):
        build_vggish(str(file))


def test_without_a_file_the_remedy_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        WeightsError, match=r"'pretrained', and no hub name is built in.*--encoder\.audio_weights FILE\.$"
    ):
        build_vggish("pretrained")
    with pytest.raises(
        WeightsError, match=r"audio_weights is '.*gone\.pth', and there is no such file; expected 'random'"
    ):
        build_vggish(str(tmp_path / "gone.pth"))
