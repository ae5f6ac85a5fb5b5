"""The report of a run: its figures are those of others' code, and nothing in it can do harm."""

import html.parser
import io
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from avpea.cli import main
from avpea.drawings import Line, bars_of_reliability, learning_curve, matrix
from avpea.errors import CheckpointError, DataError
from avpea.labels import EventSample, MaskSample, Sample
from avpea.metrics.accuracy import confusion_matrix, precision_recall_f1
from avpea.report import _card, report
from avpea.sections import ReaderOptions
from avpea.tasks import Mistake
from tests.media_factory import make_video

HOSTILE = '"><script>alert(1)</script>&<img src=http://example.org/x onerror=alert(1)>'


class Page(html.parser.HTMLParser):
    """Tags with their attributes, cells of tables, and all text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.rows: list[list[str]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_data(self, data: str) -> None:
        self.text += data
        if self.rows and self.rows[-1] and self.tags[-1][0] in ("td", "th"):
            self.rows[-1][-1] += data


def assert_harmless(text: str) -> Page:
    """No script, no handler, nothing from elsewhere, and a policy that would stop it."""
    page = Page(text)
    policies = [a["content"] for tag, a in page.tags if tag == "meta" and a.get("http-equiv")]
    assert policies == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'"]
    allowed = {
        *[
            "html",
            "head",
            "meta",
            "title",
            "style",
            "body",
            "h1",
            "h2",
            "p",
            "code",
            "pre",
            "table",
            "thead",
            "tbody",
            "tr",
            "th",
            "td",
            "div",
            "img",
            "br",
        ]
    }
    allowed |= {*["figure", "figcaption", "svg", "line", "text", "rect", "circle", "polyline"]}
    for tag, attributes in page.tags:
        assert tag in allowed, tag
        assert not any(name.startswith("on") or name in ("href", "xlink:href", "srcset") for name in attributes)
        assert attributes.get("src", "data:").startswith("data:")  # type: ignore[union-attr]
    assert "url(" not in text
    assert "@import" not in text
    return page


@pytest.fixture
def copied(tiny_run: Path, tmp_path: Path) -> Path:
    shutil.copytree(tiny_run, tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture
def wrong(copied: Path) -> Path:
    """An evaluated run in which the first second of each video was annotated as something else."""
    report(copied, progress=False)
    file = copied / "predictions-test.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    for row in rows:
        row["target"][0] = "red" if row["prediction"][0] != "red" else "green"
    file.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return copied


def test_it_evaluates_first_and_says_what_it_knows(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(copied), "--quiet"]) == 0
    assert capsys.readouterr().out == f"{copied / 'report.html'}\n"
    page = assert_harmless((copied / "report.html").read_text(encoding="utf-8"))
    stored = json.loads((copied / "evaluation-test.json").read_text(encoding="utf-8"))
    assert f"segment accuracy {100 * stored['segment_accuracy']:.2f} %" in page.text
    for heading in (
        "Learning",
        "Classes",
        "Reliability",
        "The ten surest wrong seconds",
        "What was left out",
        "Settings",
    ):
        assert heading in page.text
    assert "torch" in page.text
    assert any(row[:1] == ["class"] for row in page.rows)


def test_precision_recall_and_f1_are_those_of_scikit_learn() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    generator = torch.Generator().manual_seed(0)
    truth, answers = (torch.randint(0, 4, (8, 10), generator=generator) for _ in range(2))
    found = precision_recall_f1(confusion_matrix(answers, truth, 5))  # the fifth is nowhere
    wanted = metrics.precision_recall_fscore_support(
        truth.flatten(), answers.flatten(), labels=range(5), zero_division=float("nan")
    )
    for one, other in zip(found, wanted[:3], strict=True):
        assert torch.equal(one.isnan(), torch.tensor(other).isnan())
        torch.testing.assert_close(one.nan_to_num(), torch.tensor(other).nan_to_num())


def test_the_classes_of_a_run_as_scikit_learn_has_them(copied: Path) -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    page = Page(report(copied, progress=False).read_text(encoding="utf-8"))
    rows = [json.loads(line) for line in (copied / "predictions-test.jsonl").read_text().splitlines()]
    truth, answers = ([name for row in rows for name in row[key]] for key in ("target", "prediction"))
    names = list(json.loads((copied / "evaluation-test.json").read_text())["per_class_accuracy"])
    wanted = metrics.precision_recall_fscore_support(truth, answers, labels=names, zero_division=float("nan"))
    shown = {row[0]: row[1:] for row in page.rows if row and row[0] in names and len(row) == 5}
    for index, name in enumerate(names):
        scores = [float(one[index]) for one in wanted[:3]]
        assert shown[name][:3] == ["–" if score != score else f"{100 * score:.1f}" for score in scores]
        assert shown[name][3] == str(wanted[3][index])


def test_the_surest_wrong_seconds_come_first_with_pictures(wrong: Path) -> None:
    page = Page(report(wrong, progress=False).read_text(encoding="utf-8"))
    rows = [json.loads(line) for line in (wrong / "predictions-test.jsonl").read_text().splitlines()]
    known = [
        (confidence, answer)
        for row in rows
        for expected, answer, confidence in zip(row["target"], row["prediction"], row["confidence"], strict=True)
        if expected != answer
    ]
    shown = re.findall(r"answered: (\S+) \((\d+\.\d) %\)", page.text)
    assert shown
    assert shown[0] == (max(known)[1], f"{100 * max(known)[0]:.1f}")
    assert [float(share) for _, share in shown] == sorted((float(share) for _, share in shown), reverse=True)
    pictures = [a for tag, a in page.tags if tag == "img"]
    assert len(pictures) == 2 * len(shown)
    assert {str(a["src"]).partition(";")[0] for a in pictures} == {"data:image/jpeg", "data:image/png"}


def test_names_that_would_do_harm_are_shown_as_they_are(copied: Path) -> None:
    report(copied, progress=False)
    record_file, rows_file = copied / "evaluation-test.json", copied / "predictions-test.jsonl"
    record = json.loads(record_file.read_text())
    first = next(iter(record["per_class_accuracy"]))
    record["per_class_accuracy"] = {HOSTILE if n == first else n: s for n, s in record["per_class_accuracy"].items()}
    record |= {"skipped": {HOSTILE: HOSTILE}, "source": HOSTILE, "data": {HOSTILE: [HOSTILE]}}
    record_file.write_text(json.dumps(record))
    rows = [json.loads(line) for line in rows_file.read_text().splitlines()]
    for row in rows:
        row |= {"target": [HOSTILE] * len(row["target"]), "key": HOSTILE}
    rows_file.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    (copied / "skipped.json").write_text(json.dumps({HOSTILE: HOSTILE}))
    (copied / "environment.json").write_text(json.dumps([{HOSTILE: HOSTILE}]))
    page = assert_harmless(report(copied, progress=False).read_text(encoding="utf-8"))
    assert page.text.count(HOSTILE) > 5


def test_reliability_is_drawn_where_it_is_known(copied: Path) -> None:
    report(copied, progress=False)
    file = copied / "evaluation-test.json"
    record = json.loads(file.read_text())
    bins = [
        {"from": 0.1 * i, "to": 0.1 * i + 0.1, "confidence": 0.1 * i + 0.05, "accuracy": 0.1 * i, "count": i}
        for i in range(10)
    ]
    file.write_text(json.dumps({**record, "reliability": {"expected_calibration_error": 0.0712, "bins": bins}}))
    text = report(copied, progress=False).read_text(encoding="utf-8")
    assert "Expected calibration error: 7.1 %" in text
    assert text.count(" answers, ") == 9
    record.pop("reliability", None)
    file.write_text(json.dumps(record))
    assert "no reliability figure" in report(copied, progress=False).read_text(encoding="utf-8")


def test_losses_of_both_splits_and_what_an_old_run_lacks(copied: Path, tmp_path: Path) -> None:
    (copied / "environment.json").unlink()
    lines = [
        {"epoch": e, "seconds": 1.0, "train/loss": 1 / e, "val/loss": 2 / e, "val/segment_accuracy": 0.5}
        for e in (1, 2)
    ]
    (copied / "metrics.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines) + '{"epoch": 3, "tr')
    out = tmp_path / "elsewhere" / "page.html"
    page = Page(report(copied, out=out, progress=False).read_text(encoding="utf-8"))
    assert len([tag for tag, _ in page.tags if tag == "polyline"]) == 3
    assert "was not recorded" not in page.text
    assert "There is no environment.json" in page.text
    (copied / "metrics.jsonl").unlink()
    (copied / "predictions-test.jsonl").unlink()
    page = Page(report(copied, progress=False).read_text(encoding="utf-8"))
    assert "how it learned is not known" in page.text
    assert "none are known" in page.text


def test_without_the_data_there_are_no_pictures_and_a_reason(wrong: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*_: Any) -> Any:
        raise DataError("There is no folder /gone.")

    monkeypatch.setattr("avpea.report.data.read", gone)
    text = report(wrong, progress=False).read_text(encoding="utf-8")
    assert "Without pictures: There is no folder /gone." in text
    assert "answered: " in text
    assert "<img" not in text


def test_a_broken_evaluation_is_named(copied: Path) -> None:
    (copied / "evaluation-test.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"evaluation-test\.json, line 1, .*: not JSON"):
        report(copied, progress=False)


@pytest.mark.parametrize("kind", ["asked", "matched"])
def test_every_task_has_a_report(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    run = request.getfixturevalue(f"tiny_{kind}_run")
    page = assert_harmless(report(run, out=tmp_path / "page.html", progress=False).read_text(encoding="utf-8"))
    assert "The ten" in page.text
    assert "annotated: " in page.text


def test_drawings_hold_any_numbers() -> None:
    assert learning_curve("Loss", []) == ""
    assert learning_curve("Loss", [Line("a", [(1, float("nan"))])]) == ""
    for values in ([1.0], [0.0, 0.0], [5.0, 5.0], [1e-9, 2e-9], [-3.0, 1e6]):
        drawn = learning_curve("<Loss>", [Line("<a>", list(enumerate(values)))], marked=1)
        assert "&lt;a&gt;" not in drawn  # a single line needs no name
        assert "nan" not in drawn
        for x, y in re.findall(r'c[xy]="(-?[\d.]+)" c[xy]="(-?[\d.]+)" r="2.5"', drawn):
            assert 0 <= float(x) <= 460
            assert 0 <= float(y) <= 250
    assert "<rect" not in bars_of_reliability([(0.0, 0.1, None, 0)])
    assert matrix(["<b>", "c"], [[1, 0], [0, 0]]).count("<rect") == 4


def shown(sample: Sample) -> tuple[np.ndarray, np.ndarray]:
    """Frame and spectrogram of a mistake's card."""
    card = _card(1, Mistake("k", 1, "40 %", "0 %"), sample, ReaderOptions(missing_audio="silence"))
    sources: Any = [one.source for one in card.pictures]
    frame, spectrogram = (np.asarray(Image.open(io.BytesIO(one)).convert("RGB")) for one in sources)
    assert card.lines[-1] == "k, at 1 s"
    return frame, spectrogram


