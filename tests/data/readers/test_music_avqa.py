"""MUSIC-AVQA's files: the official ones by their counts, others by hand, bad rows by their messages."""

import json
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from avpea.data import read
from avpea.data.verify import verify
from avpea.errors import DataError
from avpea.labels import QuestionSample
from avpea.labels.questions import MUSIC_AVQA_ANSWERS
from tests.media_factory import make_video
from tests.tiny import section


def row(video: str = "v0", number: Any = 1, **changes: Any) -> dict[str, Any]:
    return {
        "video_id": video, "question_id": number, "type": '["Audio", "Counting"]', "question_content": "How many?",
        "templ_values": "[]", "question_deleted": 0, "anser": "two", **changes,
    }  # fmt: skip


def write(root: Path, folder: str = "", **splits: list[Any]) -> Path:
    (root / folder).mkdir(parents=True, exist_ok=True)
    for name, rows in splits.items():
        (root / folder / f"{name.replace('__', '-')}.json").write_text(json.dumps(rows), encoding="utf-8")
    return root


def load(root: Path, **options: Any) -> Any:
    return read(section("data", "music_avqa", root=str(root), **options))


@cache
def official(root: Path, folder: str = "") -> Any:
    return load(root / "annotations" / "MUSIC-AVQA", annotations=folder)


def questions(annotations: Any, split: str) -> list[Any]:
    return [question for sample in annotations.splits[split] for question in sample.questions]


@pytest.mark.parametrize(
    ("folder", "val", "test", "repeated"), [("", 4595, 9185, (27, 55)), ("json_update", 4568, 9129, (0, 0))]
)
def test_official_files(shared_data: Path, folder: str, val: int, test: int, repeated: tuple[int, int]) -> None:
    found = official(shared_data, folder)
    assert found.labels.names == MUSIC_AVQA_ANSWERS
    assert {split: len(questions(found, split)) for split in found.splits} == {"train": 0, "val": val, "test": test}
    assert [len(found.splits[split]) for split in ("val", "test")] == [3815, 6399]
    for split, count in zip(("val", "test"), repeated, strict=True):
        note = f"{split}: {count} question ids occur more than once, {count} of them with conflicting answers"
        assert any(line.startswith(note) for line in found.notes) == bool(count)
    assert found.sources["test"].startswith(f"{folder or 'json'}/avqa-test.json, {test} questions about 6399 videos")


def test_official_types(shared_data: Path) -> None:
    found = official(shared_data)
    assert Counter(question.type for question in questions(found, "test")) == {
        "Audio Counting": 1022, "Audio Comparative": 601, "Visual Counting": 1199, "Visual Location": 1228,
        "Audio-Visual Existential": 995, "Audio-Visual Location": 927, "Audio-Visual Counting": 1274,
        "Audio-Visual Comparative": 1115, "Audio-Visual Temporal": 824,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("version", "val", "test", "borrowed"), [("balance", 5346, 10819, (101, 226)), ("bias", 4499, 9119, (20, 29))]
)
def test_second_version(shared_data: Path, version: str, val: int, test: int, borrowed: tuple[int, int]) -> None:
    found = load(shared_data / "annotations" / "MUSIC-AVQA-v2.0", version=version)
    assert [len(questions(found, split)) for split in ("val", "test")] == [val, test]
    for split, count in zip(("val", "test"), borrowed, strict=True):
        other = [sample for sample in found.splits[split] if sample.sound is not None]
        assert sum(len(sample.questions) for sample in other) == count


def test_the_second_version_has_two(shared_data: Path) -> None:
    with pytest.raises(DataError, match=r"several versions \(balance, bias\); choose one with --data.version"):
        load(shared_data / "annotations" / "MUSIC-AVQA-v2.0")


def test_synthetic_videos_alone(shared_data: Path) -> None:
    found = load(shared_data / "annotations" / "MUSIC-AVQA", version="fake")
    assert [len(questions(found, split)) for split in ("train", "val", "test")] == [6233, 897, 1783]


def test_ave_mini(shared_data: Path) -> None:
    found = load(shared_data / "ave-mini")
    assert [len(questions(found, split)) for split in ("train", "val", "test")] == [2352, 504, 672]
    assert len(found.labels.names) == 28
    assert {len(sample.questions) for sample in found.samples} == {6}
    assert all(sample.video.is_file() for sample in found.samples)
    assert "electric guitar" in found.labels.vocabulary.words


def test_samples_are_videos_with_all_their_questions(tmp_path: Path) -> None:
    train = [row("v0"), row("a/b"[0], 2), row("v0", 3, anser="no", type='["Visual", "Location"]')]
    root = write(tmp_path, "json", avqa__train=train, avqa__test=[row("v0", 4)])
    (root / "MUSIC-AVQA-videos-Real").mkdir()
    (root / "MUSIC-AVQA-videos-Real" / "v0.mkv").touch()
    found = load(root, segments=4, seconds="every")
    first, second = found.splits["train"]
    assert isinstance(first, QuestionSample)
    assert (first.key, first.video.name, first.segments, first.seconds) == ("train-00000-v0", "v0.mkv", 4, "every")
    assert second.video == root / "videos" / "a.mp4"
    assert [(q.question_id, q.type, q.answer) for q in first.questions] == [
        ("1", "Audio Counting", "two"), ("3", "Visual Location", "no"),
    ]  # fmt: skip
    assert "There is no file of val questions." in found.notes
    assert "1 video has questions in more than one split: the splits are of questions." in found.notes


