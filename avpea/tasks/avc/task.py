"""Audio-visual captioning (AVC): a sentence for a video, as VALOR writes it (AV-PEA paper, Section 4.2, Table 3)."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from avpea.labels import CaptionSample
from avpea.metrics.captioning import caption_metrics, require_scorers
from avpea.options import require
from avpea.tables import Table
from avpea.tasks import Figure, Mistake, Viewing
from avpea.tasks._text import CaptionTask, TextTargets, WritingTask
from avpea.tasks._text_head import GROUPS
from avpea.tasks.avc.answer import Caption, Captions
from avpea.tasks.avc.heads._beams import Written
from avpea.tasks.avc.heads.writer import Writer

__all__ = ["AVC", "EXTENSION", "Captioned"]


@dataclass(frozen=True)
class Captioned:
    """The captions written for a video.

    Attributes:
        written: Texts, the likeliest first.
        cider: CIDEr of the likeliest text; set by `complete`, since it depends on the whole split.
    """

    written: tuple[Written, ...]
    cider: float = 0.0


class AVC(CaptionTask, WritingTask):
    """Captioning, trained on all captions of each video."""

    figure = Figure("cider", "CIDEr", "scores", "score", "Scores", unit="times 100")
    heads = Writer
    default_head = "writer"
    verb = "caption"
    columns = ("start_seconds", "end_seconds", "caption", "log_probability")
    stretches = "captions"
    worst = "ten captions farthest from what is annotated"
    use = "avpea caption {run} VIDEO"
    tag = "video-captioning"
    example = 'caption("video.mp4")'
    unexported = "it writes captions word by word in a search over beams, which is no fixed graph"

    def require_metrics(self) -> None:
        """Require pycocoevalcap."""
        require_scorers()

    def answers(self, output: Any, targets: TextTargets) -> list[Captioned]:
        """Captions of each video."""
        videos = torch.arange(int(targets.video.max()) + 1, device=targets.video.device)
        return [Captioned(tuple(written)) for written in self.head.write(output, videos)]

    def complete(self, samples: Sequence[CaptionSample], answers: Sequence[Captioned]) -> list[Captioned]:
        """Score each caption with CIDEr, whose word weights depend on all captions of the split.

        Its mean is the metric, so tokens are made as there.
        """
        scores = caption_metrics(*_to_score(samples, answers), with_meteor=False)["cider_of_each"]
        return [replace(answer, cider=scores[sample.key]) for sample, answer in zip(samples, answers, strict=True)]

    def evaluate(self, samples: Sequence[CaptionSample], answers: Sequence[Captioned]) -> dict[str, Any]:
        """BLEU-1 to 4, METEOR, ROUGE-L and CIDEr from pycocoevalcap."""
        found = caption_metrics(*_to_score(samples, answers))
        del found["cider_of_each"]
        shown = {"BLEU-4": "bleu_4", "METEOR": "meteor", "ROUGE-L": "rouge_l", "CIDEr": "cider"}
        return {
            **found,
            "scores": {name: found[key] for name, key in shown.items() if found[key] is not None},
            "not_available": {} if found["meteor"] is not None else {"METEOR": "needs Java, or its program failed"},
            "different_captions": len({answer.written[0].text for answer in answers}),
            "looks_at": GROUPS[self.head.groups[0]],
        }

    def score(self, sample: CaptionSample, answer: Captioned) -> float:
        """CIDEr of the likeliest caption."""
        return answer.cider

    def row(self, sample: CaptionSample, answer: Captioned) -> dict[str, Any]:
        """Annotated captions and the predicted one."""
        best = answer.written[0]
        return {
            "key": sample.key,
            "video": sample.video_id,
            "captions": list(sample.captions),
            "prediction": best.text,
            "log_probability": round(best.log_probability, 4),
            "cider": round(answer.cider, 4),
        }

    def references(self, train: Sequence[CaptionSample], samples: Sequence[CaptionSample]) -> dict[str, float]:
        """CIDEr of a random training caption for each video."""
        known = [caption for sample in train for caption in sample.captions]
        if not known:
            return {}
        drawn = torch.randint(len(known), (len(samples),), generator=torch.Generator().manual_seed(0)).tolist()
        answers = [Captioned((Written(known[i], 0.0),)) for i in drawn]
        scored = caption_metrics(*_to_score(samples, answers), with_meteor=False)
        return {"a training caption drawn by chance": scored["cider"]}

    @classmethod
    def mistakes(cls, rows: Sequence[Mapping[str, Any]], count: int) -> list[Mistake]:
        """The captions of lowest CIDEr, the likeliest first."""
        worst = sorted(rows, key=lambda row: (row["cider"], -row["log_probability"]))[:count]
        return [
            Mistake(
                row["key"], None, " / ".join(row["captions"]), f"{row['prediction']} (CIDEr {100 * row['cider']:.0f})"
            )
            for row in worst
        ]

    @classmethod
    def report(cls, metrics: Mapping[str, Any], details: bool = False) -> Iterator[str | Table]:
        """BLEU, METEOR, ROUGE-L and CIDEr, times 100."""
        rows = [(name, f"{100 * value:.2f}") for name, value in metrics["scores"].items()]
        rows += [(name, f"not available: {why}") for name, why in metrics["not_available"].items()]
        yield Table(["score", ""], rows, f"Times 100; {metrics['different_captions']} different captions")

    def predict(self, viewing: Viewing, *, beams: int = 0) -> Captions:
        """Captions of a video of any length: a sentence for each window of as many seconds as in training.

        The last window ends with the video and may overlap the one before.

        Args:
            viewing: The video and the model.
            beams: Number of beams of the search; 0 means that of the run's recipe.

        Raises:
            AvpeaError: `beams` is out of range.
        """
        require(0 <= beams <= 100, f"beams is {beams}; expected 1 to 100, or 0 for the recipe's.")
        clip = viewing.whole()
        found = []
        for window in viewing.windows(clip):
            memories = viewing.run(window)
            ((best, *others),) = self.head.write(memories, torch.zeros(1, dtype=torch.int64), beams=beams)
            rest = tuple((one.text, one.log_probability) for one in others)
            found.append(Caption(float(window.start), float(window.stop), best.text, best.log_probability, rest))
        seconds = clip.duration_seconds  # which is known when the last window is
        ended = (replace(one, end_seconds=min(one.end_seconds, max(seconds, one.start_seconds))) for one in found)
        return Captions(clip.path, seconds, tuple(ended), clip)


def _to_score(
    samples: Sequence[CaptionSample], answers: Sequence[Captioned]
) -> tuple[dict[str, tuple[str, ...]], dict[str, str]]:
    return (
        {sample.key: sample.captions for sample in samples},
        {sample.key: answer.written[0].text for sample, answer in zip(samples, answers, strict=True)},
    )


EXTENSION = AVC
