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
from avpea.official._engine import fill, translate
from avpea.official.valor import VALORCheckpoint as VALOR  # noqa: N814
from tests.official.files import linear, norm

# Imported before a test makes the meta device the default, as it imports torchaudio, which makes a tensor.
pytest.importorskip("tokenizers")
VOCABULARY = 30_522


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
    # VALOR-L reads texts with the BERT that writes, and a state_dict has a module under each of its names.
    twice = {key.replace("multimodal_encoder.", "txt_encoder."): shape for key, shape in keys.items()}
    return keys | twice if size == "l" else keys


def meta(size: str, task: str, table: dict[str, Tensor] | None = None, **changes: Any) -> tuple[Any, Any]:
    """An import onto the meta device: names and shapes only, in the real sizes; and the model."""
    if table is None:
        table = {key: torch.empty(shape, device="meta") for key, shape in official(size).items()}
    experiment = load_recipe(f"paper/{task}-valor-{size}")
    changes = {"encoder.audio_weights": "random"} | changes
    experiment = experiment.override(VALOR.settings(table, experiment) | changes)
    with torch.device("meta"):
        model = build(experiment, VALOR.labels(table, experiment), backbones.shape_only(experiment.backbone))
    return fill(model, VALOR, table, experiment, "model_step_1.pt", VALOR.frozen(table)), model


@pytest.mark.parametrize(("size", "task"), [("b", "avc"), ("l", "avc"), ("l", "avr"), ("l", "avqa-generative")])
def test_every_key_finds_its_place_with_its_shape(size: str, task: str) -> None:
    found, _ = meta(size, task)  # a shape that differs raises
    assert (found.missing, found.unknown) == ((), ())
    assert "for other tasks" in found.left_out
    other = {key.partition(".")[0] for key in found.left_out["for other tasks"]}
    writing = {f"{stream}_{part}" for stream in ("video", "audio") for part in ("type_embeddings", "frame_embedding")}
    writing |= {"cls", "hidden_trans_video_multimodal"}
    heads = {"contra_head_a", "text_fine_weight", "video_fine_weight", "audio_fine_weight", "clip_model"}
    heads |= {"contra_head_t", "contra_head_v"} if size == "l" else set()
    # What the other task has, and cross-attention where nothing is written.
    assert other - {"txt_encoder", "multimodal_encoder"} == (writing if task == "avr" else heads)
    assert len([name for name in found.tensors if name.startswith("adapters.tower.")]) == 4 + 12 * 12 + 2


def test_the_second_copy_of_bert_is_said_to_be_shared() -> None:
    """VALOR-L reads and writes with one BERT, so a state_dict holds it twice; and its words are the last layer too."""
    found, _ = meta("l", "avc")
    bert = [key for key in official("l") if key.startswith("multimodal_encoder.") and "pooler" not in key]
    assert set(found.shared) == {key.replace("multimodal_encoder.", "txt_encoder.") for key in bert} | {
        "cls.decoder.weight"
    }
    assert not [key for names in found.left_out.values() for key in names if key.startswith("txt_encoder.emb")]


def test_a_text_encoder_of_its_own_reads_for_retrieval_and_is_no_copy() -> None:
    table = {key: torch.empty(shape, device="meta") for key, shape in official("l").items()}
    words = {f"{bert}.embeddings.word_embeddings.weight": torch.full((VOCABULARY, 768), value)
             for bert, value in (("multimodal_encoder", 1.0), ("txt_encoder", 2.0))}  # fmt: skip
    name = "head.head.text.bert.embeddings.word_embeddings.weight"
    for task, value in (("avr", 2.0), ("avc", 1.0)):
        translated = translate(VALOR, table | words, {name: torch.empty(0)}, experiment(task), {})
        assert float(translated.tensors[name][0, 0]) == value
        assert not [key for key in translated.shared if "word_embeddings" in key]


def experiment(task: str) -> Any:
    return load_recipe(f"paper/{task}-valor-l").override({"encoder.audio_weights": "random"})


def test_valor_b_is_refused_for_retrieval() -> None:
    with pytest.raises(CheckpointError, match=r"VALOR-B.*untrained.*Import VALOR-L for retrieval"):
        meta("b", "avr")


def test_an_import_sets_the_public_codes_texts_padding_and_loss() -> None:
    table = {key: torch.empty(shape, device="meta") for key, shape in official("l").items()}
    assert VALOR.settings(table, experiment("avr")) == {"head.joined": "kept", "head.padding": "zero"}
    assert VALOR.settings(table, experiment("avqa-generative")) == {"head.joined": "kept", "head.average": "texts"}
    assert VALOR.settings(table, experiment("avc")) == {"head.joined": "kept"}
    assert VALOR.recipe(table) == "paper/avc-valor-l"


