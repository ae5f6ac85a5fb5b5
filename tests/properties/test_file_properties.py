"""The files of a run, of a library and of weights, damaged: the same values as before, or a sentence."""

import functools
import json
import math
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from avpea.backbones.weights import read_table
from avpea.checkpoint import load_model, read_info
from avpea.data.identity import DataIdentity, Row, changes, read_identity
from avpea.errors import AvpeaError
from avpea.evaluate import evaluate
from avpea.records import read_records
from avpea.report import report
from avpea.run import RunFolder
from avpea.search._candidates import Candidates, DamagedError
from avpea.search._shown import APART, complaint_about, shown, unpacked_shown
from avpea.search._tokens import packed_tokens
from avpea.tensors import Unreadable, read_tensors, write_tensors
from tests.properties.kinds import ODD, outcome, spoiled_bytes, spoiled_value

TENSORS = {"a": torch.arange(6.0).reshape(2, 3), "é": torch.tensor([True, False]), "c": torch.zeros(0)}


def with_header(values: Any, data: bytes) -> bytes:
    text = json.dumps(values).encode() if not isinstance(values, bytes) else values
    return struct.pack("<Q", len(text)) + text + data


@given(st.data())
def test_a_spoiled_header_is_refused_or_read_as_numpy_reads_it(tmp_path: Path, drawn: Any) -> None:
    path = tmp_path / "a.safetensors"
    save_file(TENSORS, path, {"x": "y"})
    whole = path.read_bytes()
    size = struct.unpack("<Q", whole[:8])[0]
    header = json.loads(whole[8 : 8 + size])
    spoiled = drawn.draw(spoiled_value(header))
    path.write_bytes(with_header(spoiled, whole[8 + size :]))
    try:
        found = read_tensors(path)
    except Unreadable:
        pass
    else:
        kinds = {"F32": np.float32, "BOOL": np.bool_}
        for name, about in spoiled.items():
            if name != "__metadata__" and about["dtype"] in kinds:
                start, stop = about["data_offsets"]
                values: Any = np.frombuffer(whole[8 + size + start : 8 + size + stop], kinds[about["dtype"]])
                assert np.array_equal(found.tensors[name].numpy(), values.reshape(about["shape"]), equal_nan=True)
    outcome(functools.partial(read_table, path, "a model"))


@given(st.data())
def test_a_file_with_checksums_is_whole_or_refused(tmp_path: Path, drawn: Any) -> None:
    path = tmp_path / "a.safetensors"
    write_tensors(path, TENSORS, {"x": "y"})
    whole = path.read_bytes()
    path.write_bytes(drawn.draw(spoiled_bytes(whole)))
    try:
        found = read_tensors(path)
    except Unreadable:
        return
    assert found.metadata == {"x": "y"}
    assert found.tensors.keys() == TENSORS.keys()
    assert all(torch.equal(found.tensors[name], value) for name, value in TENSORS.items())


@given(st.data(), st.sampled_from([".pth", ".safetensors", ".bin"]))
def test_damaged_weights_are_a_table_or_refused(tmp_path: Path, drawn: Any, ending: str) -> None:
    path = tmp_path / f"a{ending}"
    if ending == ".safetensors":
        save_file(TENSORS, path)
    else:
        torch.save({"state_dict": TENSORS}, path, _use_new_zipfile_serialization=ending == ".pth")
    path.write_bytes(drawn.draw(spoiled_bytes(path.read_bytes())))
    found = outcome(functools.partial(read_table, path, "a model"))
    assert all(isinstance(value, torch.Tensor) for value in (found or {}).values())


@given(st.data())
def test_a_damaged_model_is_whole_or_refused(tiny_run: Path, tmp_path: Path, drawn: Any) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(drawn.draw(spoiled_bytes((tiny_run / path.name).read_bytes())))
    if (info := outcome(functools.partial(read_info, path))) is not None:
        assert info.experiment == read_info(tiny_run).experiment
    outcome(functools.partial(load_model, path))


ROWS = {"train": {"a.mp4": Row("dog 0-2", "7-abc"), "a.mp4 (2)": Row("", "")}, "val": {}, "test": {"é": Row("x", "")}}
IDENTITY = DataIdentity("manifest", "rows.csv", "classes", ("dog", "é"), ROWS)


@given(st.data())
def test_a_spoiled_identity_of_data_is_read_or_refused(tmp_path: Path, drawn: Any) -> None:
    IDENTITY.write(tmp_path)
    path = tmp_path / "data.json"
    values = json.loads(path.read_text())
    if drawn.draw(st.booleans()):
        path.write_text(json.dumps(drawn.draw(spoiled_value(values))))
    else:
        path.write_bytes(drawn.draw(spoiled_bytes(path.read_bytes())))
    found = outcome(functools.partial(read_identity, tmp_path))
    if found is not None:
        assert len(found.fingerprint) == 64
        assert all(isinstance(line, str) for line in changes(found, IDENTITY) + changes(IDENTITY, found))
        found.write(tmp_path)
        assert read_identity(tmp_path) == found


