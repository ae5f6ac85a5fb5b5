"""A batch: the decoded samples of one training or evaluation step, stacked."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from avpea.draws import generator
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
        """Draw `count` segments of each video, one from each of `count` equal parts.

        The draws for a video depend on the batch of training (`avpea.draws`) and on its sample.
        """
        videos, segments = self.frames.shape[:2]
        bounds = torch.linspace(0, segments, count + 1).round().long()
        drawn = [torch.rand(count, generator=generator(sample.key, "segments")) for sample in self.samples]
        chosen = bounds[:-1] + (torch.stack(drawn) * (bounds[1:] - bounds[:-1])).long()
        row = torch.arange(videos)[:, None]
        log_mel = self.log_mel if self.whole_sound else self.log_mel[row, chosen]
        return replace(self, frames=self.frames[row, chosen], log_mel=log_mel, positions=chosen)

    def to(self, device: torch.device | str) -> "Batch":
        """A copy of the batch on a device."""
        return self._each(lambda tensor: tensor.to(device, non_blocking=tensor.is_pinned()))

    def pinned(self) -> "Batch":
        """A copy in memory from which a GPU copies without waiting."""
        return self._each(Tensor.pin_memory)

    def part(self, indices: Sequence[int]) -> "Batch":
        """Some of its videos."""
        chosen = torch.tensor(indices)
        return replace(self._each(lambda tensor: tensor[chosen]), samples=tuple(self.samples[i] for i in indices))

    def _each(self, change: Callable[[Tensor], Tensor]) -> "Batch":
        positions = None if self.positions is None else change(self.positions)
        return replace(self, frames=change(self.frames), log_mel=change(self.log_mel), positions=positions)


def collate(samples: Sequence[Sample], tensors: Sequence[Mapping[str, Tensor]], *, whole_sound: bool = False) -> Batch:
    """Stack samples and their decoded tensors; all must have the same number of segments (`data.segments`)."""
    return Batch(
        frames=torch.stack([entry["frames"] for entry in tensors]),
        log_mel=torch.stack([entry["log_mel"] for entry in tensors]),
        samples=tuple(samples),
        whole_sound=whole_sound,
    )
