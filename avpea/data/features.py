"""Precomputed features: read from .h5 and .npy files where other data sets have videos."""

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from avpea import distributed
from avpea.data._batch import Batch, collate
from avpea.data._others import of_others
from avpea.data._report import FillReport, strict_error
from avpea.errors import DataError, MediaError
from avpea.labels import Precomputed, Sample
from avpea.media import chosen_seconds
from avpea.progress import progress_bar

__all__ = ["FeatureStore", "h5_table"]

TABLE = "avadataset"  # in AVE's published files
_FAR = 1.5  # times as many moments of one stream as of the other are no longer those of the same seconds


def h5_table(path: Path, name: str) -> Any:
    """The values of a table in an .h5 file.

    Raises:
        DataError: h5py is not installed, or the file or the table cannot be read.
    """
    try:
        import h5py
    except ImportError:
        raise DataError(f"{path} needs h5py: pip install 'avpea[features]'.") from None
    try:
        with h5py.File(path, "r") as file:
            return np.asarray(file[name][()])
    except (OSError, KeyError, TypeError, AttributeError, RuntimeError, ValueError) as error:
        raise DataError(f"{path} cannot be read as an .h5 file with the table '{name}' ({_reason(error)}).") from None


_Same = tuple[Precomputed | None, str, int, str]


@dataclass(frozen=True)
class _Looked:
    """What was found in the features of a sample: their shapes and a remark, or why they cannot be used."""

    reason: str = ""
    shapes: tuple[tuple[int, ...], ...] = ()
    remark: str = ""


