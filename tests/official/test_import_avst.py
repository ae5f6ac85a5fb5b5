"""Official AVST checkpoints and features: an imported model computes what the public code's forward pass computes."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from avpea import backbones
from avpea.checkpoint import load_model
from avpea.errors import CheckpointError
from avpea.evaluate import evaluate
from avpea.experiment import load_recipe
from avpea.official import import_checkpoint
from tests.official import files

QUESTIONS = [("00000001", "How many <Object> are sounding in the video?", ["flute"], "two"),
             ("00000002", "Is the <Object> playing longer than the <Object>?", ["cello", "tuba"], "yes")]  # fmt: skip


def write_questions(root: Path, features: bool = True) -> Path:
    """MUSIC-AVQA's form with two questions in each split; features of 60 seconds for both videos."""
    rows = [
        {"video_id": video, "question_id": i, "type": json.dumps(["Audio", "Counting"]), "question_content": content,
         "templ_values": json.dumps(values), "question_deleted": 0, "anser": answer}
        for i, (video, content, values, answer) in enumerate(QUESTIONS)
    ]  # fmt: skip
    (root / "json").mkdir(parents=True)
    for split in ("train", "val", "test"):
        (root / "json" / f"avqa-{split}.json").write_text(json.dumps(rows))
    if features:
        generator = np.random.default_rng(0)
        for folder, shape in (("visual_14x14", (60, 512, 14, 14)), ("vggish", (60, 128))):
            (root / folder).mkdir()
            for video, *_ in QUESTIONS:
                np.save(root / folder / f"{video}.npy", generator.random(shape, np.float32))
    return root


def plainly(table: dict[str, Tensor], audio: Tensor, posi: Tensor, nega: Tensor | None, question: Tensor) -> Any:
    """The public code's forward pass by its own names, in evaluation mode: answers, and both match logits.

    Args:
        audio: VGGish's vectors (B, T, 128).
        posi: Maps (B, T, 512, H, W).
        nega: Maps of other videos.
        question: Indices of words (B, length), or None.
    """

    def layer(name: str, x: Tensor) -> Tensor:
        return F.linear(x, table[f"{name}.weight"], table[f"{name}.bias"])

    def ground(maps: Tensor) -> Tensor:
        places = maps.flatten(3).transpose(2, 3)
        units = F.normalize(places, dim=3)
        shares = (units @ F.normalize(sound, dim=2)[..., None])[..., 0].softmax(dim=-1)
        return layer("fc_gl", torch.cat((maps.mean(dim=(3, 4)), (shares[:, :, None] @ units)[:, :, 0]), dim=-1).tanh())

    def match(seen: Tensor) -> Tensor:
        x = torch.cat((sound, seen), dim=-1)
        for name in ("fc1", "fc2", "fc3"):
            x = layer(name, x).relu()
        return layer("fc4", x)

    def attend(name: str, query: Tensor, memory: Tensor) -> Tensor:
        weight, bias = table[f"{name}.in_proj_weight"].chunk(3), table[f"{name}.in_proj_bias"].chunk(3)
        q, k, v = (F.linear(x, w, b) for x, w, b in zip((query[:, None], memory, memory), weight, bias, strict=True))
        q, k, v = (x.unflatten(-1, (4, 128)).transpose(1, 2) for x in (q, k, v))
        mixed = (q @ k.transpose(2, 3) / 128**0.5).softmax(dim=-1) @ v
        return layer(f"{name}.out_proj", mixed.transpose(1, 2).flatten(2))[:, 0]

    def refine(number: int, x: Tensor) -> Tensor:
        y = x + layer(f"linear{number}2", layer(f"linear{number}1", x).relu())
        return F.layer_norm(y, (512,), table[f"norm{number}.weight"], table[f"norm{number}.bias"])

    sound = layer("fc_a2", layer("fc_a1", audio).relu())
    seen = ground(posi)
    matches = match(seen), None if nega is None else match(ground(nega))
    if "fc_ans.weight" not in table:
        return None, *matches
    network = torch.nn.LSTM(512, 512, dtype=audio.dtype)
    own = "question_encoder.lstm."
    network.load_state_dict({k.removeprefix(own): v for k, v in table.items() if k.startswith(own)})
    words = table["question_encoder.word2vec.weight"][question].tanh()
    _, (hidden, cell) = network(words.transpose(0, 1))
    asked = layer("question_encoder.fc", torch.cat((hidden, cell), dim=2)[0].tanh())
    sights, sounds = refine(1, attend("attn_v", asked, seen)), refine(2, attend("attn_a", asked, sound))
    fused = layer("fc_fusion", torch.cat((sounds + sound.mean(dim=1), sights + seen.mean(dim=1)), dim=-1).tanh())
    return layer("fc_ans", (fused * asked).tanh()), *matches


