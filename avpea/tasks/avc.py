"""Audio-visual captioning (AVC): a sentence for a video, as VALOR writes it (AV-PEA paper, Section 4.2, Table 3)."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from avpea.dataset import CaptionSample
from avpea.experiment import Experiment
from avpea.heads._caption import GROUPS
from avpea.heads._search import Written
from avpea.heads.writer import Writer
from avpea.metrics.captioning import caption_metrics, require_scorers
from avpea.questions import QuestionVocabulary
from avpea.tasks._text import Told, WritingTask, build_head, captions_of, made_up

__all__ = ["AVC", "Captioned"]


@dataclass(frozen=True)
class Captioned:
    """What was written about a video.

    Attributes:
        written: Texts, the likeliest first.
        cider: Once all of a split are known: the likeliest one's CIDEr.
    """

    written: tuple[Written, ...]
    cider: float = 0.0


class AVC(WritingTask):
    """Captioning, trained on every caption of each video of a batch.

    Args:
        head: What writes.
    """

    metric = "cider"
    breakdown = "scores"
    use = "avpea caption {run} VIDEO"
    needs = "captions"

    @classmethod
    def build(
        cls,
        experiment: Experiment,
        visual_dim: int,
        audio_dim: int,
        num_classes: int,
        questions: QuestionVocabulary | None = None,
    ) -> "AVC":
        """The task with a new head."""
        return cls(build_head(experiment, Writer, "avc", visual_dim, audio_dim))

    def require_metrics(self) -> None:
        """Refuse to go without pycocoevalcap."""
        require_scorers()

    def targets(self, samples: Sequence[CaptionSample]) -> Told:
        """All captions of a batch."""
        return captions_of(self.head, samples)

    def answers(self, output: Any, targets: Told) -> list[Captioned]:
        """A caption for each video."""
        videos = torch.arange(int(targets.video.max()) + 1, device=targets.video.device)
        return [Captioned(tuple(written)) for written in self.head.write(output, videos)]

    def settle(self, samples: Sequence[CaptionSample], answers: Sequence[Captioned]) -> list[Captioned]:
        """Score each caption; how telling a word is depends on all captions of the split."""
        scores = caption_metrics(*_to_score(samples, answers), java=False)["cider_of_each"]
        return [replace(answer, cider=scores[sample.key]) for sample, answer in zip(samples, answers, strict=True)]

    def evaluate(
        self, samples: Sequence[CaptionSample], answers: Sequence[Captioned], class_names: Sequence[str]
    ) -> dict[str, Any]:
        """BLEU-1 to 4, METEOR, ROUGE-L and CIDEr, as pycocoevalcap has them."""
        found = caption_metrics(*_to_score(samples, answers))
        del found["cider_of_each"]
        shown = {"BLEU-4": "bleu_4", "METEOR": "meteor", "ROUGE-L": "rouge_l", "CIDEr": "cider"}
        return {
            **found,
            "scores": {name: found[key] for name, key in shown.items() if found[key] is not None},
            "not_available": {} if found["meteor"] is not None else {"METEOR": "needs Java"},
            "different_captions": len({answer.written[0].text for answer in answers}),
            "looks_at": GROUPS[self.head.groups[0]],
        }

    def right(self, sample: CaptionSample, answer: Captioned) -> float:
        """The caption's CIDEr."""
        return answer.cider

    def row(self, sample: CaptionSample, answer: Captioned, class_names: Sequence[str]) -> dict[str, Any]:
        """What people wrote and what was written."""
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
        """What a training caption drawn by chance for each video has."""
        known = [caption for sample in train for caption in sample.captions]
        if not known:
            return {}
        drawn = torch.randint(len(known), (len(samples),), generator=torch.Generator().manual_seed(0)).tolist()
        answers = [Captioned((Written(known[i], 0.0),)) for i in drawn]
        scored = caption_metrics(*_to_score(samples, answers), java=False)
        return {"a training caption drawn by chance": scored["cider"]}

    def examples(self, count: int, segments: int) -> list[CaptionSample]:
        """Samples with a caption each."""
        return made_up(count, segments)


def _to_score(
    samples: Sequence[CaptionSample], answers: Sequence[Captioned]
) -> tuple[dict[str, tuple[str, ...]], dict[str, str]]:
    return (
        {sample.key: sample.captions for sample in samples},
        {sample.key: answer.written[0].text for sample, answer in zip(samples, answers, strict=True)},
    )


# Of the public classes here, this one is the task.
EXTENSION = AVC
