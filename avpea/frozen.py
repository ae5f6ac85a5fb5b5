"""What the frozen layers make of a clip, computed once and kept on disk (`encoder.keep_frozen`).

    <cache>/frozen/<hash of network, sound and samples>/settings.json
    <cache>/frozen/<hash of network, sound and samples>/<2 hex>/<name of the sample's entry>.safetensors

A clip is always computed alone, so its tokens do not depend on the batch that it is in, and are those of `predict`.
"""

import hashlib
import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from avpea.data.cache import SampleCache
from avpea.encoders import Streams
from avpea.errors import WriteError
from avpea.files import replacing
from avpea.labels import Sample
from avpea.model import AVModel
from avpea.options import plain
from avpea.progress import note, progress_bar
from avpea.tasks import Encoded
from avpea.tensors import Unreadable, read_tensors, write_tensors

__all__ = ["FrozenTokens", "frozen_tokens"]

_FORMAT = 1  # increase this when the frozen layers compute anything else, so that no old entry is used


def frozen_tokens(model: AVModel, cache: Any) -> "FrozenTokens | None":
    """The kept tokens of a model that keeps them, else None."""
    return FrozenTokens(model, cache) if model.encoder.keeps_frozen else None


class FrozenTokens:
    """Tokens as they enter the first layer with anything trained.

    Args:
        model: A model whose encoder has `keeps_frozen`.
        cache: The cache of its samples.
    """

    def __init__(self, model: AVModel, cache: SampleCache) -> None:
        encoder: Any = model.encoder
        self.model, self.cache = model, cache
        self.settings: dict[str, Any] = {
            "format": _FORMAT,
            "network": encoder.backbone.fingerprint(),
            "type": str(next(encoder.backbone.parameters()).dtype),
            "blocks": encoder.first_trained,
            "positions": encoder.positions,
            "audio": plain(model.audio),
            "samples": cache.folder.name,
        }
        name = hashlib.sha256(json.dumps(self.settings, sort_keys=True).encode()).hexdigest()[:16]
        self.folder = cache.folder.parent / "frozen" / name
        self._unkept = False

    def path(self, sample: Sample) -> Path:
        """Path of a sample's tokens, which may not exist yet."""
        name = self.cache.path(sample).stem
        return self.folder / name[:2] / f"{name}.safetensors"

    def fill(self, samples: Sequence[Sample], progress: bool = True) -> None:
        """Compute the tokens that are not there yet; a folder that cannot be written is no obstacle, which is said."""
        missing = [sample for sample in samples if not self.path(sample).is_file()]
        with progress_bar("Frozen layers", len(missing), shown=progress and bool(missing)) as advance:
            for sample in missing:
                if self._unkept:
                    break
                self._compute(sample)
                advance(1)

    def read(self, sample: Sample) -> Streams:
        """The tokens of a sample, on the CPU; computed if there are none, or, which is said, if they are damaged."""
        path = self.path(sample)
        try:
            entry = read_tensors(path)
            if entry.checked and entry.tensors.keys() == set(Streams._fields):
                return Streams(**entry.tensors)
        except Unreadable as error:
            if path.exists():
                note(f"the cache entry {path} {error}; it is made anew.")
        return self._compute(sample)

    def encoded(self, samples: Sequence[Sample]) -> Encoded:
        """The tokens of a batch for the task, as from `AVModel.encode`."""
        return self.resumed(self.entered(samples), samples[0].segments)

    def entered(self, samples: Sequence[Sample]) -> Streams:
        """The tokens of a batch as they enter the first layer with anything trained, on the CPU."""
        each = [self.read(sample) for sample in samples]
        return Streams(*(torch.cat([getattr(one, name) for one in each]) for name in Streams._fields))

    def resumed(self, entered: Streams, segments: int) -> Encoded:
        """What the other layers make of them."""
        device = self.model.device
        here = Streams(*(tokens.to(device, non_blocking=tokens.is_pinned()) for tokens in entered))
        return self.model.resume(here, segments, self.cache.frame_size)

    @torch.no_grad()
    def _compute(self, sample: Sample) -> Streams:
        batch = self.cache.batch([sample]).to(self.model.device)
        entered = self.model.encoder.enter(*self.model.pixels(batch.frames, batch.log_mel))
        tokens = {name: _plain(getattr(entered, name)) for name in Streams._fields}
        path, settings = self.path(sample), self.folder / "settings.json"
        try:
            if not settings.exists():
                with replacing(settings, keep=True) as aside:
                    aside.write_text(json.dumps(self.settings, indent=2) + "\n", encoding="utf-8")
            write_tensors(path, tokens, {})
        except WriteError as error:
            self._unkept = True
            _tell(self.folder, str(error))
        return Streams(**tokens)


@cache
def _tell(folder: Path, reason: str) -> None:
    """Say, once for each folder, that work goes on although tokens cannot be kept."""
    note(f"{reason} Meanwhile, frozen tokens that are not kept are computed each time, which takes longer.")


def _plain(tokens: Tensor) -> Tensor:
    """On the CPU, in memory of its own."""
    return tokens.detach().cpu().contiguous().clone()