def test_the_original_goes_before_the_corrected_release(tmp_path: Path) -> None:
    write(tmp_path, "json", avqa__test=[row(anser="one")])
    write(tmp_path, "json_update", avqa__test=[row(anser="zero")])
    assert questions(load(tmp_path), "test")[0].answer == "one"
    corrected = load(tmp_path, annotations="json_update")
    assert questions(corrected, "test")[0].answer == "zero"
    assert corrected.sources["test"].startswith("json_update/avqa-test.json, 1 question ")


def test_what_is_odd_is_told(tmp_path: Path) -> None:
    train = [row(), row("v1", 1.0, anser="no"), row("v2", 5, question_deleted="1")]
    test = [row("v3", 9, anser="never heard of", question_content="How loud?"), row("v4", None, templ_values=[])]
    found = load(write(tmp_path, avqa__train=train, avqa__test=test))
    text = "\n".join(found.notes)
    assert "1 questions are marked as deleted and were left out." in text
    assert "train: 1 question id occurs more than once, 1 of them with conflicting answers" in text
    assert "test: 1 question has an answer that no training question has, so always wrong: never heard of." in text
    assert "test: 1 word left out, which no training question has: loud." in text
    assert len(questions(found, "train")) == 2


def test_questions_longer_than_those_of_training_are_told(tmp_path: Path) -> None:
    train = [row(question_content="How many instruments sound?"), row("v1", 2, question_content="How loud?")]
    test = [
        row("v2", 3, question_content="How many loud instruments sound?"),
        row("v3", 4, question_content="How many big instruments sound?"),  # a word that is unknown is left out anyway
    ]
    found = load(write(tmp_path, avqa__train=train, avqa__test=test))
    assert [note for note in found.notes if "more than" in note] == [
        "test: 1 question has more than 4 words, the most in training, and the rest is left out, such as in 'How many "
        "loud instruments sound'."
    ]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ({"a": 1}, r"avqa-train.json holds an object; expected a list of questions"),
        ([], r"holds no questions"),
        ([row(), 7], r"question 2: found a number; expected an object"),
        ([row(video_id="")], r"question 1: video_id: found ''; expected text"),
        ([{k: v for k, v in row().items() if k != "anser"}], r"question 1: anser: found no such field; expected text"),
        ([row(video_id="../x")], r"found the video_id '../x'; expected a file name"),
        ([row(question_content="  ")], r"question_content: found '  '; expected text"),
        ([row(question_content="?")], r"the question '\?' has no words"),
        ([row(anser=3)], r"anser: found 3; expected text"),
        ([row(type="Audio")], r"found type 'Audio'; expected a JSON list of words"),
        ([row(type='["Audio"]')], r"expected two words, as in"),
        ([row(templ_values="[")], r"found templ_values '\['; expected a JSON list"),
        ([row(question_content="Is <Object> heard?")], r"has 1 slots, but there are 0 values for them in 'Is <Object>"),
    ],
)  # fmt: skip
def test_bad_rows_are_refused(tmp_path: Path, rows: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        load(write(tmp_path, avqa__train=rows))


def test_broken_json_says_where(tmp_path: Path) -> None:
    (tmp_path / "avqa-train.json").write_text('[\n{"video_id": "a",}]', encoding="utf-8")
    with pytest.raises(DataError, match=r"avqa-train.json, line 2, column 18: not JSON"):
        load(tmp_path)
    (tmp_path / "avqa-train.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="is not UTF-8 text"):
        load(tmp_path)


def test_folders_that_hold_no_questions(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"There is no folder .*nowhere \(--data.root\); expected avqa-train.json"):
        load(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"There are no questions in .*; expected avqa-train.json"):
        load(tmp_path)
    write(tmp_path, "deep/down", avqa__val=[row()])
    with pytest.raises(DataError, match=r"Such files are in .*down: point --data.annotations there"):
        load(tmp_path)
    assert len(questions(load(tmp_path, annotations="deep/down"), "val")) == 1
    with pytest.raises(DataError, match=r"no questions of the version 'real' in"):
        load(tmp_path, annotations="deep/down", version="real")


def test_verify_counts_questions(tmp_path: Path) -> None:
    root = write(tmp_path, avqa__train=[row(), row("v1", 2), row("v1", 3)], avqa__test=[row("v0", 4)])
    (root / "videos").mkdir()
    make_video(root / "videos" / "v0.mp4", seconds=2)
    report = verify(load(root, segments=2), workers=0, progress=False)
    assert [Path(name).name for name in report.missing] == ["v1.mp4"]
    text = "\n".join(report.lines())
    assert "2 videos, 42 answers." in text
    assert "train: 3 questions of 1 type about 2 videos (1 that opens)." in text
    assert report.overlaps == {}
    assert json.loads(json.dumps(report.to_dict()))["splits"]["train"]["types"] == {"Audio Counting": 3}
