"""av-digits: made twice alike, labels true to picture and sound, splits apart, resumed, or refused."""

import itertools
import json
import os
import re
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from avpea.data import samples
from avpea.data.readers import ave
from avpea.data.samples import _encode, av_digits
from avpea.data.samples._layout import write_layout
from avpea.data.samples._pictures import FRAME_SIZE, MARKS, choose_background
from avpea.data.samples._plan import DIGIT_NAMES, FORM_STARTS, OTHER_WORDS, VOICES, ClipPlan, clip_plans
from avpea.data.samples._sound import SOUND_RATE_HZ, Noise, choose_noise, compose
from avpea.data.samples._speech import SPEECH_RATE_HZ, speak
from avpea.errors import DataError
from avpea.labels import EventSample
from tests.tiny import section

pytest.importorskip("sklearn")
pytest.importorskip("espeakng_loader")

TINY: dict[str, Any] = {"train": 3, "val": 2, "test": 2, "progress": False}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("av") / "digits"
    summary = samples.make("av-digits", folder, **TINY)
    assert summary.clips == {"train": 3, "val": 2, "test": 2}
    assert (summary.made, summary.kept) == (7, 0)
    return folder


@pytest.fixture(scope="module")
def targets() -> list[int]:
    from sklearn.datasets import load_digits

    return load_digits().target.tolist()


@pytest.fixture(scope="module")
def plans(targets: list[int]) -> list[ClipPlan]:
    return [plan for split in VOICES for plan in clip_plans(split, 150, 0, targets, len(MARKS))]


