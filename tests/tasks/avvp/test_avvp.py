"""Video parsing: targets, figures, references, rows and mistakes, and the answer to a person."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from avpea.cli import main
from avpea.errors import AvpeaError, ExperimentError
from avpea.experiment import Experiment
from avpea.labels import LaneLabels, LaneSample
from avpea.media import Clip
from avpea.metrics.video_parsing import Masks, parsing_figures
from avpea.tables import Table
from avpea.tasks.avvp.answer import LaneRule, Prediction
from avpea.tasks.avvp.heads.han import HAN
from avpea.tasks.avvp.task import AVVP, Parsing
from tests.tiny import write_lanes

NAMES = ("bell", "dog")
TIMED = LaneSample(
    "k", "v", Path("v.mp4"), 0.0, 4, "test", classes=(0, 1), padding=1,
    seen=((1,), (1,), (), ()), heard=((0, 1), (0,), (0,), ()),
)  # fmt: skip
WEAK = replace(TIMED, key="w", seen=None, heard=None, padding=0)


@pytest.fixture(scope="module")
def task() -> AVVP:
    return AVVP(HAN(8, 2), LaneLabels(NAMES))


def answer(seen: list[list[float]], heard: list[list[float]], video: tuple[float, float] = (1.0, 1.0)) -> Parsing:
    return Parsing(*(torch.tensor(one, dtype=torch.float32) for one in (seen, heard, video)))


RIGHT = answer([[0, 1], [0, 1], [0, 0], [1, 1]], [[1, 1], [1, 0], [1, 0], [1, 1]])
HALF = answer([[0, 0.9], [0, 0], [0.7, 0], [0, 0]], [[1, 0.2], [1, 0], [1, 0], [0, 0]])


def test_targets(task: AVVP) -> None:
    found = task.targets([TIMED, WEAK])
    assert found.classes.tolist() == [[1, 1], [1, 1]]
    assert found.seen[0].tolist() == [[0, 1], [0, 1], [0, 0], [0, 0]]
    assert found.heard[0].tolist() == [[1, 1], [1, 0], [1, 0], [0, 0]]
    assert found.timed.tolist() == [True, False]
    assert found.real.tolist() == [[True] * 3 + [False], [True] * 4]
    assert found.classes_seen.tolist() == [[0, 1], [1, 1]]
    weak = AVVP(HAN(8, 2), LaneLabels(NAMES), "weak").targets([TIMED])
    assert weak.timed.tolist() == [False]
    assert weak.classes_seen.tolist() == [[1, 1]]


def test_figures_leave_padding_out_and_agree_with_the_metric(task: AVVP) -> None:
    perfect = task.evaluate([TIMED], [RIGHT])
    assert perfect["segment_type"] == perfect["event_event"] == 1.0
    found = task.evaluate([TIMED, TIMED], [RIGHT, HALF])
    assert found["by_lane"] == {
        "seen (V)": found["segment_v"], "heard (A)": found["segment_a"], "both (AV)": found["segment_av"],
    }  # fmt: skip
    assert sum(found["by_lane"].values()) / 3 == pytest.approx(found["segment_type"])
    scores = [task.score(TIMED, one) for one in (RIGHT, HALF)]
    assert sum(scores) / 2 == pytest.approx(found["segment_type"])
    assert [task.weight(one) for one in (TIMED, WEAK)] == [1, 1]
    truth = Masks(torch.tensor([[[0, 1], [0, 1], [0, 0]]]).bool(), torch.tensor([[[1, 1], [1, 0], [1, 0]]]).bool())
    own = Masks(torch.tensor([[[0, 1], [0, 0], [1, 0]]]).bool(), torch.tensor([[[1, 0], [1, 0], [1, 0]]]).bool())
    half = task.evaluate([TIMED], [HALF])
    assert {key: half[key] for key in parsing_figures(own, truth)} == parsing_figures(own, truth)
    assert half["per_class"]["dog"] == {"seen": 2 / 3, "heard": 0.0, "both": 0.0}
    json.dumps(found, allow_nan=False)


def test_a_class_that_does_not_occur_in_the_video_counts_nowhere(task: AVVP) -> None:
    unsure = answer([[0.9, 0.9]] * 4, [[0.9, 0.9]] * 4, (0.4, 0.6))
    seen, heard = unsure.masks()
    assert not seen[:, 0].any()
    assert seen[:, 1].all()
    assert torch.equal(seen, heard)


def test_weak_labels_cannot_be_scored(task: AVVP) -> None:
    with pytest.raises(AvpeaError, match=r"Labelled as a whole .*: 1 of 2 samples, such as w; .*another split"):
        task.evaluate([TIMED, WEAK], [RIGHT, RIGHT])


def test_references_are_those_of_constant_answers(task: AVVP) -> None:
    found = task.references([replace(WEAK, classes=(0,))], [TIMED])
    assert found["always nothing"] == 0.0
    (name,) = found.keys() - {"always nothing"}
    assert "always 'bell' seen and heard" in name
    # A: bell 3 of 3 seconds, dog missed: 1/2. V: bell wrong, dog missed: 0. AV: bell wrong, dog missed: 0.
    assert found[name] == pytest.approx((0.5 + 0 + 0) / 3)
    assert task.references([], [TIMED]).keys() == {"always nothing"}


def test_rows_and_mistakes(task: AVVP) -> None:
    row = task.row(TIMED, HALF)
    assert row["target"] == {"seen": [["dog"], ["dog"], []], "heard": [["bell", "dog"], ["bell"], ["bell"]]}
    assert row["prediction"] == {"seen": [["dog"], [], ["bell"]], "heard": [["bell"], ["bell"], ["bell"]]}
    assert row["probability"]["seen"] == {"bell": [0.0, 0.0, 0.7], "dog": [0.9, 0.0, 0.0]}
    found = AVVP.mistakes([row], 10)
    said = [(one.second, one.expected, one.answered, one.confidence) for one in found]
    assert said == [
        (1, "dog seen", "no dog seen", 1.0),
        (0, "dog heard", "no dog heard", pytest.approx(0.8)),
        (2, "no bell seen", "bell seen", pytest.approx(0.7)),
    ]
    assert len(AVVP.mistakes([row], 1)) == 1
    assert task.row(WEAK, HALF)["target"] == {"seen": None, "heard": None}
    assert AVVP.mistakes([task.row(WEAK, HALF)], 10) == []


def test_the_ten_figures_are_printed(task: AVVP) -> None:
    metrics = task.evaluate([TIMED, TIMED], [RIGHT, HALF])
    table, whole = task.report(metrics)
    assert isinstance(table, Table)
    assert list(table.columns or ()) == ["percent", "A", "V", "AV", "Type@AV", "Event@AV"]
    assert [next(iter(row or ())) for row in table.rows] == ["by segments", "by events"]
    assert len(list(task.report(metrics, details=True))) == 3
    # Of three lanes of two videos one each is in all three seconds that the video has, in truth as in what is found.
    assert metrics["whole_videos"] == {"found": pytest.approx(2 / 6), "true": pytest.approx(2 / 6)}
    assert str(whole).startswith("Of what is found in a stream of a video, 33.3 % goes on from its first second")
    silent = task.evaluate([TIMED], [answer([[0, 0]] * 4, [[0, 0]] * 4)])
    assert silent["whole_videos"] == {"found": None, "true": pytest.approx(1 / 3)}
    assert len(list(task.report(silent))) == 1


def clip(seconds: float) -> Clip:
    count = int(seconds + 0.5)
    return Clip(
        torch.zeros(count, 8, 8, 3, dtype=torch.uint8), torch.arange(float(count), dtype=torch.float64), 1.0,
        torch.zeros(count * 16_000), seconds, seconds, 0.0, Path("a.mp4"),
    )  # fmt: skip


def made(threshold: float = 0.5, min_seconds: float = 1.0, seconds: float = 4.0) -> Prediction:
    """The dog is seen in seconds 0, 1 and 3 and heard in 1 to 3; the bell is heard in the second window, 2 and 3."""
    seen = torch.tensor([[0.1, 0.9], [0.1, 0.7], [0.1, 0.4], [0.1, 0.8]])
    heard = torch.tensor([[0.9, 0.2], [0.9, 0.6], [0.9, 0.9], [0.9, 0.9]])
    occurs = torch.tensor([[0.3, 0.9], [0.3, 0.9], [0.8, 0.9], [0.8, 0.9]])
    return Prediction.of(
        clip(seconds), NAMES, seen, heard, occurs, LaneRule(threshold, min_seconds, ("given", "given"))
    )


def test_three_lanes_with_several_events_at_once() -> None:
    found = made()
    told = [(one.lane, one.label, one.start_seconds, one.end_seconds) for one in found.events]
    assert told == [
        ("seen", "dog", 0.0, 2.0),
        ("heard", "dog", 1.0, 4.0),
        ("both", "dog", 1.0, 2.0),
        ("heard", "bell", 2.0, 4.0),
        ("seen", "dog", 3.0, 4.0),
        ("both", "dog", 3.0, 4.0),
    ]
    both = found.in_lane("both")
    assert both[0].confidence == pytest.approx(0.6)  # the smaller of 0.7 and 0.6
    assert found.events[0].confidence == pytest.approx(0.8)
    values = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert [one["lane"] for one in values["events"]] == [one.lane for one in found.events]
    second = values["seconds"][3]
    assert (second["seen"], second["heard"], second["both"]) == (["dog"], ["bell", "dog"], ["dog"])
    assert second["probabilities"]["occurs"] == {"bell": 0.8, "dog": 0.9}
    assert [len(row) for row in found.rows()] == [len(AVVP.columns)] * 6
    assert found.stretches()[2].text == "dog (both)"
    assert found.surest_second() in range(4)
    lines = list(found.report())
    assert "events: 2 seen, 2 heard, 2 both" in str(lines[0])
    assert [next(iter(one.columns or ())) for one in lines if isinstance(one, Table)] == ["seen", "heard", "both"]


def test_threshold_and_shortest_event() -> None:
    assert {(one.lane, one.label) for one in made(0.85).events} == {("seen", "dog"), ("heard", "dog")}
    longer = made(min_seconds=2.0)
    assert [(one.lane, one.label) for one in longer.events] == [("seen", "dog"), ("heard", "dog"), ("heard", "bell")]
    nothing = made(1.0)
    assert nothing.events == ()
    assert "No event that the model knows was seen or heard." in list(nothing.report())
    assert made(seconds=3.6).events[-1].end_seconds == 3.6
    assert LaneRule.of(None, None, None) == LaneRule(0.5, 1.0, ("default", "default"))
    with pytest.raises(AvpeaError, match="expected a confidence from 0 to 1"):
        LaneRule.of(None, 1.5, None)


def lane_values(tiny_values: dict[str, Any], root: Path, **changes: Any) -> dict[str, Any]:
    data = {**tiny_values["data"], "name": "llp", "root": str(root)}
    return {**tiny_values, "task": "avvp", "data": data, "head": {"name": "han"}, **changes}


def test_weak_labels_train_and_their_table_trains_again(
    tiny_values: dict[str, Any], tiny_data: Path, tmp_path: Path, capsys: Any
) -> None:
    """From LLP's files without seconds in training to predictions, whose table is a manifest with lanes."""
    root = write_lanes(tmp_path / "weak", tiny_data, timed=False)
    recipe = tmp_path / "weak.yaml"
    values = lane_values(tiny_values, root, train={**tiny_values["train"], "epochs": 1})
    recipe.write_text(Experiment.from_dict(values).to_yaml(), encoding="utf-8")
    assert main(["train", str(recipe), "--run", str(tmp_path / "run"), "--quiet"]) == 0
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert all(line["train/seconds_seen"] == 0 for line in lines)
    assert main(["evaluate", str(tmp_path / "run"), "--split", "train", "--quiet"]) == 1
    assert "Labelled as a whole" in capsys.readouterr().err
    table = tmp_path / "events.csv"
    videos = sorted(str(path) for path in (tiny_data / "AVE").iterdir())
    line = ["predict", str(tmp_path / "run"), *videos, "--threshold", "0.05", "--csv", str(table), "--quiet"]
    assert main([*line, "--format", "audacity", "--out", str(tmp_path / "out")]) == 0
    capsys.readouterr()
    assert table.read_text().splitlines()[0].startswith("video,start_seconds,end_seconds,label,lane,confidence")
    assert main(["data", "verify", "lanes", "--data.root", str(table)]) == 0
    assert "at most 2 at once" in capsys.readouterr().out


def test_options(tiny_values: dict[str, Any], tiny_lanes: Path) -> None:
    values = lane_values(tiny_values, tiny_lanes, task={"name": "avvp", "supervision": "weak"})
    assert Experiment.from_dict(values).task.supervision == "weak"  # type: ignore[attr-defined]
    with pytest.raises(ExperimentError, match="supervision"):
        Experiment.from_dict({**values, "task": {"name": "avvp", "supervision": "full"}})
    with pytest.raises(ExperimentError, match=r"needs lanes of events, but data.name is 'ave', which reads events"):
        Experiment.from_dict({**values, "data": tiny_values["data"]})
