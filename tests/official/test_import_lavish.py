"""Official LAVISH checkpoints: every name finds its place, and imported models compute what the public code does."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import Tensor

from avpea import backbones
from avpea.backbones import _timm
from avpea.checkpoint import load_model, network_of
from avpea.errors import CheckpointError, WeightsError
from avpea.experiment import load_recipe
from avpea.labels import EventLabels, QuestionLabels
from avpea.model import build
from avpea.official import import_checkpoint
from avpea.official._engine import fill
from avpea.official.lavish import LAVISHCheckpoint as LAVISH  # noqa: N814
from avpea.sharing import save_pretrained
from avpea.tensors import read_tensors, write_tensors
from tests.official import files
from tests.official.test_import_avst import plainly as answered
from tests.official.test_import_avst import saved, words_of, write_questions

SWIN = "swinv2_cr_tiny_ns_224"


def adapted(table: dict[str, Tensor], name: str, x: Tensor, other: Tensor) -> Tensor:
    """One adapter of the public code, by its names, in evaluation mode: tokens (images, tokens, width)."""
    own = {key.removeprefix(f"{name}."): value for key, value in table.items() if key.startswith(f"{name}.")}
    tokens = own["my_tokens"].expand(len(x), -1, -1)
    gathered = (tokens @ other.transpose(1, 2)).softmax(dim=-1) @ other
    tokens = tokens + own.get("gate_tk", 1.0) * gathered
    x = x + own["gate_av"] * ((x @ tokens.transpose(1, 2)).softmax(dim=-1) @ tokens)
    x = F.layer_norm(x, x.shape[-1:], own["ln_before.weight"], own["ln_before.bias"])
    z = x.transpose(1, 2)[..., None]

    def normed(y: Tensor, bn: str) -> Tensor:
        if f"{bn}.weight" not in own:
            return y
        mean, var, weight, bias = (own[f"{bn}.{p}"] for p in ("running_mean", "running_var", "weight", "bias"))
        return F.batch_norm(y, mean, var, weight, bias)

    groups = z.shape[1] // own["down_sampler.weight"].shape[1]
    z = normed(F.conv2d(z, own["down_sampler.weight"], groups=groups), "bn1").relu()
    z = normed(F.conv2d(z, own["up_sampler.weight"], groups=groups), "bn2")[..., 0].transpose(1, 2)
    return own.get("gate", 1.0) * F.layer_norm(z, z.shape[-1:], own["ln_post.weight"], own["ln_post.bias"])


def both_streams(table: dict[str, Tensor], blocks: list[Any], f_v: Tensor, f_a: Tensor) -> tuple[Tensor, Tensor]:
    """The public code's loop over blocks, each given as its two branches and what comes after it."""
    for i, (attend, feed, after) in enumerate(blocks):
        for place, branch in (("p1", attend), ("p2", feed)):
            res_a = adapted(table, f"audio_adapter_blocks_{place}.{i}", f_a, f_v)
            res_v = adapted(table, f"vis_adapter_blocks_{place}.{i}", f_v, f_a)
            f_v, f_a = f_v + branch(f_v) + res_v, f_a + branch(f_a) + res_a
        f_v, f_a = after(f_v), after(f_a)
    return f_v, f_a


def small_vit(**adapters: Any) -> dict[str, tuple[int, ...]]:
    """LAVISH's names on timm's `vit_tiny_patch16_224`, with adapters beside its first two blocks."""
    network = {f"ViT.v.{name}": shape for name, shape in files.vit(192, 12).items()}
    shapes = network | files.adapters([192, 192], **adapters)
    return shapes | dict(files.linear("mlp_class", 512, 384)) | dict(files.linear("mlp_class_2", 29, 512))


VIT_CHANGES = {"backbone.name": "vit_tiny_patch16_224.augreg_in21k", "backbone.depth": 2}


