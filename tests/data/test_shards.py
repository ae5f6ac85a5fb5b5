"""Shards: what is written, that training from them is training from the folder, and what is refused."""

import hashlib
import io
import json
import shutil
import subprocess
import sys
import tarfile
import urllib.request
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest

from avpea import data, distributed
from avpea.cli import main
from avpea.data.features import FeatureStore
from avpea.data.identity import identify
from avpea.data.pack import PackReport, pack
from avpea.errors import AvpeaError, DataError
from avpea.evaluate import prepare, source_of
from avpea.experiment import parse_section
from avpea.files import write_text
from avpea.labels import Annotations, Packed
from avpea.optimizer import rate_factor
from avpea.train import epoch_batches, train
from tests.data.range_server import served
from tests.object_store import upload
from tests.tiny import assert_same_run, assert_same_tensors, exit_code, metric_lines, start_training, write_rows

Make = Callable[..., Any]


def packed(experiment: Any, folder: Path, *, decoded: bool = False, **options: Any) -> PackReport:
    cache = source_of(experiment) if decoded else None
    assert not isinstance(cache, FeatureStore)
    return pack(data.read(experiment.data), experiment.data, folder, cache=cache, progress=False, **options)


def from_shards(experiment: Any, root: str | Path, **more: Any) -> Any:
    return experiment.override({"data.name": "shards", "data.root": str(root), **more})


