"""Official VALOR checkpoints: every key of the public code finds its place, with its shape, and its values are used."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from avpea import backbones
from avpea.checkpoint import load_model
from avpea.cli import main
from avpea.encoders.audio_tower import AudioTower
from avpea.errors import CheckpointError, WeightsError
from avpea.experiment import load_recipe
from avpea.labels import CaptionLabels
from avpea.model import build
from avpea.official import fill, import_valor

pytest.importorskip("transformers")
VOCABULARY = 30_522


def norm(name: str, dim: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield f"{name}.weight", (dim,)
    yield f"{name}.bias", (dim,)


def linear(name: str, out: int, into: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield f"{name}.weight", (out, into)
    yield f"{name}.bias", (out,)


def clip_blocks(prefix: str, blocks: int, dim: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    for i in range(blocks):
        block = f"{prefix}transformer.resblocks.{i}"
        yield f"{block}.attn.in_proj_weight", (3 * dim, dim)
        yield f"{block}.attn.in_proj_bias", (3 * dim,)
        yield from linear(f"{block}.attn.out_proj", dim, dim)
        yield from norm(f"{block}.ln_1", dim)
        yield from norm(f"{block}.ln_2", dim)
        yield from linear(f"{block}.mlp.c_fc", 4 * dim, dim)
        yield from linear(f"{block}.mlp.c_proj", dim, 4 * dim)


def official(size: str, audio: int = 768, audio_blocks: int = 12) -> dict[str, tuple[int, ...]]:
    """Names and shapes of `model_step_N.pt`, as the public code's modules have them."""
    dim, blocks, patch, text = {"b": (768, 12, 16, 512), "l": (1024, 24, 14, 768)}[size]
    keys: dict[str, tuple[int, ...]] = {
        "clip_model.visual.class_embedding": (dim,),
        "clip_model.visual.positional_embedding": ((224 // patch) ** 2 + 1, dim),
        "clip_model.visual.conv1.weight": (dim, 3, patch, patch),
        "clip_model.visual.proj": (dim, text),
        "clip_model.positional_embedding": (77, text),
        "clip_model.token_embedding.weight": (49_408, text),
        "clip_model.text_projection": (text, text),
        "clip_model.logit_scale": (),
        "audio_embeddings.cls_token": (1, 1, audio),
        "audio_embeddings.position_embeddings.weight": (129, audio),
        "contra_head_a.linear.weight": (512, audio),
        "contra_temp": (),
        "video_type_embeddings": (1, 1, 768),
        "audio_type_embeddings": (1, 1, 768),
        "video_frame_embedding": (1, 8, 768),
        "audio_frame_embedding": (1, 8, 768),
    }
    keys |= dict(clip_blocks("clip_model.visual.", blocks, dim)) | dict(clip_blocks("clip_model.", 12, text))
    for name, width in (("visual.ln_pre", dim), ("visual.ln_post", dim), ("ln_final", text)):
        keys |= dict(norm(f"clip_model.{name}", width))
    if size == "l":
        keys["contra_head_t.linear.weight"], keys["contra_head_v.linear.weight"] = (512, 768), (512, dim)
        keys |= dict(linear("hidden_trans_video_multimodal.0", 768, dim)) | dict(
            norm("hidden_trans_video_multimodal.1", 768)
        )
    keys["audio_embeddings.first_conv.weight"], keys["audio_embeddings.first_conv.bias"] = (audio, 1, 16, 16), (audio,)
    for i in range(audio_blocks):
        layer = f"audio_encoder.layer.{i}"
        for part in range(4):
            keys |= dict(linear(f"{layer}.attention.linears.{part}", audio, audio))
        keys |= dict(linear(f"{layer}.ff_layer.linear1", 4 * audio, audio))
        keys |= dict(linear(f"{layer}.ff_layer.linear2", audio, 4 * audio))
        keys |= dict(norm(f"{layer}.layernorm1", audio)) | dict(norm(f"{layer}.layernorm2", audio))
    keys |= dict(norm("audio_encoder.last_layernorm", audio))
    bert = "multimodal_encoder"
    for name, rows in (("word", VOCABULARY), ("position", 512), ("token_type", 2)):
        keys[f"{bert}.embeddings.{name}_embeddings.weight"] = (rows, 768)
    keys[f"{bert}.embeddings.prompt_embedding.weight"] = (1, 768)
    keys |= dict(norm(f"{bert}.embeddings.LayerNorm", 768))
    for i in range(12):
        layer = f"{bert}.encoder.layer.{i}"
        for which, inner in (("attention", "self"), ("cross_attn", "cross")):
            for matrix in ("query", "key", "value"):
                keys |= dict(linear(f"{layer}.{which}.{inner}.{matrix}", 768, 768))
            keys |= dict(linear(f"{layer}.{which}.output.dense", 768, 768))
            keys |= dict(norm(f"{layer}.{which}.output.LayerNorm", 768))
        keys |= dict(linear(f"{layer}.intermediate.dense", 3072, 768)) | dict(
            linear(f"{layer}.output.dense", 768, 3072)
        )
        keys |= dict(norm(f"{layer}.output.LayerNorm", 768))
    keys |= dict(linear(f"{bert}.pooler.dense", 768, 768))
    keys |= dict(linear("cls.dense", 768, 768)) | dict(norm("cls.layernorm", 768))
    keys |= dict(linear("cls.decoder", VOCABULARY, 768))
    for name in ("text", "video", "audio"):
        keys |= dict(linear(f"{name}_fine_weight.0", 512, 512)) | dict(linear(f"{name}_fine_weight.2", 1, 512))
    return keys


@pytest.mark.parametrize("size", ["b", "l"])
@pytest.mark.parametrize("task", ["avr", "avc"])
def test_every_key_finds_its_place_with_its_shape(size: str, task: str) -> None:
    recipe = load_recipe(f"paper/{task}-valor-{size}").override({"encoder.audio_weights": "random"})
    with torch.device("meta"):
        model = build(recipe, CaptionLabels(), backbones.shape_only(recipe.backbone))
        table = {key: torch.empty(shape) for key, shape in official(size).items()}
    taken, missing, unknown = fill(model, table, "model_step_1.pt")  # a shape that differs raises
    heads = ("contra_", "text_fine", "video_fine", "audio_fine", "clip_model.logit_scale")
    writing = ("cls.", "video_type", "audio_type", "video_frame", "audio_frame", "hidden_trans_video")
    left_out = [key for key in unknown if not key.startswith("clip_model.") and "pooler" not in key]
    other = writing if task == "avr" else heads
    # What the other task has, and cross-attention where nothing is written.
    assert [key for key in left_out if not key.startswith(other) and "cross_attn" not in key] == ["contra_temp"] * (
        task == "avr"
    )
    assert ("multimodal_encoder.encoder.layer.0.cross_attn.cross.query.weight" in unknown) == (task == "avr")
    if task == "avc":
        assert missing == []
    else:  # VALOR-B reads texts by CLIP's own encoder, and has no matrix for BERT's
        assert missing == (["task.head.project.text.weight"] if size == "b" else [])
    assert len([name for name in taken if name.startswith("encoder.tower.")]) == 4 + 12 * 12 + 2


def test_places_beyond_the_files_are_its_last_one() -> None:
    recipe = load_recipe("paper/avc-vit-b16").override({"head.text.name": "tiny"})
    with torch.device("meta"):
        model = build(recipe, CaptionLabels(), backbones.shape_only(recipe.backbone))
    head: Any = model.task.head
    head.place["visual"] = torch.nn.Parameter(torch.zeros(1, 32, 16))
    table = {"video_frame_embedding": torch.arange(8.0)[None, :, None].expand(1, 8, 16)}
    fill(model, table, "a file")
    assert head.place["visual"][0, :, 0].tolist() == [*range(8), *[7.0] * 24]


def plainly(table: dict[str, Tensor], mel: Tensor, heads: int = 12) -> Tensor:
    """The audio tower written out with the official names: pre-norm blocks with four linear layers each."""

    def layer(x: Tensor, name: str) -> Tensor:
        return F.linear(x, table[f"{name}.weight"], table[f"{name}.bias"])

    def normed(x: Tensor, name: str) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], table[f"{name}.weight"], table[f"{name}.bias"], 1e-6)

    patches = F.conv2d(
        mel[:, None], table["audio_embeddings.first_conv.weight"], table["audio_embeddings.first_conv.bias"], 16
    )
    x = torch.cat((table["audio_embeddings.cls_token"].expand(len(mel), -1, -1), patches.flatten(2).transpose(1, 2)), 1)
    x = x + table["audio_embeddings.position_embeddings.weight"]
    number, tokens, dim = x.shape
    for i in range(2):
        block = f"audio_encoder.layer.{i}"
        y = normed(x, f"{block}.layernorm1")
        q, k, v = (
            layer(y, f"{block}.attention.linears.{n}").view(number, tokens, heads, -1).transpose(1, 2) for n in range(3)
        )
        mixed = (q @ k.transpose(2, 3) / (dim // heads) ** 0.5).softmax(dim=-1) @ v
        x = x + layer(mixed.transpose(1, 2).reshape(number, tokens, dim), f"{block}.attention.linears.3")
        y = normed(x, f"{block}.layernorm2")
        x = x + layer(F.gelu(layer(y, f"{block}.ff_layer.linear1")), f"{block}.ff_layer.linear2")
    return normed(x, "audio_encoder.last_layernorm")


def test_the_tower_computes_what_the_official_names_say(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"DIM": 24, "BLOCKS": 2}.items():
        monkeypatch.setattr(f"avpea.encoders.audio_tower.{name}", value)
    recipe = load_recipe("paper/avr-valor-b").override({"encoder.audio_weights": "random", "head.text.name": "tiny"})
    with torch.device("meta"):
        model = build(recipe, CaptionLabels(), backbones.shape_only(recipe.backbone))
    torch.manual_seed(0)
    encoder: Any = model.encoder
    encoder.tower = AudioTower(64, 512).double()
    sizes = {k: s for k, s in official("b", 24, 2).items() if k.startswith("audio_e")}
    table = {key: 0.3 * torch.randn(shape, dtype=torch.float64) for key, shape in sizes.items()}
    _, _, unknown = fill(model, table, "a file")
    assert unknown == []
    mel = torch.randn(2, 64, 512, dtype=torch.float64)
    with torch.no_grad():
        found = encoder.tower.eval()(mel.transpose(1, 2)[:, None].expand(-1, 3, -1, -1))
    torch.testing.assert_close(found, plainly(table, mel), rtol=0, atol=1e-9)


def test_asts_own_checkpoint_starts_the_tower(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"DIM": 24, "BLOCKS": 1}.items():
        monkeypatch.setattr(f"avpea.encoders.audio_tower.{name}", value)
    tower = AudioTower(64, 512)
    state = {f"module.v.{key}": torch.randn(value.shape) for key, value in tower.vit.state_dict().items()}
    state["module.v.pos_embed"] = torch.randn(1, 12 * 101 + 2, 24)
    state["module.mlp_head.1.weight"] = torch.randn(527, 24)
    tower.take(state, "ast.pth")
    grid = state["module.v.pos_embed"][:, 2:].reshape(1, 12, 101, 24).permute(0, 3, 1, 2)
    expected = F.interpolate(grid, (4, 32), mode="bilinear").permute(0, 2, 3, 1).reshape(1, 128, 24)
    torch.testing.assert_close(tower.vit.pos_embed[:, 1:], expected)
    torch.testing.assert_close(tower.vit.pos_embed[:, :1], state["module.v.pos_embed"][:, :1])
    with pytest.raises(WeightsError, match=r"other.pth is no checkpoint of AST: it has no 'module.v.blocks"):
        tower.take({"a": torch.zeros(1)}, "other.pth")


def test_files_that_are_none_of_valors(tmp_path: Path) -> None:
    torch.save({"blocks.0.weight": torch.zeros(2)}, tmp_path / "other.pt")
    recipe = load_recipe("paper/avr-valor-b")
    with pytest.raises(CheckpointError, match="has no key of VALOR"):
        import_valor(tmp_path / "other.pt", recipe, tmp_path / "run", CaptionLabels())
    (tmp_path / "text.pt").write_text("no checkpoint")
    with pytest.raises(WeightsError, match="cannot be read as weights"):
        import_valor(tmp_path / "text.pt", recipe, tmp_path / "run", CaptionLabels())
    assert not (tmp_path / "run").exists()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a.txt").write_text("")
    with pytest.raises(CheckpointError, match="is not empty"):
        import_valor(tmp_path / "other.pt", recipe, tmp_path / "full", CaptionLabels())


@pytest.mark.slow
def test_a_whole_checkpoint_becomes_a_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], tiny_captioned: Callable[..., Any]
) -> None:
    generator = torch.Generator().manual_seed(0)
    shapes = official("b")
    table = {f"module.{key}": 0.02 * torch.randn(shape, generator=generator) for key, shape in shapes.items()}
    torch.save(table, tmp_path / "model_step_1.pt")
    run = tmp_path / "run"
    assert main(
        ["import-valor", str(tmp_path / "model_step_1.pt"), "paper/avc-valor-b", "--run", str(run), "--json"]
    ) in (0, None)
    report = json.loads(capsys.readouterr().out)
    assert report["missing"] == []
    assert "clip_model.text_projection" in report["unknown"]
    model, info = load_model(run, precision="fp32")
    assert info.experiment.backbone.weights == str((run / "backbone.safetensors").absolute())
    head: Any = model.task.head
    words = table["module.multimodal_encoder.embeddings.word_embeddings.weight"]
    torch.testing.assert_close(head.text.bert.embeddings.word_embeddings.weight.detach(), words)
    patches = table["module.clip_model.visual.conv1.weight"]
    backbone: Any = model.encoder.backbone
    torch.testing.assert_close(backbone.patch_embed.proj.weight.float(), patches)
