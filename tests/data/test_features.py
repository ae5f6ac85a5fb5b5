"""Precomputed features: what is read is what stands in the files, and bad files are named."""

import dataclasses
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from avpea import data
from avpea.checkpoint import load_model
from avpea.cli import main
from avpea.data.features import FeatureStore
from avpea.data.identity import DataIdentity, changes, identify, read_identity
from avpea.data.readers.ave_features import read
from avpea.errors import CheckpointError, DataError, ExperimentError
from avpea.evaluate import prepare
from avpea.experiment import load_recipe
from avpea.labels import Annotations, EventLabels, EventSample, Precomputed
from avpea.official import import_checkpoint
from avpea.sections import ReaderOptions
from avpea.train import train
from tests.official import files
from tests.official.files import write_ave_features
from tests.tiny import section

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
    for widths, said in (((100, 128), "expected 100 channels"), ((512, 64), "expected (64,)")):
        report = FeatureStore(*widths).fill(samples)
        assert report.ready == ()
        assert all(said in reason for reason in report.broken.values())
        with pytest.raises(DataError, match=r"2 of 2 samples cannot be used, and data.strict is set"):
            FeatureStore(*widths, strict=True).fill(samples)
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


def write_music_avqa(root: Path, lengths: dict[str, tuple[int, int]]) -> Path:
    """Features of MUSIC-AVQA's form, in which each value is its moment, with a question about each video."""
    rows = [
        {"video_id": name, "question_id": number, "type": '["Audio", "Counting"]', "question_content": "How many?",
         "templ_values": "[]", "question_deleted": 0, "anser": "two"} for number, name in enumerate(lengths)
    ]  # fmt: skip
    (root / "json").mkdir(parents=True)
    for split in ("train", "val", "test"):
        (root / "json" / f"avqa-{split}.json").write_text(json.dumps(rows))
    for folder, place, sizes in (("visual_14x14", 0, (512, 2, 2)), ("vggish", 1, (128,))):
        (root / folder).mkdir()
        for name, counts in lengths.items():
            moments = np.arange(counts[place], dtype=np.float32)
            shape = (-1, *[1] * len(sizes))
            np.save(root / folder / f"{name}.npy", np.broadcast_to(moments.reshape(shape), (len(moments), *sizes)))
    return root


def test_picture_and_sound_are_of_the_same_moments(tmp_path: Path) -> None:
    root = write_music_avqa(tmp_path / "data", {"same": (60, 60), "less": (60, 59), "more": (60, 62), "far": (60, 120)})
    cut = write_music_avqa(tmp_path / "cut", {"short": (60, 50)})
    options = section("data", "music_avqa_features", root=str(root), seconds="every")
    same, less, more, far = data.read(options).splits["train"]
    store = FeatureStore(512, 128)
    chosen = {}
    for sample in (same, less, more):
        read = store.read(sample)
        chosen[sample.video_id] = read["log_mel"][:, 0].tolist()
        assert read["frames"][:, 0, 0].tolist() == chosen[sample.video_id]
    assert chosen["same"] == chosen["more"] == [*range(0, 60, 6)]
    assert chosen["less"] == chosen["same"]
    (short,) = data.read(section("data", "music_avqa_features", root=str(cut), seconds="every")).splits["train"]
    assert store.read(short)["frames"][:, 0, 0].tolist() == [*range(0, 50, 5)]
    report = store.fill([same, less, more, far], progress=False)
    assert [sample.video_id for sample in report.ready] == ["same", "less", "more"]
    assert [*report.repaired] == [less.key, more.key]
    assert "less.npy: has 59 moments, and less.npy 60; only those that both have are used" in report.repaired[less.key]
    assert "has 120 moments, and far.npy 60; expected as many" in report.broken[far.key]


@pytest.mark.parametrize(
    ("fault", "said"),
    [("nan", "not finite"), ("width", "expected 512 channels"), ("grid", "most others have (2, 2, 512)")],
)
def test_broken_features_are_left_out_like_broken_videos(
    fault: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_music_avqa(tmp_path / "data", dict.fromkeys(("a", "b", "c"), (12, 12)))
    broken = np.zeros((12, 512, *((3, 3) if fault == "grid" else (2, 2))), np.float32)
    broken[3, 7] = np.nan if fault == "nan" else 0
    np.save(root / "visual_14x14" / "b.npy", broken[:, :100] if fault == "width" else broken)
    options = section("data", "music_avqa_features", root=str(root))
    samples = data.read(options).splits["train"]
    report = FeatureStore(512, 128).fill(samples, progress=False)
    assert [sample.video_id for sample in report.ready] == ["a", "c"]
    assert said in report.broken[samples[1].key]
    arguments = ["data", "verify", "music_avqa_features", "--data.root", str(root)]
    assert main([*arguments, "--decode"]) == 1
    assert "b.npy" in capsys.readouterr().out
    assert main(arguments) == (0 if fault == "nan" else 1)
    recipe = load_recipe("paper/avqa-avst-features").override({"data.root": str(root), "data.strict": True})
    with pytest.raises(DataError, match=r"data\.strict is set"):
        prepare(recipe, data.read(options), ["train"], progress=False)


def test_features_have_no_moments_as_lavish_takes_them() -> None:
    with pytest.raises(ExperimentError, match=r"data\.seconds is 'lavish'; expected one of 'consecutive', 'every' or"):
        load_recipe("paper/avqa-avst-features").override({"data.seconds": "lavish"})
