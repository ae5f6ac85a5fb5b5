"""Where the streams looked in each other: the attention maps of AV-PEA's adapters in one second."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from avpea.adapters.av_pea import AVPEA
from avpea.data.cache import sample_from_clip
from avpea.encoders.dual_stream import DualStreamEncoder
from avpea.errors import AvpeaError
from avpea.experiment import Experiment
from avpea.media import Clip
from avpea.model import AVModel

__all__ = ["AttentionMaps", "attention_maps", "on_one_grid"]


@dataclass(frozen=True)
class AttentionMaps:
    """Where the streams looked in each other in one second: Θ of Eq. (7), (8), on the patch grids.

    Attributes:
        second: Start of the second in the video.
        frame: Its frame as the model saw it.
        frame_aspect: Width by height of the frame as a player shows it.
        log_mel: Its log-mel; rows are time.
        blocks: Indices of the blocks with adapters.
        sound_looked: Θ_a, for each block where the audio stream has an adapter: the image patches; None without.
        image_listened: Θ_v likewise: the patches of the log-mel image.
    """

    second: float
    frame: UInt8[Tensor, "height width 3"]
    frame_aspect: float
    log_mel: Float[Tensor, "rows mel_bins"]
    blocks: tuple[int, ...]
    sound_looked: Float[Tensor, "blocks grid_rows grid_columns"] | None
    image_listened: Float[Tensor, "blocks audio_rows audio_columns"] | None

    def plot(self, path: str | Path, title: str = "") -> None:
        """Draw both maps over the frame and the spectrogram."""
        from avpea import plot

        plot.attention(
            Path(path),
            title=title,
            frame=self.frame,
            log_mel=self.log_mel,
            sound_looked=self.sound_looked,
            image_listened=self.image_listened,
            second=self.second,
            frame_aspect=self.frame_aspect,
            blocks=self.blocks,
        )


def attention_maps(model: AVModel, experiment: Experiment, clip: Clip, second: int) -> AttentionMaps:
    """The adapters' attention maps in one second of a clip.

    Raises:
        AvpeaError: The second is outside the clip, or no block has an AV-PEA adapter.
    """
    if not 0 <= second < len(clip.frames):
        raise AvpeaError(f"Second {second} is outside {clip.path}, which has seconds 0 to {len(clip.frames) - 1}.")
    encoder = model.encoder
    if not isinstance(encoder, DualStreamEncoder):
        raise AvpeaError(
            f"This run's encoder is '{experiment.encoder.name}', which has no AV-PEA adapters, so there "
            "are no attention maps; the encoder 'dual_stream' has."
        )
    frames, log_mel = sample_from_clip(clip, experiment.audio)
    maps: dict[str, list[Tensor]] = {"visual": [], "audio": []}
    images = model.pixels(frames[None, second : second + 1], log_mel[None, second : second + 1])
    # The visual stream's adapters look into the sound, and the audio stream's into the picture.
    others = {"visual": images[1], "audio": images[0]}
    grids = {stream: encoder.backbone.grids(*other.shape[-2:]) for stream, other in others.items()}

    def keep(index: int, stream: str) -> Any:
        def hook(adapter: AVPEA, inputs: tuple[Tensor, Tensor], _: Tensor) -> None:
            theta = adapter.attention_map(*inputs)[0, 0, encoder.backbone.num_prefix_tokens :]
            maps[stream].append(theta.float().reshape(grids[stream][index]))

        return hook

    adapters = [
        (index, stream, adapter)
        for index, block in enumerate(encoder.adapters())
        for stream, adapter in (("visual", block.attn.visual), ("audio", block.attn.audio))
        if isinstance(adapter, AVPEA) and adapter.cross_modal
    ]
    hooks = [adapter.register_forward_hook(keep(index, stream)) for index, stream, adapter in adapters]
    try:
        encoder(*images)
    finally:
        for hook in hooks:
            hook.remove()
    if not hooks:
        raise AvpeaError(
            "This run has no AV-PEA adapter, so there are no attention maps: adapter.streams is "
            f"'{experiment.adapter.streams}'."
        )
    looked, listened = (on_one_grid(maps[s]) if maps[s] else None for s in ("audio", "visual"))
    blocks = tuple(sorted({index for index, _, _ in adapters}))
    frame = clip.frames[second]
    return AttentionMaps(float(second), frame, clip.frame_aspect, log_mel[second], blocks, looked, listened)


def on_one_grid(maps: Sequence[Tensor]) -> Float[Tensor, "blocks rows columns"]:
    """Attention maps of blocks on the finest of their grids; a coarser token's share goes to all it stands for."""
    finest = max((tuple(one.shape) for one in maps), key=math.prod)
    if all(one.shape == finest for one in maps):
        return torch.stack(list(maps))
    finer = [F.interpolate(one[None, None], finest, mode="nearest")[0, 0] for one in maps]
    return torch.stack([one / one.sum() for one in finer])
