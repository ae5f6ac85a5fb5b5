"""Official CMBS checkpoints and features: an imported model computes what the public code's steps compute."""

import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from avpea.checkpoint import load_model
from avpea.cli import main
from avpea.errors import AvpeaError
from avpea.evaluate import evaluate
from avpea.official import import_checkpoint
from avpea.predict import load
from tests.media_factory import make_video
from tests.official import files

h5py = pytest.importorskip("h5py")


def plainly(table: dict[str, Tensor], visual: Tensor, audio: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The public code's forward pass by its own names, in evaluation mode.

    Args:
        visual: Maps (videos, 10, 7, 7, width).
        audio: VGGish's vectors (videos, 10, 128), which are read as they are.
    """

    def layer(name: str, x: Tensor) -> Tensor:
        return F.linear(x, table[f"{name}.weight"], table[f"{name}.bias"])

    def normed(name: str, x: Tensor) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], table[f"{name}.weight"], table[f"{name}.bias"])

    def attend(name: str, query: Tensor, memory: Tensor) -> Tensor:
        weight, bias = table[f"{name}.in_proj_weight"].chunk(3), table[f"{name}.in_proj_bias"].chunk(3)
        q, k, v = (F.linear(x, w, b) for x, w, b in zip((query, memory, memory), weight, bias, strict=True))
        q, k, v = (x.unflatten(-1, (4, 64)).transpose(1, 2) for x in (q, k, v))
        mixed = (q @ k.transpose(2, 3) / 8).softmax(dim=-1) @ v
        return layer(f"{name}.out_proj", mixed.transpose(1, 2).flatten(2))

    def recurrent(name: str, x: Tensor, hidden: int) -> Tensor:
        network = torch.nn.LSTM(x.shape[-1], hidden, batch_first=True, bidirectional=True, dtype=x.dtype)
        network.load_state_dict({k.removeprefix(f"{name}."): v for k, v in table.items() if k.startswith(f"{name}.")})
        return network(x)[0]

    def encoded(name: str, x: Tensor) -> Tensor:
        x = layer(f"{name}.affine_matrix", x)
        for i in (0, 1):
            one = f"{name}.encoder.layers.{i}"
            x = normed(f"{one}.norm1", x + attend(f"{one}.self_attn", x, x))
            x = normed(f"{one}.norm2", x + layer(f"{one}.linear2", layer(f"{one}.linear1", x).relu()))
        return x

    def decoded(name: str, x: Tensor, memory: Tensor) -> Tensor:
        one, x = f"{name}.decoder.layers.0", layer(f"{name}.affine_matrix", x)
        x = normed(f"{one}.norm1", x + attend(f"{one}.multihead_attn", x, torch.cat((memory, x), dim=1)))
        return normed(f"{one}.norm2", x + layer(f"{one}.linear2", layer(f"{one}.linear1", x).relu()))

    def interact(name: str, x: Tensor, y: Tensor) -> Tensor:
        product = x * y
        return normed(f"{name}.norm1", product + attend(f"{name}.video_multihead", product, torch.cat((y, x), dim=1)))

    def located(maps: Tensor, sound: Tensor) -> Tensor:
        a = "spatial_channel_att"
        weights = (layer(f"{a}.video_query", maps) @ layer(f"{a}.video_key", maps).transpose(-1, -2)).softmax(dim=-1)
        own = normed(f"{a}.norm", maps + weights @ layer(f"{a}.video_value", maps))
        mean = layer(f"{a}.affine_video_ave", own.mean(dim=2)).relu()[:, :, None]
        score = layer(f"{a}.ave_v_att", layer(f"{a}.affine_video_3", own).relu() * mean).tanh().softmax(dim=2)
        seen = (score * own).sum(dim=2)
        both = layer(f"{a}.affine_audio_1", sound).relu()[:, :, None] * layer(f"{a}.affine_video_1", own).relu()
        channels = layer(f"{a}.affine_v_c_att", layer(f"{a}.affine_bottleneck", both.mean(dim=2)).relu()).sigmoid()
        maps = maps * (channels + 1)[:, :, None]
        both = layer(f"{a}.affine_video_2", maps).relu() * layer(f"{a}.affine_audio_2", sound).relu()[:, :, None]
        heard = (layer(f"{a}.affine_v_s_att", both).tanh().softmax(dim=2) * maps).sum(dim=2)
        return heard + 0.4 * seen.sigmoid() * heard

    maps = layer("v_fc", visual.flatten(2, 3)).relu()
    rnn = "audio_visual_rnn_layer"
    sound = recurrent(f"{rnn}.audio_rnn", audio, 128)
    sight = recurrent(f"{rnn}.visual_rnn", located(maps, audio), 256)
    seen, heard = encoded("video_encoder", sight), encoded("audio_encoder", sound)
    sound, sight = decoded("audio_decoder", sound, seen), decoded("video_decoder", sight, heard)
    gate_a, gate_v = layer("audio_gated.0", heard).sigmoid(), layer("video_gated.0", seen).sigmoid()
    sight, sound = sight + gate_a * sight * 0.1, sound + gate_v * sound * 0.1
    best = [layer(n, x).sort(dim=1, descending=True)[0][:, :4].mean(dim=1)
            for n, x in (("video_cas", sight), ("audio_cas", sound))]  # fmt: skip
    score = (best[0] + best[1]) / 2
    sight = interact("AVInter", sight, sound)
    sound = interact("VAInter", sound, sight)
    fused = (sight + sound) / 2
    relevance = layer("localize_module.classifier", fused)[..., 0]
    category = layer("localize_module.event_classifier", fused.amax(dim=1)) + 0.3 * score
    return relevance, category, (gate_a * gate_v)[..., 0], score


@pytest.fixture(scope="module")
def table() -> dict[str, Tensor]:
    """In float64, as the public code trains and saves."""
    return files.values(files.cmbs(), dtype=torch.float64)


@pytest.fixture(scope="module")
def checkpoint(table: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("cmbs") / "model_epoch_9_top1_79.300_task_Supervised_best_model.pth.tar"
    torch.save({f"module.{key}": value for key, value in table.items()}, path)
    return path


@torch.no_grad()
def test_an_imported_model_computes_what_the_public_code_computes(
    table: dict[str, Tensor], checkpoint: Path, tmp_path: Path
) -> None:
    report = import_checkpoint("cmbs", checkpoint, tmp_path / "run")
    assert (report.missing, report.unknown, report.shared, report.frozen) == ((), (), (), ())
    assert list(report.left_out) == ["registered there, but never used"]
    model, info = load_model(tmp_path / "run", precision="fp32")
    assert info.labels.names[:2] == ("Church bell", "Male speech, man speaking")
    assert json.loads((tmp_path / "run" / "import.json").read_text())["code"] == "marmot-xy/CMBS"
    dead = sum(table[key].numel() for key in report.left_out["registered there, but never used"])
    assert dead == 4_344_064
    head = model.task.head.double()
    generator = torch.Generator().manual_seed(3)
    visual = torch.rand(2, 10, 7, 7, 512, generator=generator, dtype=torch.float64)
    audio = torch.rand(2, 10, 128, generator=generator, dtype=torch.float64)
    # The file is in float64, the run in float32; the steps are compared in float64 with the rounded weights.
    rounded = {key: value.float().double() for key, value in table.items()}
    found = head(visual.flatten(2, 3), torch.zeros(2, 10, 512, dtype=torch.float64), audio)
    relevance, category, gate, score = plainly(rounded, visual, audio)
    for one, other in ((found.relevance, relevance), (found.category, category), (found.gate, gate),
                       (found.av_score, score)):  # fmt: skip
        torch.testing.assert_close(one, other, rtol=0, atol=1e-10)
    whole = model.float().encode(visual.flatten(2, 3).float(), audio.float())
    assert torch.equal(whole.patches, visual.flatten(2, 3).float())
    assert torch.equal(whole.audio_cls, audio.float())


def test_published_features_are_evaluated(table: dict[str, Tensor], checkpoint: Path, tmp_path: Path) -> None:
    visual, audio, labels = files.write_ave_features(tmp_path / "data")
    run = tmp_path / "run"
    assert main(["import", "cmbs", str(checkpoint), "--run", str(run), "--data.root", str(tmp_path / "data")]) == 0
    result = evaluate(run, "test", progress=False)
    assert [sample.video_id for sample in result.samples] == ["row0004", "row0003"]
    relevance, category, _, _ = plainly(table, torch.tensor(visual[[4, 3]]), torch.tensor(audio[[4, 3]]))
    decided = torch.where(relevance.sigmoid() > 0.5, category.argmax(dim=1, keepdim=True), 28)
    assert [answer.decisions.tolist() for answer in result.answers] == decided.tolist()
    right = (decided == torch.tensor(labels[[4, 3]]).argmax(dim=-1)).double().mean()
    assert result.metrics["segment_accuracy"] == pytest.approx(float(right))


def test_a_run_on_features_says_that_it_reads_no_videos(checkpoint: Path, tmp_path: Path) -> None:
    import_checkpoint("cmbs", checkpoint, tmp_path / "run")
    video = make_video(tmp_path / "a.mp4", seconds=2)
    with pytest.raises(AvpeaError, match="reads features that others computed"):
        load(tmp_path / "run").predict(video)


@pytest.mark.slow
@torch.no_grad()
def test_with_a_recipe_for_videos_its_networks_compute_the_features(
    checkpoint: Path, tmp_path: Path, small_vggish: None
) -> None:
    changes = {"backbone.name": "vgg19.tv_in1k", "backbone.weights": "random", "encoder.audio_weights": "random"}
    report = import_checkpoint("cmbs", checkpoint, tmp_path / "run", "paper/avel-cmbs", changes)
    assert any("middle frame of each second" in one for one in report.differences)
    assert load_model(tmp_path / "run")[1].experiment.encoder.name == "separate"


def test_the_weakly_supervised_model_is_refused(table: dict[str, Tensor], tmp_path: Path) -> None:
    weak = {key: value for key, value in table.items() if not key.startswith("localize_module")}
    torch.save(weak | {"CAS_model.classifier.0.weight": torch.zeros(29, 256, 1)}, tmp_path / "weak.pth.tar")
    with pytest.raises(AvpeaError, match="weakly supervised"):
        import_checkpoint("cmbs", tmp_path / "weak.pth.tar", tmp_path / "run")
