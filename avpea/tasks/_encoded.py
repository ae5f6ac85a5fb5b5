"""The tokens that an encoder gives to a task."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

__all__ = ["Dims", "Encoded", "video_index"]


@dataclass(frozen=True)
class Dims:
    """Widths of an encoder's tokens.

    Attributes:
        visual: Width of the visual tokens.
        audio: Width of the audio tokens.
        stages: Width of the visual tokens at the end of each stage of a Swin; empty for another network.
    """

    visual: int
    audio: int
    stages: tuple[int, ...] = ()


@dataclass(frozen=True)
class Encoded:
    """The tokens of both streams for a batch of videos, from an encoder to a task.

    Images are in the order of videos, then segments. A video has one frame for each segment; the number of log-mel
    images of a video depends on the encoder.

    Attributes:
        visual: Tokens of the frames; None for a head that reads no video.
        audio: Tokens of the log-mel images; None for a head that reads no video.
        segments: Number of segments of each video.
        num_prefix_tokens: Number of tokens before the patches, in the visual stream.
        has_cls: Whether token 0 is a CLS token.
        negatives: Tokens of frames of other videos, if the head's training uses them.
        positions: Index of each segment in its video; None if all segments are given.
        sound_positions: The same of the log-mel images; None if they are all there, as slices of the whole sound are.
        stages: Visual tokens at the end of each stage of a Swin, if the head reads them.
    """

    visual: Float[Tensor, "images visual_tokens dim"] | None
    audio: Float[Tensor, "images_of_sound audio_tokens audio_dim"] | None
    segments: int
    num_prefix_tokens: int
    has_cls: bool
    negatives: Float[Tensor, "images visual_tokens dim"] | None = None
    positions: Int[Tensor, "videos segments"] | None = None
    sound_positions: Int[Tensor, "videos segments"] | None = None
    stages: tuple[Float[Tensor, "images _tokens _dim"], ...] = ()

    @property
    def frames(self) -> Float[Tensor, "videos segments visual_tokens dim"]:
        """Tokens of the frames, by video."""
        assert self.visual is not None
        return self.visual.reshape(-1, self.segments, *self.visual.shape[1:])

    @property
    def sounds(self) -> Float[Tensor, "videos sounds audio_tokens audio_dim"]:
        """Tokens of the sound, by video."""
        assert self.visual is not None
        assert self.audio is not None
        videos = self.visual.shape[0] // self.segments  # unlike `len`, which an export would take for fixed
        return self.audio.reshape(videos, -1, *self.audio.shape[1:])

    @property
    def patches(self) -> Float[Tensor, "videos segments patches dim"]:
        """Patch tokens of the frames, by video."""
        return self.frames[:, :, self.num_prefix_tokens :]

    @property
    def negative_patches(self) -> Float[Tensor, "videos segments patches dim"] | None:
        """Patch tokens of the frames of other videos, one frame for each segment; None without negatives."""
        if self.negatives is None:
            return None
        patches = self.negatives[:, self.num_prefix_tokens :]
        return patches.reshape(-1, self.segments, *patches.shape[1:])

    @property
    def visual_cls(self) -> Float[Tensor, "videos segments dim"]:
        """CLS token of each frame; the mean of its tokens if there is no CLS token."""
        return self._cls(self.frames)

    @property
    def audio_cls(self) -> Float[Tensor, "videos sounds audio_dim"]:
        """CLS token of each log-mel image; the mean of its tokens if there is no CLS token."""
        return self._cls(self.sounds)

    def _cls(self, tokens: Float[Tensor, "... tokens dim"]) -> Float[Tensor, "... dim"]:
        return tokens[..., 0, :] if self.has_cls else tokens.mean(dim=-2)


def video_index(counts: Iterable[int]) -> Int[Tensor, " rows"]:
    """Index of the video of each row, where `counts` gives the number of rows of each video."""
    of_each = torch.tensor(list(counts), dtype=torch.int64)
    return torch.arange(len(of_each)).repeat_interleave(of_each)
