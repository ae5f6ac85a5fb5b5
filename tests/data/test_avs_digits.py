"""avs-digits: made twice alike, masks true to picture and sound, and nothing in the picture that tells who speaks."""

import csv
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from avpea import media
from avpea.data import samples
from avpea.data.samples._pairs import PairPlan, pair_plans
from avpea.data.samples._plan import DIGIT_NAMES, FORM_STARTS, VOICES
from avpea.errors import DataError
from tests.data.test_av_digits import contents

pytest.importorskip("sklearn")
pytest.importorskip("espeakng_loader")

TINY: dict[str, Any] = {"train": 2, "val": 1, "test": 1, "progress": False}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("avs") / "digits"
    summary = samples.make("avs-digits", folder, **TINY)
    assert (summary.made, summary.kept) == (4, 0)
    return folder


@pytest.fixture(scope="module")
def plans() -> list[PairPlan]:
    from sklearn.datasets import load_digits

    targets = load_digits().target.tolist()
    return [plan for split in VOICES for plan in pair_plans(split, 100, 0, targets)]


def mask(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        assert picture.mode == "1"
        return np.asarray(picture)


def test_same_seed_same_bytes_and_resumed(tiny: Path, tmp_path: Path) -> None:
    samples.make("avs-digits", tmp_path, **TINY)
    assert contents(tmp_path) == contents(tiny)
    victim = next((tmp_path / "videos").iterdir())
    victim.unlink()
    summary = samples.make("avs-digits", tmp_path, **TINY)
    assert (summary.made, summary.kept) == (1, 3)
    assert contents(tmp_path) == contents(tiny)
    with pytest.raises(DataError, match=r"holds avs-digits made with .*train=2.*train=3"):
        samples.make("avs-digits", tmp_path, **{**TINY, "train": 3})


def test_masks_lie_where_the_digits_are(tiny: Path) -> None:
    lines = map(json.loads, (tiny / "timelines.jsonl").read_text().splitlines())
    timelines = {f"videos/{line['video_id']}.mp4": line for line in lines}
    with (tiny / "masks.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 40
    contrasts = []
    for row in rows:
        timeline, second = timelines[row["video"]], int(row["second"])
        spoken = timeline["spoken_per_second"][second]
        assert bool(row["mask"]) == (spoken is not None)
        assert row["split"] == timeline["split"]
        other = mask(tiny / row["other"])
        halves = other[:, :56].any(), other[:, 56:].any()
        assert halves == tuple(spoken != timeline[f"{side}_per_second"][second] for side in ("left", "right"))
        every = other | mask(tiny / row["mask"]) if row["mask"] else other
        assert 0.02 < every.mean() < 0.3
        frame = media.read(tiny / row["video"], start_seconds=second, segments=1).frames[0].float().mean(-1).numpy()
        # In the frame that a model gets, the colour jumps at the edge of each digit.
        for half in (slice(0, 56), slice(56, 112)):
            inside, ring = every[:, half], np.zeros((112, 56), bool)
            for y in (-4, 0, 4):
                for x in (-4, 0, 4):
                    ring |= np.roll(inside, (y, x), (0, 1))
            contrasts.append(abs(frame[:, half][inside].mean() - frame[:, half][ring & ~inside].mean()))
        assert row["mask"] == "" or not (mask(tiny / row["mask"]) & other).any()
    assert min(contrasts) > 15


def test_only_the_sound_tells_who_speaks(plans: list[PairPlan]) -> None:
    seconds = [(plan, second) for plan in plans for second in range(10)]
    spoken = [plan.spoken[second] for plan, second in seconds]
    shares = [spoken.count(which) / len(spoken) for which in (0, 1, None)]
    assert 0.34 < shares[0] < 0.41
    assert 0.34 < shares[1] < 0.41
    for plan, second in seconds:
        which, word = plan.spoken[second], plan.words[second]
        assert (which is None) == (word is None)
        assert word is None or (which is not None and word.text == DIGIT_NAMES[plan.digits[second][which]])
    assert all(left != right for plan in plans for left, right in plan.digits)
    # Neither the digit nor its place says that it is spoken: each speaks about as often as its neighbour.
    assert {digit for plan in plans for both in plan.digits for digit in both} == {0, 1, 4}
    for digit in (0, 1, 4):
        own = [plan.spoken[s] == plan.digits[s].index(digit) for plan, s in seconds if digit in plan.digits[s]]
        assert 0.33 < np.mean(own) < 0.43
    # No clip is known by its pair: every pair, in either order, is about as frequent, and changes within a clip.
    pairs = Counter(pair for plan in plans for pair in plan.digits)
    assert len(pairs) == 6
    assert max(pairs.values()) < 0.19 * len(seconds)
    assert min(len(set(plan.digits)) for plan in plans) > 2


def test_splits_share_no_image_or_voice(plans: list[PairPlan]) -> None:
    def of(split: str) -> tuple[set[int], set[str]]:
        some = [plan for plan in plans if plan.split == split]
        images = {image for plan in some for both in plan.images for image in both}
        voices = {word.voice.partition("+")[2] for plan in some for word in plan.words if word}
        return set(np.searchsorted(FORM_STARTS, [*images], side="right").tolist()), voices

    train, val, test = (of(split) for split in ("train", "val", "test"))
    for kind in range(2):
        assert not train[kind] & val[kind] | train[kind] & test[kind] | val[kind] & test[kind]
