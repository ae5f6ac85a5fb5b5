"""Precomputed features: read from .h5 and .npy files where other data sets have videos."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from avpea.data._batch import Batch, collate
from avpea.data._others import of_others
from avpea.data._report import FillReport
from avpea.errors import DataError, MediaError
from avpea.labels import Precomputed, Sample
from avpea.media import chosen_seconds

__all__ = ["FeatureStore", "h5_table"]

TABLE = "avadataset"  # in AVE's published files


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


class FeatureStore:
    """Features of samples, in the place of a `SampleCache`: frames are feature maps, and log-mels vectors of sound.

    Args:
        visual_dim: Width of the feature maps.
        audio_dim: Width of the vectors.
    """

    def __init__(self, visual_dim: int, audio_dim: int) -> None:
        self.visual_dim, self.audio_dim = visual_dim, audio_dim
        self._opened: dict[Path, Any] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_opened": {}}

    def fill(self, samples: Sequence[Sample], progress: bool = True) -> FillReport:
        """Check that the features of the samples can be read; nothing is computed."""
        began = time.monotonic()
        ready, broken = [], {}
        for sample in samples:
            try:
                for path in (self._of(sample).visual, self._of(sample).audio):
                    self._table(sample, path)
                ready.append(sample)
            except MediaError as error:
                broken[sample.key] = str(error)
        return FillReport(tuple(ready), broken, padded={}, repaired={}, decoded=0, seconds=time.monotonic() - began)

    def read(self, sample: Sample) -> dict[str, Tensor]:
        """`frames` (float32: segments, locations, width) and `log_mel` (float32: segments, width).

        Raises:
            MediaError: A file is missing, or does not hold such features.
        """
        found = self._of(sample)
        maps, vectors = self._rows(sample, found.visual), self._rows(sample, found.audio)
        frames = torch.stack([self._map(sample, maps, moment) for moment in self._moments(sample, maps)])
        moments = self._moments(sample, vectors)
        sounds = torch.from_numpy(np.asarray(vectors)[moments].astype(np.float32))
        if sounds.ndim != 2 or sounds.shape[1] != self.audio_dim:
            raise MediaError(
                found.audio, f"holds vectors of shape {tuple(sounds.shape[1:])}; expected ({self.audio_dim},)."
            )
        for path, values in ((found.visual, frames), (found.audio, sounds)):
            if not values.isfinite().all():
                raise MediaError(path, f"has values that are not finite for {sample.key}; compute the features anew.")
        return {"frames": frames, "log_mel": sounds}

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
        maps = self._rows(sample, self._of(sample).visual)
        return self._map(sample, maps, int(torch.randint(len(maps), (), generator=drawn)))

    def _of(self, sample: Sample) -> Precomputed:
        if sample.features is None:
            raise MediaError(sample.video, "is a video, but this model reads precomputed features.")
        return sample.features

    def _rows(self, sample: Sample, path: Path) -> Any:
        """The moments of a sample in a file, first axis first; read from the disk when they are used."""
        table, row = self._table(sample, path), self._of(sample).row
        try:
            return table if row is None else table[row]
        except (OSError, RuntimeError) as error:
            raise MediaError(path, f"has a row {row} that cannot be read ({_reason(error)}).") from None

    def _table(self, sample: Sample, path: Path) -> Any:
        """The values in a file, of which none is read yet, after a check of their shape."""
        table, row = self._open(path), self._of(sample).row
        shape = tuple(table.shape) if row is None else tuple(table.shape)[1:]
        if row is not None and row >= len(table):
            raise MediaError(path, f"has {len(table)} rows; expected a row {row}.")
        if len(shape) < 2 or shape[0] < sample.segments:
            raise MediaError(path, f"holds features of shape {shape}; expected {sample.segments} moments or more.")
        return table

    def _moments(self, sample: Sample, rows: Any) -> list[int]:
        if sample.seconds in ("every", "linspace"):
            return chosen_seconds(len(rows), sample.segments, sample.seconds)
        return list(range(sample.segments))

    def _map(self, sample: Sample, maps: Any, moment: int) -> Float[Tensor, "patches dim"]:
        """One feature map as tokens: locations row by row, whether its channels are first (.npy) or last (.h5)."""
        values = torch.from_numpy(np.asarray(maps[moment]).astype(np.float32))
        if values.ndim == 3 and values.shape[2] == self.visual_dim:
            return values.flatten(0, 1)
        if values.ndim == 3 and values.shape[0] == self.visual_dim:
            return values.flatten(1).T.contiguous()
        raise MediaError(
            self._of(sample).visual,
            f"holds maps of shape {tuple(values.shape)}; expected {self.visual_dim} channels, first or last.",
        )

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
