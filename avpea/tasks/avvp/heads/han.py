"""The hybrid attention network (HAN), with attention over seconds and streams that pools them to weak labels."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from avpea.tasks.avvp.heads._base import LaneTargets, Parsed, ThreeInputs, binary_cross_entropy, second_losses, smoothed

__all__ = ["HAN", "HybridAttention"]

WIDTH = 512
DROPOUT = 0.1


class HAN(ThreeInputs):
    """HAN (Tian et al., ECCV 2020; public code YapengTian/AVVP-ECCV20).

    The sound's CLS token takes the place of VGGish's vector, the mean of a frame's patches that of ResNet-152's, and
    its CLS token that of R(2+1)D's. With C classes and inputs of width A (sound), D (patches) and M (CLS) it has
    512 (A + D + M) + 1,536 + 524,800 + 3 (512 C + C) + 2,628,608 parameters: 4,569,675 with the inputs of the public
    code (128, 2048, 512; 25 classes), which registers 9,307,723 (`registered_but_unused`).

    Args:
        dim: Width D of the patch tokens.
        num_classes: Number of event classes C.
        audio_dim: Width A of the audio tokens; None means `dim`.
        cls_dim: Width M of the frames' CLS tokens; None means `dim`.
    """

    def __init__(self, dim: int, num_classes: int, audio_dim: int | None = None, cls_dim: int | None = None) -> None:
        super().__init__(WIDTH, dim, audio_dim, cls_dim)
        self.attention = HybridAttention()
        self.classes = nn.Linear(WIDTH, num_classes)
        self.over_seconds = nn.Linear(WIDTH, num_classes)
        self.over_streams = nn.Linear(WIDTH, num_classes)

    def forward(
        self,
        patches: Float[Tensor, "videos segments dim"],
        visual_cls: Float[Tensor, "videos segments cls_dim"],
        audio_cls: Float[Tensor, "videos segments audio_dim"],
    ) -> Parsed:
        """Probabilities of each second, and of the video as means over seconds, and over seconds and streams."""
        sound, picture = self.streams(patches, visual_cls, audio_cls)
        both = torch.stack((self.attention(sound, picture), self.attention(picture, sound)), dim=2)
        chances = self.classes(both).float().sigmoid()
        pooled = chances * self.over_seconds(both).float().softmax(dim=1)
        joint = (pooled * self.over_streams(both).float().softmax(dim=2)).sum(dim=(1, 2))
        video_heard, video_seen = pooled.sum(dim=1).unbind(dim=1)
        heard, seen = chances.unbind(dim=2)
        return Parsed(seen, heard, joint, video_seen, video_heard)

    def parsed(self, output: Parsed) -> Parsed:
        """The output itself."""
        return output

    def loss(self, output: Parsed, targets: LaneTargets) -> dict[str, Float[Tensor, ""]]:
        """Three losses of the video, as in the public code, and those of the seconds of videos that have their labels.

        The visual stream's weak label is smoothed, for an event of a video is often not seen. Where the seconds are
        labelled, each stream's own label is known, and taken as it is.
        """
        smooth = torch.where(targets.timed[:, None], targets.classes_seen, smoothed(targets.classes_seen))
        return {
            "video": binary_cross_entropy(output.video, targets.classes).mean(),
            "video_heard": binary_cross_entropy(output.video_heard, targets.classes_heard).mean(),
            "video_seen": binary_cross_entropy(output.video_seen, smooth).mean(),
            **second_losses(output, targets),
        }

    def registered_but_unused(self) -> dict[str, int]:
        """Parameters that the public code registers and never uses: 4,738,048, whatever the inputs and classes."""
        attention, feed, norms = 4 * (WIDTH * WIDTH + WIDTH), 2 * (WIDTH * WIDTH + WIDTH), 2 * 2 * WIDTH
        layer = attention + feed + norms
        return {
            "plain encoder layers, audio and video": 2 * layer,
            "cross-modal layer": layer,
            "norms of the two stacks of layers": 2 * norms,
        }


class HybridAttention(nn.Module):
    """A layer in which a stream attends to itself and to the other one; both streams share its weights.

    q' = LN(q + dropout(cross(q, o, o)) + dropout(self(q, q, q))), then LN(q' + dropout(W2 dropout(ReLU(W1 q')))), for a
    stream q and the other stream o; one attention head. 2,628,608 parameters.
    """

    def __init__(self) -> None:
        super().__init__()
        self.own = nn.MultiheadAttention(WIDTH, 1, DROPOUT, batch_first=True)
        self.cross = nn.MultiheadAttention(WIDTH, 1, DROPOUT, batch_first=True)
        self.widen, self.narrow = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.first_norm, self.second_norm = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.dropout = nn.Dropout(DROPOUT)

    def forward(
        self, stream: Float[Tensor, "videos segments width"], other: Float[Tensor, "videos segments width"]
    ) -> Float[Tensor, "videos segments width"]:
        """The stream after both kinds of attention."""
        crossed = self.cross(stream, other, other, need_weights=False)[0]
        own = self.own(stream, stream, stream, need_weights=False)[0]
        stream = self.first_norm(stream + self.dropout(crossed) + self.dropout(own))
        changed = self.narrow(self.dropout(self.widen(stream).relu()))
        normed: Tensor = self.second_norm(stream + self.dropout(changed))
        return normed


EXTENSION = HAN