@pytest.fixture(scope="module")
def rows(plans: list[ClipPlan], tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("layout")
    write_layout(folder, plans)
    return [json.loads(line) for line in (folder / "timelines.jsonl").read_text().splitlines()]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_same_seed_same_bytes_and_another_seed_another_set(tiny: Path, tmp_path: Path) -> None:
    samples.make("av-digits", tmp_path / "again", **TINY)
    assert contents(tmp_path / "again") == contents(tiny)
    samples.make("av-digits", tmp_path / "other", train=1, val=1, test=1, seed=1, progress=False)
    assert not set(contents(tmp_path / "other")) & {name for name in contents(tiny) if name.endswith("mp4")}


def test_layout_reads_as_ave(tiny: Path) -> None:
    annotations = ave.read(section("data", "ave", root=str(tiny)))
    assert annotations.labels.names == DIGIT_NAMES
    assert {split: len(found) for split, found in annotations.splits.items()} == {
        "train": 3,
        "val": 2,
        "test": 2,
    }
    assert annotations.notes == ()
    rows = {r["video_id"]: r for r in map(json.loads, (tiny / "timelines.jsonl").read_text().splitlines())}
    for sample in annotations.samples:
        row = rows[sample.video_id]
        assert isinstance(sample, EventSample)
        assert sample.video.is_file()
        assert sample.split == row["split"]
        both = zip(row["visual_per_second"], row["audio_per_second"], strict=True)
        assert [DIGIT_NAMES.index(seen) if seen == heard != "background" else 10 for seen, heard in both] == list(
            sample.labels
        )


def test_files_hold_ten_seconds_of_picture_and_sound(tiny: Path) -> None:
    for path in (tiny / "AVE").glob("*.mp4"):
        with av.open(str(path)) as container:
            picture, sound = container.streams.video[0], container.streams.audio[0]
            assert (picture.codec_context.name, sound.codec_context.name) == ("h264", "aac")
            assert (picture.width, picture.height, picture.average_rate) == (112, 112, Fraction(8))
            assert (sound.rate, sound.channels) == (16_000, 1)
            assert sum(1 for _ in container.decode(video=0)) == 80
            assert container.duration == pytest.approx(10e6, abs=0.1e6)


def test_an_event_is_the_same_digit_seen_and_heard(plans: list[ClipPlan]) -> None:
    for plan in plans:
        for second in range(10):
            inside = plan.start <= second < plan.end
            seen, heard, word = plan.seen[second], plan.heard[second], plan.words[second]
            assert (seen is not None and seen == heard) == inside
            assert not inside or seen == plan.digit
            assert (plan.images[second] is None) == (seen is None)
            assert plan.marks[second] is None or seen is None
            if heard is None:
                assert word is None or word.text in OTHER_WORDS
            else:
                assert word is not None
                assert word.text == DIGIT_NAMES[heard]


def test_neither_modality_alone_tells_where_the_event_is(plans: list[ClipPlan]) -> None:
    outside = [(plan, s) for plan in plans for s in range(10) if not plan.start <= s < plan.end]
    assert 0.33 < len(outside) / (10 * len(plans)) < 0.45
    whole = sum((plan.start, plan.end) == (0, 10) for plan in plans) / len(plans)
    assert 0.2 < whole < 0.36
    shares = {
        "class seen": np.mean([plan.seen[s] == plan.digit for plan, s in outside]),
        "class heard": np.mean([plan.heard[s] == plan.digit for plan, s in outside]),
        "other seen": np.mean([plan.seen[s] not in (None, plan.digit) for plan, s in outside]),
        "other heard": np.mean([plan.heard[s] not in (None, plan.digit) for plan, s in outside]),
        "crossing": np.mean([plan.seen[s] is not None and plan.heard[s] is not None for plan, s in outside]),
        "neither": np.mean([plan.seen[s] is None and plan.heard[s] is None for plan, s in outside]),
        "mark": np.mean([plan.marks[s] is not None for plan, s in outside]),
        "other word": np.mean([plan.words[s] is not None and plan.heard[s] is None for plan, s in outside]),
    }
    assert min(shares.values()) > 0.08, shares


def test_ids_look_like_youtubes_and_do_not_depend_on_the_count(plans: list[ClipPlan], targets: list[int]) -> None:
    ids = [plan.video_id for plan in plans]
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{11}", video_id) for video_id in ids)
    assert any(video_id.startswith("-") for video_id in ids)
    assert clip_plans("train", 5, 0, targets, len(MARKS)) == plans[:5]
    assert [plan.digit for plan in plans[:20]] == [*range(10), *range(10)]


def test_splits_share_no_image_voice_or_piece_of_photograph(rows: list[dict[str, Any]]) -> None:
    def of(split: str, sources: Any) -> set[Any]:
        return {source for row in rows if row["split"] == split for source in sources(row)}

    def images(row: dict[str, Any]) -> set[int]:
        return {image for found in row["visual_sources"].values() for image in found}

    def forms(row: dict[str, Any]) -> set[int]:
        return set(np.searchsorted(FORM_STARTS, [*images(row)], side="right").tolist())

    def voices(row: dict[str, Any]) -> set[str]:
        return {voice.partition("+")[2] for found in row["audio_sources"].values() for voice in found}

    def columns(row: dict[str, Any]) -> set[tuple[str, int]]:
        name, place = row["background_sources"][0].split()
        left, _, width, _ = map(int, place.split(",")) if ".jpg" in name else (0, 0, 0, 0)
        return {(name, x) for x in range(left, left + width)}

    for sources in (images, forms, voices, columns):
        train, val, test = (of(split, sources) for split in ("train", "val", "test"))
        assert train
        assert val
        assert test
        assert not train & val | train & test | val & test
    assert all(len(forms(row)) == 1 for row in rows)


def test_form_starts_are_where_the_labels_begin_anew(targets: list[int]) -> None:
    text = "".join(map(str, targets))
    found = [match.start() for match in re.finditer("0955650", text)]  # after three times 0123456789
    assert [sum(start <= at < stop for at in found) for start, stop in itertools.pairwise(FORM_STARTS)] == ([1] * 14)
    assert FORM_STARTS[-1] == len(targets)


def test_backgrounds_and_noise_are_the_same_at_every_call(plans: list[ClipPlan]) -> None:
    for plan in plans[:8]:
        one, two = (choose_background(plan.split, plan.generator("picture")) for _ in range(2))
        assert one.name == two.name
        assert (one.pixels == two.pixels).all()
        assert min(one.pixels.shape[:2]) > FRAME_SIZE
        assert choose_noise(plan.generator("sound")) == choose_noise(plan.generator("sound"))


def test_every_voice_speaks_every_digit_within_a_second() -> None:
    requests = [
        (name, f"en-029+{voice}", 155, 50) for voices in VOICES.values() for voice in voices for name in DIGIT_NAMES
    ]
    sounds = speak(requests)
    assert len(sounds) == len(requests)
    for sound in sounds:
        assert 0.1 < len(sound) / SPEECH_RATE_HZ < 0.94


def test_every_voice_says_the_same_in_every_process() -> None:
    requests = [("seven", f"en-us+{voice}", 190, 60) for voices in VOICES.values() for voice in voices]
    assert all(np.array_equal(one, two) for one, two in zip(speak(requests), speak(requests), strict=True))


def test_speech_longer_than_the_usual_buffer_is_whole() -> None:
    slow, fast = speak([("international", "en-us+m3", 80, 50), ("international", "en-us+m3", 200, 50)])
    assert len(slow) > 1.0 * SPEECH_RATE_HZ > len(fast)


@pytest.mark.parametrize("voice", ["en-us+nobody", "no-such-language"])
def test_an_unknown_voice_is_refused(voice: str) -> None:
    with pytest.raises(DataError, match=rf"espeak-ng could not speak.*{re.escape(voice.rpartition('+')[2])}"):
        speak([("one", voice, 175, 50)])


def test_words_stay_inside_their_seconds_and_survive_encoding(tmp_path: Path) -> None:
    word = speak([("seven", "en-us+m3", 175, 50)])[0]
    words = [word if second in (0, 3, 9) else None for second in range(10)]
    waveform = compose(words, Noise("pink", 40.0), np.random.default_rng(0))
    assert np.abs(waveform).max() <= 0.95
    film = np.zeros((80, 112, 112, 3), np.uint8)
    _encode.write_clip(tmp_path / "clip.mp4", film, 8, waveform, SOUND_RATE_HZ)
    with av.open(str(tmp_path / "clip.mp4")) as container:
        decoded = np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)])[:160_000]
    for sound in (waveform, decoded):
        energy = (sound.reshape(10, SOUND_RATE_HZ) ** 2).sum(1)
        quiet = [second for second in range(10) if second not in (0, 3, 9)]
        assert energy[[0, 3, 9]].min() > 100 * energy[quiet].max()
    assert np.corrcoef(waveform, decoded)[0, 1] > 0.95  # no delay
    assert [path.name for path in tmp_path.iterdir()] == ["clip.mp4"]


