"""A batch: the decoded samples of one training or evaluation step, stacked."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from avpea.labels import Sample

__all__ = ["Batch", "collate"]


@dataclass(frozen=True)
class Batch:
    """Decoded samples, batch first.

    Attributes:
        frames: RGB frames, 0 to 255, one per segment; or their precomputed features.
        log_mel: Log-mel of each segment, not normalised; rows are analysis windows. Or precomputed vectors.
        samples: The sample of each video in the batch.
        positions: Index of each segment in its video if only some were drawn, else None.
        whole_sound: Whether `log_mel` is of slices of the whole sound, which stay when segments are drawn.
    """

    frames: UInt8[Tensor, "batch segments height width 3"] | Float[Tensor, "batch segments patches dim"]
    log_mel: Float[Tensor, "batch sounds rows mel_bins"] | Float[Tensor, "batch segments audio_dim"]
    samples: tuple[Sample, ...]
    positions: Int[Tensor, "batch segments"] | None = None
    whole_sound: bool = False

    def __len__(self) -> int:
        return len(self.samples)

    def drawn(self, count: int) -> "Batch":
        """Draw `count` segments of each video, one from each of `count` equal parts, with torch's CPU generator."""
        videos, segments = self.frames.shape[:2]
        bounds = torch.linspace(0, segments, count + 1).round().long()
        within = (torch.rand(videos, count) * (bounds[1:] - bounds[:-1])).long()
        chosen = bounds[:-1] + within
        row = torch.arange(videos)[:, None]
        log_mel = self.log_mel if self.whole_sound else self.log_mel[row, chosen]
        return replace(self, frames=self.frames[row, chosen], log_mel=log_mel, positions=chosen)

    def to(self, device: torch.device | str) -> "Batch":
        """A copy of the batch on a device."""
        positions = None if self.positions is None else self.positions.to(device)
        return replace(self, frames=self.frames.to(device), log_mel=self.log_mel.to(device), positions=positions)


def collate(samples: Sequence[Sample], tensors: Sequence[Mapping[str, Tensor]], *, whole_sound: bool = False) -> Batch:
    """Stack samples and their decoded tensors; all must have the same number of segments (`data.segments`)."""
    return Batch(
        frames=torch.stack([entry["frames"] for entry in tensors]),
        log_mel=torch.stack([entry["log_mel"] for entry in tensors]),
        samples=tuple(samples),
        whole_sound=whole_sound,
    )
