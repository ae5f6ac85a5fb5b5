"""Text-to-video retrieval (AVR): the video that a sentence is about, among all (AV-PEA paper, Section 4.2, Table 3).

As in VALOR (Chen et al., 2023): fine-grained similarity in groups of modalities, a symmetric contrastive loss for each.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from avpea.dataset import CaptionSample
from avpea.experiment import Experiment
from avpea.heads._caption import GROUPS
from avpea.heads._matching import contrastive_loss, gathered
from avpea.heads.matcher import Matcher, Side, stacked
from avpea.metrics.retrieval import CUTS, both_ranks, dual_softmax, ranks, recalls
from avpea.questions import QuestionVocabulary
from avpea.tasks._base import Task, cls_tokens, owners
from avpea.tasks._text import Told, build_head, captions_of, images_of, made_up

__all__ = ["AVR", "Matched"]


@dataclass(frozen=True)
class Matched:
    """What retrieval knows of a video and of its captions.

    Attributes:
        texts: Each caption's projected words.
        video: The video's projected tokens, for each group.
        places: Once all of a split are known: at which place each caption finds its video, for each group.
        back: At which place the video finds the first of its captions.
        dual: `places` of the first group with dual softmax, which looks at all captions at once.
    """

    texts: tuple[Side, ...]
    video: dict[str, Side]
    places: dict[str, tuple[int, ...]] = field(default_factory=dict)
    back: dict[str, int] = field(default_factory=dict)
    dual: tuple[int, ...] = ()


class AVR(Task):
    """Retrieval, trained on one caption of each video of a batch against those of all others.

    Args:
        head: The contrastive heads, with the text model.
    """

    metric = "mean_recall"
    breakdown = "recalls"
    use = "avpea index {run} FOLDER --library LIBRARY"
    needs = "captions"
    whole_videos = True

    def __init__(self, head: Matcher) -> None:
        super().__init__(head)
        self.reads_video = head.reads_video

    @classmethod
    def build(
        cls,
        experiment: Experiment,
        visual_dim: int,
        audio_dim: int,
        num_classes: int,
        questions: QuestionVocabulary | None = None,
    ) -> "AVR":
        """The task with a new head."""
        return cls(build_head(experiment, Matcher, "avr", visual_dim, audio_dim))

    def targets(self, samples: Sequence[CaptionSample]) -> Told:
        """The captions of a batch: all of them, or in training one of each video, drawn."""
        if self.training:
            drawn = [int(torch.randint(len(sample.captions), ())) for sample in samples]
            samples = [
                replace(sample, captions=(sample.captions[i],)) for sample, i in zip(samples, drawn, strict=True)
            ]
        return captions_of(self.head, samples)

    def forward(
        self,
        visual: Float[Tensor, "images visual_tokens dim"] | None,
        audio: Float[Tensor, "images_of_sound audio_tokens audio_dim"] | None,
        targets: Any = None,
        negatives: Tensor | None = None,
        *,
        segments: int,
        num_prefix_tokens: int,
        has_cls: bool,
        places: Tensor | None = None,
    ) -> tuple[dict[str, Side], Side | None]:
        """Videos for each group, and texts where there are any, in their common space."""
        assert visual is not None
        assert audio is not None
        videos = self.head.grouped(*self.sides(visual, audio, segments, has_cls))
        return videos, None if targets is None else self.head.read(targets.text)

    def sides(
        self,
        visual: Float[Tensor, "images visual_tokens dim"],
        audio: Float[Tensor, "images_of_sound audio_tokens audio_dim"],
        segments: int,
        has_cls: bool,
    ) -> tuple[Side, Side]:
        """Frames and sounds of videos in the common space, whatever the groups are."""
        tokens = (cls_tokens(stream, has_cls) for stream in images_of(visual, audio, segments))
        sides: tuple[Side, Side] = self.head(*tokens)
        return sides

    def loss(self, output: Any, targets: Told) -> tuple[Float[Tensor, ""], dict[str, Float[Tensor, ""]]]:
        """The mean of the groups' contrastive losses, over the batches of all processes together."""
        videos, texts = output
        temperature, texts = self.head.temperature, _gathered(texts)
        terms = {
            f"match_{group}": contrastive_loss(texts.similarity(_gathered(side)), temperature) / len(videos)
            for group, side in videos.items()
        }
        return self.total(terms), terms

    def answers(self, output: Any, targets: Told) -> list[Matched]:
        """The tokens of each video and of its captions; how well they match is known when all are."""
        videos, texts = output
        texts, video = texts.to("cpu"), targets.video.cpu()
        sides = {group: side.to("cpu") for group, side in videos.items()}
        count = len(next(iter(sides.values())))
        return [
            Matched(
                tuple(_trimmed(texts, int(i)) for i in (video == row).nonzero()),
                {group: side[row : row + 1] for group, side in sides.items()},
            )
            for row in range(count)
        ]

    def settle(self, samples: Sequence[CaptionSample], answers: Sequence[Matched]) -> list[Matched]:
        """Match every caption of the split with every video of it."""
        texts = stacked([text for answer in answers for text in answer.texts])
        video = owners(len(answer.texts) for answer in answers)
        places: dict[str, tuple[Tensor, Tensor]] = {}
        dual = torch.zeros(0, dtype=torch.int64)
        for group in self.head.groups:
            similarity = all_pairs(texts, stacked([answer.video[group] for answer in answers]))
            places[group] = both_ranks(similarity, video)
            if group == self.head.groups[0]:
                dual = ranks(dual_softmax(similarity), video)
        return [
            replace(
                answer,
                places={group: tuple(forth[video == i].tolist()) for group, (forth, _) in places.items()},
                back={group: int(back[i]) for group, (_, back) in places.items()},
                dual=tuple(dual[video == i].tolist()),
            )
            for i, answer in enumerate(answers)
        ]

    def evaluate(
        self, samples: Sequence[CaptionSample], answers: Sequence[Matched], class_names: Sequence[str]
    ) -> dict[str, Any]:
        """Recalls in [0, 1] and median ranks: of the first group in full, of the others from text to video."""
        first, *others = self.head.groups

        def forth(group: str) -> dict[str, float]:
            return recalls(torch.tensor([place for answer in answers for place in answer.places[group]]))

        found = forth(first)
        return {
            "mean_recall": found["mean_recall"],
            "text_to_video": found,
            "video_to_text": recalls(torch.tensor([answer.back[first] for answer in answers])),
            "text_to_video_dual_softmax": recalls(torch.tensor([place for answer in answers for place in answer.dual])),
            **{f"text_to_video_{group}": forth(group) for group in others},
            "recalls": {
                f"{GROUPS[group]}, R@{cut}": forth(group)[f"r{cut}"] for group in self.head.groups for cut in CUTS
            },
            "looks_at": GROUPS[first],
            "captions": sum(len(answer.texts) for answer in answers),
        }

    def right(self, sample: CaptionSample, answer: Matched) -> float:
        """Of a video's captions, how many find it, on the mean over the first 1, 5 and 10."""
        places = answer.places[self.head.groups[0]]
        return sum(place <= cut for place in places for cut in CUTS) / len(CUTS)

    def asked(self, sample: CaptionSample) -> int:
        """How many captions a video has."""
        return len(sample.captions)

    def row(self, sample: CaptionSample, answer: Matched, class_names: Sequence[str]) -> dict[str, Any]:
        """Each caption with the place at which it finds the video, for each group."""
        return {
            "key": sample.key,
            "video": sample.video_id,
            "captions": [
                {"caption": caption, "place": {group: places[i] for group, places in answer.places.items()}}
                for i, caption in enumerate(sample.captions)
            ],
            "place_of_first_caption": answer.back,
        }

    def references(self, train: Sequence[Any], samples: Sequence[CaptionSample]) -> dict[str, float]:
        """What an order by chance has for a mean recall."""
        return {"chance": sum(min(cut, len(samples)) for cut in CUTS) / len(CUTS) / len(samples)}

    def examples(self, count: int, segments: int) -> list[CaptionSample]:
        """Samples with a caption each."""
        return made_up(count, segments)


def all_pairs(texts: Side, videos: Side) -> Float[Tensor, "texts videos"]:
    """Similarities of many texts and videos, in pieces that fit the memory (about a gigabyte)."""
    words, (number, tokens) = texts.tokens.shape[1], videos.scores.shape
    rows = max(1, 2**27 // max(1, number * tokens * words))
    return torch.cat([texts[start : start + rows].similarity(videos) for start in range(0, len(texts), rows)])


def _trimmed(texts: Side, row: int) -> Side:
    """One row without its padding, which is on its right."""
    length = int(texts.there[row].sum())
    return texts.each(lambda part: part[row : row + 1, :length])


def _gathered(side: Side) -> Side:
    return Side(gathered(side.tokens), gathered(side.scores), gathered(side.there.float()) > 0)


# Of the public classes here, this one is the task.
EXTENSION = AVR
