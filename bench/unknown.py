"""What an events model makes of videos that have none of its classes: `python -m bench.unknown RUN FOLDER`.

It scores each event that the model finds in its test split and in the videos of a folder, and says how well each score
tells the right events of the first from all events of the second (AUROC: the share of pairs in the right order). The
scores are the distance that `avpea predict` uses, and plain alternatives: calibrated confidence, entropy and, for a
head that returns logits, energy (Liu et al., "Energy-based Out-of-distribution Detection", NeurIPS 2020).
"""

import argparse
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from avpea import data
from avpea.evaluate import prepare
from avpea.labels import EventSample
from avpea.metrics.accuracy import event_f1, stretches
from avpea.predict import Predictor, load, windows
from avpea.tasks.avel.answer import Rule

NAMES = ("distance", "confidence", "entropy", "energy")


@dataclass(frozen=True)
class Seconds:
    """The seconds of a video: categories, scores by name (high means unknown), and labels if they are known."""

    decisions: Tensor
    scores: dict[str, Tensor]
    labels: Tensor | None = None

    def events(self, background: int) -> Iterator[tuple[list[int], dict[str, float]]]:
        """The seconds of each event, and its mean scores."""
        for category, seconds in stretches(self.decisions):
            if category != background:
                yield seconds, {name: float(values[seconds].mean()) for name, values in self.scores.items()}


def seconds_of(predictor: Predictor, encoded: Any, rule: Rule, labels: Tensor | None = None) -> Seconds:
    """The seconds of a video, from its tokens."""
    task = predictor.model.task
    fitted, output, (answer,) = task.calibration, task(encoded), task.respond(encoded)
    chances = answer.probabilities.double()
    decisions = rule.apply(answer.decisions, answer.probabilities)
    distance = None if fitted is None else fitted.novelty(answer.tokens, decisions, chances.shape[1])
    if distance is None:
        raise SystemExit("The run is not calibrated; `avpea calibrate RUN` does that.")
    scores = {
        "distance": distance,
        "confidence": 1 - chances.gather(1, answer.decisions[:, None]).squeeze(1),
        "entropy": -(chances * chances.clamp(min=1e-30).log()).sum(dim=1),
    }
    if isinstance(output, Tensor):
        scores["energy"] = -output[0].double().logsumexp(dim=1)
    return Seconds(decisions, scores, labels)


def of_split(predictor: Predictor, split: str, rule: Rule) -> Iterator[Seconds]:
    """The seconds of each video of a split."""
    info = predictor.info
    cache, usable, _ = prepare(info.experiment, data.read(info.experiment.data), [split])
    for sample in usable[split]:
        assert isinstance(sample, EventSample)
        batch = cache.batch([sample])
        encoded = predictor.model.encode(batch.frames, batch.log_mel)
        yield seconds_of(predictor, encoded, rule, torch.tensor(sample.labels))


def of_video(predictor: Predictor, video: Path, rule: Rule) -> Seconds:
    """The seconds of a video of at most the length of training; a longer one is cut."""
    clip = predictor.read(video, missing_audio="silence")
    window = next(windows(clip, predictor.info.experiment))
    return seconds_of(predictor, predictor.model.encode(window.frames, window.log_mel), rule)


def auroc(known: list[float], unknown: list[float]) -> float:
    """Share of pairs in which the unknown one has the higher score; a tie counts half."""
    pairs = torch.tensor(unknown)[:, None] - torch.tensor(known)
    return float((pairs > 0).double().mean() + (pairs == 0).double().mean() / 2)


def of_clips(
    predictor: Predictor, folder: Path, known: set[str], rule: Rule
) -> dict[str, list[list[dict[str, float]]]]:
    """The events of each video of a folder, in two groups."""
    background = len(predictor.info.labels.names)
    found: dict[str, list[list[dict[str, float]]]] = {"outside": [], "inside": []}
    for video in sorted(path for path in folder.iterdir() if path.is_file()):
        events = [means for _, means in of_video(predictor, video, rule).events(background)]
        found["inside" if video.stem in known else "outside"].append(events)
    return found


def with_an_event(clips: list[list[dict[str, float]]]) -> dict[str, int]:
    """How many clips have an event of each kind."""
    tests: dict[str, Callable[[dict[str, float]], bool]] = {
        "any": lambda _: True,
        "above 0.7": lambda one: one["confidence"] < 0.3,
        "not doubtful": lambda one: one["distance"] <= 1,
        "not doubtful, above 0.7": lambda one: one["distance"] <= 1 and one["confidence"] < 0.3,
    }
    return {name: sum(any(map(test, events)) for events in clips) for name, test in tests.items()}


def of_test(predictor: Predictor, rule: Rule) -> tuple[list[dict[str, float]], dict[str, float]]:
    """The right events of the test split, and figures of all of them."""
    background = len(predictor.info.labels.names)
    right: list[dict[str, float]] = []
    figures = {"events": 0, "right events": 0, "doubtful": 0, "right seconds": 0, "right seconds, not doubtful": 0}
    videos = list(of_split(predictor, "test", rule))
    answers = torch.stack([video.decisions for video in videos])
    truth = torch.stack([video.labels for video in videos if video.labels is not None])
    for video, decisions, labels in zip(videos, answers, truth, strict=True):
        for seconds, means in video.events(background):
            hits, doubtful = int((labels[seconds] == decisions[seconds]).sum()), means["distance"] > 1
            figures["events"] += 1
            figures["right seconds"] += hits
            figures["right seconds, not doubtful"] += hits * (not doubtful)
            if 2 * hits >= len(seconds):
                right.append(means)
                figures["right events"] += 1
                figures["doubtful"] += doubtful
    return right, {**figures, "event F1": event_f1(answers, truth, background)}


@torch.inference_mode()
def measure(run: Path, folder: Path, known: set[str]) -> dict[str, Any]:
    """All figures as plain values; videos of the folder whose stem is in `known` do have a class of the model."""
    predictor = load(run)
    chosen = Rule.of(predictor.model.task.calibration, None, None)
    result: dict[str, Any] = {"chosen": {"threshold": chosen.threshold, "min_seconds": chosen.min_seconds}}
    for name, rule in (("every event", Rule()), ("events by the rule", chosen)):
        right, figures = of_test(predictor, rule)
        clips = of_clips(predictor, folder, known, rule)
        inside, outside = ([event for events in clips[group] for event in events] for group in ("inside", "outside"))
        scores = [score for score in NAMES if score in right[0]]
        pairs = {"right": right, **({"inside": inside} if inside else {})}
        result[name] = {
            "test": figures,
            **{group: {"clips": len(some), **with_an_event(some)} for group, some in clips.items()},
            **{
                f"AUROC, {which} against outside": {
                    score: round(auroc([one[score] for one in events], [one[score] for one in outside]), 4)
                    for score in scores
                }
                for which, events in pairs.items()
            },
        }
    return result


def main() -> None:
    """Print the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("folder", type=Path, help="videos of which none has a class of the model, except --known")
    parser.add_argument("--known", default="", help="names without ending of those that have one, separated by commas")
    options = parser.parse_args()
    known = set(filter(None, options.known.split(",")))
    print(json.dumps(measure(options.run, options.folder, known), indent=2))


if __name__ == "__main__":
    main()
