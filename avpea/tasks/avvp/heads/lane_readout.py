"""A linear readout of each second: what is seen from the visual tokens, and what is heard from either stream."""

from dataclasses import dataclass
from typing import Any, Literal, Self

import torch
from jaxtyping import Float
from torch import Tensor, nn

from avpea.labels import LaneLabels
from avpea.options import require_choice
from avpea.tasks import Dims, HeadOptions
from avpea.tasks.avvp.heads._base import LaneTargets, Parsed, ParsingHead, binary_cross_entropy, second_losses, smoothed

__all__ = ["EXTENSION", "LaneReadout", "LaneReadoutOptions"]

Reads = Literal["both", "visual"]


@dataclass(frozen=True)
class LaneReadoutOptions(HeadOptions):
    """Options of the linear readout.

    Attributes:
        reads: `both`: what is heard is read from the sound's tokens. `visual`: it is read from the visual tokens, too,
            so that what the head knows of the sound came through an exchange in the encoder.
    """

    reads: Reads = "both"


class LaneReadout(ParsingHead):
    """Linear(2 D -> C) on the CLS token and the mean of the patches of each frame for what is seen.

    For what is heard, Linear(D' -> C) on the sound's CLS token, or another Linear(2 D -> C) on the frame's: with C
    classes, and tokens of width D and D', C (2 D + D' + 2) or C (4 D + 2) parameters. Seconds are not joined: a class
    is in a video as much as in the second in which it is most probable, which is also what weak labels train.

    Args:
        dim: Width D of the visual tokens.
        num_classes: Number of event classes C.
        audio_dim: Width D' of the audio tokens; None means `dim`.
        reads: The streams whose tokens it uses.
    """

    Options = LaneReadoutOptions

    def __init__(
        self,
        dim: int,
        num_classes: int,
        audio_dim: int | None = None,
        reads: Reads = "both",
    ) -> None:
        require_choice("reads", reads, Reads)
        super().__init__()
        self.reads = reads
        self.seen = nn.Linear(2 * dim, num_classes)
        self.heard = nn.Linear((audio_dim or dim) if reads == "both" else 2 * dim, num_classes)

    @classmethod
    def build(cls, options: Any, dims: Dims, labels: LaneLabels) -> Self:
        """Build a head for the classes."""
        return cls(dims.visual, len(labels.class_names), dims.audio, options.reads)

    def forward(
        self,
        patches: Float[Tensor, "videos segments dim"],
        visual_cls: Float[Tensor, "videos segments dim"],
        audio_cls: Float[Tensor, "videos segments audio_dim"],
    ) -> Parsed:
        """Probabilities of each second, and of the video those of its most probable second."""
        picture = torch.cat((visual_cls, patches), dim=-1)
        heard = self.heard(audio_cls if self.reads == "both" else picture).float().sigmoid()
        seen = self.seen(picture).float().sigmoid()
        video_seen, video_heard = seen.amax(dim=1), heard.amax(dim=1)
        return Parsed(seen, heard, torch.maximum(video_seen, video_heard), video_seen, video_heard)

    def parsed(self, output: Parsed) -> Parsed:
        """The output itself."""
        return output

    def loss(self, output: Parsed, targets: LaneTargets) -> dict[str, Float[Tensor, ""]]:
        """Losses of the seconds of videos that have their labels; of the others, those of the video as in `HAN`."""
        weak = (~targets.timed).to(torch.float32)[:, None]
        pairs = {
            "video": (output.video, targets.classes),
            "video_heard": (output.video_heard, targets.classes),
            "video_seen": (output.video_seen, smoothed(targets.classes)),
        }
        return {
            **{name: (weak * binary_cross_entropy(found, truth)).mean() for name, (found, truth) in pairs.items()},
            **second_losses(output, targets),
        }


EXTENSION = LaneReadout