@pytest.fixture(scope="module")
def shards(tiny_experiment: Make, tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The tiny videos in shards, as videos and decoded, with the entries of the cache that the tiny run has filled."""
    folder = tmp_path_factory.mktemp("shards")
    packed(tiny_experiment(), folder / "videos")
    packed(tiny_experiment(), folder / "decoded", decoded=True)
    return {"videos": folder / "videos", "decoded": folder / "decoded"}


@pytest.fixture
def copied(shards: dict[str, Path], tmp_path: Path) -> Path:
    """Decoded shards to damage."""
    return shutil.copytree(shards["decoded"], tmp_path / "copied")


def contents(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


@pytest.mark.parametrize("kind", ["videos", "decoded"])
def test_other_programs_find_the_samples_in_the_tar_files(
    shards: dict[str, Path], tiny_data: Path, tiny_experiment: Make, kind: str
) -> None:
    """By Python's tarfile and WebDataset's rule: one sample is what is adjacent and equal up to the first dot."""
    found: dict[str, dict[str, bytes]] = {}
    for path in sorted(shards[kind].glob("*.tar")):
        last = ""
        with tarfile.open(path) as tar:
            for member in tar:
                assert (member.isreg(), member.mtime, member.uid) == (True, 0, 0)
                key, _, ending = member.name.partition(".")
                assert key == last or key not in found
                file = tar.extractfile(member)
                assert file is not None
                found.setdefault(key, {})[ending], last = file.read(), key
    sizes = json.loads((shards[kind] / "sizes.json").read_text())
    assert sum(sizes.values()) == len(found) == 11
    cache = source_of(tiny_experiment())
    for sample in data.read(tiny_experiment().data).samples:
        files = found[sample.video_id if kind == "videos" else sample.key]
        about = json.loads(files["json"])
        assert (about["video_id"], about["split"]) == (sample.video_id, sample.split)
        assert about["samples"][0]["labels"] == list(getattr(sample, "labels"))  # noqa: B009
        if kind == "videos":
            assert files["mp4"] == sample.video.read_bytes()
        else:
            for name, tensor in cache.read(sample).items():
                assert np.array_equal(np.load(io.BytesIO(files[f"{name}.npy"]), allow_pickle=False), tensor.numpy())


def test_dots_and_other_characters_of_ids_are_escaped_and_keys_are_different(tmp_path: Path, tiny_data: Path) -> None:
    names = ["a.b_30.000_40.000", "a b", "A.B_30.000_40.000", "ü" * 50, "-x"]
    rows = ["video,start_seconds,end_seconds,label,split"]
    for name in names:
        shutil.copy(tiny_data / "AVE" / "g0.mp4", tmp_path / f"{name}.mp4")
        rows.append(f"{name}.mp4,0,1,green,train")
    (tmp_path / "table.csv").write_text("\n".join(rows), encoding="utf-8")
    assert main(["data", "pack", "manifest", str(tmp_path / "s"), "--data.root", str(tmp_path / "table.csv")]) == 0
    with tarfile.open(tmp_path / "s" / "train-000000.tar") as tar:
        keys = {name.partition(".")[0] for name in tar.getnames()}
    assert len(keys) == len({key.casefold() for key in keys}) == 5
    assert "a.b_30.000_40.000.mp4" in {unquote(key) for key in keys}
    assert max(map(len, keys)) < 80
    read = data.read(parse_section("data", name="shards", root=str(tmp_path / "s")))
    assert [sample.video_id for sample in read.samples] == [f"{name}.mp4" for name in names]


def in_folder(annotations: Annotations) -> list[Any]:
    return [replace(sample, video=Path(), sound=None, packed=None) for sample in annotations.samples]


@pytest.mark.parametrize("decoded", [False, True])
@pytest.mark.parametrize("kind", ["events", "questions", "captions"])
def test_samples_labels_and_identity_survive(
    tiny_experiment: Make, tiny_asking: Make, request: pytest.FixtureRequest, tmp_path: Path, kind: str, decoded: bool
) -> None:
    if kind == "captions":
        experiment = request.getfixturevalue("tiny_captioned")("avr")
    else:
        experiment = tiny_asking() if kind == "questions" else tiny_experiment()
    packed(experiment, tmp_path / "s", decoded=decoded)
    there = from_shards(experiment, tmp_path / "s")
    before, after = data.read(experiment.data), data.read(there.data)
    assert in_folder(before) == in_folder(after)
    assert (before.labels, before.name, before.sources) == (after.labels, after.name, after.sources)
    one, other = identify(experiment.data, before), identify(there.data, after)
    assert (one.rows, one.names, one.fingerprint) == (other.rows, other.names, other.fingerprint)


@pytest.mark.parametrize("kind", ["videos", "decoded"])
def test_training_from_shards_ends_with_the_weights_of_training_from_the_folder(
    shards: dict[str, Path], tiny_experiment: Make, tiny_run: Path, tmp_path: Path, kind: str
) -> None:
    changes = {"data.cache": str(tmp_path / "cache"), "train.readers": 2}
    experiment = from_shards(tiny_experiment(), shards[kind], **changes)
    run = train(experiment, tmp_path / "run", progress=False).run
    assert_same_tensors(run / "model.safetensors", tiny_run / "model.safetensors")
    assert_same_tensors(run / "state.safetensors", tiny_run / "state.safetensors")
    assert metric_lines(run) == metric_lines(tiny_run)
    assert (tmp_path / "cache").exists() == (kind == "videos"), "what was packed decoded needs no cache"


def test_a_stopped_training_from_shards_goes_on_bit_for_bit(
    shards: dict[str, Path], tiny_experiment: Make, tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from avpea import train as training

    experiment = from_shards(tiny_experiment(**{"train.checkpoint_minutes": 1e-9}), shards["decoded"])
    steps = []

    def stopping(*given: Any) -> float:
        steps.append(given)
        if len(steps) == 5:
            raise KeyboardInterrupt
        return rate_factor(*given)

    with monkeypatch.context() as patch:
        patch.setattr(training, "rate_factor", stopping)
        with pytest.raises(KeyboardInterrupt):
            train(experiment, tmp_path / "run", progress=False)
    train(experiment, tmp_path / "run", progress=False)
    assert_same_run(tmp_path / "run", tiny_run)


@pytest.mark.slow
def test_a_killed_training_from_shards_goes_on_bit_for_bit(
    shards: dict[str, Path], tiny_experiment: Make, tiny_run: Path, tmp_path: Path
) -> None:
    experiment = from_shards(tiny_experiment(**{"train.checkpoint_minutes": 1e-9}), shards["decoded"])
    process, _ = start_training(experiment.to_dict(), tmp_path / "run", "avpea.train:rate_factor", 5)
    assert exit_code(process) == -9
    assert train(experiment, tmp_path / "run", progress=False).run
    assert_same_run(tmp_path / "run", tiny_run)


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_an_epoch_has_each_sample_once_on_some_process(
    shards: dict[str, Path], tiny_experiment: Make, monkeypatch: pytest.MonkeyPatch, processes: int
) -> None:
    experiment = from_shards(tiny_experiment(), shards["decoded"])
    samples = data.read(experiment.data).splits["train"]
    read = []
    for rank in range(processes):
        monkeypatch.setattr(distributed, "_current", distributed.World(rank, processes))
        for batch in epoch_batches(len(samples), experiment.train, epoch=1):
            own = distributed.own_share([samples[index] for index in batch])
            absent = len(batch) * rank // processes == len(batch) * (rank + 1) // processes
            read += [] if absent else [sample.key for sample in own]
    assert sorted(read) == sorted(sample.key for sample in samples)


def test_frames_of_others_are_those_of_the_folder(
    shards: dict[str, Path], tiny_experiment: Make, tiny_run: Path
) -> None:
    from avpea.draws import drawing

    drawn = []
    for experiment in (tiny_experiment(), from_shards(tiny_experiment(), shards["decoded"])):
        cache, samples = source_of(experiment), data.read(experiment.data).splits["train"]
        with drawing(0, 0, 0):
            first = cache.frames_of_others(samples[:2], samples)
        cache.batch(samples)
        with drawing(0, 0, 0):
            assert cache.frames_of_others(samples[:2], samples).equal(first)
        drawn.append(first)
    assert drawn[0].equal(drawn[1])


def test_what_a_kill_before_the_first_shard_leaves_is_no_obstacle(tiny_experiment: Make, tmp_path: Path) -> None:
    (tmp_path / "shards").mkdir()
    (tmp_path / "shards" / ".packing.json.0a1b2c3d.tmp").write_text("{")
    packed(tiny_experiment(), tmp_path / "shards")
    assert not list((tmp_path / "shards").glob("*.tmp"))


@pytest.mark.parametrize("decoded", [False, True])
def test_interrupted_packing_goes_on_and_ends_with_the_same_bytes(
    tiny_experiment: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, decoded: bool
) -> None:
    monkeypatch.setattr("avpea.data.pack._MEGABYTE", 40_000)  # so that there are several shards
    experiment = tiny_experiment()
    whole = packed(experiment, tmp_path / "whole", decoded=decoded, shard_mb=1)
    assert whole.shards > 5
    count = [0]

    def stopped(path: Path, text: str) -> None:
        count[0] += 1
        if count[0] == 3:
            raise KeyboardInterrupt
        write_text(path, text)

    monkeypatch.setattr("avpea.data.pack.write_text", stopped)
    with pytest.raises(KeyboardInterrupt):
        packed(experiment, tmp_path / "again", decoded=decoded, shard_mb=1)
    with pytest.raises(DataError, match=r"is not packed whole yet; the same `avpea data pack` command goes on"):
        data.read(from_shards(experiment, tmp_path / "again").data)
    report = packed(experiment, tmp_path / "again", decoded=decoded, shard_mb=1)
    assert report.written == whole.shards - 2
    assert contents(tmp_path / "again") == contents(tmp_path / "whole")
    assert packed(experiment, tmp_path / "again", decoded=decoded, shard_mb=1).written == 0
    with pytest.raises(DataError, match=r"again holds shards of other data or with other options"):
        packed(experiment, tmp_path / "again", decoded=not decoded, shard_mb=1)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("mine")
    with pytest.raises(DataError, match=r"other is not empty \(notes.txt\); choose a new folder"):
        packed(experiment, tmp_path / "other")


@pytest.mark.parametrize("decoded", [False, True])
@pytest.mark.parametrize("changes", [{"data.segments": 2}, {"data.seconds": "lavish"}])
def test_a_folder_has_windows_of_one_kind(
    tiny_experiment: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, decoded: bool, changes: dict[str, Any]
) -> None:
    """Whether its packing has ended or was interrupted."""
    monkeypatch.setattr("avpea.data.pack._MEGABYTE", 40_000)
    experiment = tiny_experiment()
    other = experiment.override(changes)
    packed(experiment, tmp_path / "whole", decoded=decoded, shard_mb=1)
    before = contents(tmp_path / "whole")
    with pytest.raises(DataError, match=r"whole holds shards of other data or with other options"):
        packed(other, tmp_path / "whole", decoded=decoded, shard_mb=1)
    assert contents(tmp_path / "whole") == before

    def stopped(path: Path, text: str) -> None:
        write_text(path, text)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("avpea.data.pack.write_text", stopped)
        with pytest.raises(KeyboardInterrupt):
            packed(experiment, tmp_path / "half", decoded=decoded, shard_mb=1)
    with pytest.raises(DataError, match=r"half holds shards of other data or with other options"):
        packed(other, tmp_path / "half", decoded=decoded, shard_mb=1)
    packed(experiment, tmp_path / "half", decoded=decoded, shard_mb=1)
    assert contents(tmp_path / "half") == before


def test_a_folder_may_be_called_like_the_web(
    shards: dict[str, Path], tiny_experiment: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("http-shards", "https", "http:"):
        report = packed(tiny_experiment(), Path(name))
        experiment = from_shards(tiny_experiment(), name)
        assert report.samples["train"] == len(data.read(experiment.data).splits["train"])
        assert not prepare(experiment, data.read(experiment.data), ["train"], False)[2].broken


@pytest.mark.parametrize("decoded", [False, True])
def test_missing_and_broken_videos_are_left_out_as_in_the_folder(
    tiny_experiment: Make, tiny_data: Path, tmp_path: Path, decoded: bool
) -> None:
    root = write_rows(tmp_path / "data", tiny_data)
    (root / "AVE" / "r0.mp4").unlink()
    (root / "AVE" / "g1.mp4").unlink()
    (root / "AVE" / "g1.mp4").write_bytes(b"no video")
    experiment = tiny_experiment(**{"data.root": str(root), "data.cache": str(tmp_path / "cache")})
    report = packed(experiment, tmp_path / "s", decoded=decoded)
    assert len(report.left_out) == 1 + decoded
    assert not [reason for reason in report.left_out.values() if str(tmp_path) in reason]
    there = from_shards(experiment, tmp_path / "s")
    _, samples, one = prepare(experiment, data.read(experiment.data), ["train"], progress=False)
    _, others, other = prepare(there, data.read(there.data), ["train"], progress=False)
    assert list(one.broken) == list(other.broken) == ["train-0001-r0", "train-0002-g1"]
    for key, reason in one.broken.items():
        assert reason.replace(str(root), str(tmp_path / "s")) == other.broken[key]
    assert [sample.key for sample in samples["train"]] == [sample.key for sample in others["train"]]
    with pytest.raises(DataError, match=r"data\.strict is set"):
        packed(experiment.override({"data.strict": True}), tmp_path / "t", decoded=decoded)


def test_a_web_server_is_as_good_as_a_folder(
    shards: dict[str, Path], tiny_experiment: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from avpea.data import _places

    monkeypatch.setattr(_places, "_WAITS", (0.0, 0.0, 0.0))
    with served(shards["decoded"].parent, failing=2) as url:
        for kind in shards:
            here = from_shards(tiny_experiment(), shards[kind], **{"data.cache": str(tmp_path / kind)})
            there = from_shards(here, f"{url}/{kind}/", **{"data.cache": str(tmp_path / f"{kind}-far")})
            cache, samples, _ = prepare(here, data.read(here.data), ["val"], progress=False)
            other, others, _ = prepare(there, data.read(there.data), ["val"], progress=False)
            for one, two in zip(samples["val"], others["val"], strict=True):
                a, b = cache.read(one), other.read(two)
                assert all(a[name].equal(b[name]) for name in a)
        with pytest.raises(DataError, match=r"nothing/index.json cannot be read \(the server says 404 "):
            data.read(from_shards(tiny_experiment(), f"{url}/nothing").data)
    with served(shards["decoded"], ranges=False) as url, pytest.raises(DataError, match="ranges of bytes"):
        data.read(from_shards(tiny_experiment(), url).data)


@pytest.mark.slow
def test_an_object_store_is_as_good_as_a_folder(
    shards: dict[str, Path], tiny_experiment: Make, tmp_path: Path, object_store: str
) -> None:
    """Against a server that is not ours: the command line trains by two processes and two readers from `s3://`."""
    pytest.importorskip("pyarrow")
    for kind in shards:
        upload(shards[kind], f"{object_store}/videos/{kind}")
    recipe = tmp_path / "tiny.yaml"
    recipe.write_text(tiny_experiment(**{"train.batch_size": 3}).to_yaml())
    for kind, workers in (("videos", 2), ("decoded", 0)):
        runs: list[Path] = []
        for root in (str(shards[kind]), f"s3://videos/{kind}"):
            runs.append(tmp_path / f"{kind}-{len(runs)}")
            words = [
                "train",
                str(recipe),
                "--run",
                str(runs[-1]),
                "--quiet",
                "--data.name",
                "shards",
                "--data.root",
                root,
            ]
            words += ["--data.workers", str(workers), "--data.cache", f"{runs[-1]}-cache"]
            command = [sys.executable, "-m", "avpea", *words, "--train.devices", "2", "--train.readers", "2"]
            done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
            assert (done.returncode, done.stderr) == (0, "")
        for name in ("model.safetensors", "state.safetensors"):
            assert_same_tensors(runs[0] / name, runs[1] / name)
        assert metric_lines(runs[0]) == metric_lines(runs[1])
    there = from_shards(tiny_experiment(), "s3://videos/decoded")
    cache, samples = source_of(there), data.read(there.data).samples
    found = [sample.key for sample in samples if cache.read(sample)]
    assert found == [sample.key for sample in data.read(tiny_experiment().data).samples]


@pytest.mark.slow
def test_what_an_object_store_refuses_is_said_in_a_sentence(
    copied: Path, tiny_experiment: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, object_store: str
) -> None:
    from avpea.data import _places

    pytest.importorskip("pyarrow")
    upload(copied, f"{object_store}/videos/whole")
    cut(copied)
    upload(copied, f"{object_store}/videos/cut")
    place = _places.below("s3://videos/cut", "train-000000.tar")
    size = (copied / "train-000000.tar").stat().st_size
    for first, count in ((0, 10), (size - 4, 10), (size, 10), (size + 5, 10)):  # as from a folder
        there = _places.read_bytes(str(copied / "train-000000.tar"), first, count)
        assert _places.read_bytes(place, first, count) == there
    cases = [
        ({}, "s3://videos/cut", r"s3://videos/cut/train-000000.tar is cut short or another one: it has [\d,]+ bytes"),
        ({}, "s3://nothing/whole", r"s3://nothing/whole/index.json cannot be read \(.*NoSuchBucket|does not exist"),
        ({}, "s3://videos/nothing", r"s3://videos/nothing/index.json cannot be read \(.*does not exist"),
        ({}, "s3://not a bucket/x", r"s3://not a bucket/x/index.json cannot be read \(.*"),
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, "s3://videos/whole", r"/index.json cannot be read \(.*"),
    ]
    cases.append(({"AWS_ACCESS_KEY_ID": "nobody"}, "s3://videos/whole", r"index.json cannot be read \(.*ACCESS_DENIED"))
    for variables, root, sentence in cases:
        if "AWS_ACCESS_KEY_ID" in variables:  # from now on the store asks who reads
            switch, kind = f"{object_store}/moto-api/reset-auth", {"Content-Type": "application/octet-stream"}
            with urllib.request.urlopen(urllib.request.Request(switch, b"0", kind, method="POST")):
                pass
        with monkeypatch.context() as patch:
            for name, value in variables.items():
                patch.setenv(name, value)
            _places._file_system.cache_clear()
            with pytest.raises(DataError, match=sentence) as refused:
                train(from_shards(tiny_experiment(), root), tmp_path / "run", progress=False)
        assert str(refused.value).endswith(".")
        assert "\n" not in str(refused.value)
    _places._file_system.cache_clear()
    assert not (tmp_path / "run").exists()


def cut(root: Path) -> None:
    path = root / "train-000000.tar"
    path.write_bytes(path.read_bytes()[:-10_240])


def flipped(root: Path) -> None:
    path = root / "train-000000.tar"
    content = bytearray(path.read_bytes())
    content[5000] ^= 1
    path.write_bytes(content)


def doubled(root: Path) -> None:
    shutil.copy(root / "val-000000.tar", root / "test-000000.tar")


def copied_list(root: Path) -> None:
    shutil.copy(root / "val-000000.jsonl", root / "test-000000.jsonl")


def in_the_index(change: Callable[[dict[str, Any]], None]) -> Callable[[Path], None]:
    def apply(root: Path) -> None:
        index = json.loads((root / "index.json").read_text())
        change(index)
        (root / "index.json").write_text(json.dumps(index))

    return apply


def in_a_list(change: Callable[[dict[str, Any]], None]) -> Callable[[Path], None]:
    """A change of a line of a list, with the hash that makes the index agree."""

    def apply(root: Path) -> None:
        path = root / "train-000000.jsonl"
        head, *lines = path.read_text().splitlines()
        line = json.loads(lines[0])
        change(line)
        path.write_text("\n".join([head, json.dumps(line), *lines[1:], ""]))
        index = json.loads((root / "index.json").read_text())
        index["shards"][0]["list_sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
        (root / "index.json").write_text(json.dumps(index))

    return apply


FAULTS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "missing": (lambda root: (root / "train-000000.tar").unlink(), "train-000000.tar cannot be read .No such file"),
    "cut": (cut, "train-000000.tar is cut short or another one: it has"),
    "doubled": (doubled, "test-000000.tar has a file 'val-.* where the index has 'test-"),
    "foreign": (lambda root: (root / "train-000009.tar").touch(), "holds train-000009.tar, which its index.json does"),
    "none of avpea's": (lambda root: (root / "index.json").unlink(), "has tar files but no index.json"),
    "a folder": (lambda root: shutil.rmtree(root), "index.json cannot be read"),
    "no list": (lambda root: (root / "val-000000.jsonl").unlink(), "val-000000.jsonl cannot be read"),
    "another list": (copied_list, "another packing"),
    "flipped": (flipped, "train-000000.tar is damaged: '.*' does not have its checksum"),
    "later": (in_the_index(lambda index: index.update(format="avpea-shards-9")), "expected avpea-shards-1"),
    "a path": (in_the_index(lambda i: i["shards"][0].update(name="../train-000000.tar")), "names the shard '../train"),
    "twice": (in_the_index(lambda i: i["shards"].append(i["shards"][0])), "names the shard train-000000.tar twice"),
    "10^11": (in_the_index(lambda i: i["splits"].update(train=10**11)), "of the split train, and index.json says 1000"),
    "fewer": (in_the_index(lambda i: i["splits"].update(train=6)), "of the split train, and index.json says 6"),
    "no labels": (in_the_index(lambda i: i.update(labels={"class_names": []})), "its labels are damaged"),
    "unknown": (in_the_index(lambda i: i.update(more=1)), r"found \['more'\]"),
    "reader": (in_the_index(lambda i: i.update(reader="gone")), "No reader is called 'gone'"),
    "label": (in_a_list(lambda line: line["samples"][0].update(labels=[9, 0, 0])), "has the label 9; expected 0 to 2"),
    "negative": (in_a_list(lambda line: line["samples"][0].update(labels=[-1, 0, 0])), "has the label -1"),
    "number": (in_a_list(lambda line: line["samples"][0].update(number=77)), "have 5 samples"),
    "split": (in_a_list(lambda line: line["samples"][0].update(split="test")), "stands twice, or in two splits"),
    "huge": (in_a_list(lambda line: line["members"][0].update(size=1 << 60)), "members that lie in no shard"),
    "before": (in_a_list(lambda line: line["members"][0].update(offset=-512)), "members that lie in no shard"),
    "above": (in_a_list(lambda line: line.update(video="../../etc/passwd")), "is no name of a video below"),
    "other member": (in_a_list(lambda line: line["members"].reverse()), "holds|is no sample"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_shards_that_are_not_whole_are_refused_in_a_sentence(
    copied: Path, tiny_experiment: Make, tmp_path: Path, fault: str
) -> None:
    spoil, sentence = FAULTS[fault]
    spoil(copied)
    experiment = from_shards(tiny_experiment(), copied, **{"train.epochs": 1, "train.select_on": "test"})
    with pytest.raises(AvpeaError, match=sentence) as refused:
        train(experiment, tmp_path / "run", progress=False)
    assert str(refused.value).endswith(".")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE, b"x"])
def test_a_member_that_is_no_file_is_refused(
    shards: dict[str, Path], tiny_experiment: Make, tmp_path: Path, kind: bytes
) -> None:
    """As a hostile tar file has them, in one that has the size and the checksums of the index."""
    root = shutil.copytree(shards["videos"], tmp_path / "s")
    experiment = from_shards(tiny_experiment(), root, **{"data.cache": str(tmp_path / "cache")})
    place = data.read(experiment.data).samples[0].packed
    assert isinstance(place, Packed)
    about = tarfile.TarInfo(place.members[0].name)
    about.size, about.type, about.linkname = place.members[0].size, kind, "/etc/passwd"
    path = root / "train-000000.tar"
    content = bytearray(path.read_bytes())
    content[place.members[0].offset - 512 : place.members[0].offset] = about.tobuf(tarfile.GNU_FORMAT)
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"has something that is no regular file, 'g0.mp4' of .* bytes where"):
        prepare(experiment, data.read(experiment.data), ["train"], False)


def test_shards_for_another_recipe_are_refused(
    shards: dict[str, Path], tiny_experiment: Make, tiny_asking: Make, tmp_path: Path
) -> None:
    for changes, sentence in (
        ({"data.segments": 4}, "was packed with data.segments 3, and the recipe has 4; set --data.segments 3"),
        ({"data.seconds": "every"}, "was packed with data.seconds consecutive"),
        ({"audio.mel_bins": 16}, "decoded otherwise .mel_bins: 32 there, 16 here"),
        ({"backbone.image_size": 48}, "decoded otherwise .frame_size: 32 there, 48 here"),
    ):
        with pytest.raises(DataError, match=sentence):
            train(from_shards(tiny_experiment(), shards["decoded"], **changes), tmp_path / "run", progress=False)
    with pytest.raises(DataError, match="holds events, but the task 'avqa' needs questions"):
        train(from_shards(tiny_asking(), shards["decoded"]), tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()
    with pytest.raises(DataError, match="holds shards already; pack the data set that they were made of"):
        packed(from_shards(tiny_experiment(), shards["videos"]), tmp_path / "s")


@pytest.mark.parametrize("kind", ["videos", "decoded"])
def test_verify_reads_every_byte(shards: dict[str, Path], tmp_path: Path, capsys: Any, kind: str) -> None:
    root = shutil.copytree(shards[kind], tmp_path / "s")
    command = ["data", "verify", "shards", "--data.root", str(root), "--data.segments", "3", "--json"]
    command += ["--decode", "--data.workers", "0"]
    assert main(command) == 0
    assert json.loads(capsys.readouterr().out)["ok"]
    path = root / "val-000000.tar"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert main(command) == 1
    report = json.loads(capsys.readouterr().out)
    assert list(report["broken"]) == [str(path)]
    assert report["splits"]["val"]["available"] == 0


def test_commands_pack_train_and_evaluate(tiny_data: Path, tiny_experiment: Make, tmp_path: Path, capsys: Any) -> None:
    recipe = tmp_path / "tiny.yaml"
    recipe.write_text(tiny_experiment(**{"train.epochs": 1}).to_yaml())
    pack_it = ["data", "pack", "ave", str(tmp_path / "s"), "--decoded", str(recipe), "--data.root", str(tiny_data)]
    assert main([*pack_it, "--quiet", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["samples"] == {"train": 5, "val": 3, "test": 3}
    assert main([*pack_it, "--train.epochs", "3"]) == 1
    assert "'train.epochs' does not change how samples are decoded" in capsys.readouterr().err
    there = ["--data.name", "shards", "--data.root", str(tmp_path / "s")]
    assert main(["train", str(recipe), "--run", str(tmp_path / "run"), "--quiet", *there]) == 0
    capsys.readouterr()
    found = []
    for place in ([], ["--data.name", "ave", "--data.root", str(tiny_data)]):
        assert main(["evaluate", str(tmp_path / "run"), "--quiet", "--json", *place]) == 0
        found.append(json.loads(capsys.readouterr().out))
    assert [one["data"]["own"] for one in found] == [True, True]
    assert found[0]["segment_accuracy"] == found[1]["segment_accuracy"]
