"""Captions from training to use, on videos made on the spot."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from avpea.checkpoint import load_model
from avpea.errors import AvpeaError
from avpea.evaluate import evaluate
from avpea.labels import CaptionSample
from avpea.predict import load
from avpea.train import train

Make = Callable[..., Any]


@pytest.mark.slow
def test_captions_are_scored(tiny_written_run: Path) -> None:
    pytest.importorskip("pycocoevalcap")
    found = evaluate(tiny_written_run, progress=False)
    assert {"bleu_4", "rouge_l", "cider", "meteor"} <= found.metrics.keys()
    assert sum(cider for cider, _ in found.scores) / 3 == pytest.approx(found.metrics["cider"], abs=0.2)
    rows = [json.loads(line) for line in (tiny_written_run / "predictions-test.jsonl").read_text().splitlines()]
    assert all(len(row["prediction"].split()) <= 8 for row in rows)


def test_the_cider_of_each_video_is_that_of_the_metric(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pycocoevalcap")
    from avpea.metrics import captioning
    from avpea.tasks.avc.heads._beams import Written
    from avpea.tasks.avc.task import AVC, Captioned

    # Java's tokenizer splits some words in which the other one sees one.
    monkeypatch.setattr(captioning, "has_java", lambda: True)
    monkeypatch.setattr(captioning, "penn_treebank", lambda some: [one.replace("cannot", "can not") for one in some])
    monkeypatch.setattr(captioning, "meteor", lambda *_: pytest.fail("METEOR takes long and is not used here"))
    captions = ("a dog cannot bark", "the cat can not see a dog", "one car is loud")
    samples = [CaptionSample(f"{i}", f"{i}", Path(), 0.0, 1, "test", captions=(one,)) for i, one in enumerate(captions)]
    task = AVC(SimpleNamespace(groups=["tva"]), SimpleNamespace())
    answers = task.complete(samples, [Captioned((Written("a dog can not bark", 0.0),)) for _ in samples])
    assert answers[0].cider == pytest.approx(10.0)
    assert [task.score(*pair) for pair in zip(samples, answers, strict=True)] == [one.cider for one in answers]
    assert task.references(samples, samples)


def test_a_run_is_loaded_as_it_was(tiny_written_run: Path) -> None:
    model, info = load_model(tiny_written_run)
    assert info.experiment.task.name == "avc"
    own = model.trained_state()
    assert any(key.startswith("head.head.text.bert.") for key in own)
    assert not any("backbone" in key for key in own)


def test_a_video_is_described_in_windows(tiny_written_run: Path, tiny_captions: Path) -> None:
    predictor, video = load(tiny_written_run), tiny_captions / "videos" / "g4.mp4"
    found = predictor.caption(video)
    (one,) = found.captions
    assert (one.start_seconds, one.end_seconds) == (0.0, pytest.approx(3.0, abs=0.2))
    assert len(one.others) == 1  # two beams
    assert one.log_probability >= one.others[0][1]
    assert json.loads(json.dumps(found.to_dict()))["captions"][0]["text"] == one.text
    assert not predictor.caption(video, beams=1).captions[0].others
    assert predictor.predict(video).to_dict() == found.to_dict()


def test_what_cannot_be_asked_is_refused(tiny_written_run: Path, tiny_captions: Path) -> None:
    predictor, video = load(tiny_written_run), tiny_captions / "videos" / "g4.mp4"
    for beams in (-1, 101):
        with pytest.raises(AvpeaError, match=f"beams is {beams}; expected 1 to 100"):
            predictor.caption(video, beams=beams)
    with pytest.raises(AttributeError, match="task is 'avc', which has no 'ask'; it is for `avpea caption RUN VIDEO"):
        predictor.ask(video, "Which colour sounds first?")
    with pytest.raises(TypeError, match="beans"):
        predictor.caption(video, beans=1)


@pytest.mark.parametrize("groups", [["tva", "tv", "ta", "t"], ["tv"], ["t"]])
@pytest.mark.slow
def test_writers_look_at_what_they_are_told(groups: list[str], tiny_captioned: Make, tmp_path: Path) -> None:
    experiment = tiny_captioned("avc", **{"head.groups": groups, "train.epochs": 1})
    run = train(experiment, tmp_path / "run", progress=False)
    losses = [name for name in run.epochs[0] if name.startswith("train/words_")]
    assert losses == [f"train/words_{group}" for group in groups]
    assert load_model(run.run)[0].task.head.reads_video == (groups != ["t"])