@torch.no_grad()
@pytest.mark.parametrize("gate_tk", [False, True])
def test_a_vit_for_ave_computes_what_the_public_code_computes(tmp_path: Path, gate_tk: bool) -> None:
    table = files.values(small_vit(latents=3, gate_tk=gate_tk))
    report = import_checkpoint(
        "lavish", saved(table, tmp_path / "best.pt"), tmp_path / "run", "paper/avel-lavish-vit-b16", VIT_CHANGES
    )
    assert (report.missing, report.unknown, report.left_out) == ((), (), {})
    model, info = load_model(tmp_path / "run", precision="fp32")
    adapter: Any = info.experiment.adapter
    assert (adapter.latents, adapter.groups, adapter.reduction, adapter.latent_gate) == (3, 2, 8, gate_tk)
    model = model.double()
    own = {key: value.double() for key, value in table.items()}
    network: Any = timm.create_model("vit_tiny_patch16_224", num_classes=0, depth=2).double().eval()
    state = {k.removeprefix("ViT.v."): v for k, v in own.items() if k.startswith("ViT.v.") and ".head" not in k}
    network.load_state_dict({key: value for key, value in state.items() if key in network.state_dict()})
    generator = torch.Generator().manual_seed(1)
    frames = torch.randint(0, 256, (1, 2, 224, 224, 3), generator=generator, dtype=torch.uint8)
    log_mel = torch.randn(1, 2, 98, 128, generator=generator, dtype=torch.float64)
    mean, std = torch.tensor((0.485, 0.456, 0.406)), torch.tensor((0.229, 0.224, 0.225))
    pictures = ((frames[0].float() / 255 - mean) / std).permute(0, 3, 1, 2).double()
    sounds = F.pad((log_mel[0] + 4.1426) / (2 * 3.2001), (0, 0, 0, 102 - 98))[:, None].expand(-1, 3, -1, -1)

    def embedded(pixels: Tensor) -> Tensor:
        patches = network.patch_embed.proj(pixels).flatten(2).transpose(1, 2)
        x = torch.cat((network.cls_token.expand(len(pixels), -1, -1), patches), dim=1)
        places = network.pos_embed.transpose(1, 2)
        return x + F.interpolate(places, x.shape[1], mode="linear").transpose(1, 2)

    blocks = [
        (lambda x, b=block: b.attn(b.norm1(x)), lambda x, b=block: b.mlp(b.norm2(x)), lambda x: x)
        for block in network.blocks
    ]
    f_v, f_a = both_streams(own, blocks, embedded(pictures), embedded(sounds))
    out = torch.cat((network.norm(f_a)[:, 0], network.norm(f_v)[:, 0]), dim=-1)
    expected = files_layer(own, "mlp_class_2", files_layer(own, "mlp_class", out))
    found = model(frames, log_mel)[0]
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-6)  # pixels are normalised in float32


