"""Dividing videos by class: shares, small classes, several classes a video, and independence of order."""

import random
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avpea.data.readers._divide import by_class, by_hash, keep_division, read_division, written
from avpea.errors import DataError
from avpea.labels import Division


def counts(split: dict[str, str], prefix: str) -> tuple[int, int, int]:
    found = Counter(where for video, where in split.items() if video.startswith(prefix))
    return found["train"], found["val"], found["test"]


@pytest.mark.parametrize(
    ("videos", "expected"),
    # 15 % rounded, at least one each for val and test
    [(1, (1, 0, 0)), (2, (1, 1, 0)), (3, (1, 1, 1)), (4, (2, 1, 1)), (9, (7, 1, 1)), (10, (6, 2, 2)),
     (20, (14, 3, 3)), (100, (70, 15, 15))],
)  # fmt: skip
def test_shares_of_a_class(videos: int, expected: tuple[int, int, int]) -> None:
    split = by_class({f"a{i}": ["a"] for i in range(videos)} | {f"b{i}": ["b"] for i in range(7)})
    assert counts(split, "a") == expected
    assert counts(split, "b") == (5, 1, 1)


def test_videos_without_events_are_a_class_of_their_own() -> None:
    split = by_class({f"a{i}": ["a"] for i in range(4)} | {f"none{i}": [] for i in range(10)})
    assert counts(split, "none") == (6, 2, 2)
    assert counts(split, "a") == (2, 1, 1)


def test_a_video_with_two_classes_counts_for_both() -> None:
    # Three rare videos, which are also common ones: they already hold out one each, so only two more of ten follow.
    videos = {f"both{i}": ["rare", "common"] for i in range(3)} | {f"common{i}": ["common"] for i in range(7)}
    split = by_class(videos)
    assert counts(split, "both") == (1, 1, 1)
    assert counts(split, "common") == (5, 1, 1)


def test_neither_order_nor_other_classes_matter() -> None:
    videos = {f"{name}{i}": [name] for name, size in (("a", 5), ("b", 9), ("c", 3)) for i in range(size)}
    shuffled = list(videos.items())
    random.Random(0).shuffle(shuffled)
    assert by_class(dict(shuffled)) == by_class(videos)
    assert by_class({video: names for video, names in videos.items() if names == ["a"]}) == {
        video: where for video, where in by_class(videos).items() if video.startswith("a")
    }


@given(st.dictionaries(st.text(min_size=1), st.sets(st.sampled_from("abcd")), max_size=60))
def test_every_video_has_one_split_and_a_class_with_single_labels_is_everywhere(videos: dict[str, set[str]]) -> None:
    split = by_class({video: sorted(classes) for video, classes in videos.items()})
    assert split.keys() == videos.keys()
    for name in "abcd":
        own = [video for video, classes in videos.items() if name in classes]
        if own:
            assert "train" in {split[video] for video in own}
        if len(own) >= 3 and all(len(videos[video]) == 1 for video in own):
            assert {split[video] for video in own} == {"train", "val", "test"}


@given(st.lists(st.dictionaries(st.text(min_size=1), st.sets(st.sampled_from("abc")), max_size=20), min_size=2))
def test_videos_that_are_added_move_no_other(additions: list[dict[str, set[str]]]) -> None:
    videos: dict[str, list[str]] = {}
    split: dict[str, str] = {}
    for more in additions:
        videos |= {video: sorted(classes) for video, classes in more.items() if video not in videos}
        earlier, split = split, by_class(videos, split)
        assert split.keys() == videos.keys()
        assert earlier.items() <= split.items()


@pytest.mark.parametrize("none", [False, True])
def test_a_set_that_grows_keeps_its_shares(none: bool) -> None:
    videos: dict[str, list[str]] = {}
    split: dict[str, str] = {}
    for number in range(40):
        videos |= {f"a{number}": [] if none else ["a"], f"b{number}": ["b"]}
        split = by_class(videos, split)
        anew = by_class(videos)
        for name in "ab":  # one video cannot be in val and in test, where both are to grow
            off = [one - other for one, other in zip(counts(split, name), counts(anew, name), strict=True)]
            assert off in ([0, 0, 0], [1, 0, -1]), (number, name)


def test_a_division_is_kept_and_read(tmp_path: Path) -> None:
    path = tmp_path / "splits.json"
    assert read_division(path) == {}
    odd = {written("b \udc80 ü.mp4"): "val", "a.mp4": "train"}
    assert keep_division(Division(path, odd)) == ""
    assert read_division(path) == odd
    # what others have written meanwhile wins, and what is not in the set now is not forgotten
    assert keep_division(Division(path, {"a.mp4": "test", "c.mp4": "test"})) == ""
    assert read_division(path) == odd | {"c.mp4": "test"}
    before = path.stat().st_mtime_ns
    assert keep_division(Division(path, {"c.mp4": "test"})) == ""
    assert path.stat().st_mtime_ns == before
    assert [one.name for one in tmp_path.iterdir()] == ["splits.json"]


def test_a_place_that_cannot_be_written_to_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    told = keep_division(Division(tmp_path / "file" / "splits.json", {"a.mp4": "train"}))
    assert "cannot be kept" in told
    assert "a column 'split' prevents that" in told


@pytest.mark.parametrize(
    ("text", "found"), [('{"a.mp4": "dev"}', "'dev' for 'a.mp4'"), ("[1]", "holds list"), ("{", r"splits\.json")]
)
def test_a_damaged_division_is_refused(tmp_path: Path, text: str, found: str) -> None:
    (tmp_path / "splits.json").write_text(text)
    with pytest.raises(DataError, match=found):
        read_division(tmp_path / "splits.json")


def test_the_rule_of_version_0_1_0_is_kept() -> None:
    # sha256 of the path, first four bytes, modulo 100.
    assert [by_hash(name) for name in ("a.mp4", "b.mp4", "x.mp4", "seven.mp4")] == [
        "train" if share < 80 else "val" if share < 90 else "test"
        for share in (_share(name) for name in ("a.mp4", "b.mp4", "x.mp4", "seven.mp4"))
    ]
    shares = Counter(by_hash(f"video-{number}.mp4") for number in range(5000))
    assert {name: round(count / 50) for name, count in shares.items()} == pytest.approx(
        {"train": 80, "val": 10, "test": 10}, abs=2
    )


def _share(name: str) -> int:
    import subprocess

    digest = subprocess.run(["sha256sum"], input=name.encode(), capture_output=True, check=True).stdout
    return int(digest[:8], 16) % 100
