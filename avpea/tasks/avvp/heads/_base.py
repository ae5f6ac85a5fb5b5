"""Base of the heads for video parsing: what they are given, what they return, and the losses that they share."""

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from avpea.distributed import mean_of
from avpea.labels import LaneLabels
from avpea.tasks import Dims, Encoded, Head

__all__ = [
    "LaneTargets",
    "Parsed",
    "ParsingHead",
    "ThreeInputs",
    "binary_cross_entropy",
    "second_losses",
    "smoothed",
]

_SMOOTHING = 0.1  # of the weak label of the visual stream: y becomes 0.9 y + 0.05
_SMALLEST = 1e-7  # probabilities are kept this far from 0 and 1, as in the public code


@dataclass(frozen=True)
class LaneTargets:
    """The labels of a batch.

    Attributes:
        classes: 1 for each class that occurs in a video, seen or heard.
        seen: 1 for each class seen in a second; 0 where that is not known.
        heard: The same of what is heard.
        timed: Whether the seconds of a video are labelled.
        real: Whether a second is in the video, and no padding.
    """

    classes: Float[Tensor, "videos classes"]
    seen: Float[Tensor, "videos segments classes"]
    heard: Float[Tensor, "videos segments classes"]
    timed: Bool[Tensor, " videos"]
    real: Bool[Tensor, "videos segments"]

    def to(self, device: torch.device | str) -> "LaneTargets":
        """Move to a device."""
        return LaneTargets(*(getattr(self, name).to(device) for name in self.__dataclass_fields__))

    @property
    def classes_seen(self) -> Float[Tensor, "videos classes"]:
        """1 for each class seen in a video; where its seconds are not known, for each class that occurs."""
        return torch.where(self.timed[:, None], self.seen.amax(dim=1), self.classes)

    @property
    def classes_heard(self) -> Float[Tensor, "videos classes"]:
        """1 for each class heard in a video; where its seconds are not known, for each class that occurs."""
        return torch.where(self.timed[:, None], self.heard.amax(dim=1), self.classes)


@dataclass(frozen=True)
class Parsed:
    """Probabilities for a batch of videos, in float32.

    Attributes:
        seen: That a class is seen in a second.
        heard: That a class is heard in a second.
        video: That a class occurs in the video, seen or heard.
        video_seen: That a class is seen in the video.
        video_heard: That a class is heard in the video.
    """

    seen: Float[Tensor, "videos segments classes"]
    heard: Float[Tensor, "videos segments classes"]
    video: Float[Tensor, "videos classes"]
    video_seen: Float[Tensor, "videos classes"]
    video_heard: Float[Tensor, "videos classes"]


class ParsingHead(Head):
    """A head for video parsing.

    A second of the frames and one of the sound make a segment.

    Attributes:
        tells_seconds: Whether it has probabilities of its own for each second, so that labels of seconds can train it.
    """

    tells_seconds: ClassVar[bool] = True

    @classmethod
    def build(cls, options: Any, dims: Dims, labels: LaneLabels) -> Self:
        """Build a head for the classes; heads with their own options override this."""
        return cls(dims.visual, len(labels.class_names), dims.audio)

    def read(self, encoded: Encoded) -> Any:
        """The output, from the tokens of a batch of videos."""
        return self(encoded.patches.mean(dim=2), encoded.visual_cls, encoded.audio_cls)

    @abstractmethod
    def forward(
        self,
        patches: Float[Tensor, "videos segments dim"],
        visual_cls: Float[Tensor, "videos segments dim"],
        audio_cls: Float[Tensor, "videos segments audio_dim"],
    ) -> Any:
        """The output, from the mean of the patch tokens of each frame and the CLS tokens of both streams."""

    @abstractmethod
    def parsed(self, output: Any) -> Parsed:
        """The probabilities in an output."""

    @abstractmethod
    def loss(self, output: Any, targets: LaneTargets) -> dict[str, Float[Tensor, ""]]:
        """Loss terms by name; the total is their sum."""


class ThreeInputs(ParsingHead):
    """A head whose inputs are three vectors for each second, of the sound, of the patches and of a frame, as in LLP.

    Args:
        width: Width of both streams after it.
        dim: Width of the patch tokens.
        audio_dim: Width of the audio tokens; None means `dim`.
        cls_dim: Width of the frames' CLS tokens; None means `dim`.
    """

    def __init__(self, width: int, dim: int, audio_dim: int | None, cls_dim: int | None) -> None:
        super().__init__()
        self.audio = nn.Linear(audio_dim or dim, width)
        self.patches = nn.Linear(dim, width)
        self.frame = nn.Linear(cls_dim or dim, width)
        self.join = nn.Linear(2 * width, width)

    def streams(
        self,
        patches: Float[Tensor, "videos segments dim"],
        visual_cls: Float[Tensor, "videos segments cls_dim"],
        audio_cls: Float[Tensor, "videos segments audio_dim"],
    ) -> tuple[Float[Tensor, "videos segments width"], Float[Tensor, "videos segments width"]]:
        """The sound's vector of each second, and one of the frame's two."""
        sound: Tensor = self.audio(audio_cls)
        picture: Tensor = self.join(torch.cat((self.patches(patches), self.frame(visual_cls)), dim=-1))
        return sound, picture


def smoothed(truth: Tensor) -> Tensor:
    """A weak label of the visual stream, in which an event of the video often cannot be seen."""
    return (1 - _SMOOTHING) * truth + _SMOOTHING / 2


def binary_cross_entropy(probabilities: Tensor, truth: Tensor) -> Tensor:
    """-log p of what is true, of each entry; outside of autocast, as 1 - 1e-7 is 1 in half precision."""
    p = probabilities.float().clamp(_SMALLEST, 1 - _SMALLEST)
    return -(truth * p.log() + (1 - truth) * (1 - p).log())


def second_losses(parsed: Parsed, targets: LaneTargets) -> dict[str, Float[Tensor, ""]]:
    """Binary cross-entropy over the labelled seconds of a batch, for each stream; 0 if there are none."""
    there = (targets.timed[:, None] & targets.real)[..., None].expand_as(parsed.seen)
    terms = {}
    for name, probabilities, truth in (
        ("seconds_seen", parsed.seen, targets.seen),
        ("seconds_heard", parsed.heard, targets.heard),
    ):
        losses = binary_cross_entropy(probabilities, truth.to(torch.float32))
        terms[name] = mean_of((losses * there).sum(), there.sum())
    return terms