def files_layer(table: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    return F.linear(x, table[f"{name}.weight"], table[f"{name}.bias"])


def small_swin() -> Any:
    return timm.create_model("swinv2_tiny_window8_256", img_size=64, num_classes=0, window_size=4, depths=(1, 1, 1, 1))


@torch.no_grad()
def test_swin_reads_the_frame_before_the_sound_and_ends_stages_with_the_merging(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The halves of the head's first layer stand in the other order than on a ViT, and names are timm 0.6's."""
    kinds: Any = _timm
    create = timm.create_model
    small = {"num_heads": (2, 2, 4, 4), "embed_dim": 16, "depths": (1, 1, 1, 1), "window_size": 4}

    def created(name: str, **more: Any) -> Any:
        return create(name, **(more | small if "swinv2" in name else more))

    monkeypatch.setattr(kinds.timm, "create_model", created)
    _timm._shape.cache_clear()
    backbones.kind_of.cache_clear()
    network = kinds.timm.create_model("swinv2_tiny_window8_256", img_size=64, num_classes=0).double().eval()
    shapes = {f"swin.{files.of_the_past(k)}": tuple(v.shape) for k, v in network.state_dict().items()}
    shapes |= files.adapters([16, 32, 64, 128], groups=2)
    shapes |= dict(files.linear("mlp_class", 512, 256)) | dict(files.linear("mlp_class_2", 29, 512))
    shapes["adapter_token_downsampler.0.weight"] = (4, 2)
    table = files.values(shapes)
    changes = {"backbone.name": "swinv2_tiny_window8_256.ms_in1k", "backbone.image_size": 64}
    changes |= {"audio.rows": 64, "audio.mel_bins": 64}
    report = import_checkpoint(
        "lavish", saved(table, tmp_path / "best.pt"), tmp_path / "run", "paper/avel-lavish-swinv2-l", changes
    )
    assert (report.missing, report.unknown) == ((), ())
    assert report.left_out == {"registered there, but never used": ("adapter_token_downsampler.0.weight",)}
    model = load_model(tmp_path / "run", precision="fp32")[0].double()
    own = {key: value.double() for key, value in table.items()}
    past = {files.of_the_past(key): key for key in network.state_dict()}
    state = {past[k.removeprefix("swin.")]: v for k, v in own.items() if k.startswith("swin.")}
    network.load_state_dict(state)
    generator = torch.Generator().manual_seed(1)
    frames = torch.randint(0, 256, (1, 2, 64, 64, 3), generator=generator, dtype=torch.uint8)
    log_mel = torch.randn(1, 2, 64, 64, generator=generator, dtype=torch.float64)
    mean, std = torch.tensor((0.485, 0.456, 0.406)), torch.tensor((0.229, 0.224, 0.225))
    pictures = ((frames[0].float() / 255 - mean) / std).permute(0, 3, 1, 2).double()
    sounds = ((log_mel[0] + 4.984795570) / (2 * 3.707978010))[:, None].expand(-1, 3, -1, -1)
    side = 16
    stages = list(network.layers)

    def on(x: Tensor, rows: int) -> Tensor:
        return x.unflatten(1, (rows, rows))

    blocks = []
    for number, stage in enumerate(stages):
        rows = side // 2**number
        following = stages[number + 1].downsample if number + 1 < len(stages) else None

        def after(x: Tensor, rows: int = rows, merge: Any = following) -> Tensor:
            return x if merge is None else merge(on(x, rows)).flatten(1, 2)

        (block,) = stage.blocks
        blocks.append(
            (
                lambda x, b=block, r=rows: b.norm1(b._attn(on(x, r)).flatten(1, 2)),
                lambda x, b=block: b.norm2(b.mlp(x)),
                after,
            )
        )
    f_v, f_a = both_streams(own, blocks, *(network.patch_embed(x).flatten(1, 2) for x in (pictures, sounds)))
    out = torch.cat((network.norm(f_v).mean(dim=1), network.norm(f_a).mean(dim=1)), dim=-1)
    expected = files_layer(own, "mlp_class_2", files_layer(own, "mlp_class", out))
    torch.testing.assert_close(model(frames, log_mel)[0], expected, rtol=0, atol=2e-6)
    _timm._shape.cache_clear()
    backbones.kind_of.cache_clear()


def meta(recipe: str, shapes: dict[str, tuple[int, ...]], labels: Any, **changes: Any) -> Any:
    """An import onto the meta device: names and shapes only, in the real sizes."""
    table = {key: torch.empty(shape, device="meta") for key, shape in shapes.items()}
    assert LAVISH.recipe(table) == recipe
    experiment = load_recipe(recipe)
    experiment = experiment.override(LAVISH.settings(table, experiment) | changes)
    with torch.device("meta"):
        model = build(experiment, labels, backbones.shape_only(experiment.backbone))
    return fill(model, LAVISH, table, experiment, "best.pt", LAVISH.frozen(table)), experiment


def swin_large(**adapters: Any) -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        network = timm.create_model("swinv2_large_window12_192", num_classes=21_841)
    depths, width = (2, 2, 18, 2), 192
    dims = [width * 2**stage for stage, depth in enumerate(depths) for _ in range(depth)]
    shapes = {f"swin.{files.of_the_past(key)}": tuple(value.shape) for key, value in network.state_dict().items()}
    return shapes | files.adapters(dims, **adapters)


@pytest.mark.slow
def test_every_name_of_the_real_sizes_finds_its_place() -> None:
    labels = EventLabels(tuple("abcdefghijklmnopqrstuvwxyzäö"))
    heads = dict(files.linear("mlp_class", 512, 2 * 1536)) | dict(files.linear("mlp_class_2", 29, 512))
    for recipe, shapes in (
        ("paper/avel-lavish-vit-b16", files.lavish_vit()),
        ("paper/avel-lavish-vit-l16", files.lavish_vit(1024, 24)),
        ("paper/avel-lavish-swinv2-l", swin_large() | heads),
    ):
        found, _ = meta(recipe, shapes, labels)
        assert (found.missing, found.unknown, found.left_out) == ((), (), {})


def test_the_network_for_questions_finds_its_place() -> None:
    """The README's settings for AVQA: 64 latents, 4 groups, no BatchNorm."""
    shapes = swin_large(latents=64, groups=4, batch_norm=False) | files.answering()
    shapes |= dict(files.linear("yb_fc_v", 512, 1536)) | dict(files.linear("yb_fc_a", 512, 1536))
    found, experiment = meta("paper/avqa-lavish-swinv2-l", shapes, QuestionLabels.typical())
    assert (found.missing, found.unknown) == ((), ())
    unused = {key.partition(".")[0] for key in found.left_out["registered there, but never used"]}
    assert unused == {*files.UNUSED, "fc_a1", "norm3"}
    assert (experiment.adapter.latents, experiment.adapter.groups, experiment.adapter.batch_norm) == (64, 4, False)


@torch.no_grad()
def test_questions_are_answered_as_the_public_code_answers_them(tmp_path: Path) -> None:
    """On a small ViT, whose tokens go through `yb_fc_v` and `yb_fc_a` in place of AVST's `fc_a1`."""
    root = write_questions(tmp_path / "data", features=False)
    shapes = {k: v for k, v in small_vit(batch_norm=False).items() if not k.startswith("mlp_class")}
    shapes |= files.answering(*words_of(root))
    shapes |= dict(files.linear("yb_fc_v", 512, 192)) | dict(files.linear("yb_fc_a", 512, 192))
    table = files.values(shapes)
    changes = VIT_CHANGES | {"data.root": str(root)}
    file = saved(table, tmp_path / "avst.pt")
    report = import_checkpoint("lavish", file, tmp_path / "run", "paper/avqa-lavish-vit-b16", changes)
    assert (report.missing, report.unknown) == ((), ())
    head = load_model(tmp_path / "run", precision="fp32")[0].task.head.double()
    own = {key: value.double() for key, value in table.items()}
    generator = torch.Generator().manual_seed(2)
    seen = torch.randn(2, 3, 16, 192, generator=generator, dtype=torch.float64)
    heard = torch.randn(2, 3, 5, 192, generator=generator, dtype=torch.float64)
    question = torch.randint(0, words_of(root)[0], (2, 6), generator=generator)
    maps = files_layer(own, "yb_fc_v", seen).transpose(2, 3).unflatten(3, (4, 4))
    vectors = files_layer(own, "yb_fc_a", heard).mean(dim=2)
    # AVST's first layer made the identity, as LAVISH's network skips it.
    skipped = own | {"fc_a1.weight": torch.eye(512).double(), "fc_a1.bias": torch.zeros(512).double()}
    answers, *_ = answered(skipped, vectors, maps, None, question)
    found = head(seen, heard, question, torch.tensor([0, 1]))
    torch.testing.assert_close(found.answers, answers, rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"adapter.batch_norm": False}, "has 80 trained tensors that this model has no place for, such as audio_"),
        ({"adapter.streams": "audio"}, "trained tensors that this model has no place for, such as vis_adapter"),
        ({"backbone.depth": 1}, r"no place for, such as audio_adapter_blocks_p1\.1\."),
        ({"adapter.latent_gate": False}, "gates gate_tk have left 1, .* adapter.latent_gate is false"),
        ({"backbone.weights": "random"}, "brings its own image network.*'random' would not be used"),
        ({"backbone.weights": "pretrained"}, "brings its own image network"),
        ({"backbone.weights": "/nowhere/mine.safetensors"}, "'/nowhere/mine.safetensors' would not be used"),
    ],
)
def test_options_that_would_drop_what_the_file_holds_are_refused(
    changes: dict[str, Any], told: str, tmp_path: Path
) -> None:
    file = saved(files.values(small_vit(latents=3, gate_tk=True)), tmp_path / "best.pt")
    with pytest.raises(CheckpointError, match=told):
        import_checkpoint("lavish", file, tmp_path / "run", "paper/avel-lavish-vit-b16", VIT_CHANGES | changes)
    assert [path.name for path in tmp_path.iterdir()] == ["best.pt"]


