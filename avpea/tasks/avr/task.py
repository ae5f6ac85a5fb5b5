"""Text-to-video retrieval (AVR): the video that a sentence is about, among all (AV-PEA paper, Section 4.2, Table 3).

As in VALOR (Chen et al., 2023): fine-grained similarity in groups of modalities, a symmetric contrastive loss for each.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from avpea.embeddings import Embeddings, stacked
from avpea.labels import CaptionLabels, CaptionSample
from avpea.metrics.retrieval import CUTS, both_ranks, dual_softmax, ranks, recalls
from avpea.tables import Table
from avpea.tasks import Encoded, Figure, Task
from avpea.tasks._base import video_index
from avpea.tasks._text import TextTargets, caption_targets, clean, example_captions
from avpea.tasks._text_head import GROUPS
from avpea.tasks.avr.heads._matching import contrastive_loss, gathered
from avpea.tasks.avr.heads.matcher import Matcher

__all__ = ["AVR", "EXTENSION", "Matched"]


@dataclass(frozen=True)
class Matched:
    """What retrieval knows of a video and of its captions.

    Attributes:
        texts: Each caption's projected words.
        video: The video's projected tokens, for each group.
        ranks: Once all of a split are known: at which rank each caption finds its video, for each group.
        back: At which rank the video finds the first of its captions.
        dual: `ranks` of the first group with dual softmax, which looks at all captions at once.
    """

    texts: tuple[Embeddings, ...]
    video: dict[str, Embeddings]
    ranks: dict[str, tuple[int, ...]] = field(default_factory=dict)
    back: dict[str, int] = field(default_factory=dict)
    dual: tuple[int, ...] = ()


class AVR(Task):
    """Retrieval, trained on one caption of each video of a batch against those of all others.

    Args:
        head: The contrastive heads, with the text model.
        labels: Captions.
    """

    figure = Figure("mean_recall", "mean recall", "recalls", "recall", "Recalls")
    needs = CaptionLabels
    heads = Matcher
    default_head = "matcher"
    whole_videos = True
    use = "avpea index {run} FOLDER --library LIBRARY"
    tag = "video-retrieval"
    example = 'model  # avpea.search.index("THIS_FOLDER_OR_REPOSITORY", "videos", "library")'

    def targets(self, samples: Sequence[CaptionSample]) -> TextTargets:
        """The captions of a batch: all of them, or in training one of each video, drawn."""
        if self.training:
            drawn = [int(torch.randint(len(sample.captions), ())) for sample in samples]
            samples = [
                replace(sample, captions=(sample.captions[i],)) for sample, i in zip(samples, drawn, strict=True)
            ]
        return caption_targets(self.head, samples)

    def forward(self, encoded: Encoded, targets: Any = None) -> tuple[dict[str, Embeddings], Embeddings | None]:
        """Videos for each group, and texts where there are any, in their common space."""
        videos = self.head.grouped(*self.embed_video(encoded))
        return videos, None if targets is None else self.head.read(targets.text)

    @property
    def searches_by(self) -> tuple[str, ...]:
        """What a library of such embeddings can be searched by."""
        return tuple(self.head.groups)

    @property
    def embedding_width(self) -> int:
        """Width of the common space."""
        return int(self.head.project["text"].out_features)

    def embed_video(self, encoded: Encoded) -> tuple[Embeddings, Embeddings]:
        """Frames and sounds of videos in the common space, whatever the groups are."""
        seen, heard = self.head(encoded.visual_cls, encoded.audio_cls)
        return seen, heard

    def embed_text(self, sentence: str) -> Embeddings | None:
        """A sentence in the common space; None where nothing is left of it without its punctuation."""
        words = clean(sentence)
        if not words:
            return None
        embedded: Embeddings = self.head.read(self.head.text.sentences([words]))
        return embedded

    def loss(self, output: Any, targets: TextTargets) -> tuple[Float[Tensor, ""], dict[str, Float[Tensor, ""]]]:
        """The mean of the groups' contrastive losses, over the batches of all processes together."""
        videos, texts = output
        temperature, texts = self.head.temperature, _gathered(texts)
        terms = {
            f"match_{group}": contrastive_loss(texts.similarity(_gathered(embedded)), temperature) / len(videos)
            for group, embedded in videos.items()
        }
        return self.total(terms), terms

    def answers(self, output: Any, targets: TextTargets) -> list[Matched]:
        """The tokens of each video and of its captions; how well they match is known when all are."""
        videos, texts = output
        texts, video = texts.to("cpu"), targets.video.cpu()
        embedded = {group: some.to("cpu") for group, some in videos.items()}
        count = len(next(iter(embedded.values())))
        return [
            Matched(
                tuple(_trimmed(texts, int(i)) for i in (video == row).nonzero()),
                {group: some[row : row + 1] for group, some in embedded.items()},
            )
            for row in range(count)
        ]

    def complete(self, samples: Sequence[CaptionSample], answers: Sequence[Matched]) -> list[Matched]:
        """Match every caption of the split with every video of it."""
        texts = stacked([text for answer in answers for text in answer.texts])
        video = video_index(len(answer.texts) for answer in answers)
        found: dict[str, tuple[Tensor, Tensor]] = {}
        dual = torch.zeros(0, dtype=torch.int64)
        for group in self.head.groups:
            similarity = all_pairs(texts, stacked([answer.video[group] for answer in answers]))
            found[group] = both_ranks(similarity, video)
            if group == self.head.groups[0]:
                dual = ranks(dual_softmax(similarity), video)
        return [
            replace(
                answer,
                ranks={group: tuple(forth[video == i].tolist()) for group, (forth, _) in found.items()},
                back={group: int(back[i]) for group, (_, back) in found.items()},
                dual=tuple(dual[video == i].tolist()),
            )
            for i, answer in enumerate(answers)
        ]

    def evaluate(self, samples: Sequence[CaptionSample], answers: Sequence[Matched]) -> dict[str, Any]:
        """Recalls in [0, 1] and median ranks: of the first group in full, of the others from text to video."""
        first, *others = self.head.groups

        def forth(group: str) -> dict[str, float]:
            return recalls(torch.tensor([rank for answer in answers for rank in answer.ranks[group]]))

        found = forth(first)
        return {
            "mean_recall": found["mean_recall"],
            "text_to_video": found,
            "video_to_text": recalls(torch.tensor([answer.back[first] for answer in answers])),
            "text_to_video_dual_softmax": recalls(torch.tensor([rank for answer in answers for rank in answer.dual])),
            **{f"text_to_video_{group}": forth(group) for group in others},
            "recalls": {
                f"{GROUPS[group]}, R@{cut}": forth(group)[f"r{cut}"] for group in self.head.groups for cut in CUTS
            },
            "looks_at": GROUPS[first],
            "captions": sum(len(answer.texts) for answer in answers),
        }

    def score(self, sample: CaptionSample, answer: Matched) -> float:
        """Of a video's captions, how many find it, on the mean over the first 1, 5 and 10."""
        own = answer.ranks[self.head.groups[0]]
        return sum(rank <= cut for rank in own for cut in CUTS) / len(CUTS)

    def weight(self, sample: CaptionSample) -> int:
        """How many captions a video has."""
        return len(sample.captions)

    def row(self, sample: CaptionSample, answer: Matched) -> dict[str, Any]:
        """Each caption with the rank at which it finds the video, for each group."""
        return {
            "key": sample.key,
            "video": sample.video_id,
            "captions": [
                {"caption": caption, "place": {group: own[i] for group, own in answer.ranks.items()}}
                for i, caption in enumerate(sample.captions)
            ],
            "place_of_first_caption": answer.back,
        }

    def references(self, train: Sequence[Any], samples: Sequence[CaptionSample]) -> dict[str, float]:
        """What an order by chance has for a mean recall."""
        return {"chance": sum(min(cut, len(samples)) for cut in CUTS) / len(CUTS) / len(samples)}

    def examples(self, count: int, segments: int) -> list[CaptionSample]:
        """Samples with a caption each."""
        return example_captions(count, segments)

    @classmethod
    def report(cls, metrics: Mapping[str, Any], details: bool = False) -> Iterator[str | Table]:
        """Recall at 1, 5 and 10, their mean, and the median rank, in each direction and for each group."""
        rows = []
        for name, found in metrics.items():
            if isinstance(found, Mapping) and "median_rank" in found:
                shares = [f"{100 * found[key]:.2f} %" for key in ("r1", "r5", "r10", "mean_recall")]
                rows.append((name.replace("_", " "), *shares, f"{found['median_rank']:g}"))
        title = f"By {metrics['looks_at']}, where nothing else is said"
        yield Table(["", "R@1", "R@5", "R@10", "mean", "median"], rows, title)
        yield "With dual softmax all captions are looked at together, which a search for one cannot do."


def all_pairs(texts: Embeddings, videos: Embeddings) -> Float[Tensor, "texts videos"]:
    """Similarities of many texts and videos, in pieces that fit the memory (about a gigabyte)."""
    words, (number, tokens) = texts.tokens.shape[1], videos.scores.shape
    rows = max(1, 2**27 // max(1, number * tokens * words))
    return torch.cat([texts[start : start + rows].similarity(videos) for start in range(0, len(texts), rows)])


def _trimmed(texts: Embeddings, row: int) -> Embeddings:
    """One row without its padding, which is on its right."""
    length = int(texts.mask[row].sum())
    return texts.each(lambda part: part[row : row + 1, :length])


def _gathered(some: Embeddings) -> Embeddings:
    return Embeddings(gathered(some.tokens), gathered(some.scores), gathered(some.mask.float()) > 0)


EXTENSION = AVR