class FeatureStore:
    """Features of samples, in the place of a `SampleCache`: frames are feature maps, and log-mels vectors of sound.

    Args:
        visual_dim: Width of the feature maps; 0 for any, where they are only checked.
        audio_dim: Width of the vectors; 0 for any.
        strict: Whether features that are missing or broken are refused instead of left out.
    """

    def __init__(self, visual_dim: int, audio_dim: int, strict: bool = False) -> None:
        self.visual_dim, self.audio_dim, self.strict = visual_dim, audio_dim, strict
        self._opened: dict[Path, Any] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_opened": {}}

    def fill(self, samples: Sequence[Sample], progress: bool = True, values: bool = True) -> FillReport:
        """Check that the features of the samples can be read, and fit together; nothing is computed.

        Args:
            samples: Samples that will be read.
            progress: Whether to show a progress bar on stderr.
            values: Whether to read each value that will be read; else only what the files say of themselves.

        Raises:
            DataError: `strict`, and features are missing or broken.
        """
        began = time.monotonic()
        found: dict[_Same, _Looked] = {}
        with progress_bar("Reading features", len(samples), shown=progress and values) as advance:
            for sample in samples:
                if (same := _same(sample)) not in found:
                    found[same] = self._looked(sample, values)
                advance()
        if distributed.world().alone or not values:  # of several processes each reads a share only
            _require_alike(found)
        looked = {sample.key: found[_same(sample)] for sample in samples}
        broken = {key: one.reason for key, one in looked.items() if one.reason}
        if broken and self.strict:
            raise strict_error(broken, len(samples))
        ready = tuple(sample for sample in samples if sample.key not in broken)
        remarks = {sample.key: remark for sample in ready if (remark := looked[sample.key].remark)}
        return FillReport(ready, broken, padded={}, repaired=remarks, decoded=0, seconds=time.monotonic() - began)

    def _looked(self, sample: Sample, values: bool) -> _Looked:
        try:
            of, (maps, vectors) = self._of(sample), self._tables(sample)
            if values:
                self._chosen(sample)
        except MediaError as error:
            return _Looked(str(error))
        skipped = 1 if of.row is None else 2
        count, heard = maps.shape[skipped - 1], vectors.shape[skipped - 1]
        remark = f"{of.audio}: has {heard} moments, and {of.visual.name} {count}; only those that both have are used."
        # Maps may have their channels first or last, so their axes are compared in any order.
        shapes = tuple(sorted(maps.shape[skipped:])), tuple(vectors.shape[skipped:])
        return _Looked("", shapes, remark if count != heard else "")

    def read(self, sample: Sample) -> dict[str, Tensor]:
        """`frames` (float32: segments, locations, width) and `log_mel` (float32: segments, width).

        Raises:
            MediaError: A file is missing, or does not hold such features.
        """
        maps, sounds = self._chosen(sample)
        return {"frames": torch.stack([self._tokens(one) for one in maps]), "log_mel": torch.from_numpy(sounds)}

    def _chosen(self, sample: Sample) -> tuple[np.ndarray, np.ndarray]:
        """The maps and the vectors of a sample's moments, which are the same in both, as float32."""
        of, (maps, vectors) = self._of(sample), self._tables(sample)
        maps, vectors = self._rows(of.visual, of.row, maps), self._rows(of.audio, of.row, vectors)
        moments = list(range(sample.segments))
        if sample.seconds in ("every", "linspace"):
            # As of the pictures alone, which is what the public code does, unless the sound ends before the last one.
            moments = chosen_seconds(len(maps), sample.segments, sample.seconds)
            if moments[-1] >= len(vectors):
                moments = chosen_seconds(len(vectors), sample.segments, sample.seconds)
        found = np.asarray(maps[moments]).astype(np.float32), np.asarray(vectors[moments]).astype(np.float32)
        for path, values in zip((of.visual, of.audio), found, strict=True):
            _require_finite(path, values, sample)
        return found

    def batch(self, samples: Sequence[Sample]) -> Batch:
        """Read the samples and stack them."""
        return collate(samples, [self.read(sample) for sample in samples])

    def loaded(self, samples: Sequence[Sample]) -> list[Sample]:
        """The samples as they are: none that has features has labels in pictures."""
        return list(samples)

    def frames_of_others(
        self, samples: Sequence[Sample], pool: Sequence[Sample]
    ) -> Float[Tensor, "batch segments patches dim"]:
        """For each segment of each sample, the map of a random moment of a random other video; see `of_others`."""
        return of_others(samples, pool, lambda sample: sample.video_id, self._drawn_map)

    def log_mel_statistics(self, samples: Sequence[Sample]) -> tuple[float, float]:
        """Refuse: there is no log-mel.

        Raises:
            DataError: Always.
        """
        raise DataError("Precomputed features are not normalised, so there are no audio.mean and audio.std to measure.")

    def _drawn_map(self, sample: Sample, drawn: torch.Generator) -> Float[Tensor, "patches dim"]:
        of = self._of(sample)
        maps = self._rows(of.visual, of.row, self._tables(sample)[0])
        moment = int(torch.randint(len(maps), (), generator=drawn))
        found = np.asarray(maps[moment]).astype(np.float32)
        _require_finite(of.visual, found, sample)
        return self._tokens(found)

    def _of(self, sample: Sample) -> Precomputed:
        if sample.features is None:
            raise MediaError(sample.video, "is a video, but this model reads precomputed features.")
        return sample.features

    def _rows(self, path: Path, row: int | None, table: Any) -> Any:
        """The moments of a sample in a table, first axis first; read from the disk when they are used."""
        try:
            return table if row is None else table[row]
        except (OSError, RuntimeError) as error:
            raise MediaError(path, f"has a row {row} that cannot be read ({_reason(error)}).") from None

    def _tables(self, sample: Sample) -> tuple[Any, Any]:
        """The values of the maps and of the vectors, of which none is read yet, after a check of their shapes."""
        of = self._of(sample)
        maps, vectors = self._table(sample, of.visual), self._table(sample, of.audio)
        count, *grid = maps.shape if of.row is None else maps.shape[1:]
        heard, *width = vectors.shape if of.row is None else vectors.shape[1:]
        if len(grid) != 3 or self.visual_dim not in (0, grid[0], grid[2]):
            wanted = f"{self.visual_dim} channels, first or last" if self.visual_dim else "maps with channels"
            raise MediaError(of.visual, f"holds maps of shape {tuple(grid)}; expected {wanted}.")
        if len(width) != 1 or self.audio_dim not in (0, width[0]):
            wanted = f"({self.audio_dim},)" if self.audio_dim else "one axis"
            raise MediaError(of.audio, f"holds vectors of shape {tuple(width)}; expected {wanted}.")
        if sample.seconds in ("every", "linspace") and max(count, heard) > _FAR * min(count, heard):
            raise MediaError(
                of.audio, f"has {heard} moments, and {of.visual.name} {count}; expected as many, of the same seconds."
            )
        return maps, vectors

    def _table(self, sample: Sample, path: Path) -> Any:
        """The values in a file, of which none is read yet, after a check of how many moments there are."""
        table, row = self._open(path), self._of(sample).row
        shape = tuple(table.shape) if row is None else tuple(table.shape)[1:]
        if row is not None and row >= len(table):
            raise MediaError(path, f"has {len(table)} rows; expected a row {row}.")
        if len(shape) < 2 or shape[0] < sample.segments:
            raise MediaError(path, f"holds features of shape {shape}; expected {sample.segments} moments or more.")
        return table

    def _tokens(self, values: np.ndarray) -> Float[Tensor, "patches dim"]:
        """A feature map as tokens: locations row by row, whether its channels are first (.npy) or last (.h5)."""
        found = torch.from_numpy(values)
        return found.flatten(0, 1) if found.shape[2] == self.visual_dim else found.flatten(1).T.contiguous()

    def _open(self, path: Path) -> Any:
        found = self._opened.get(path)
        if found is None:
            if not path.is_file():
                raise MediaError(path, "there is no such file of features; download or compute it.")
            found = self._opened[path] = _opened(path)
            if path.suffix == ".npy":  # each is a file of its own
                for old in list(self._opened)[:-64]:  # other threads open and close some, too
                    self._opened.pop(old, None)
        return found