def test_an_imported_run_can_be_moved_and_shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = saved(files.values(small_vit()), tmp_path / "best.pt")
    import_checkpoint("lavish", file, tmp_path / "first", "paper/avel-lavish-vit-b16", VIT_CHANGES)
    moved = (tmp_path / "first").rename(tmp_path / "moved")
    expected = load_model(moved)[1].fingerprint
    (tmp_path / "first").mkdir()  # another run in its old place, with another network
    (tmp_path / "first" / "backbone.safetensors").write_bytes(b"another one")
    assert load_model(moved)[0].encoder.backbone.fingerprint() == expected
    shutil.rmtree(tmp_path / "first")
    shared = save_pretrained(moved, tmp_path / "shared")
    assert "The frozen weights are in `backbone.safetensors`." in (shared / "README.md").read_text()
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "somebody else"))
    model, info = load_model(shared)
    assert (model.encoder.backbone.fingerprint(), info.own) == (expected, False)
    network = shared / "backbone.safetensors"
    outside = network.rename(tmp_path / "outside.safetensors")
    network.symlink_to(outside)
    with pytest.raises(CheckpointError, match=r"wants to open .*first.backbone"):
        load_model(shared)
    assert network_of(shared) is None
    network.unlink()
    with pytest.raises(WeightsError, match=r"no such file; .*; or put it beside .* as backbone\.safetensors\.$"):
        load_model(shared, trust=True)
    table = read_tensors(outside).tensors
    write_tensors(network, {name: value + 1 for name, value in table.items()}, {})
    with pytest.raises(CheckpointError, match=r"was trained on .* with fingerprint"):
        load_model(shared)


