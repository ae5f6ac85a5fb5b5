"""Text-to-video retrieval (AVR): find the video that a sentence describes (AV-PEA paper, Section 4.2, Table 3).

As in VALOR (Chen et al., 2023): token-wise similarity in groups of modalities, each with a symmetric contrastive loss.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from avpea.distributed import gathered
from avpea.draws import generator
from avpea.embeddings import Embeddings, stacked
from avpea.errors import AvpeaError
from avpea.labels import CaptionSample
from avpea.metrics.retrieval import CUTS, both_ranks, dual_softmax, ranks, recalls
from avpea.progress import note
from avpea.tables import Table
from avpea.tasks import Encoded, Figure, Mistake
from avpea.tasks._encoded import video_index
from avpea.tasks._text import CaptionTask, TextTargets, clean
from avpea.tasks._text_head import GROUPS
from avpea.tasks.avr.heads._matching import contrastive_loss
from avpea.tasks.avr.heads.matcher import Matcher

__all__ = ["AVR", "EXTENSION", "Matched"]

_TOLD = 5  # words of a sentence that a message names


@dataclass(frozen=True)
class Matched:
    """Embeddings of a video and its captions, and their ranks, which `complete` sets once the split is known.

    Attributes:
        texts: Projected words of each caption.
        video: Projected tokens of the video, for each group.
        ranks: Rank of the video for each of its captions, by group.
        back: Best rank of its captions for the video, by group.
        dual: `ranks` of the first group with dual softmax, which uses all captions of the split.
    """

    texts: tuple[Embeddings, ...]
    video: dict[str, Embeddings]
    ranks: dict[str, tuple[int, ...]] = field(default_factory=dict)
    back: dict[str, int] = field(default_factory=dict)
    dual: tuple[int, ...] = ()


class AVR(CaptionTask):
    """Retrieval, trained on one caption of each video, contrasted with those of the batch's other videos."""

    figure = Figure("mean_recall", "mean recall", "recalls", "recall", "Recalls")
    worst = "ten captions that found their video last"
    heads = Matcher
    default_head = "matcher"
    use = "avpea index {run} FOLDER --library LIBRARY"
    tag = "video-retrieval"
    example = 'model  # avpea.search.index("THIS_FOLDER_OR_REPOSITORY", "videos", "library")'
    unexported = "it compares videos with sentences, and has no answer about a video by itself"

    def targets(self, samples: Sequence[CaptionSample]) -> TextTargets:
        """All captions of a batch; in training one random caption of each video."""
        if self.training:
            samples = [_with_one_caption(sample) for sample in samples]
        return super().targets(samples)

    def forward(self, encoded: Encoded, targets: Any = None) -> tuple[dict[str, Embeddings], Embeddings | None]:
        """Embeddings of the videos for each group, and of the texts if there are targets."""
        videos = self.head.grouped(*self.embed_video(encoded))
        return videos, None if targets is None else self.head.read(targets.text)

    @property
    def searches_by(self) -> tuple[str, ...]:
        """Groups that a library of these embeddings can be searched by."""
        return tuple(self.head.groups)

    @property
    def embedding_width(self) -> int:
        """Width of the embeddings."""
        return int(self.head.project["text"].out_features)

    def embed_video(self, encoded: Encoded) -> tuple[Embeddings, Embeddings]:
        """Embeddings of frames and of sounds, whatever the groups are."""
        seen, heard = self.head(encoded.visual_cls, encoded.audio_cls)
        return seen, heard

    def embed_text(self, sentence: str) -> Embeddings | None:
        """Embeddings of a sentence, on the CPU; None if it has nothing but punctuation.

        Words that the text model does not know, or that are behind the longest text that it reads, are told on stderr.

        Raises:
            AvpeaError: It knows nothing of the sentence, or the sentence is no Unicode.
        """
        words = clean(sentence, self.head.joined)
        if not words:
            return None
        read = self.head.text.sentences([words]).to(self.device)
        self._require_known(words)
        embedded: Embeddings = self.head.read(read)
        return embedded.to("cpu")

    def _require_known(self, words: str) -> None:
        text = self.head.text
        unknown, behind = text.unread(words)
        if len(unknown) + len(behind) == len(words.split()):
            raise AvpeaError(
                f"The model knows nothing of the sentence '{_some(words.split())}'; say it in other words."
            )
        if unknown:
            note(f"the model does not know these words of the sentence: {_some(unknown)}")
        if behind:
            note(
                f"the model does not read more of the sentence than {text.length - 2} pieces of words "
                f"(head.text.length); what follows is left out: {_some(behind)}"
            )

    def loss(self, output: Any, targets: TextTargets) -> tuple[Float[Tensor, ""], dict[str, Float[Tensor, ""]]]:
        """Contrastive loss over the joint batch of all processes, mean over the groups."""
        videos, texts = output
        temperature, texts = self.head.temperature, _gathered(texts)
        terms = {
            f"match_{group}": contrastive_loss(texts.similarity(_gathered(embedded)), temperature) / len(videos)
            for group, embedded in videos.items()
        }
        return self.total(terms), terms

    def validation_loss(self, output: Any, targets: TextTargets) -> Float[Tensor, ""]:
        """The loss with the first caption of each video, as a contrast needs one caption a video."""
        videos, texts = output
        first = (targets.video.diff(prepend=targets.video.new_tensor([-1])) != 0).nonzero().squeeze(1)
        return self.loss((videos, texts.each(lambda part: part[first])), targets)[0]

    def answers(self, output: Any, targets: TextTargets) -> list[Matched]:
        """Embeddings of each video and its captions; `complete` matches them."""
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
        """Recalls in [0, 1] and median ranks: in both directions for the first group, else from text to video."""
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
            "shared_captions": _shared(samples, self.head.joined),
        }

    def score(self, sample: CaptionSample, answer: Matched) -> float:
        """Number of captions that find their video among the first 1, 5 and 10, mean of the three."""
        own = answer.ranks[self.head.groups[0]]
        return sum(rank <= cut for rank in own for cut in CUTS) / len(CUTS)

    def weight(self, sample: CaptionSample) -> int:
        """Number of captions of a video."""
        return len(sample.captions)

    def row(self, sample: CaptionSample, answer: Matched) -> dict[str, Any]:
        """Each caption with the rank of its video, by group."""
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
        """Mean recall of a random order."""
        return {"chance": sum(min(cut, len(samples)) for cut in CUTS) / len(CUTS) / len(samples)}

    @classmethod
    def mistakes(cls, rows: Sequence[Mapping[str, Any]], count: int) -> list[Mistake]:
        """The captions that found their video in the worst place."""
        places = [
            (next(iter(one["place"].values())), row["key"], one["caption"]) for row in rows for one in row["captions"]
        ]
        worst = sorted((place for place in places if place[0] > 1), key=lambda place: -place[0])[:count]
        return [
            Mistake(key, None, "place 1", f"place {place} of {len(rows)}", about=text) for place, key, text in worst
        ]

    @classmethod
    def report(cls, metrics: Mapping[str, Any], details: bool = False) -> Iterator[str | Table]:
        """Recall at 1, 5 and 10, their mean, and the median rank, in each direction and for each group."""
        rows = []
        for name, found in metrics.items():
            if isinstance(found, Mapping) and "median_rank" in found:
                shares = [f"{100 * found[key]:.2f} %" for key in ("r1", "r5", "r10", "mean_recall")]
                rows.append((name.replace("_", " "), *shares, f"{found['median_rank']:g}"))
        title = f"By {metrics['looks_at']}, unless stated otherwise"
        yield Table(["", "R@1", "R@5", "R@10", "mean", "median"], rows, title)
        if shared := metrics.get("shared_captions"):  # evaluations of earlier versions have none
            yield (
                f"{shared} captions are, word for word, those of another video, too; only their own one counts as "
                "found, so that no model reaches 100 %."
            )
        yield "Dual softmax uses all captions of the split together, which a single search cannot do."


