"""What frozen layers make of a clip, computed once and kept on disk (`encoder.keep_frozen`).

    <cache>/activations/<hash of network, layers, sound and samples>/settings.json
    <cache>/activations/<hash of network, layers, sound and samples>/<2 hex>/<name of the sample's entry>.safetensors

An encoder names the layers in `Encoder.kept`, makes their outputs in `enter`, and goes on from them in `resume`. A clip
is always computed alone, so what is kept does not depend on the batch that it is in. Without room for an entry, or with
a folder that cannot be written, the clip is computed whenever it is needed, to the same bits.
"""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from avpea import distributed
from avpea.data.cache import SampleCache
from avpea.device import float32_products
from avpea.encoders import Kept, Streams
from avpea.errors import AvpeaError, WriteError
from avpea.files import replacing
from avpea.labels import Sample
from avpea.model import AVModel
from avpea.options import plain
from avpea.parsing import read_json
from avpea.progress import note, progress_bar
from avpea.tasks import Encoded
from avpea.tensors import Unreadable, read_tensors, write_tensors

__all__ = ["Activations", "computed", "kept_activations"]

_FORMAT = 3  # increase this when the frozen layers compute anything else, so that no old entry is used


def kept_activations(model: AVModel, cache: Any) -> "Activations | None":
    """The kept activations of a model whose encoder keeps any, else None."""
    return Activations(model, cache) if model.encoder.kept is not None else None


@torch.no_grad()
def computed(model: AVModel, frames: Any, log_mel: Any) -> tuple[Streams, ...]:
    """The outputs of the kept layers for a batch, in the type in which they are kept, on the model's device."""
    assert model.encoder.kept is not None
    kind = model.encoder.kept.dtype
    with float32_products(model.device, model.tf32):  # as where all of the model computes
        outputs = model.encoder.enter(*model.pixels(frames, log_mel))
    return tuple(Streams(*(_as(tokens, kind or tokens.dtype) for tokens in one)) for one in outputs)


