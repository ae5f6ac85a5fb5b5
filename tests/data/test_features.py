"""Precomputed features: what is read is what stands in the files, and bad files are named."""

import dataclasses
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from avpea.checkpoint import load_model
from avpea.cli import main
from avpea.data.features import FeatureStore
from avpea.data.identity import DataIdentity, changes, identify, read_identity
from avpea.data.readers.ave_features import read
from avpea.errors import CheckpointError, DataError, ExperimentError
from avpea.experiment import load_recipe
from avpea.labels import Annotations, EventLabels, EventSample, Precomputed
from avpea.official import import_checkpoint
from avpea.sections import ReaderOptions
from avpea.train import train
from tests.official import files
from tests.official.files import write_ave_features

h5py = pytest.importorskip("h5py")


def test_rows_are_those_of_the_order_files(tmp_path: Path) -> None:
    visual, audio, labels = write_ave_features(tmp_path)
    annotations = read(ReaderOptions(root=str(tmp_path)))
    assert {split: [s.features.row for s in samples] for split, samples in annotations.splits.items()} == {  # type: ignore[union-attr]
        "train": [5, 0, 2], "val": [1], "test": [4, 3],
    }  # fmt: skip
    store = FeatureStore(512, 128)
    batch = store.batch(annotations.splits["train"])
    for place, row in enumerate([5, 0, 2]):
        expected = torch.tensor(visual[row]).float().flatten(1, 2)  # locations row by row, channels last
        assert torch.equal(batch.frames[place], expected)
        assert torch.equal(batch.log_mel[place], torch.tensor(audio[row]).float())
        sample = annotations.splits["train"][place]
        assert sample.labels == tuple(labels[row].argmax(axis=-1))  # type: ignore[attr-defined]
    torch.manual_seed(0)
    others = store.frames_of_others(annotations.splits["train"][:1], annotations.splits["train"])
    assert others.shape == (1, 10, 49, 512)
    pool = torch.tensor(visual[[0, 2]]).float().flatten(0, 1).flatten(1, 2)
    assert all((one == pool).all(dim=(1, 2)).any() for one in others[0])


def test_training_on_features(tmp_path: Path) -> None:
    write_ave_features(tmp_path / "data")
    changes = {"data.root": str(tmp_path / "data"), "train.epochs": 1, "train.batch_size": 2, "train.threads": 1}
    result = train(load_recipe("paper/avel-cmbs-features").override(changes), tmp_path / "run", progress=False)
    assert result.best["epoch"] == 1


def test_an_imported_model_is_trained_further_elsewhere(tmp_path: Path) -> None:
    write_ave_features(tmp_path / "data")
    torch.save(files.values(files.cmbs()), tmp_path / "a.pt")
    changes = {"data.root": str(tmp_path / "data"), "train.epochs": 1, "train.batch_size": 2, "train.threads": 1}
    import_checkpoint("cmbs", tmp_path / "a.pt", tmp_path / "run", overrides=changes)
    before = (tmp_path / "run" / "model.safetensors").read_bytes()
    recipe = load_recipe(tmp_path / "run" / "experiment.yaml")
    with pytest.raises(CheckpointError, match=r"not trained there.*--train.start_from"):
        train(recipe, tmp_path / "run", progress=False)
    assert (tmp_path / "run" / "model.safetensors").read_bytes() == before
    train(recipe.override({"train.start_from": str(tmp_path / "run")}), tmp_path / "further", progress=False)
    assert load_model(tmp_path / "further")[1].results["epoch"] == 1


def test_what_is_wrong_with_files_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has no labels.h5.*expected visual_feature.h5"):
        read(ReaderOptions(root=str(tmp_path)))
    write_ave_features(tmp_path)
    samples = read(ReaderOptions(root=str(tmp_path))).splits["test"]
    report = FeatureStore(100, 128).fill(samples)
    assert report.ready == samples
    with pytest.raises(Exception, match=r"maps of shape \(7, 7, 512\); expected 100 channels"):
        FeatureStore(100, 128).read(samples[0])
    with pytest.raises(Exception, match=r"vectors of shape \(128,\); expected \(64,\)"):
        FeatureStore(512, 64).read(samples[0])
    with h5py.File(tmp_path / "audio_feature.h5", "w") as file:
        file["avadataset"] = np.zeros((4, 10, 128))
    assert "has 4 rows; expected a row 4" in FeatureStore(512, 128).fill(samples).broken[samples[0].key]
    (tmp_path / "visual_feature.h5").write_text("no table")
    assert "cannot be read as features" in FeatureStore(512, 128).fill(samples).broken[samples[0].key]
    (tmp_path / "test_order.h5").write_text("no table")
    with pytest.raises(DataError, match=r"test_order.h5 cannot be read as an .h5 file"):
        read(ReaderOptions(root=str(tmp_path)))
    with pytest.raises(DataError, match=r"labels of shape \(6, 10, 29\); expected \(videos, 5, 29\)"):
        read(ReaderOptions(root=str(tmp_path), segments=5))