def test_adapters_may_start_untrained() -> None:
    """A file of VALOR is where training the paper's rows can start from; adapters are not in it."""
    table = {key: torch.empty(shape, device="meta") for key, shape in official("l").items()}
    recipe = load_recipe("paper/avr-vit-l14")
    with torch.device("meta"):
        model = build(recipe, CaptionLabels(), backbones.shape_only(recipe.backbone))
    wide = table | {"contra_head_a.linear.weight": torch.empty(512, 1024, device="meta")}
    found = fill(model, VALOR, wide, recipe, "a file", VALOR.frozen(table))
    assert found.missing
    assert all(name.startswith("adapters.") for name in found.missing)
    tower = found.left_out["VALOR's audio transformer, which the encoder 'dual_stream' has not"]
    assert {key.partition(".")[0] for key in tower} == {"audio_embeddings", "audio_encoder"}


@torch.no_grad()
def test_places_beyond_the_files_are_its_last_one() -> None:
    table = {"video_frame_embedding": torch.arange(8.0)[None, :, None].expand(1, 8, 16).clone()}
    name = "head.head.place.visual"
    found = translate(VALOR, table, {name: torch.zeros(1, 32, 16)}, experiment("avc"), {})
    assert found.tensors[name][0, :, 0].tolist() == [*range(8), *[7.0] * 24]


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
    wanted = {k: v for k, v in model.trained_state().items() if k.startswith("adapters.tower.")}
    found_there = translate(VALOR, table, wanted, recipe, {})
    assert (found_there.missing, found_there.unknown) == ((), ())
    for key, tensor in found_there.tensors.items():
        wanted[key].copy_(tensor)
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
    assert all(one.requires_grad for one in tower.parameters())
    with pytest.raises(WeightsError, match=r"other.pth is no checkpoint of AST: it has no 'module.v.blocks"):
        tower.take({"a": torch.zeros(1)}, "other.pth")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"blocks.0.norm1.weight": torch.full((24,), torch.nan)}, r"'blocks\.0\.norm1\.weight' has values that are no"),
        ({"pos_embed": torch.full((1, 12 * 101 + 2, 24), torch.inf)}, "'pos_embed' has values that are no finite"),
        ({"pos_embed": torch.zeros(1, 12 * 101 + 2, 12)}, r"'pos_embed' has shape \(1, 1214, 12\), expected"),
        ({"pos_embed": torch.zeros(1, 12 * 101 + 2, 24, dtype=torch.long)}, r"'pos_embed' has shape"),
        ({"pos_embed": torch.zeros(1214, 24)}, "positions of other sounds"),
        ({"pos_embed": torch.tensor(1.0)}, "positions of other sounds"),
        ({"patch_embed.proj.weight": torch.zeros(24, 3, 16, 16)}, r"has shape \(24, 3, 16, 16\), expected"),
        ({"blocks.0.norm1.weight": torch.zeros(24, dtype=torch.long)}, r"has numbers of type torch\.int64"),
        (dict.fromkeys(["cls_token", "pos_embed"], torch.zeros(1, 1214, 192)), r"'cls_token' has .*; expected audio"),
    ],
)  # fmt: skip
def test_asts_weights_that_are_none_are_refused(
    changes: dict[str, Tensor], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"DIM": 24, "BLOCKS": 1}.items():
        monkeypatch.setattr(f"avpea.encoders.audio_tower.{name}", value)
    tower = AudioTower(64, 512)
    state = {f"module.v.{key}": torch.randn(value.shape) for key, value in tower.vit.state_dict().items()}
    state["module.v.pos_embed"] = torch.randn(1, 12 * 101 + 2, 24)
    with pytest.raises(WeightsError, match=rf"^ast\.pth .*{told}"):
        tower.take(state | {f"module.v.{key}": value for key, value in changes.items()}, "ast.pth")


@pytest.mark.slow
def test_a_whole_checkpoint_becomes_a_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], tiny_captioned: Callable[..., Any]
) -> None:
    generator = torch.Generator().manual_seed(0)
    shapes = official("b")
    table = {f"module.{key}": 0.02 * torch.randn(shape, generator=generator) for key, shape in shapes.items()}
    table["module.cls.decoder.weight"] = table["module.multimodal_encoder.embeddings.word_embeddings.weight"]
    torch.save(table, tmp_path / "model_step_1.pt")
    run = tmp_path / "run"
    assert main(["import", "valor", str(tmp_path / "model_step_1.pt"), "--run", str(run), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["missing"] == report["unknown"] == []
    assert report["shared"] == ["cls.decoder.weight"]
    assert "clip_model.text_projection" in report["left_out"]["CLIP's text encoder, in whose place BERT reads"]
    model, info = load_model(run, precision="fp32")
    assert info.experiment.backbone.weights == str((run / "backbone.safetensors").absolute())
    head: Any = model.task.head
    words = table["module.multimodal_encoder.embeddings.word_embeddings.weight"]
    torch.testing.assert_close(head.text.bert.embeddings.word_embeddings.weight.detach(), words)
    patches = table["module.clip_model.visual.conv1.weight"]
    backbone: Any = model.encoder.backbone
    torch.testing.assert_close(backbone.patch_embed.proj.weight.float(), patches)