def _require_finite(path: Path, values: np.ndarray, sample: Sample) -> None:
    if not np.isfinite(values).all():
        raise MediaError(path, f"has values that are not finite for {sample.key}; compute the features anew.")


def _same(sample: Sample) -> _Same:
    """What samples have in common that read the same values."""
    return sample.features, "" if sample.features else sample.key, sample.segments, sample.seconds


def _require_alike(found: dict[_Same, _Looked]) -> None:
    """Give those a reason whose features have other shapes than most, with which they could be in no batch."""
    shapes = Counter(one.shapes for one in found.values() if not one.reason)
    for same, one in found.items():
        features = same[0]
        usual = shapes.most_common(1)[0][0] if shapes else one.shapes
        if features is not None and not one.reason and one.shapes != usual:
            own, most = (" and ".join(map(str, some)) for some in (one.shapes, usual))
            reason = f"holds features of the sizes {own}, and most others have {most}; compute the features anew."
            found[same] = _Looked(str(MediaError(features.visual, reason)))


def _opened(path: Path) -> Any:
    """An array whose values stay on the disk."""
    try:
        if path.suffix == ".npy":
            found: Any = np.load(path, mmap_mode="r", allow_pickle=False)
        else:
            import h5py

            found = h5py.File(path, "r")[TABLE]
        kind, shape = found.dtype.kind, found.shape
    except ImportError:
        raise MediaError(path, "needs h5py: pip install 'avpea[features]'.") from None
    except (OSError, ValueError, KeyError, EOFError, RuntimeError, AttributeError, TypeError) as error:
        raise MediaError(path, f"cannot be read as features ({_reason(error)}).") from None
    if kind not in "fiu" or not shape:
        raise MediaError(path, f"holds no table of numbers ({found.dtype}, shape {shape}).")
    return found


def _reason(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:120]