def test_verify_names_what_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_ave_features(tmp_path)
    assert main(["data", "verify", "ave_features", "--data.root", str(tmp_path)]) == 0
    assert "test: 2 samples (2 with a video that opens)" in " ".join(capsys.readouterr().out.split())
    with h5py.File(tmp_path / "audio_feature.h5", "w") as file:
        file["avadataset"] = np.zeros((4, 10, 128))
    assert main(["data", "verify", "ave_features", "--data.root", str(tmp_path)]) == 1
    assert "has 4 rows; expected a row 5" in " ".join(capsys.readouterr().out.split())


def test_features_and_videos_are_not_mixed() -> None:
    recipe = load_recipe("paper/avel-cmbs-features")
    with pytest.raises(ExperimentError, match="holds videos, but the encoder 'features' reads features"):
        recipe.override({"data.name": "ave"})
    with pytest.raises(ExperimentError, match="holds features, but the encoder 'dual_stream' reads videos"):
        load_recipe("paper/avel-vit-b16").override({"data.name": "ave_features"})
    with pytest.raises(ExperimentError, match=r"backbone.name is 'resnet18'.*set backbone.name to features"):
        recipe.override({"backbone.name": "resnet18"})


def test_threads_share_more_files_than_are_kept_open(tmp_path: Path) -> None:
    samples = []
    for number in range(80):
        path = tmp_path / f"{number}.npy"
        np.save(path, np.full((3, 2, 2, 4), number, np.float32))
        np.save(tmp_path / f"{number}-sound.npy", np.full((3, 5), number, np.float32))
        features = Precomputed(path, tmp_path / f"{number}-sound.npy")
        one = EventSample(f"v{number}", f"v{number}", path, 0.0, 3, "train", labels=(0,) * 3, features=features)
        samples.append(one)
    store = FeatureStore(4, 5)
    with ThreadPoolExecutor(8) as pool:
        for sample, read in zip(samples * 4, pool.map(store.read, samples * 4), strict=True):
            assert set(read["log_mel"].flatten().tolist()) == {float(sample.key[1:])}
    assert len(store._opened) <= 64 + 8


def without_features(known: DataIdentity) -> DataIdentity:
    """As versions wrote it that knew of the file of the pictures alone."""
    rows = {
        split: {name: dataclasses.replace(row, file=row.file.split()[0]) for name, row in some.items()}
        for split, some in known.rows.items()
    }
    return dataclasses.replace(known, rows=rows)


def test_rows_of_one_table_are_not_the_same_video_and_another_sound_is_seen(tmp_path: Path) -> None:
    _, audio, _ = write_ave_features(tmp_path / "data")
    options = ReaderOptions(name="ave_features", root=str(tmp_path / "data"))
    before = identify(options, read(options))
    old = without_features(before)
    for trained in (before, old):
        assert trained.seen(before, "test") == 0
        assert changes(trained, before) == []
    assert before.seen(before, "train") == 3
    before.write(tmp_path)
    assert read_identity(tmp_path) == before
    with h5py.File(tmp_path / "data" / "audio_feature.h5", "w") as file:
        file["avadataset"] = audio + 1
    now = identify(options, read(options))
    assert "3 samples of train with another video file than before (row0005, row0000, row0002)" in changes(before, now)
    assert changes(old, now) == []  # it did not know the sound


def test_the_sound_of_features_in_files_of_their_own_counts(tmp_path: Path) -> None:
    for name in ("seen", "heard", "another"):
        np.save(tmp_path / f"{name}.npy", np.full((3, 2), len(name), np.float32))

    def known(sound: str) -> DataIdentity:
        features = Precomputed(tmp_path / "seen.npy", tmp_path / f"{sound}.npy")
        one = EventSample("v", "v", features.visual, 0.0, 3, "train", labels=(0,) * 3, features=features)
        splits = {"train": (one,), "val": (), "test": (one,)}
        return identify(ReaderOptions(root=str(tmp_path)), Annotations("a", tmp_path, EventLabels(("a",)), splits))

    first, second, gone = known("heard"), known("another"), known("missing")
    assert "1 sample of train with another video file than before (v)" in changes(first, second)
    assert changes(without_features(first), second) == changes(first, gone) == []
    assert (first.seen(first, "test"), first.seen(second, "test")) == (1, 0)
    assert without_features(first).seen(second, "test") == 1
