"""docs/walk.md on a small scale: from a folder of videos to a corrected, retrained model, by command."""

import csv
import json
from pathlib import Path

import pytest

from avpea.cli import main
from tests.tiny import coloured_video

SMALL = [
    "--backbone.name",
    "test_vit",
    "--backbone.weights",
    "random",
    "--backbone.depth",
    "2",
    "--backbone.image_size",
    "32",
    "--data.segments",
    "3",
    "--data.workers",
    "0",
    "--train.epochs",
    "6",
    "--train.threads",
    "1",
    "--train.device",
    "cpu",
    "--train.precision",
    "fp32",
    "--quiet",
]


def test_from_a_folder_to_a_corrected_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    cache = ["--data.cache", str(tmp_path / "cache")]
    for colour in ("red", "green"):
        (tmp_path / "videos" / colour).mkdir(parents=True)
        for number in range(5):
            coloured_video(tmp_path / "videos" / colour / f"{colour}{number}.mp4", colour, 0, 3)
    (tmp_path / "new").mkdir()
    for number, colour in enumerate(("red", "green")):
        coloured_video(tmp_path / "new" / f"new{number}.mp4", colour, 0, 3)

    def avpea(*arguments: str) -> str:
        assert main([*arguments]) == 0
        return capsys.readouterr().out

    assert "Each video is an event of its folder's name" in avpea("data", "verify", "own", "--data.root", "videos")
    assert "last epoch 6 of 6" in avpea("train", "own", "--data.root", "videos", *SMALL, *cache)
    assert "always background" in avpea("evaluate", "runs/own-seed0", "--quiet")
    avpea("report", "runs/own-seed0", "--quiet")
    assert (tmp_path / "runs/own-seed0/report.html").is_file()
    avpea("predict", "runs/own-seed0", "videos", "new", "--csv", "labels.csv", "--threshold", "0", "--quiet")

    with open("labels.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["video"] for row in rows} >= {"videos/red/red0.mp4", "new/new0.mp4", "new/new1.mp4"}
    colours = ("red", "green", "red", "green")
    for row in rows:  # a person puts right what the model found
        name = Path(row["video"]).stem
        label = colours[int(name[-1])] if name.startswith("new") else name[:-1]
        row |= {"label": label, "start_seconds": "0", "end_seconds": "3"}
    corrected = {row["video"]: row for row in rows}.values()
    with open("labels.csv", "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(corrected)

    avpea("data", "verify", "own", "--data.root", "labels.csv")
    assert main(["train", "own", "--data.root", "labels.csv", *SMALL, *cache]) == 1  # the first run is not mixed up
    assert "was trained on other data" in capsys.readouterr().err
    avpea("train", "own", "--data.root", "labels.csv", "--run", "runs/corrected", *SMALL, *cache)
    record = json.loads(avpea("evaluate", "runs/corrected", "--json", "--quiet"))
    assert record["data"]["own"]
    assert record["segment_accuracy"] > 0.5