class Activations:
    """Outputs of frozen layers for the samples of a cache.

    Args:
        model: A model whose encoder keeps outputs of layers.
        cache: The cache of its samples.
    """

    def __init__(self, model: AVModel, cache: SampleCache) -> None:
        encoder: Any = model.encoder
        assert isinstance(encoder.kept, Kept)
        self.model, self.cache, self.kept = model, cache, encoder.kept
        computed_in = next(encoder.backbone.parameters()).dtype
        self.settings: dict[str, Any] = {
            "format": _FORMAT,
            "network": encoder.backbone.fingerprint(),
            # The same weights may be those of several networks, and pixels may be normalised in several ways.
            "name": encoder.backbone.name,
            "normalised": [list(encoder.backbone.mean), list(encoder.backbone.std)],
            "type": str(computed_in),
            "tf32": model.tf32 and computed_in == torch.float32,
            "kept": str(self.kept.dtype or computed_in),
            "layers": list(self.kept.names),
            "made_with": [list(pair) for pair in self.kept.made_with],
            "positions": encoder.positions,
            "audio": plain(model.audio),
            "samples": cache.folder.name,
        }
        name = hashlib.sha256(json.dumps(self.settings, sort_keys=True).encode()).hexdigest()[:16]
        self.folder = cache.folder.parent / "activations" / name
        self._room = math.inf if math.isinf(self.kept.most_bytes) else None  # bytes that may be written; None: unknown
        self._full = self._unwritable = False

    def path(self, sample: Sample) -> Path:
        """Path of a sample's entry, which may not exist yet."""
        name = self.cache.path(sample).stem
        return self.folder / name[:2] / f"{name}.safetensors"

    def fill(self, samples: Sequence[Sample], progress: bool = True) -> None:
        """Compute the entries that are not there yet, as far as there is room for them.

        Without room, or with a folder that cannot be written, work goes on, which is said.
        """
        by_entry = {self.path(sample): sample for sample in samples}  # several samples may be of one clip
        missing = [sample for path, sample in by_entry.items() if not path.is_file()]
        with progress_bar("Frozen layers", len(missing), shown=progress and bool(missing)) as advance:
            for sample in missing:
                if self._unwritable or self._full:
                    break
                self._compute(sample)
                advance(1)

    def read(self, sample: Sample) -> tuple[Streams, ...]:
        """The outputs of the kept layers for a sample, in the order of the layers, on the CPU.

        They are computed if there is no entry or, which is said, if it is damaged.
        """
        path = self.path(sample)
        try:
            entry = read_tensors(path)
            if entry.checked and entry.tensors.keys() == set(self._names()):
                tensors = entry.tensors
                return tuple(
                    Streams(*(tensors[f"{stream}.{name}"] for stream in Streams._fields)) for name in self.kept.names
                )
        except Unreadable as error:
            if path.exists():
                note(f"the cache entry {path} {error}; it is made anew.")
        return self._compute(sample)

    def encoded(self, samples: Sequence[Sample]) -> Encoded:
        """The tokens of a batch for the task, as from `AVModel.encode`."""
        return self.resumed(self.entered(samples), samples[0].segments)

    def entered(self, samples: Sequence[Sample]) -> tuple[Streams, ...]:
        """The outputs of the kept layers for a batch, on the CPU."""
        each = [self.read(sample) for sample in samples]
        return tuple(Streams(*map(torch.cat, zip(*one_layer, strict=True))) for one_layer in zip(*each, strict=True))

    def resumed(self, entered: Sequence[Streams], segments: int) -> Encoded:
        """What the encoder makes of them."""
        device, kind = self.model.device, next(self.model.encoder.backbone.parameters()).dtype
        here = [Streams(*(_as(one.to(device, non_blocking=one.is_pinned()), kind) for one in each)) for each in entered]
        return self.model.resume(here, segments, self.cache.frame_size)

    def _names(self) -> list[str]:
        return [f"{stream}.{name}" for name in self.kept.names for stream in Streams._fields]

    def _compute(self, sample: Sample) -> tuple[Streams, ...]:
        batch = self.cache.batch([sample]).to(self.model.device)
        entered = [Streams(*map(_plain, one)) for one in computed(self.model, batch.frames, batch.log_mel)]
        tensors = dict(zip(self._names(), (tokens for one in entered for tokens in one), strict=True))
        if not self._unwritable and self._has_room(tensors):
            self._write(self.path(sample), tensors)
        return tuple(entered)

    def _has_room(self, tensors: Mapping[str, Tensor]) -> bool:
        """Whether an entry may be written; of the room that is left, each process has its share."""
        if self._room is None:
            kept = _bytes_of(self.settings["network"], self.folder.parent)
            self._room = (self.kept.most_bytes - kept) / distributed.world().size
        needed = sum(one.nbytes for one in tensors.values())
        self._full = needed > self._room
        if self._full:
            _tell(
                self.folder,
                f"The activations of this network in {self.folder.parent} take all that encoder.keep_gb, "
                f"{self.kept.most_bytes / 1e9:g}, allows; the frozen layers compute the other clips each time, which "
                "takes longer.",
            )
            return False
        self._room -= needed
        return True

    def _write(self, path: Path, tensors: Mapping[str, Tensor]) -> None:
        settings = self.folder / "settings.json"
        try:
            if not settings.exists():
                with replacing(settings, keep=True) as aside:
                    aside.write_text(json.dumps(self.settings, indent=2) + "\n", encoding="utf-8")
            write_tensors(path, tensors, {})
        except WriteError as error:
            self._unwritable = True
            _tell(
                self.folder,
                f"{error} Meanwhile, frozen tokens that are not kept are computed each time, which takes longer.",
            )


@cache
def _tell(folder: Path, sentence: str) -> None:
    """Say, once for each folder, that work goes on although not everything is kept."""
    note(sentence)


def _bytes_of(network: str, folder: Path) -> int:
    """What the kept outputs of a network take, of all layers and settings, as far as this version can read them."""
    total = 0
    for settings in folder.glob("*/settings.json"):
        with suppress(OSError, AvpeaError):  # what is removed meanwhile, or no settings
            about = read_json(settings, remedy="remove it")
            if isinstance(about, dict) and (about.get("format"), about.get("network")) == (_FORMAT, network):
                total += sum(path.stat().st_size for path in settings.parent.glob("??/*.safetensors"))
    return total


def _as(tokens: Tensor, dtype: torch.dtype) -> Tensor:
    """Tokens in a type; whole numbers beside them stay as they are."""
    return tokens.to(dtype) if tokens.is_floating_point() else tokens


def _plain(tokens: Tensor) -> Tensor:
    """On the CPU, in memory of its own."""
    return tokens.detach().cpu().contiguous().clone()
