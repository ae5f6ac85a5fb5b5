"""Prediction on videos of any length, and the attention maps."""

import json
import math
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from avpea.adapters import Adapter
from avpea.checkpoint import CheckpointInfo
from avpea.data.inputs import sample_from_clip
from avpea.errors import AvpeaError, ExperimentError, MediaError, NoAudioTrack
from avpea.experiment import Experiment
from avpea.media import Clip
from avpea.model import build
from avpea.predict import Predictor, load, windows
from avpea.search import Query
from avpea.tasks.avel.answer import Prediction
from tests.tiny import coloured_video, event_labels

Make = Callable[..., Experiment]


@pytest.fixture(scope="module")
def predictor(tiny_run: Path) -> Predictor:
    return load(tiny_run)


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("videos")
    lengths = {"blink": 0.2, "as trained": 3, "ten": 10, "long": 23}
    made = {
        name: coloured_video(folder / f"{name}.mp4", "red", 0, seconds / 2, seconds=seconds)
        for name, seconds in lengths.items()
    }
    made["mute"] = coloured_video(folder / "mute.mp4", "red", 0, 1, seconds=2, audio_hz=None)
    return made


@pytest.mark.parametrize(("name", "seconds"), [("blink", 1), ("as trained", 3), ("ten", 10), ("long", 23)])
def test_one_answer_for_each_second(predictor: Predictor, videos: dict[str, Path], name: str, seconds: int) -> None:
    found = predictor.predict(videos[name])
    assert found.decisions.shape == (seconds,)
    assert found.probabilities.shape == (seconds, 3)
    assert found.probabilities.dtype == torch.float32
    torch.testing.assert_close(found.probabilities.sum(-1), torch.ones(seconds))
    assert 0 <= found.surest_second() < seconds
    assert all(event.end_seconds <= found.duration_seconds for event in found.events)
    covered = {s for event in found.events for s in range(int(event.start_seconds), math.ceil(event.end_seconds))}
    assert covered == {s for s, answer in enumerate(found.decisions.tolist()) if answer < 2}


def test_the_same_video_gives_the_same_answer(predictor: Predictor, videos: dict[str, Path], tiny_run: Path) -> None:
    first, again, reloaded = (p.predict(videos["long"]) for p in (predictor, predictor, load(tiny_run)))
    assert torch.equal(first.probabilities, again.probabilities)
    assert torch.equal(first.probabilities, reloaded.probabilities)


def test_the_first_window_is_what_training_sees(predictor: Predictor, videos: dict[str, Path]) -> None:
    clip = predictor.read(videos["as trained"])
    frames, log_mel = sample_from_clip(clip, predictor.info.experiment.audio)
    with torch.no_grad():
        output = predictor.model(frames[None], log_mel[None])
    expected = predictor.model.task.head.probabilities(output)[0]
    assert torch.equal(predictor.predict(videos["as trained"]).probabilities, expected)


@pytest.mark.parametrize(
    ("segments", "length", "expected"),
    [
        (1, 10, [(0, 1, 0)]),
        (10, 10, [(0, 10, 0)]),
        (11, 10, [(0, 10, 0), (1, 11, 10)]),
        (20, 10, [(0, 10, 0), (10, 20, 10)]),
        (23, 10, [(0, 10, 0), (10, 20, 10), (13, 23, 20)]),
        (3, 1, [(0, 1, 0), (1, 2, 1), (2, 3, 2)]),
    ],
)
def test_windows(segments: int, length: int, expected: list[tuple[int, int, int]], tiny_experiment: Make) -> None:
    frames = torch.arange(segments, dtype=torch.uint8)[:, None, None, None].expand(-1, 2, 2, 3)
    sound = torch.rand(16_000 * segments, generator=torch.Generator().manual_seed(0)) - 0.5
    seconds = torch.arange(segments, dtype=torch.float64) + 0.5
    clip = Clip(frames, seconds, 1.0, sound, float(segments), float(segments), 0.0, Path("a.mp4"))
    experiment = tiny_experiment(**{"data.segments": length})
    _, log_mel = sample_from_clip(clip, experiment.audio)
    found = list(windows(clip, experiment))
    assert [(one.start, one.stop, one.first_new) for one in found] == expected
    for one in found:
        assert one.frames[0, :, 0, 0, 0].tolist() == list(range(one.start, one.stop))
        assert torch.equal(one.log_mel[0], log_mel[one.start : one.stop])


