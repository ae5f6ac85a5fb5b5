"""Attention maps of adapters: where each stream attends in the other during one second."""

import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from avpea.data.inputs import sample_from_clip
from avpea.errors import AvpeaError
from avpea.experiment import Experiment
from avpea.media import Clip
from avpea.model import AVModel

__all__ = ["AttentionMaps", "attention_maps", "on_one_grid"]


@dataclass(frozen=True)
class AttentionMaps:
    """Where each stream attends in the other during one second: Θ of Eq. (7), (8), on the patch grids.

    Where all tokens attend (`adapter.queries: all`), it is the mean over them.

    Attributes:
        second: Start of the second in the video.
        frame: RGB frame of that second, as the model takes it.
        frame_aspect: Width by height of the frame as a player shows it.
        log_mel: Log-mel of that second; rows are time.
        blocks: Indices of the blocks with adapters.
        sound_looked: Θ_a over the frame's patches, for each block with an adapter in the audio stream, or None.
        image_listened: Θ_v over the log-mel's patches, for each block with an adapter in the visual stream, or None.
        num_prefix_tokens: Number of tokens before the patches (CLS, registers), on which the rest of Θ is.
    """

    second: float
    frame: UInt8[Tensor, "height width 3"]
    frame_aspect: float
    log_mel: Float[Tensor, "rows mel_bins"]
    blocks: tuple[int, ...]
    sound_looked: Float[Tensor, "blocks grid_rows grid_columns"] | None
    image_listened: Float[Tensor, "blocks audio_rows audio_columns"] | None
    num_prefix_tokens: int = 1

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
            num_prefix_tokens=self.num_prefix_tokens,
        )


def attention_maps(model: AVModel, experiment: Experiment, clip: Clip, second: int) -> AttentionMaps:
    """The adapters' attention maps in one second of a clip, counted from the clip's start.

    Other threads may use the model meanwhile.

    Raises:
        AvpeaError: The second is outside the clip, or no adapter has an attention map.
    """
    if not 0 <= second < len(clip.frames):
        raise AvpeaError(f"Second {second} is outside {clip.path}, which has seconds 0 to {len(clip.frames) - 1}.")
    adapters = [adapter for adapter in model.encoder.beside_attention() if adapter[2].attends]
    if not adapters:
        options, name = experiment.adapter, experiment.encoder.name
        has = "no adapters" if options is None else f"the adapter '{options.name}' in the streams '{options.streams}'"
        raise AvpeaError(
            f"This run's encoder '{name}' has {has}, so there are no attention maps; the adapter 'av_pea' has them."
        )
    encoder: Any = model.encoder
    if any(getattr(encoder, "merge", ())):
        raise AvpeaError(
            "This run merges tokens (encoder.merge_visual, encoder.merge_audio), so its adapters attend to tokens that "
            "have no place in the picture, and there are no attention maps; train without merging for maps."
        )
    frames, log_mel = sample_from_clip(clip, experiment.audio)
    maps: dict[str, list[Tensor]] = {"visual": [], "audio": []}
    here = threading.get_ident()
    only = frames[None, second : second + 1].to(model.device), log_mel[None, second : second + 1].to(model.device)
    images = model.pixels(*only)
    # The visual stream's adapters look into the sound, and the audio stream's into the picture.
    others = {"visual": images[1], "audio": images[0]}
    grids = {stream: encoder.backbone.grids(*other.shape[-2:]) for stream, other in others.items()}

    def keep(index: int, stream: str) -> Any:
        def hook(adapter: Any, inputs: tuple[Tensor, ...], _: Tensor) -> None:
            if threading.get_ident() != here:  # another thread, which uses the same model
                return
            theta = adapter.attention_map(*inputs[:2])[0].mean(dim=0)[encoder.backbone.num_prefix_tokens :]
            maps[stream].append(theta.float().cpu().reshape(grids[stream][index]))

        return hook

    hooks = [adapter.register_forward_hook(keep(index, stream)) for index, stream, adapter in adapters]
    try:
        encoder(*images)
    finally:
        for hook in hooks:
            hook.remove()
    looked, listened = (on_one_grid(maps[s]) if maps[s] else None for s in ("audio", "visual"))
    blocks = tuple(sorted({index for index, _, _ in adapters}))
    frame = clip.frames[second]
    prefix = encoder.backbone.num_prefix_tokens
    start = clip.starts[second]
    return AttentionMaps(start, frame, clip.frame_aspect, log_mel[second], blocks, looked, listened, prefix)


def on_one_grid(maps: Sequence[Tensor]) -> Float[Tensor, "blocks rows columns"]:
    """Attention maps of several blocks on the finest of their grids; coarser maps are repeated and keep their sum."""
    finest = max((tuple(one.shape) for one in maps), key=math.prod)
    if all(one.shape == finest for one in maps):
        return torch.stack(list(maps))
    finer = [F.interpolate(one[None, None], finest, mode="nearest")[0, 0] for one in maps]
    return torch.stack([one * (own.sum() / one.sum()) for one, own in zip(finer, maps, strict=True)])
