"""Annotations in the layouts of AVE, MUSIC-AVQA, VALOR-32K and class folders: the right rows, or a sentence."""

import functools
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from avpea import data, registry
from avpea.data.pack import pack
from avpea.data.readers._files import by_stem
from avpea.data.readers.ave import parse
from avpea.experiment import parse_section
from avpea.labels.questions import tokenise
from tests.properties.kinds import PLAIN, TEXTS, outcome, read, spoiled_bytes, spoiled_value

LINES = [
    "Category&VideoID&Quality&StartTime&EndTime",
    "Bark&a-b&good&0&3",
    "Frying (food), x&c&bad&2&10",
    "é [x]&d&good&1&2",
]


def test_every_reader_has_properties() -> None:
    covered = {"ave", "music_avqa", "valor32k", "folders", "own", "manifest", "captions", "shards"}
    covered |= {"llp", "lanes", "masks", "avs_s4", "avs_ms3", "avss"}  # test_lane_and_mask_properties.py
    assert {name for name in registry.names("reader") if not name.endswith("_features")} == covered


def write_lines(root: Path, text: bytes, split: bytes | None = None) -> Path:
    root.mkdir(exist_ok=True)
    for name in ("Annotations.txt", "trainSet.txt", "valSet.txt", "testSet.txt"):
        (root / name).write_bytes(text if name != "valSet.txt" or split is None else split)
    return root


@given(st.lists(st.tuples(PLAIN, PLAIN, st.integers(-1, 12), st.integers(-1, 12)), min_size=1, max_size=5),
       st.sampled_from(["\n", "\r\n"]), st.booleans())  # fmt: skip
def test_rows_of_ave_are_as_a_plain_formula_has_them(tmp_path: Path, rows: list[Any], end: str, header: bool) -> None:
    text = end.join([*LINES[:1] * header, *(f"{a}&{b}&good&{c}&{d}" for a, b, c, d in rows)])
    root = write_lines(tmp_path / "set", text.encode())
    found = outcome(functools.partial(read, "ave", root))
    if found is None:
        return
    names = (*found.labels.names, "")
    for sample, (category, video, start, stop) in zip(found.splits["test"], rows, strict=True):
        wanted = [category.strip() if start <= second < stop else "" for second in range(10)]
        assert [names[label] for label in sample.labels] == wanted  # type: ignore[attr-defined]
        assert sample.video_id == video.strip()


@given(spoiled_bytes("\n".join(LINES).encode()), st.booleans())
def test_a_damaged_file_of_ave_is_read_right_or_refused(tmp_path: Path, found: bytes, everywhere: bool) -> None:
    root = write_lines(tmp_path / "set", found if everywhere else "\n".join(LINES).encode(), found)
    outcome(functools.partial(read, "ave", root))
    rows = outcome(lambda: parse(root / "valSet.txt"))
    if rows is not None and not found.startswith((b"\xff\xfe", b"\xfe\xff")) and b"\0" not in found:
        text = found.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
        lines = [[part.strip() for part in line.split("&")] for line in text.split("\n") if line.strip()]
        lines = lines[1:] if lines[0][0].lower() == "category" and not lines[0][-1].isdigit() else lines
        assert [(r.category, r.video_id, r.start_seconds, r.end_seconds) for r in rows] == [
            (a, b, int(c), int(d)) for a, b, _, c, d in lines
        ]


@given(st.lists(TEXTS, max_size=4))
def test_any_list_of_categories_is_used_or_refused(tmp_path: Path, names: list[str]) -> None:
    root = write_lines(tmp_path / "set", b"Bark&a&good&0&3\nCat&b&good&0&3")
    (root / "categories.txt").write_bytes("\n".join(["Bark", *names, "Cat"]).encode(errors="surrogatepass"))
    found = outcome(functools.partial(read, "ave", root))
    if found is not None:
        assert found.labels.names[0] == "Bark"
        assert [found.labels.names[label] for label in found.samples[0].labels[:3]] == ["Bark"] * 3  # type: ignore[attr-defined]