def test_a_mistake_is_shown_with_what_the_model_has_seen_and_heard(tmp_path: Path) -> None:
    silent = make_video(tmp_path / "silent.mp4", seconds=3, audio_hz=None)
    loud = make_video(tmp_path / "loud.mp4", seconds=3)
    sound = make_video(tmp_path / "sound.mka", seconds=3, fps=None)
    names = [str(tmp_path / f"{number}.png") for number in range(3)]
    for number, name in enumerate(names):
        Image.fromarray(np.full((40, 80, 3), (250, 60 * number, 10), np.uint8)).save(name)
    with_pictures = MaskSample("k", "k", sound, 0.0, 3, "test", masks=(None,) * 3, pictures=tuple(names))
    frame, heard = shown(with_pictures)
    assert frame.shape == (150, 300, 3)
    assert np.abs(frame.reshape(-1, 3).mean(axis=0) - (250, 60, 10)).max() < 10
    of_others = EventSample("k", "k", silent, 0.0, 3, "test", labels=(0,) * 3, sound=loud)
    nothing = EventSample("k", "k", silent, 0.0, 3, "test", labels=(0,) * 3)
    assert len(np.unique(shown(nothing)[1])) < len(np.unique(shown(of_others)[1]))
    assert len(np.unique(heard)) > 100


@pytest.mark.parametrize("second", [3, 7, -1])
def test_a_mistake_in_a_second_that_is_no_more_has_no_pictures(second: int, tmp_path: Path) -> None:
    sample = EventSample("k", "k", make_video(tmp_path / "a.mp4", seconds=3), 0.0, 3, "test", labels=(0,) * 3)
    card = _card(1, Mistake("k", second, "a", "b"), sample, ReaderOptions())
    assert not card.pictures
    assert card.lines[-1] == f"It has no second {second}; evaluate the run again."


def test_a_mistake_is_shown_with_the_tracks_of_the_recipe(tmp_path: Path) -> None:
    two = make_video(tmp_path / "a.mp4", seconds=3)
    sample = EventSample("k", "k", two, 0.0, 3, "test", labels=(0,) * 3)
    config = ReaderOptions(audio_track=5)
    card = _card(1, Mistake("k", 1, "a", "b"), sample, config)
    assert not card.pictures
    assert "audio_track" in card.lines[-1]