def test_gates_at_their_start_are_left_out(tmp_path: Path) -> None:
    table = files.values(small_vit(gate_tk=True))
    table |= {key: torch.ones(1) for key in table if key.endswith("gate_tk")}
    file = saved(table, tmp_path / "best.pt")
    changes = VIT_CHANGES | {"adapter.latent_gate": False}
    report = import_checkpoint("lavish", file, tmp_path / "run", "paper/avel-lavish-vit-b16", changes)
    assert {reason: len(names) for reason, names in report.left_out.items()} == {"a gate that is 1, as at its start": 8}


def test_two_networks_in_one_file_are_refused(tmp_path: Path) -> None:
    table = files.values(small_vit()) | {"swin.pos_embed": torch.zeros(1)}
    file = saved(table, tmp_path / "best.pt")
    with pytest.raises(CheckpointError, match=r"best\.pt holds two image networks"):
        import_checkpoint("lavish", file, tmp_path / "run", "paper/avel-lavish-vit-b16", VIT_CHANGES)


def test_other_settings_are_refused(tmp_path: Path) -> None:
    table = files.values(small_vit())
    alone = {key: value for key, value in table.items() if ".my_tokens" not in key}
    with pytest.raises(CheckpointError, match="no my_tokens"):
        import_checkpoint("lavish", saved(alone, tmp_path / "a.pt"), tmp_path / "run", "paper/avel-lavish-vit-b16")
    with pytest.raises(CheckpointError, match="has width 192; expected a ViT-B/16"):
        import_checkpoint("lavish", saved(table, tmp_path / "b.pt"), tmp_path / "run")
    with pytest.raises(CheckpointError, match="no adapter 'lavish'"):
        import_checkpoint("lavish", tmp_path / "b.pt", tmp_path / "run", "paper/avel-vit-b16")
    with pytest.raises(CheckpointError, match=r"for avel or avqa, but the recipe paper/avr-vit-b16 is for avr"):
        import_checkpoint("lavish", tmp_path / "b.pt", tmp_path / "run", "paper/avr-vit-b16")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.pt", "b.pt"]