def test_a_video_without_sound(predictor: Predictor, videos: dict[str, Path]) -> None:
    with pytest.raises(NoAudioTrack, match=r"mute\.mp4"):
        predictor.predict(videos["mute"])
    found = predictor.predict(videos["mute"], missing_audio="silence")
    assert len(found.decisions) == 2
    assert not found.clip.waveform.any()


def test_a_misspelt_choice_is_refused(predictor: Predictor, videos: dict[str, Path], tiny_run: Path) -> None:
    wrong: Any = {"missing_audio": "silent"}
    for read in (predictor.predict, predictor.read):
        with pytest.raises(MediaError, match=r"missing_audio is 'silent'; expected 'error' or 'silence'\.$"):
            read(videos["blink"], **wrong)
    for wrong in ({"precision": "bfloat16"}, {"runtime": "torch"}):
        with pytest.raises(ExperimentError, match=rf"^{next(iter(wrong))} is '.*'; expected '"):
            load(tiny_run, **wrong)


def test_paths_and_devices_as_objects(tiny_run: Path, tmp_path: Path) -> None:
    assert load(tiny_run, device=torch.device("cpu")).model.device.type == "cpu"
    with pytest.raises(AvpeaError, match="gone"):
        load(tiny_run, weights=tmp_path / "gone")
    with pytest.raises(AvpeaError, match="There is no library"):
        Query(tmp_path / "gone", device=torch.device("cpu"))


def test_what_json_prints(predictor: Predictor, videos: dict[str, Path]) -> None:
    found = predictor.predict(videos["ten"])
    plain = json.loads(json.dumps(found.to_dict()))
    assert plain["video"] == str(videos["ten"])
    assert plain["duration_seconds"] == pytest.approx(10, abs=0.1)
    names = ["green", "red", "background"]
    assert [second["label"] for second in plain["seconds"]] == [names[i] for i in found.decisions]
    assert [second["start_seconds"] for second in plain["seconds"]] == list(range(10))
    assert [event["label"] for event in plain["events"]] == [event.label for event in found.events]


def test_a_video_without_an_event(predictor: Predictor, videos: dict[str, Path]) -> None:
    found = predictor.predict(videos["as trained"])
    nothing = Prediction(found.video, 3.0, found.class_names, (), torch.full((3,), 2), found.probabilities, found.clip)
    assert nothing.to_dict()["events"] == []
    assert list(nothing.report())[-1] == "No event that the model knows was both seen and heard."


def test_only_the_tasks_own_method_is_there(predictor: Predictor, videos: dict[str, Path]) -> None:
    assert {"predict", "read", "attention"} <= set(dir(predictor))
    assert not {"ask", "caption"} & set(dir(predictor))
    with pytest.raises(AttributeError, match="task is 'avel', which has no 'ask'; it is for `avpea predict RUN VIDEO"):
        predictor.ask(videos["ten"], "What is heard?")
    with pytest.raises(TypeError):
        predictor.predict(videos["ten"], "What is heard?")
    with pytest.raises(TypeError, match="beams"):
        predictor.predict(videos["ten"], beams=3)


# Attention maps.


def with_streams(make: Make, streams: str, **changes: object) -> Predictor:
    experiment = make(**{"adapter.streams": streams, **changes})
    model = build(experiment, event_labels()).eval()
    fingerprint = model.encoder.backbone.fingerprint()
    return Predictor(model, CheckpointInfo(experiment, event_labels(), "test_vit", fingerprint))


def hooks(predictor: Predictor) -> int:
    return sum(len(m._forward_hooks) for m in predictor.model.modules() if isinstance(m, Adapter))


def test_maps_lie_on_the_patch_grids(predictor: Predictor, videos: dict[str, Path]) -> None:
    maps = predictor.attention(predictor.read(videos["as trained"]), 1)
    for found in (maps.sound_looked, maps.image_listened):
        assert found is not None
        assert found.shape == (2, 2, 2)  # blocks, and 32 x 32 pixels in patches of 16
        assert (found >= 0).all()
        assert (found.sum(dim=(1, 2)) <= 1 + 1e-6).all()  # the rest of Θ is on the CLS token
    assert maps.frame.shape == (32, 32, 3)
    assert maps.second == 1
    assert hooks(predictor) == 0


def test_maps_of_native_audio_have_its_own_grid(tiny_experiment: Make, videos: dict[str, Path]) -> None:
    native = with_streams(tiny_experiment, "both", **{"audio.layout": "native", "audio.rows": 102})
    maps = native.attention(native.read(videos["as trained"]), 0)
    assert maps.sound_looked is not None
    assert maps.image_listened is not None
    assert maps.sound_looked.shape == (2, 2, 2)
    assert maps.image_listened.shape == (2, 6, 2)  # 102 rows, 32 mel bins


