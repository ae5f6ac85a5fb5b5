"""Tables of lanes and of masks, and those of LLP and AVSBench: the right rows, or a sentence."""

import csv
import functools
import io
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avpea.data.readers.llp import LLP_CLASSES
from tests.properties.kinds import PLAIN, TEXTS, outcome, read, spoiled_bytes

ID = "abcdefghijk"
WEAK = f"filename\tevent_labels\n{ID}_0_10\tSpeech,Dog\nb-_defghijk_30_40\tCar\n".encode()
TIMED = f"filename\tonset\toffset\tevent_labels\n{ID}_0_10\t0\t4\tSpeech\n{ID}_0_10\t3\t9\tDog\n".encode()
LANES = b"video,start_seconds,end_seconds,label,lane,split\na.mp4,0,2.5,dog,heard,train\na.mp4,1,4,cat,both,train\n"
MASKS = b"video,second,mask,other,split\na.mp4,0,m0.png,o0.png,train\na.mp4,2,,,train\nb.mp4,1,m1.png,,test\n"
AVSBENCH = {
    "avs_s4": ("s4_meta_data.csv", f"name,start,category,split\n{ID},0,dog,train\nabc,3,cat,test\n".encode()),
    "avs_ms3": ("ms3_meta_data.csv", f"video_id,split\n{ID},train\nabc,val\n".encode()),
    "avss": ("metadata.csv", f"uid,label,split\n{ID},v1s,train\nabc,v2,test\n".encode()),
}


def write_llp(root: Path, weak: bytes, seen: bytes, heard: bytes) -> Path:
    root.mkdir(exist_ok=True)
    for name in ("train", "val_pd", "test_pd"):
        (root / f"AVVP_{name}.csv").write_bytes(weak if name == "val_pd" else WEAK.split(b"\n")[0] + b"\n")
    (root / "AVVP_eval_visual.csv").write_bytes(seen)
    (root / "AVVP_eval_audio.csv").write_bytes(heard)
    return root


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 12), st.integers(0, 12), st.sampled_from(LLP_CLASSES)),
                max_size=6))  # fmt: skip
def test_seconds_of_llp_are_as_a_plain_formula_has_them(tmp_path: Path, rows: list[Any]) -> None:
    head = "filename\tonset\toffset\tevent_labels\n"
    tables = [
        head + "".join(f"{ID}_0_10\t{a}\t{b}\t{label}\n" for stream, a, b, label in rows if stream == which)
        for which in (True, False)
    ]
    found = outcome(functools.partial(read, "llp", write_llp(tmp_path / "set", WEAK, *(t.encode() for t in tables))))
    if found is None:
        return
    sample: Any = found.splits["val"][0]
    if sample.seen is None:
        assert not [one for one in rows if one[1] < min(one[2], 10)]
        return
    for which, lane in ((True, sample.seen), (False, sample.heard)):
        for second in range(10):
            wanted = {LLP_CLASSES.index(c) for stream, a, b, c in rows if stream == which and a <= second < b}
            assert set(lane[second]) == wanted


@given(spoiled_bytes(WEAK), spoiled_bytes(TIMED), st.sampled_from([0, 1, 2]))
def test_damaged_tables_of_llp_are_read_right_or_refused(tmp_path: Path, weak: bytes, timed: bytes, which: int) -> None:
    tables = [weak if which == 0 else WEAK, timed if which == 1 else TIMED, timed if which == 2 else TIMED]
    outcome(functools.partial(read, "llp", write_llp(tmp_path / "set", *tables)))


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40), PLAIN, st.sampled_from(["seen", "heard", "both"])),
                min_size=1, max_size=5))  # fmt: skip
def test_seconds_of_lanes_are_as_a_plain_formula_has_them(tmp_path: Path, rows: list[Any]) -> None:
    table = io.StringIO()
    lines = [("a.mp4", a / 4, b / 4, label, lane, "train") for a, b, label, lane in rows]
    csv.writer(table).writerows([("video", "start_seconds", "end_seconds", "label", "lane", "split"), *lines])
    (tmp_path / "set.csv").write_bytes(table.getvalue().encode())
    found = outcome(functools.partial(read, "lanes", tmp_path / "set.csv", segments=10))
    if found is None:
        return
    names, sample = found.labels.class_names, found.splits["train"][0]  # type: ignore[attr-defined]
    for stream in ("seen", "heard"):
        for second, labels in enumerate(getattr(sample, stream)):
            assert [names[one] for one in labels] == sorted(names[one] for one in labels)
            for a, b, label, lane in rows:
                long = min(b / 4, second + 1) - max(a / 4, second) >= 0.5  # an event alone is enough; others may add
                if long and lane in (stream, "both"):
                    assert label.strip() in {names[one] for one in labels}


@given(spoiled_bytes(LANES))
def test_damaged_tables_of_lanes_are_read_right_or_refused(tmp_path: Path, found: bytes) -> None:
    (tmp_path / "set.csv").write_bytes(found)
    outcome(functools.partial(read, "lanes", tmp_path / "set.csv"))


@given(st.dictionaries(st.integers(0, 9), st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=6))
def test_masks_belong_to_the_seconds_that_the_table_says(tmp_path: Path, rows: dict[int, tuple[bool, bool]]) -> None:
    lines = [f"a.mp4,{k},{f'm{k}.png' * mask},{f'o{k}.png' * other},train" for k, (mask, other) in rows.items()]
    (tmp_path / "masks.csv").write_text("\n".join(["video,second,mask,other,split", *lines]))
    found = read("masks", tmp_path, segments=10)
    sample: Any = found.splits["train"][0]
    for second in range(10):
        mask, other = rows.get(second, (None, None))
        assert sample.masks[second] == (None if mask is None else str(tmp_path / f"m{second}.png") * mask)
        if any(one for _, one in rows.values()):
            assert sample.others[second] == (None if other is None else str(tmp_path / f"o{second}.png") * other)


@given(spoiled_bytes(MASKS))
def test_damaged_tables_of_masks_are_read_right_or_refused(tmp_path: Path, found: bytes) -> None:
    (tmp_path / "masks.csv").write_bytes(found)
    outcome(functools.partial(read, "masks", tmp_path))


@pytest.mark.parametrize("reader", list(AVSBENCH))
@given(drawn=st.data())
def test_damaged_tables_of_avsbench_are_read_right_or_refused(tmp_path: Path, reader: str, drawn: Any) -> None:
    name, whole = AVSBENCH[reader]
    (tmp_path / name).write_bytes(drawn.draw(spoiled_bytes(whole)))
    outcome(functools.partial(read, reader, tmp_path))


@pytest.mark.parametrize("reader", list(AVSBENCH))
@given(names=st.lists(TEXTS, min_size=1, max_size=4))
def test_any_ids_of_avsbench_are_kept_or_refused(tmp_path: Path, reader: str, names: list[str]) -> None:
    name, whole = AVSBENCH[reader]
    header, first = whole.decode().splitlines()[:2]
    table = io.StringIO()
    csv.writer(table, lineterminator="\n").writerows([one, *first.split(",")[1:]] for one in names)
    (tmp_path / name).write_bytes(f"{header}\n{table.getvalue()}".encode(errors="surrogatepass"))
    found = outcome(functools.partial(read, reader, tmp_path))
    if found is not None:
        assert [sample.video_id for sample in found.splits["train"]] == [one.strip() for one in names if one.strip()]
