"""What an events model makes of videos that have none of its classes: `python -m bench.unknown RUN FOLDER`.

It scores each event that the model finds in its test split and in the videos of a folder, and says how well each score
tells the right events of the first from all events of the second (AUROC: the share of pairs in the right order). The
scores are the distance that `avpea predict` uses, and plain alternatives: calibrated confidence, entropy and, for a
head that returns logits, energy (Liu et al., "Energy-based Out-of-distribution Detection", NeurIPS 2020).
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from avpea import data
from avpea.evaluate import prepare
from avpea.metrics.accuracy import stretches
from avpea.predict import Predictor, load, windows
from avpea.tasks.avel.answer import Rule

NAMES = ("distance", "confidence", "entropy", "energy")


def seconds_of(predictor: Predictor, encoded: Any, rule: Rule) -> list[tuple[Tensor, dict[str, Tensor]]]:
    """For each video of a batch the categories of its seconds, and for each second the scores; high means unknown."""
    task = predictor.model.task
    output, answers = task(encoded), task.respond(encoded)
    found = []
    for index, answer in enumerate(answers):
        chances = answer.probabilities.double()
        decisions = rule.apply(answer.decisions, answer.probabilities)
        scores = {
            "distance": task.calibration.novelty(answer.tokens, decisions),
            "confidence": 1 - chances.gather(1, answer.decisions[:, None]).squeeze(1),
            "entropy": -(chances * chances.clamp(min=1e-30).log()).sum(dim=1),
        }
        if isinstance(output, Tensor):
            scores["energy"] = -output[index].double().logsumexp(dim=1)
        found.append((decisions, scores))
    return found


def of_split(predictor: Predictor, split: str) -> Iterator[tuple[Tensor, dict[str, Tensor], Tensor]]:
    """Categories, scores and labels of each video of a split."""
    info, rule = predictor.info, Rule.of(predictor.model.task.calibration, None, None)
    cache, usable, _ = prepare(info.experiment, data.read(info.experiment.data), [split])
    for sample in usable[split]:
        batch = cache.batch([sample])
        encoded = predictor.model.encode(batch.frames, batch.log_mel)
        ((decisions, scores),) = seconds_of(predictor, encoded, rule)
        yield decisions, scores, torch.tensor(sample.labels)


def of_video(predictor: Predictor, video: Path) -> tuple[Tensor, dict[str, Tensor]]:
    """Categories and scores of a video of at most the length of training; a longer one is cut."""
    clip, rule = predictor.read(video, missing_audio="silence"), Rule.of(predictor.model.task.calibration, None, None)
    window = next(windows(clip, predictor.info.experiment))
    ((decisions, scores),) = seconds_of(predictor, predictor.model.encode(window.frames, window.log_mel), rule)
    return decisions, scores


def events_of(
    decisions: Tensor, scores: dict[str, Tensor], background: int
) -> Iterator[tuple[list[int], dict[str, float]]]:
    """The seconds of each event, and its mean scores."""
    for category, seconds in stretches(decisions):
        if category != background:
            yield seconds, {name: float(values[seconds].mean()) for name, values in scores.items()}


def auroc(known: list[float], unknown: list[float]) -> float:
    """Share of pairs in which the unknown one has the higher score; a tie counts half."""
    pairs = torch.tensor(unknown)[:, None] - torch.tensor(known)
    return float((pairs > 0).double().mean() + (pairs == 0).double().mean() / 2)


@torch.inference_mode()
def measure(run: Path, folder: Path, known: set[str]) -> dict[str, Any]:
    """All figures as plain values; videos of the folder whose stem is in `known` do have a class of the model."""
    predictor = load(run)
    background = len(predictor.info.labels.names)
    right: list[dict[str, float]] = []
    wrong, true_seconds, kept_seconds = 0, 0, 0
    for decisions, scores, labels in of_split(predictor, "test"):
        true_seconds += int(((decisions == labels) & (labels != background)).sum())
        for seconds, means in events_of(decisions, scores, background):
            if float((labels[seconds] == decisions[seconds]).double().mean()) < 0.5:
                wrong += 1
                continue
            right.append(means)
            kept_seconds += int((labels[seconds] == decisions[seconds]).sum()) * (means["distance"] <= 1)
    inside, outside, clips = [], [], {"outside": [], "inside": []}  # type: ignore[var-annotated]
    for video in sorted(path for path in folder.iterdir() if path.is_file()):
        found = [means for _, means in events_of(*of_video(predictor, video), background)]
        (inside if video.stem in known else outside).extend(found)
        clips["inside" if video.stem in known else "outside"].append(found)

    def count(group: str, among: str) -> int:
        tests = {
            "any": lambda _: True,
            "above 0.7": lambda one: one["confidence"] < 0.3,
            "sure": lambda one: one["distance"] <= 1,
            "sure above 0.7": lambda one: one["distance"] <= 1 and one["confidence"] < 0.3,
        }
        return sum(any(tests[among](event) for event in found) for found in clips[group])

    scores = [name for name in NAMES if name in right[0]]
    return {
        "auroc": {name: auroc([e[name] for e in right], [e[name] for e in outside]) for name in scores},
        "auroc_in_folder": {name: auroc([e[name] for e in inside], [e[name] for e in outside]) for name in scores}
        if inside else {},
        "test": {"right_events": len(right), "doubtful": sum(e["distance"] > 1 for e in right), "wrong_events": wrong,
                 "right_seconds": true_seconds, "right_seconds_not_doubtful": kept_seconds},
        **{group: {"clips": len(found), **{f"with an event, {among}": count(group, among)
                                           for among in ("any", "above 0.7", "sure", "sure above 0.7")}}
           for group, found in clips.items()},
        "events": {"outside": len(outside), "doubtful": sum(e["distance"] > 1 for e in outside)},
    }  # fmt: skip


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
