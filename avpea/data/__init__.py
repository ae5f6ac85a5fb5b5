"""Data sets: reading annotations, checking the videos, and the cache of decoded samples."""

from avpea import registry
from avpea.configs import DataConfig
from avpea.dataset import Annotations, Sample
from avpea.errors import DataError

__all__ = ["Annotations", "Sample", "read"]


def read(config: DataConfig) -> Annotations:
    """Read the annotations of the data set that `config` names; no video is decoded.

    Raises:
        DataError: `config.root` is empty or wrong, or the annotations are malformed.
        ExperimentError: No data set reader has the name.
    """
    reader = registry.load("data", config.name)
    if not config.root:
        raise DataError(f"data.root is empty; say where the data set '{config.name}' is with --data.root FOLDER.")
    annotations = reader(config)
    assert isinstance(annotations, Annotations)
    return annotations