QUESTIONS = [
    {"video_id": "a", "question_id": 1, "type": '["Audio", "Counting"]', "question_content": "How many <Object> sound?",
     "templ_values": '["acoustic guitar"]', "question_deleted": 0, "anser": "two"},
    {"video_id": "b", "question_id": "2", "type": ["Visual", "Location"], "question_content": "Where is it ?",
     "templ_values": [], "unmatch_audio": "a", "answer": "left"},
]  # fmt: skip
DESCRIBED = [
    {"video_id": "a", "desc": "A dog."},
    {"video_id": "b", "caption": "A  cat."},
    {"video_id": "a", "desc": "é"},
]
MAPPED = {"a": "A dog.", "b": ["A cat.", "It sleeps."]}


def write_questions(root: Path, text: str) -> Path:
    root.mkdir(exist_ok=True)
    for split in ("train", "val", "test"):
        (root / f"avqa-{split}.json").write_text(text)
    return root


@given(spoiled_value(QUESTIONS))
def test_odd_questions_are_read_right_or_refused(tmp_path: Path, rows: Any) -> None:
    root = write_questions(tmp_path / "set", json.dumps(rows))
    found = outcome(functools.partial(read, "music_avqa", root))
    if found is None:
        return
    wanted: dict[tuple[str, str], list[Any]] = {}
    for row in rows:
        if row.get("question_deleted") in (None, 0, False, "0"):
            values = row.get("templ_values", [])
            slots = json.loads(values) if isinstance(values, str) else values
            words = tokenise(row["question_content"].strip(), [slot.strip() for slot in slots])
            answer = row["anser"] if "anser" in row else row["answer"]
            wanted.setdefault((row["video_id"].strip(), row.get("unmatch_audio") or ""), []).append(
                (words, answer.strip())
            )
    samples = found.splits["train"]
    assert [[(one.words, one.answer) for one in sample.questions] for sample in samples] == list(wanted.values())  # type: ignore[attr-defined]
    assert [sample.video_id for sample in samples] == [video for video, _ in wanted]


@given(spoiled_value(DESCRIBED), spoiled_value(MAPPED), spoiled_value(["a", "b"]))
def test_odd_captions_are_read_right_or_refused(tmp_path: Path, rows: Any, mapped: Any, ids: Any) -> None:
    described, listed = tmp_path / "described", tmp_path / "listed"
    described.mkdir(exist_ok=True)
    listed.mkdir(exist_ok=True)
    (described / "desc_train.json").write_text(json.dumps(rows))
    (listed / "txt_mapper.json").write_text(json.dumps(mapped))
    (listed / "test_id.json").write_text(json.dumps(ids))
    found = outcome(functools.partial(read, "valor32k", described))
    if found is not None:
        wanted: dict[str, list[str]] = {}
        for row in rows:
            text = row["desc"] if "desc" in row else row["caption"]
            wanted.setdefault(row["video_id"], []).append(" ".join(text.split()))
        assert {one.video_id: list(one.captions) for one in found.splits["train"]} == wanted  # type: ignore[attr-defined]
    found = outcome(functools.partial(read, "valor32k", listed))
    if found is not None:
        table = {name: [one] if isinstance(one, str) else one for name, one in mapped.items()}
        told = {one.video_id: list(one.captions) for one in found.splits["test"]}  # type: ignore[attr-defined]
        assert told == {name: [" ".join(one.split()) for one in table[name]] for name in ids}


@pytest.mark.parametrize(
    ("reader", "name", "whole"),
    [("music_avqa", "avqa-train.json", QUESTIONS), ("valor32k", "desc_train.json", DESCRIBED)],
)
@given(drawn=st.data())
def test_damaged_json_is_read_or_refused(tmp_path: Path, reader: str, name: str, whole: Any, drawn: Any) -> None:
    root = tmp_path / "set"
    root.mkdir(exist_ok=True)
    (root / name).write_bytes(drawn.draw(spoiled_bytes(json.dumps(whole, indent=1).encode())))
    outcome(functools.partial(read, reader, root))