def all_pairs(texts: Embeddings, videos: Embeddings) -> Float[Tensor, "texts videos"]:
    """Similarities of all texts and videos, computed in chunks of about a gigabyte."""
    words, (number, tokens) = texts.tokens.shape[1], videos.scores.shape
    rows = max(1, 2**27 // max(1, number * tokens * words))
    return torch.cat([texts[start : start + rows].similarity(videos) for start in range(0, len(texts), rows)])


def _some(words: Sequence[str]) -> str:
    return " ".join(words[:_TOLD]) + " …" * (len(words) > _TOLD)


def _trimmed(texts: Embeddings, row: int) -> Embeddings:
    """A single row without the padding on its right, of which one token stays if padding counts."""
    length = int(texts.mask[row].sum()) + texts.padding_counts
    return texts.each(lambda part: part[row : row + 1, :length])


def _shared(samples: Sequence[CaptionSample], joined: Literal["split", "kept"]) -> int:
    """Number of captions that the text model reads as it reads one of another video."""
    videos: dict[str, set[int]] = {}
    texts = [(i, clean(caption, joined)) for i, sample in enumerate(samples) for caption in sample.captions]
    for i, text in texts:
        videos.setdefault(text, set()).add(i)
    return sum(len(videos[text]) > 1 for _, text in texts)


def _with_one_caption(sample: CaptionSample) -> CaptionSample:
    drawn = torch.randint(len(sample.captions), (), generator=generator(sample.key, "caption"))
    return replace(sample, captions=(sample.captions[int(drawn)],))


def _gathered(some: Embeddings) -> Embeddings:
    tokens, scores, mask = (gathered(part)[0] for part in (some.tokens, some.scores, some.mask.float()))
    return Embeddings(tokens, scores, mask > 0, some.padding_counts)


EXTENSION = AVR
