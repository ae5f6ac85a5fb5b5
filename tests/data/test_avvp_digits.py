"""avvp-digits: made twice alike, several digits at once, three lanes, and splits that share nothing."""

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from avpea.data import samples
from avpea.data.samples._lanes_layout import write_layout
from avpea.data.samples._lanes_plan import LanePlan, lane_plans
from avpea.data.samples._pictures import FPS, FRAME_SIZE, MARKS, choose_background, frames, mark
from avpea.data.samples._plan import DIGIT_NAMES, FORM_STARTS, OTHER_WORDS, VOICES
from avpea.errors import DataError

pytest.importorskip("sklearn")
pytest.importorskip("espeakng_loader")

TINY: dict[str, Any] = {"train": 2, "val": 1, "test": 1, "progress": False}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("avvp") / "digits"
    assert samples.make("avvp-digits", folder, **TINY).made == 4
    return folder


@pytest.fixture(scope="module")
def plans() -> list[LanePlan]:
    from sklearn.datasets import load_digits

    targets = load_digits().target.tolist()
    return [plan for split in VOICES for plan in lane_plans(split, 150, 0, targets, len(MARKS))]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_same_seed_same_bytes(tiny: Path, tmp_path: Path) -> None:
    samples.make("avvp-digits", tmp_path / "again", **TINY)
    assert contents(tmp_path / "again") == contents(tiny)
    with pytest.raises(DataError, match=r"holds avvp-digits made with .*seed=0.*seed=1"):
        samples.make("avvp-digits", tiny, **TINY, seed=1)
    assert "avvp-digits" in samples.names()


def test_clips_are_ten_seconds_of_picture_and_sound(tiny: Path) -> None:
    clips = sorted((tiny / "video").glob("*.mp4"))
    assert len(clips) == 4
    with av.open(str(clips[0])) as container:
        assert len(container.streams.video) == len(container.streams.audio) == 1
        assert container.duration == pytest.approx(10e6, abs=0.1e6)


def test_files_are_those_of_llp_and_say_what_the_timelines_say(tiny: Path) -> None:
    timelines = [json.loads(line) for line in (tiny / "timelines.jsonl").read_text().splitlines()]
    for stream, key in (("visual", "seen_per_second"), ("audio", "heard_per_second")):
        lines = (tiny / f"AVVP_eval_{stream}.csv").read_text().splitlines()
        assert lines[0] == "filename\tonset\toffset\tevent_labels"
        told: dict[str, list[set[str]]] = {row["video_id"]: [set() for _ in range(10)] for row in timelines}
        for name, start, stop, label in (line.split("\t") for line in lines[1:]):
            assert re.fullmatch(r".{11}_0_10", name)
            for second in range(int(start), int(stop)):
                told[name[:11]][second].add(label)
        for row in timelines:
            seconds = [[digits] if isinstance(digits, str) else digits or [] for digits in row[key]]
            assert told[row["video_id"]] == list(map(set, seconds))
    weak = dict(
        line.split("\t")
        for name in ("train", "val_pd", "test_pd")
        for line in (tiny / f"AVVP_{name}.csv").read_text().splitlines()[1:]
    )
    for row in timelines:
        every = {digit for digits in row["seen_per_second"] for digit in digits} | {*row["heard_per_second"]} - {None}
        assert set(weak[f"{row['video_id']}_0_10"].split(",")) == every


def test_lanes_differ_and_several_events_go_on_at_once(plans: list[LanePlan]) -> None:
    pairs = [(set(seen), {heard} - {None}) for plan in plans for seen, heard in zip(plan.seen, plan.heard, strict=True)]
    shares = {
        "seen": np.mean([bool(seen) for seen, _ in pairs]),
        "two seen": np.mean([len(seen) == 2 for seen, _ in pairs]),
        "heard": np.mean([bool(heard) for _, heard in pairs]),
        "both": np.mean([bool(seen & heard) for seen, heard in pairs]),
        "seen, another heard": np.mean([bool(seen and heard and not seen & heard) for seen, heard in pairs]),
        "only seen": np.mean([bool(seen and not heard) for seen, heard in pairs]),
        "only heard": np.mean([bool(heard and not seen) for seen, heard in pairs]),
        "neither": np.mean([not seen and not heard for seen, heard in pairs]),
    }
    assert min(shares.values()) > 0.06, shares
    assert max(len(seen) for seen, _ in pairs) == 2
    count = Counter(digit for plan in plans for digit in {*sum(plan.seen, ()), *plan.heard} - {None})
    assert min(count.values()) > 0.1 * len(plans)


def test_a_plan_keeps_its_words_and_pictures(plans: list[LanePlan]) -> None:
    assert len({plan.video_id for plan in plans}) == len(plans)
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{11}", plan.video_id) for plan in plans)
    for plan in plans:
        for second in range(10):
            word, heard = plan.words[second], plan.heard[second]
            assert (word is not None and word.text == DIGIT_NAMES[heard]) if heard is not None else True
            assert heard is not None or word is None or word.text in OTHER_WORDS
            assert len(plan.images[second]) == len(plan.seen[second]) == len(set(plan.seen[second]))
            assert plan.marks[second] is None or not plan.seen[second]


def test_splits_share_no_writer_and_no_voice(plans: list[LanePlan]) -> None:
    forms, voices = {}, {}
    for split in VOICES:
        own = [plan for plan in plans if plan.split == split]
        images = [image for plan in own for second in plan.images for image in second]
        forms[split] = set(np.searchsorted(FORM_STARTS, images, side="right").tolist())
        voices[split] = {word.voice.partition("+")[2] for plan in own for word in plan.words if word}
    for found in (forms, voices):
        assert not found["train"] & found["val"] | found["train"] & found["test"] | found["val"] & found["test"]


def test_two_glyphs_are_side_by_side() -> None:
    chance = np.random.default_rng(0)
    background = choose_background("train", chance)
    plain, _ = frames([[]] * 10, background, np.random.default_rng(1))
    film, _ = frames([[mark(0), mark(1)], [mark(0)], *[[]] * 8], background, np.random.default_rng(1))
    changed = (film != plain).any(axis=-1)
    half = FRAME_SIZE // 2
    assert changed[:FPS, :, :half].any(axis=(1, 2)).all()
    assert changed[:FPS, :, half:].any(axis=(1, 2)).all()
    assert changed[FPS : 2 * FPS].any(axis=(1, 2)).all()
    assert not changed[2 * FPS :].any()


def test_the_layout_is_complete_when_its_last_file_is_there(plans: list[LanePlan], tmp_path: Path) -> None:
    written: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("avpea.data.samples._lanes_layout.write_text", lambda path, text: written.append(path.name))
        write_layout(tmp_path, plans[:3])
    assert written[-1] == "AVVP_train.csv"