@pytest.fixture(scope="module")
def evaluated(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("spoiled") / "run"
    shutil.copytree(tiny_run, run)
    evaluate(run, "test", progress=False)
    report(run, "test", progress=False)
    return run


FILES = ("metrics.jsonl", "skipped.json", "environment.json", "evaluation-test.json", "predictions-test.jsonl",
         "experiment.yaml", "data.json")  # fmt: skip


@pytest.mark.parametrize("name", FILES)
@given(drawn=st.data())
def test_a_run_with_a_damaged_file_is_read_or_refused(
    evaluated: Path, tiny_experiment: Callable[..., Any], name: str, drawn: Any
) -> None:
    path = evaluated / name
    whole = path.read_bytes()
    try:
        if name.endswith((".json", ".jsonl")) and drawn.draw(st.booleans()):
            values = (
                [json.loads(line) for line in whole.decode().splitlines()] if "jsonl" in name else json.loads(whole)
            )
            spoiled = drawn.draw(spoiled_value(values))
            many = "jsonl" in name and isinstance(spoiled, list)
            path.write_text("".join(json.dumps(one) + "\n" for one in spoiled) if many else json.dumps(spoiled))
        else:
            path.write_bytes(drawn.draw(spoiled_bytes(whole)))
        outcome(functools.partial(read_records, evaluated))
        outcome(functools.partial(report, evaluated, "test", progress=False))
        outcome(functools.partial(_gone_on_with, evaluated, tiny_experiment()))
    finally:
        path.write_bytes(whole)


def _gone_on_with(run: Path, experiment: Any) -> None:
    """What training does with a folder before it reads any video."""
    from avpea import data
    from avpea.data.identity import identify

    folder = RunFolder(run, experiment)
    found = data.read(experiment.data)
    now = identify(experiment.data, found)
    folder.require_same_data(now, found.labels)
    folder.open({}, now)
    folder.restore_metrics()
    folder.environments()
    folder.metrics()


ROW = {
    "source": "/videos/a.mp4", "size": 7, "modified": 8, "start": 0.0, "end": 3.0, "has_picture": True,
    "has_sound": True, "tokens": np.full((4, 8), 0.25, np.float16).tobytes(), "scores": [0.5, 1.0, 2.0, 3.0],
    "frames": 2, "thumbnail": b"",
}  # fmt: skip


@given(
    st.dictionaries(st.sampled_from(sorted(ROW)), st.one_of(st.sampled_from(ODD), st.binary(max_size=20)), max_size=2)
)
def test_a_row_of_a_library_is_usable_or_complained_about(spoiled: dict[str, Any]) -> None:
    row = {**ROW, **spoiled}
    if not complaint_about(row):
        assert math.isfinite(row["end"] - row["start"])
        assert isinstance(row["source"], str)
    try:
        found = candidates(row)
    except (DamagedError, Unwritable):
        return
    for by in ("both", "picture", "sound"):
        embeddings = found.embeddings(by)
        assert embeddings.tokens.isfinite().all()
        assert embeddings.tokens.shape[:2] == embeddings.scores.shape


@given(st.text(st.characters(exclude_categories=["Cs"])), st.floats(), st.floats(), st.binary(), st.data())
def test_what_is_shown_of_a_row_is_read_back_or_complained_about(
    source: str, start: float, end: float, thumbnail: bytes, data: st.DataObject
) -> None:
    kept = shown(source, start, end, thumbnail)
    found = unpacked_shown(kept)
    assert str([found[name] for name in APART]) == str([source, start, end, thumbnail])  # NaN is not NaN
    row = unpacked_shown(data.draw(spoiled_bytes(kept)))
    if not complaint_about(row):
        assert isinstance(row["source"], str)
        assert math.isfinite(row["start"])


class Unwritable(Exception):
    """No column of a library can hold a value."""


def candidates(row: dict[str, Any]) -> Candidates:
    """A row as LanceDB would give it, whose values may be of other types than avpea's."""
    pa = pytest.importorskip("pyarrow")
    kinds = {"tokens": pa.binary(), "scores": pa.list_(pa.float32()), "frames": pa.int32()}
    columns = {"_rowid": pa.array([0], pa.uint64())}
    for name, kind in kinds.items():
        try:
            columns[name] = pa.array([row[name]], kind)
        except (pa.ArrowException, TypeError, OverflowError, UnicodeError):
            try:
                columns[name] = pa.array([row[name]])
            except (pa.ArrowException, TypeError, OverflowError, UnicodeError):
                raise Unwritable from None
    return Candidates.of(pa.table(columns), 8)


def test_what_is_checked_here_is_not_refused_whole(evaluated: Path, tiny_experiment: Callable[..., Any]) -> None:
    _gone_on_with(evaluated, tiny_experiment())
    assert read_records(evaluated).own.keys() == {"test"}
    packed = {**ROW, "tokens": packed_tokens(torch.full((4, 8), 0.25))}
    assert complaint_about(ROW) == ""
    assert len(candidates(ROW)) == len(candidates(packed)) == 1
    with pytest.raises(AvpeaError):
        read_info(evaluated / "nothing")
