"""The timeline that a person reads."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from avpea.errors import AvpeaError
from avpea.formats import rendered
from avpea.media import Clip
from avpea.tables import Table
from avpea.tasks import Calibration
from avpea.tasks.avel.answer import Event, Prediction, Rule, timeline

NAMES = ("bark", "flute")
DECISIONS = torch.tensor([0, 0, 2, 1, 0, 2])
CHANCES = torch.tensor([[0.5, 0.1, 0.4], [1.0, 0.0, 0.0], [0, 0, 1.0], [0.25, 0.75, 0], [0.5, 0.25, 0.25], [0, 0, 1.0]])


def test_timeline_merges_neighbours_and_leaves_background_out() -> None:
    assert timeline(CHANCES, DECISIONS, NAMES) == [
        Event("bark", 0.0, 2.0, 0.75),
        Event("flute", 3.0, 4.0, 0.75),
        Event("bark", 4.0, 5.0, 0.5),
    ]


def test_timeline_of_background_is_empty() -> None:
    assert timeline(torch.ones(3, 3) / 3, torch.full((3,), 2), NAMES) == []


def test_an_event_is_doubtful_by_the_mean_of_its_seconds() -> None:
    novelty = torch.tensor([0.5, 1.4, 9.0, 1.1, 1.0, 9.0])
    assert [one.doubtful for one in timeline(CHANCES, DECISIONS, NAMES, novelty)] == [False, True, False]


@pytest.mark.parametrize(
    ("threshold", "min_seconds", "kept"),
    [
        (0.0, 0.0, [0, 0, 2, 1, 0, 2]),
        (0.5, 1.0, [0, 0, 2, 1, 0, 2]),  # from the threshold on
        (0.6, 1.0, [2, 0, 2, 1, 2, 2]),
        (0.0, 2.0, [0, 0, 2, 2, 2, 2]),
        (0.0, 1.5, [0, 0, 2, 2, 2, 2]),
        (0.6, 2.0, [2, 2, 2, 2, 2, 2]),  # what the threshold has cut is too short
    ],
)
def test_what_counts_as_an_event(threshold: float, min_seconds: float, kept: list[int]) -> None:
    before = DECISIONS.clone()
    assert Rule(threshold, min_seconds).apply(DECISIONS, CHANCES).tolist() == kept
    assert torch.equal(before, DECISIONS)


def test_where_a_rule_is_from() -> None:
    fitted = Calibration("val", 3, 9, chosen={"threshold": 0.35, "min_seconds": 2.0})
    assert Rule.of(None, None, None) == Rule(0.0, 1.0, ("default", "default"))
    assert Rule.of(fitted, None, None) == Rule(0.35, 2.0, ("val", "val"))
    assert Rule.of(fitted, 0.0, None) == Rule(0.0, 2.0, ("given", "val"))
    for wrong in (-0.1, 1.1, float("nan")):
        with pytest.raises(AvpeaError, match="expected a confidence from 0 to 1"):
            Rule.of(fitted, wrong, None)
    for wrong in (-1.0, float("nan"), float("inf")):
        with pytest.raises(AvpeaError, match="expected 0 or more seconds"):
            Rule.of(fitted, None, wrong)


def made(novelty_limit: float, seconds: float = 6.0) -> Prediction:
    """A prediction whose seconds lie 0, 1, 2, 3, 4 and 5 from the training mean of every category."""
    clip = Clip(
        torch.zeros(6, 8, 8, 3, dtype=torch.uint8), torch.arange(6.0, dtype=torch.float64), 1.0,
        torch.zeros(6 * 16_000), seconds, seconds, 0.0, Path("a.mp4"),
    )  # fmt: skip
    chosen = {"threshold": 0.3, "min_seconds": 1.0, "novelty_limit": novelty_limit}
    fitted = Calibration("val", 3, 9, 2.0, "", chosen, torch.zeros(3, 2))
    tokens = torch.stack((torch.arange(6.0), torch.zeros(6)), dim=1)
    return Prediction.of(clip, NAMES, DECISIONS, CHANCES, Rule.of(fitted, None, None), fitted, tokens)


def test_no_event_ends_after_the_video(tmp_path: Path) -> None:
    found = made(novelty_limit=5.0, seconds=4.25006)
    ends = [2.0, 4.0, 4.25]
    assert [one["end_seconds"] for one in found.to_dict()["events"]] == ends
    assert found.to_dict()["duration_seconds"] == ends[-1]
    assert [row[1] for row in found.rows()] == ends
    assert [one.end_seconds for one in found.events] == [2, 4, 4.25006]
    assert [one.end_seconds for one in found.stretches()] == [2, 4, 4.25006]
    (table,) = (part for part in found.report() if isinstance(part, Table))
    assert [row[1:3] for row in table.rows if row] == [("0 s", "2 s"), ("3 s", "4 s"), ("4 s", "4.3 s")]
    for name in ("vtt", "srt", "audacity", "elan"):
        text = rendered(name, found.video, "events", found.stretches(), tmp_path / "x")
        assert "4.25" in text.replace(",", ".").replace("4250", "4.250"), name
        assert not re.search(r"\b0?5[.,]000|5000", text), name
    found.plot(tmp_path / "timeline.png")


@pytest.mark.parametrize("threshold", [0.0, 0.45, 0.6, 0.9])
@pytest.mark.parametrize("min_seconds", [0.0, 2.0])
def test_another_rule_can_be_applied_to_the_json(threshold: float, min_seconds: float) -> None:
    """As the page does when its threshold is moved: from the answer at any rule to that at every other."""
    clip = made(3.5).clip
    chosen = {"threshold": 0.8, "min_seconds": 1.0, "novelty_limit": 3.5}
    fitted = Calibration("val", 3, 9, 2.0, "", chosen, torch.zeros(3, 2))
    tokens = torch.stack((torch.arange(6.0), torch.zeros(6)), dim=1)
    strict = Prediction.of(clip, NAMES, DECISIONS, CHANCES, Rule.of(fitted, None, None), fitted, tokens).to_dict()
    rule = Rule.of(fitted, threshold, min_seconds)
    wanted = Prediction.of(clip, NAMES, DECISIONS, CHANCES, rule, fitted, tokens).to_dict()
    runs: list[list[dict[str, Any]]] = []
    for second in strict["seconds"]:
        label = second["decided"]["label"]
        label = label if second["probabilities"][label] >= threshold else "background"
        second |= {"kept": label, "sure": second["probabilities"][label]}
        if runs and runs[-1][-1]["kept"] == label:
            runs[-1].append(second)
        else:
            runs.append([second])
    found = [
        {
            "label": run[0]["kept"],
            "start_seconds": run[0]["start_seconds"],
            "end_seconds": run[-1]["start_seconds"] + 1,
            "confidence": pytest.approx(sum(one["sure"] for one in run) / len(run), abs=1e-4),
            "doubtful": sum(one["decided"]["novelty"] for one in run) / len(run) > 1,
        }
        for run in runs
        if run[0]["kept"] != "background" and len(run) >= min_seconds
    ]
    assert wanted["events"] == found


def test_doubtful_events_are_told(tmp_path: Path) -> None:
    found = made(novelty_limit=3.5)
    plain = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert [one["doubtful"] for one in plain["events"]] == [False, False, True]
    assert [second["novelty"] for second in plain["seconds"]] == [0, pytest.approx(1 / 3.5, abs=1e-4), None,
                                                                 pytest.approx(3 / 3.5, abs=1e-4),
                                                                 pytest.approx(4 / 3.5, abs=1e-4), None]  # fmt: skip
    assert plain["seconds"][3]["probabilities"] == {"bark": 0.25, "flute": 0.75, "background": 0.0}
    assert (plain["threshold"], plain["threshold_from"], plain["min_seconds_from"]) == (0.3, "val", "val")
    assert plain["calibration"] == {"temperature": 2.0, "fitted_on": "val"}
    table, remark = list(found.report())[1:]
    assert [row[0] for row in table.rows if row] == ["bark", "flute", "bark ?"]  # type: ignore[union-attr]
    assert (
        remark
        == "1 of 3 events (?) are doubtful: unlike what the model was trained on, so perhaps nothing that it knows."
    )
    assert len(list(made(novelty_limit=5.0).report())) == 2  # nothing is doubtful, and nothing is said
    found.plot(tmp_path / "timeline.png")
    assert (tmp_path / "timeline.png").stat().st_size > 10_000