def saved(table: dict[str, Tensor], path: Path) -> Path:
    torch.save({f"module.{key}": value for key, value in table.items()}, path)
    return path


def words_of(root: Path) -> tuple[int, int]:
    from avpea import data

    vocabulary: Any = data.read(load_recipe("paper/avqa-avst").override({"data.root": str(root)}).data).labels
    return len(vocabulary.vocabulary.words), len(vocabulary.vocabulary.answers)


@torch.no_grad()
def test_an_imported_model_computes_what_the_public_code_computes(tmp_path: Path) -> None:
    root = write_questions(tmp_path / "data")
    table = files.values(files.avst(*words_of(root)))
    file = saved(table, tmp_path / "avst.pt")
    report = import_checkpoint("avst", file, tmp_path / "run", overrides={"data.root": str(root)})
    assert (report.missing, report.unknown, report.frozen) == ((), (), ())
    unused = "registered there, but never used"
    assert {key.partition(".")[0] for key in report.left_out[unused]} == {*files.UNUSED, "norm3", "visual_net"}
    model, _ = load_model(tmp_path / "run", precision="fp32")
    table = {key: value.double() for key, value in table.items()}
    head = model.task.head.double()
    generator = torch.Generator().manual_seed(5)
    posi, nega = (torch.rand(2, 10, 512, 14, 14, generator=generator, dtype=torch.float64) for _ in range(2))
    audio = torch.rand(2, 10, 128, generator=generator, dtype=torch.float64)
    question = torch.randint(0, words_of(root)[0], (2, 9), generator=generator)
    tokens, others = (maps.flatten(3).transpose(2, 3) for maps in (posi, nega))
    found = head(tokens, audio[:, :, None], question, torch.tensor([0, 1]), others)
    answers, own, other = plainly(table, audio, posi, nega, question)
    torch.testing.assert_close(found.answers, answers, rtol=0, atol=1e-10)
    torch.testing.assert_close(found.match, torch.stack((own, other), dim=2).flatten(0, 2), rtol=0, atol=1e-10)


@torch.no_grad()
def test_published_features_are_evaluated_at_every_sixth_second(tmp_path: Path) -> None:
    root = write_questions(tmp_path / "data")
    table = files.values(files.avst(*words_of(root)))
    file = saved(table, tmp_path / "avst.pt")
    import_checkpoint("avst", file, tmp_path / "run", overrides={"data.root": str(root)})
    result = evaluate(tmp_path / "run", "test", progress=False)
    maps = torch.stack([torch.tensor(np.load(root / "visual_14x14" / f"{v}.npy"))[::6] for v, *_ in QUESTIONS])
    audio = torch.stack([torch.tensor(np.load(root / "vggish" / f"{v}.npy"))[::6] for v, *_ in QUESTIONS])
    model, _ = load_model(tmp_path / "run")
    asked = model.task.targets(result.samples).token_ids
    answers, *_ = plainly(table, audio, maps, None, asked)
    found = torch.cat([answer.probabilities for answer in result.answers])
    torch.testing.assert_close(found, answers.softmax(dim=-1), rtol=0, atol=2e-3)  # bfloat16 where the machine has it


