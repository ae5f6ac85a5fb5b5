"""LLP's files: the official ones with their faults, and small ones with every oddity that the format allows."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from avpea import data
from avpea.data.readers import llp
from avpea.data.readers._files import safe
from avpea.data.verify import verify
from avpea.errors import DataError
from tests.tiny import section

DENSE = "filename\tonset\toffset\tevent_labels"
WEAK = "filename\tevent_labels"
IDS = {split: f"{split:_<11}_0_10" for split in ("train", "val", "test")}
FILES = {
    "AVVP_train.csv": [WEAK, f"{IDS['train']}\tDog,Speech"],
    "AVVP_val_pd.csv": [WEAK, f"{IDS['val']}\tDog"],
    "AVVP_test_pd.csv": [WEAK, f"{IDS['test']}\tCar,Dog"],
    "AVVP_eval_visual.csv": [DENSE, f"{IDS['val']}\t2\t5\tDog", f"{IDS['test']}\t0\t3\tCar"],
    "AVVP_eval_audio.csv": [DENSE, f"{IDS['test']}\t0\t10\tDog", f"{IDS['test']}\t1\t2\tCar"],
}


def write(root: Path, **changed: Any) -> Path:
    """The files, with lines added: `train=["..."]`, or lines replaced: `audio=[...]` after `fresh=True`."""
    root.mkdir(exist_ok=True)
    names = {"train": "AVVP_train.csv", "val": "AVVP_val_pd.csv", "test": "AVVP_test_pd.csv"}
    names |= {"visual": "AVVP_eval_visual.csv", "audio": "AVVP_eval_audio.csv"}
    for name, lines in FILES.items():
        added: list[str] = [line for key, one in names.items() if one == name for line in changed.get(key, [])]
        (root / name).write_text("\n".join([*lines, *added]) + "\n", encoding="utf-8")
    return root


def read(root: Path, segments: int = 10) -> Any:  # annotations with lanes
    return data.read(section("data", "llp", root=str(root), segments=segments))


# --- official files


@pytest.fixture(scope="module")
def official(shared_data: Path) -> Any:
    folder = shared_data / "annotations" / "LLP-AVVP"
    if not folder.is_dir():
        pytest.skip("LLP's annotation files are not on this machine")
    return read(folder)


def test_official_splits_and_classes(official: Any) -> None:
    assert {split: len(some) for split, some in official.splits.items()} == {"train": 10_000, "val": 649, "test": 1200}
    assert (official.name, official.labels.names) == ("LLP", llp.LLP_CLASSES)
    assert len({sample.key for sample in official.samples}) == len({s.video_id for s in official.samples}) == 11_849
    assert all(sample.seen is None for sample in official.splits["train"])
    assert all(sample.seen is not None for split in ("val", "test") for sample in official.splits[split])
    assert {len(s.classes) for s in official.samples} == {1, 2, 3, 4, 5, 7}
    per_class = Counter(label for sample in official.samples for label in sample.classes)
    assert (per_class[0], min(per_class.values()), llp.LLP_CLASSES[21]) == (5978, 118, "Telephone_bell_ringing")
    decimal = [sample for sample in official.splits["train"] if "_8_5_18_5" in sample.key]
    assert [one.video.name for one in decimal] == ["ApKgnUPayqU.mp4"]


def test_official_faults_are_told(official: Any) -> None:
    told = "\n".join(official.notes)
    assert "AVVP_eval_audio.csv has 8 clips that are in no split" in told
    assert "AVVP_eval_visual.csv has 7 clips that are in no split" in told
    assert "AVVP_eval_audio.csv says 8 rows twice" in told
    assert "121 test clips have no event that is seen" in told
    assert "70 val clips have no event that is seen" in told
    assert "33 test clips have an event that their weak label lacks" in told
    assert "21 val clips have an event that their weak label lacks" in told
    reasons = Counter(one.rpartition(" s ")[2] for one in official.lost)
    assert reasons["has no length"] == 4  # and the fifth is of a clip that is in no split
    assert reasons["ends before it begins"] == 1
    assert "8DF2PxdT5tE_390_400: 'Cheering' heard 9-0 s ends before it begins" in official.lost
    assert sum(reasons.values()) - reasons["is of a clip that is in no split"] == 5
    assert len(official.labels.told(official.splits["test"][0])) > 10


def test_official_weak_labels_are_mostly_the_union_of_the_events(official: Any) -> None:
    events: dict[str, set[str]] = {}
    for stream in ("visual", "audio"):
        lines = (official.root / f"AVVP_eval_{stream}.csv").read_text().splitlines()[1:]
        for name, _, _, label in (line.split("\t") for line in lines):
            events.setdefault(name, set()).add(label)
    for split, equal in (("test", 1149), ("val", 619)):
        names = {safe(name): labels for name, labels in events.items()}
        weak = {s.key[len(split) + 7 :]: {llp.LLP_CLASSES[i] for i in s.classes} for s in official.splits[split]}
        assert sum(names[name] == classes for name, classes in weak.items()) == equal


# --- small files


def test_weak_and_dense_labels(tmp_path: Path) -> None:
    found = read(write(tmp_path / "mine"))
    speech, car, dog = (llp.LLP_CLASSES.index(name) for name in ("Speech", "Car", "Dog"))
    (train,), (val,), (test,) = (found.splits[split] for split in ("train", "val", "test"))
    assert (train.classes, train.seen, train.heard) == ((speech, dog), None, None)
    assert [second for second, labels in enumerate(val.seen) if labels == (dog,)] == [2, 3, 4]
    assert not any(val.heard)
    assert test.seen[:4] == ((car,), (car,), (car,), ())
    assert test.heard[:3] == ((dog,), (car, dog), (dog,))
    assert test.video == tmp_path / "mine" / "video" / "test_______.mp4"
    assert found.lost == ()
    assert "1 val clip has no event that is heard: val________." in found.notes


def test_videos_are_found_where_the_public_code_has_them(tmp_path: Path) -> None:
    root = write(tmp_path / "mine")
    for folder, name in (("LLP_dataset/video", "train"), ("videos", "val"), ("audio", "test")):
        (root / folder).mkdir(parents=True)
        (root / folder / f"{name:_<11}.{'wav' if folder == 'audio' else 'mp4'}").touch()
    places = {sample.split: sample.video.relative_to(root).as_posix() for sample in read(root).samples}
    assert places == {
        "train": "LLP_dataset/video/train______.mp4",
        "val": "videos/val________.mp4",
        "test": "video/test_______.mp4",  # the sound alone is not taken for it
    }


def test_rows_that_label_nothing_are_counted(tmp_path: Path) -> None:
    test = IDS["test"]
    rows = [f"{test}\t9\t0\tDog", f"{test}\t3\t3\tDog", f"{test}\t10\t12\tDog", "short_0_10\t0\t3\tDog"]
    root = write(
        tmp_path / "mine", audio=[*rows, f"{test}\t8\t14\tCar", f"{test}\t8\t14\tCar"], train=["short_0_10\tDog"]
    )
    found = read(root)
    assert [one.partition(": ")[2] or one for one in found.lost] == [
        "its id has 5 characters; video files are called by 11",
        "'Dog' heard 9-0 s ends before it begins",
        "'Dog' heard 3-3 s has no length",
        "'Dog' heard 10-12 s begins after the 10 s of a clip",
        "'Dog' heard 0-3 s is of a clip that is in no split",
    ]
    assert len(found.splits["train"]) == 1
    car = llp.LLP_CLASSES.index("Car")
    assert [second for second, labels in enumerate(found.splits["test"][0].heard) if car in labels] == [1, 8, 9]
    told = "\n".join(found.notes)
    assert "says 1 row twice" in told
    assert "1 clip has events beyond the 10 seconds" in told
    report = verify(found, workers=0, progress=False)
    assert "5 annotations label no second" in "\n".join(report.lines())
    assert not report.ok  # no video is there


def test_training_clips_with_rows_of_events_are_labelled_second_by_second(tmp_path: Path) -> None:
    found = read(write(tmp_path / "mine", visual=[f"{IDS['train']}\t0\t1\tDog"], train=[f"{'empty':_<11}_0_10\t"]))
    first, second = found.splits["train"]
    assert first.seen[0] == first.heard[0] + (llp.LLP_CLASSES.index("Dog"),)
    assert second.classes == ()
    assert second.seen == second.heard == ((),) * 10


def test_of_a_training_clip_whose_only_row_is_faulty_the_seconds_are_not_known(tmp_path: Path) -> None:
    (clip,) = read(write(tmp_path / "mine", visual=[f"{IDS['train']}\t9\t0\tDog"])).splits["train"]
    assert clip.classes
    assert (clip.seen, clip.heard) == (None, None)
    rows = [f"{IDS['train']}\t9\t0\tDog", f"{IDS['train']}\t1\t2\tDog"]
    (clip,) = read(write(tmp_path / "both", visual=rows)).splits["train"]
    assert [bool(second) for second in clip.seen] == [False, True, *[False] * 8]


def test_classes_of_ones_own(tmp_path: Path) -> None:
    root = write(tmp_path / "mine", train=[f"{'other':_<11}_0_10\tDogg"])
    with pytest.raises(DataError, match=r"uses the class 'Dogg', which is none of LLP's.*Did you mean 'Dog'"):
        read(root)
    (root / "categories.txt").write_text("Dogg\nDog\nCar\nSpeech\n")
    assert read(root).labels.names == ("Dogg", "Dog", "Car", "Speech")
    (root / "categories.txt").write_text("Dog\nDog\nCar\nSpeech\n")
    with pytest.raises(DataError, match="lists Dog; expected each class name once"):
        read(root)


def test_a_set_to_evaluate_on_needs_one_split(tmp_path: Path) -> None:
    root = write(tmp_path / "mine")
    (root / "AVVP_train.csv").unlink()
    (root / "AVVP_val_pd.csv").unlink()
    found = read(root)
    assert len(found.splits["test"]) == 1
    assert "There are no train rows." in found.notes
    (root / "AVVP_eval_audio.csv").unlink()
    with pytest.raises(DataError, match=r"has no AVVP_train\.csv, AVVP_val_pd\.csv, AVVP_eval_audio\.csv"):
        read(root)
    with pytest.raises(DataError, match=r"Tables were found in .*mine: point --data.root there"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("table", "line", "said"),
    [
        ("train", "a b", r"AVVP_train.csv, line 3: found 1 fields"),
        ("train", "noclip\tDog", r"found the filename 'noclip'; expected a YouTube id"),
        ("train", "../../../a_0_10\tDog", r"expected a file name without folder"),
        ("train", FILES["AVVP_train.csv"][1], r"is there already, in line 2; expected one row a clip"),
        ("audio", f"{IDS['test']}\t1.5\t3\tDog", r"found '1.5' to '3'; expected onset and offset in whole seconds"),
        ("audio", f"{IDS['test']}\t-1\t3\tDog", r"expected onset and offset in whole seconds"),
        ("audio", f"{IDS['test']}\t1\t3\tDog,Car", r"found the label 'Dog,Car'; expected one class a row"),
        ("audio", f"{IDS['test']}\t1\t3\t", r"found the label ''"),
        ("visual", f"{IDS['test']}\t1\t3", r"found 3 fields.*expected 4"),
    ],
)
def test_a_wrong_line_is_named(table: str, line: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=said):
        read(write(tmp_path / "mine", **{table: [line]}))


def test_a_table_with_commas_is_refused(tmp_path: Path) -> None:
    root = write(tmp_path / "mine")
    (root / "AVVP_train.csv").write_text("filename,event_labels\na_0_10,Dog\n")
    with pytest.raises(DataError, match="found the header 'filename,event_labels'; expected filename, event"):
        read(root)
