"""What an events model's answers owe to the sound: `python -m bench.heard RUN [RUN ...]`.

Each test clip is answered twice, with its own sound and with that of the next clip of other labels, picture unchanged.
The second accuracy is against the labels of the picture's own clip. With `head.reads: visual` the two differ only as
far as sound comes through the adapters' exchange; a gain in accuracy alone does not show that, since whoever sees
better is right more often too. For av-digits, whose timelines say what is seen, `sight_alone` is the accuracy of one
who recognises every digit and hears nothing: the digit if there is one, since then it is spoken in most seconds.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from avpea import data
from avpea.evaluate import prepare
from avpea.labels import EventSample
from avpea.predict import Predictor, load


def others(samples: Sequence[EventSample]) -> list[EventSample]:
    """For each sample the next one, in a circle, with other labels; itself if all have the same."""
    found = []
    for index, sample in enumerate(samples):
        circle = [*samples[index + 1 :], *samples[:index]]
        found.append(next((one for one in circle if one.labels != sample.labels), sample))
    return found


@torch.no_grad()
def heard(predictor: Predictor, split: str = "test") -> dict[str, Any]:
    """Accuracy with each clip's own sound and with another's, and the share of seconds whose answer changes."""
    info, model = predictor.info, predictor.model
    cache, usable, _ = prepare(info.experiment, data.read(info.experiment.data), [split], progress=False)
    samples = [sample for sample in usable[split] if isinstance(sample, EventSample)]

    def decisions(seen: EventSample, sounds: EventSample) -> Tensor:
        frames, log_mel = cache.batch([seen]).frames, cache.batch([sounds]).log_mel
        (answer,) = model.task.answers(model(frames.to(model.device), log_mel.to(model.device)), None)
        found: Tensor = answer.decisions
        return found

    own = torch.stack([decisions(sample, sample) for sample in samples])
    other = torch.stack([decisions(*pair) for pair in zip(samples, others(samples), strict=True)])
    labels = torch.tensor([sample.labels for sample in samples])
    sight = sight_alone(Path(info.experiment.data.root), samples, info.labels.names)
    return {
        "seconds": labels.numel(),
        **({} if sight is None else {"sight_alone": sight}),
        "own_sound_accuracy": round(float((own == labels).double().mean()), 4),
        "other_sound_accuracy": round(float((other == labels).double().mean()), 4),
        "changed": round(float((own != other).double().mean()), 4),
    }


def sight_alone(root: Path, samples: Sequence[EventSample], names: Sequence[str]) -> float | None:
    """Accuracy of always naming the digit that is seen; None for data without av-digits' timelines."""
    file = root / "timelines.jsonl"
    if not file.is_file():
        return None
    clips = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    seen = {clip["video_id"]: clip["visual_per_second"] for clip in clips}
    index = {name: number for number, name in enumerate(names)}
    right = [
        index.get(digit, len(names)) == label
        for sample in samples
        for digit, label in zip(seen[sample.video_id], sample.labels, strict=True)
    ]
    return round(sum(right) / len(right), 4)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m bench.heard", description="What answers owe to the sound.")
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="run folders of event models")
    parser.add_argument("--split", default="test", help="split to answer (default: test)")
    options = parser.parse_args()
    for run in options.runs:
        print(json.dumps({"run": run.name, **heard(load(run), options.split)}), flush=True)