# As names of files and folders: without slash and null, of at most 255 bytes.
FILES = TEXTS.map(lambda text: re.sub("[\0\ud800-\udc7f\udd00-\udfff]", "", text.replace("/", "∕"))[:60]).filter(
    lambda text: text.strip(". ") != ""
)


@given(st.dictionaries(FILES, st.lists(FILES, max_size=3), max_size=4), st.sampled_from(["folders", "own"]))
def test_folders_of_any_names_are_read_right_or_refused(
    tmp_path_factory: pytest.TempPathFactory, folders: dict[str, list[str]], reader: str
) -> None:
    root = tmp_path_factory.mktemp("folders") / "set"
    for folder, files in folders.items():
        (root / folder.strip()).mkdir(parents=True, exist_ok=True)
        for file in files:
            (root / folder.strip() / f"{file}.mp4").write_bytes(b"")
    root.mkdir(exist_ok=True)
    found = outcome(functools.partial(read, reader, root, segments=2))
    if found is not None:
        classes = {folder.strip() for folder in folders if folder.strip() not in ("background",)}
        assert set(found.labels.names) == {name for name in classes if not name.startswith(".")}
        names = (*found.labels.names, "background")
        for sample in found.samples:
            assert names[sample.labels[0]] == sample.video_id.split("/")[0]  # type: ignore[attr-defined]


@given(st.lists(FILES, max_size=5))
def test_videos_are_found_by_any_name(tmp_path_factory: pytest.TempPathFactory, names: list[str]) -> None:
    root = tmp_path_factory.mktemp("videos")
    for name in names:
        (root / f"{name}.mp4").write_bytes(b"")
    assert set(by_stem([root])) == set(names)


@given(st.binary(max_size=40), st.sampled_from(["labels.h5", "train_order.h5", "visual_feature.h5"]))
def test_files_of_features_that_are_none_are_refused(tmp_path: Path, junk: bytes, name: str) -> None:
    h5py = pytest.importorskip("h5py")
    root = tmp_path / "features"
    root.mkdir(exist_ok=True)
    for file, table, values in (
        ("labels.h5", "avadataset", np.eye(29)[np.arange(20) % 29].reshape(2, 10, 29)),
        ("train_order.h5", "order", np.array([1, 0])),
        ("visual_feature.h5", "avadataset", np.zeros((2, 10, 1, 1, 4))),
        ("audio_feature.h5", "avadataset", np.zeros((2, 10, 4))),
    ):
        with h5py.File(root / file, "w") as opened:
            opened[table] = values
    whole = (root / name).read_bytes()
    (root / name).write_bytes(whole[:20] + junk + whole[20 + len(junk) :])
    outcome(functools.partial(read, "ave_features", root))


@given(st.sampled_from(["index.json", "train-000000.jsonl"]), st.data())
def test_damaged_files_of_shards_are_read_as_they_were_or_refused(tmp_path: Path, name: str, drawn: Any) -> None:
    """Every byte of a list counts by its checksum; what is changed in the index is another data set, or refused."""
    table, root = tmp_path / "table.csv", tmp_path / "shards"
    if not root.exists():
        (tmp_path / "a.mp4").write_bytes(b"no video")
        table.write_text("video,start_seconds,end_seconds,label,split\na.mp4,0,1,dog,train\n")
        options = parse_section("data", name="manifest", root=str(table))
        pack(data.read(options), options, root, progress=False)
    whole = (root / name).read_bytes()
    (root / name).write_bytes(drawn.draw(spoiled_bytes(whole)))
    try:
        found = outcome(functools.partial(read, "shards", root))
    finally:
        (root / name).write_bytes(whole)
    if found is not None:
        assert [sample.video_id for sample in found.samples] == ["a.mp4"]
