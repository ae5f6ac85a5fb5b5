"""Retrieval from training to use, on videos made on the spot."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from avpea.errors import AvpeaError, ExperimentError
from avpea.evaluate import evaluate
from avpea.labels import CaptionSample
from avpea.predict import load
from avpea.tasks.avr.task import _shared

Make = Callable[..., Any]


def test_retrieval_is_evaluated_in_both_directions(tiny_matched_run: Path) -> None:
    result = evaluate(tiny_matched_run, progress=False)
    found = result.metrics
    assert found["mean_recall"] == found["text_to_video"]["mean_recall"]
    assert found["text_to_video"]["r5"] == found["video_to_text"]["r5"] == 1.0  # there are three
    assert {"text_to_video_tv", "text_to_video_ta", "text_to_video_dual_softmax"} <= found.keys()
    assert found["references"] == {"chance": pytest.approx((1 / 3 + 1 + 1) / 3)}
    assert sum(score for score, _ in result.scores) / 3 == pytest.approx(found["mean_recall"])
    rows = [json.loads(line) for line in (tiny_matched_run / "predictions-test.jsonl").read_text().splitlines()]
    assert all(1 <= row["captions"][0]["place"]["tva"] <= 3 for row in rows)


def test_captions_of_several_videos_are_counted_as_the_text_model_reads_them(tiny_matched_run: Path) -> None:
    result, task = evaluate(tiny_matched_run, progress=False), load(tiny_matched_run).model.task
    assert result.metrics["shared_captions"] == 0
    assert "another video" not in str([*task.report(result.metrics)])
    captions = [("A dog barks.", "A bird sings."), ("a dog, barks",), ("A cat.", "a cat!")]
    samples = [
        CaptionSample(str(i), str(i), Path("a.mp4"), 0.0, 1, "test", captions=some) for i, some in enumerate(captions)
    ]
    assert _shared(samples, "split") == 2
    said = [one for one in task.report(result.metrics | {"shared_captions": 2}) if isinstance(one, str)]
    assert said[0].startswith("2 captions are, word for word, those of another video, too")


def test_a_run_of_retrieval_says_what_it_is_for(tiny_matched_run: Path, tiny_captions: Path) -> None:
    predictor, video = load(tiny_matched_run), tiny_captions / "videos" / "g4.mp4"
    with pytest.raises(AttributeError, match="task is 'avr', which has no 'caption'; it is for `avpea index RUN"):
        predictor.caption(video)
    with pytest.raises(AvpeaError, match="A video-retrieval model has no answer about a single video"):
        predictor.predict(video)


def test_what_does_not_fit_is_refused(tiny_captioned: Make) -> None:
    with pytest.raises(ExperimentError, match=r"head.name is 'writer', which is no head of the task 'avr'; expected m"):
        tiny_captioned("avr", **{"head.name": "writer"})
    with pytest.raises(ExperimentError, match=r"head.groups has 't', but retrieval needs picture or sound"):
        tiny_captioned("avr", **{"head.groups": ["t"]})
