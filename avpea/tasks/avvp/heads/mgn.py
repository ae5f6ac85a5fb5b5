"""The multi-modal grouping network (MGN), which labels videos: its seconds have hardly a probability of their own."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from avpea.tasks.avvp.heads._base import LaneTargets, Parsed, ThreeInputs, binary_cross_entropy, smoothed
from avpea.tasks.avvp.heads._grouping import WIDTH, AttentionBlock, GroupingBlock

__all__ = ["EXTENSION", "MGN", "Grouped"]

SECONDS = 10  # of a video of LLP, for which the public code has a layer over seconds


@dataclass(frozen=True)
class Grouped:
    """The output of MGN.

    Attributes:
        parsed: The probabilities.
        tokens_seen: Logits of the class that each class token of the frames stands for.
        tokens_heard: The same of the sound's.
    """

    parsed: Parsed
    tokens_seen: Float[Tensor, "classes classes"]
    tokens_heard: Float[Tensor, "classes classes"]


class MGN(ThreeInputs):
    r"""MGN (Mo and Tian, NeurIPS 2022; public code stoneMo/MGN at 11be034), the head of DG-SCT and AVMoE.

    Each stream has a token for each class. Its seconds and these tokens go through three transformer blocks; the
    sound's seconds are then assigned to the frames' (each to one); and the class tokens take in the seconds that are
    assigned to them. Six more blocks and an assignment join the class tokens of both streams. Of each class token one
    logit is read: for a class in the frames, in the sound, and in either.

    *It labels videos, not seconds.* The probability of class c in second t is $p_c (1 + w_{ct})$, where p is that of
    the video and w a softmax over the seconds, of shares that are below 1: with ten seconds the factor is 1.04 to 1.23,
    so that nearly every class that is found covers the whole video. Nothing trains it second by second:
    `task.supervision` must be `weak`. Above 1 it counts as 1.

    The layer that mixes the frames' seconds is made for ten of them; others are resampled to ten, and back. Inputs are
    those of `HAN`. With C classes, width w = 128 and inputs of width A (sound), D (patches) and M (CLS) it has
    w (A + D + M) + 3 w + 2 w² + w + 2 C w + 12 (12 w² + 13 w) + 4 (24 w² + 30 w + 64) + 3 (129 C) + 1290 + 3 (w + 1)
    + (w + 1) C parameters: 4,366,065 with the inputs of the public code (128, 2048, 512; 25 classes).

    Args:
        dim: Width D of the patch tokens.
        num_classes: Number of event classes C.
        audio_dim: Width A of the audio tokens; None means `dim`.
        cls_dim: Width M of the frames' CLS tokens; None means `dim`.
    """

    tells_seconds: ClassVar[bool] = False

    def __init__(self, dim: int, num_classes: int, audio_dim: int | None = None, cls_dim: int | None = None) -> None:
        super().__init__(WIDTH, dim, audio_dim, cls_dim)
        self.class_tokens_seen = nn.Parameter(torch.zeros(num_classes, WIDTH))
        self.class_tokens_heard = nn.Parameter(torch.zeros(num_classes, WIDTH))
        self.blocks_seen, self.blocks_heard, self.blocks_joint = (
            nn.Sequential(*(AttentionBlock() for _ in range(depth))) for depth in (3, 3, 6)
        )
        self.sound_to_frames = GroupingBlock(SECONDS, hard=True)
        self.group_seen, self.group_heard, self.group_joint = (GroupingBlock(num_classes) for _ in range(3))
        self.is_seen, self.is_heard, self.occurs = (nn.Linear(WIDTH, 1) for _ in range(3))
        self.classes = nn.Linear(WIDTH, num_classes)
        self.apply(_initialised)

    def forward(
        self,
        patches: Float[Tensor, "videos segments dim"],
        visual_cls: Float[Tensor, "videos segments cls_dim"],
        audio_cls: Float[Tensor, "videos segments audio_dim"],
    ) -> Grouped:
        """Probabilities of the video, and from them those of each second; and the classes of the class tokens."""
        sound, picture = self.streams(patches, visual_cls, audio_cls)
        seconds, tokens = _apart(self.blocks_seen, picture, self.class_tokens_seen)
        seen, weights_seen = self.group_seen(seconds, tokens)
        seconds, tokens = _apart(self.blocks_heard, sound, self.class_tokens_heard)
        heard, weights_heard = self.group_heard(self.sound_to_frames(seconds, picture)[0], tokens)
        joint, _ = self.group_joint(*_apart(self.blocks_joint, heard, seen))

        def chance(layer: nn.Module, groups: Tensor) -> Tensor:
            answer: Tensor = layer(groups).float().squeeze(-1).sigmoid()
            return answer

        video_seen, video_heard = chance(self.is_seen, seen), chance(self.is_heard, heard)
        parsed = Parsed(
            seen=(video_seen[..., None] * weights_seen).mT.float().clamp(max=1),
            heard=(video_heard[..., None] * weights_heard).mT.float().clamp(max=1),
            video=chance(self.occurs, joint),
            video_seen=video_seen,
            video_heard=video_heard,
        )
        return Grouped(parsed, self.classes(self.class_tokens_seen), self.classes(self.class_tokens_heard))

    def parsed(self, output: Grouped) -> Parsed:
        """The probabilities."""
        return output.parsed

    def loss(self, output: Grouped, targets: LaneTargets) -> dict[str, Float[Tensor, ""]]:
        """Three losses of the video from its weak label, as in the public code, and those of the class tokens."""
        found, truth = output.parsed, targets.classes
        own = torch.arange(len(output.tokens_seen), device=truth.device)
        return {
            "video": binary_cross_entropy(found.video, truth).mean(),
            "video_heard": binary_cross_entropy(found.video_heard, truth).mean(),
            "video_seen": binary_cross_entropy(found.video_seen, smoothed(truth)).mean(),
            "tokens_seen": F.cross_entropy(output.tokens_seen.float(), own),
            "tokens_heard": F.cross_entropy(output.tokens_heard.float(), own),
        }


def _apart(
    blocks: nn.Module, tokens: Float[Tensor, "videos tokens width"], groups: Float[Tensor, "*videos groups width"]
) -> tuple[Float[Tensor, "videos tokens width"], Float[Tensor, "videos groups width"]]:
    """Tokens and group tokens after blocks in which they attend to each other."""
    groups = groups.to(tokens.dtype).expand(tokens.shape[0], -1, -1)  # `len` would fix their number in an export
    after: Tensor = blocks(torch.cat((tokens, groups), dim=1))
    return after[:, : tokens.shape[1]], after[:, tokens.shape[1] :]


def _initialised(module: Any) -> None:
    """As in the public code."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)


EXTENSION = MGN