@torch.no_grad()
def test_the_grounding_stage_is_imported_and_avst_starts_from_it(tmp_path: Path) -> None:
    table = files.values(files.grounding())
    report = import_checkpoint("avst", saved(table, tmp_path / "main_grounding_gen_best.pt"), tmp_path / "run")
    assert (report.missing, report.unknown, len(report.taken)) == ((), (), 14)
    model, info = load_model(tmp_path / "run", precision="fp32")
    assert info.experiment.task.name == "avqa_grounding"
    generator = torch.Generator().manual_seed(5)
    maps = torch.rand(1, 3, 512, 4, 4, generator=generator, dtype=torch.float64)
    audio = torch.rand(1, 3, 128, generator=generator, dtype=torch.float64)
    tokens = maps.flatten(3).transpose(2, 3)
    found = model.task.head.double()(tokens, audio[:, :, None], torch.zeros(0, 1).long(), torch.zeros(0).long(), tokens)
    _, own, _ = plainly({key: value.double() for key, value in table.items()}, audio, maps, maps, torch.zeros(0).long())
    torch.testing.assert_close(found.match[::2], own[0], rtol=0, atol=1e-10)
    with pytest.raises(CheckpointError, match="grounding stage, which answers no questions"):
        import_checkpoint("avst", tmp_path / "main_grounding_gen_best.pt", tmp_path / "other", "paper/avqa-avst")


def test_words_without_their_names_are_refused(tmp_path: Path) -> None:
    file = saved(files.values(files.avst()), tmp_path / "avst.pt")
    with pytest.raises(CheckpointError, match=r"93 words and 42 answers by number only.*--data.root"):
        import_checkpoint("avst", file, tmp_path / "run")
    root = write_questions(tmp_path / "data", features=False)
    with pytest.raises(CheckpointError, match=r"answer.weight has shape \(42, 512\) there|words.weight has shape"):
        import_checkpoint("avst", file, tmp_path / "run", overrides={"data.root": str(root)})
    assert not (tmp_path / "run").exists()


@torch.no_grad()
def test_videos_go_through_the_files_own_undilated_network(tmp_path: Path, small_vggish: None) -> None:
    """The last stage without its stride, and pixels normalised as in the public code."""
    table = files.values(files.grounding())
    changes = {"encoder.audio_weights": "random"}
    file = saved(table, tmp_path / "g.pt")
    report = import_checkpoint("avst", file, tmp_path / "run", "paper/avqa-grounding", changes)
    assert len(report.frozen) == len(files.resnet18()) - 1
    model, info = load_model(tmp_path / "run", precision="fp32")
    assert info.experiment.backbone.weights == str((tmp_path / "run" / "backbone.safetensors").absolute())
    backbone: Any = model.encoder.backbone
    net = {key.removeprefix("visual_net."): value for key, value in table.items()}

    def batch_norm(x: Tensor, name: str) -> Tensor:
        mean, var, weight, bias = (net[f"{name}.{p}"] for p in ("running_mean", "running_var", "weight", "bias"))
        return F.batch_norm(x, mean, var, weight, bias)

    frames = torch.randint(0, 256, (2, 1, 224, 224, 3), dtype=torch.uint8)
    mean, std = torch.tensor((0.43216, 0.394666, 0.37645)), torch.tensor((0.22803, 0.22145, 0.216989))
    x = ((frames[:, 0].float() / 255 - mean) / std).permute(0, 3, 1, 2)
    x = F.max_pool2d(batch_norm(F.conv2d(x, net["conv1.weight"], stride=2, padding=3), "bn1").relu(), 3, 2, 1)
    for stage in (1, 2, 3, 4):
        for block in (0, 1):
            name = f"layer{stage}.{block}"
            stride = 2 if block == 0 and stage in (2, 3) else 1
            y = batch_norm(F.conv2d(x, net[f"{name}.conv1.weight"], stride=stride, padding=1), f"{name}.bn1").relu()
            y = batch_norm(F.conv2d(y, net[f"{name}.conv2.weight"], padding=1), f"{name}.bn2")
            if f"{name}.downsample.0.weight" in net:
                x = F.conv2d(x, net[f"{name}.downsample.0.weight"], stride=stride)
                x = batch_norm(x, f"{name}.downsample.1")
            x = (x + y).relu()
    assert x.shape[2:] == (14, 14)
    expected = x.flatten(2).transpose(1, 2)
    torch.testing.assert_close(backbone(model.images(frames)), expected, rtol=1e-3, atol=1e-3 * float(expected.max()))


def test_dilation_is_the_default_and_can_be_left_out() -> None:
    options: Any = load_recipe("paper/avqa-avst").backbone
    for dilated, expected in ((True, (2, 2)), (False, (1, 1))):
        network: Any = backbones.shape_only(replace(options, dilated=dilated)).model
        assert network.layer4[1].conv1.dilation == expected
        assert network.layer4[0].conv1.stride == (1, 1)