def test_a_word_longer_than_a_second_is_refused() -> None:
    with pytest.raises(ValueError, match="does not fit into a second"):
        compose([np.ones(30_000, np.int16), *[None] * 9], Noise("pink", 40.0), np.random.default_rng(0))


def test_interrupted_work_is_taken_up_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny: Path) -> None:
    write, calls = _encode.write_clip, []

    def stop_at_fourth(*arguments: Any) -> None:
        calls.append(arguments)
        if len(calls) == 4:
            raise KeyboardInterrupt
        write(*arguments)

    monkeypatch.setattr(_encode, "write_clip", stop_at_fourth)
    with pytest.raises(KeyboardInterrupt):
        samples.make("av-digits", tmp_path, **TINY)
    assert not (tmp_path / "Annotations.txt").exists()
    old = tmp_path / "AVE" / ".killed.tmp"
    old.write_bytes(b"half a clip")
    os.utime(old, (0, 0))
    monkeypatch.undo()

    summary = samples.make("av-digits", tmp_path, **TINY)
    assert (summary.made, summary.kept) == (4, 3)
    assert contents(tmp_path) == contents(tiny)
    assert samples.make("av-digits", tmp_path, **TINY).made == 0


def test_progress_goes_to_stderr(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    samples.make("av-digits", tmp_path, train=1, val=1, test=1)
    out, err = capfd.readouterr()
    assert out == ""
    assert "3/3" in err


def test_other_options_in_the_same_folder_are_refused(tiny: Path) -> None:
    with pytest.raises(DataError, match=r"made with .*train=3.*train=4.*is asked for; choose another folder"):
        samples.make("av-digits", tiny, **{**TINY, "train": 4})
    with pytest.raises(DataError, match=r"seed=0.*seed=5"):
        samples.make("av-digits", tiny, **TINY, seed=5)


def test_a_damaged_marker_is_refused(tmp_path: Path) -> None:
    (tmp_path / av_digits.KIND.marker).write_text("{")
    with pytest.raises(DataError, match="unreadable options"):
        samples.make("av-digits", tmp_path, **TINY)


def test_a_folder_with_something_else_is_left_alone(tmp_path: Path) -> None:
    names = [".draft.tmp", ".notes.0123abcd.tmp", "thesis.tex"]
    for name in names:
        (tmp_path / name).write_text("precious")
        os.utime(tmp_path / name, (0, 0))
    with pytest.raises(DataError, match=r"already holds \.draft\.tmp.*choose a new or an empty folder"):
        samples.make("av-digits", tmp_path, **TINY)
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    (tmp_path / av_digits.KIND.marker).write_text('{"seed": 3}')
    with pytest.raises(DataError, match=r"holds av-digits made with seed=3, and"):
        samples.make("av-digits", tmp_path, **TINY)
    assert {*names} < {path.name for path in tmp_path.iterdir()}


def test_a_folder_that_cannot_be_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(DataError, match=r"cannot be written to .*file.*choose a folder"):
            samples.make("av-digits", folder, **TINY)


@pytest.mark.parametrize(
    ("module", "package"), [("sklearn.datasets", "scikit-learn"), ("espeakng_loader", "espeakng-loader")]
)
def test_a_missing_package_is_named(module: str, package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(DataError, match=rf'{package} is not installed.*pip install "avpea\[samples\]"'):
        samples.make("av-digits", tmp_path / "new", **TINY)
    assert not (tmp_path / "new").exists()


def test_an_empty_split_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="val is 0; expected 1 clip or more"):
        samples.make("av-digits", tmp_path, **{**TINY, "val": 0})


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"seed": -1}, "seed is -1; expected 0 or more"),
        ({"train": 10**12}, r"^1,000,000,.* clips are asked for; expected at most"),
    ],
)
def test_what_cannot_be_made_is_refused_before_anything_is(given: dict[str, int], reason: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=reason):
        samples.make("av-digits", tmp_path / "new", **{**TINY, **given})
    assert not (tmp_path / "new").exists()


def test_samples_are_found_by_name(tmp_path: Path) -> None:
    assert "av-digits" in samples.names()
    with pytest.raises(DataError, match="Did you mean 'av-digits'"):
        samples.make("av-digit", tmp_path)