def test_a_stream_without_adapters_has_no_map(tiny_experiment: Make, videos: dict[str, Path]) -> None:
    for streams, looked, listened in (("audio", True, False), ("visual", False, True)):
        one = with_streams(tiny_experiment, streams)
        maps = one.attention(one.read(videos["as trained"]), 2)
        assert (maps.sound_looked is not None) is looked
        assert (maps.image_listened is not None) is listened


def test_maps_of_all_tokens_are_the_mean_over_them(tiny_experiment: Make, videos: dict[str, Path]) -> None:
    every = with_streams(tiny_experiment, "both", **{"adapter.queries": "all"})
    clip = every.read(videos["as trained"])
    thetas: list[torch.Tensor] = []
    for _, stream, adapter in every.model.encoder.beside_attention():
        if stream == "audio":
            adapter.register_forward_hook(lambda one, given, _: thetas.append(one.attention_map(*given[:2])))
    maps = every.attention(clip, 1)
    assert maps.sound_looked is not None
    assert [tuple(theta.shape) for theta in thetas] == [(1, 5, 5)] * 2
    expected = torch.stack([theta[0, :, 1:].mean(dim=0).reshape(2, 2) for theta in thetas])
    torch.testing.assert_close(maps.sound_looked, expected)


def test_maps_say_which_blocks_they_are_of(tiny_experiment: Make, videos: dict[str, Path]) -> None:
    last = with_streams(tiny_experiment, "both", **{"adapter.blocks": (1,)})
    maps = last.attention(last.read(videos["as trained"]), 0)
    assert maps.blocks == (1,)
    assert maps.sound_looked is not None
    assert len(maps.sound_looked) == 1


def test_maps_say_where_in_the_video_their_second_starts(predictor: Predictor, videos: dict[str, Path]) -> None:
    clip = predictor.read(videos["as trained"])
    assert predictor.attention(clip.part(1, 3), 1).second == 2


def test_maps_are_those_of_their_own_call(
    predictor: Predictor, videos: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another thread uses the model in the middle of a call."""
    clip, encoder = predictor.read(videos["as trained"]), predictor.model.encoder
    alone = predictor.attention(clip, 0)
    mine = threading.get_ident()
    embed: Any = encoder.embed

    def beside(*given: Any) -> Any:
        if threading.get_ident() == mine:
            other = threading.Thread(target=predictor.attention, args=(clip, 2))
            other.start()
            other.join()
        return embed(*given)

    monkeypatch.setattr(encoder, "embed", beside)
    found = predictor.attention(clip, 0)
    for one, expected in ((found.sound_looked, alone.sound_looked), (found.image_listened, alone.image_listened)):
        assert one is not None
        assert expected is not None
        assert torch.equal(one, expected)


def test_maps_that_cannot_be(tiny_experiment: Make, predictor: Predictor, videos: dict[str, Path]) -> None:
    clip = predictor.read(videos["as trained"])
    for second in (-1, 3):
        with pytest.raises(AvpeaError, match=f"Second {second} is outside .* seconds 0 to 2"):
            predictor.attention(clip, second)
    with pytest.raises(AvpeaError, match="has the adapter 'av_pea' in the streams 'none', so there are no att"):
        with_streams(tiny_experiment, "none").attention(clip, 0)
    with pytest.raises(AvpeaError, match="has the adapter 'lora' in the streams 'both', so there are no att"):
        with_streams(tiny_experiment, "both", **{"adapter.name": "lora"}).attention(clip, 0)


def test_hooks_go_even_when_the_encoder_fails(
    predictor: Predictor, videos: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = predictor.read(videos["as trained"])
    monkeypatch.setattr(predictor.model.encoder, "embed", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        predictor.attention(clip, 0)
    assert hooks(predictor) == 0


def test_a_loaded_model_is_folded(tiny_run: Path) -> None:
    adapters = [adapter for _, _, adapter in load(tiny_run).model.encoder.beside_attention()]
    with torch.inference_mode():
        folds = [adapter.fold for adapter in adapters]
    assert folds
    assert None not in folds


def test_the_precision_is_the_models_also_under_autocast(predictor: Predictor, videos: dict[str, Path]) -> None:
    expected = predictor.predict(videos["as trained"]).probabilities
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(predictor.predict(videos["as trained"]).probabilities, expected)
        maps = predictor.attention(predictor.read(videos["as trained"]), 0)
    assert maps.log_mel.dtype == torch.float32
