"""Trackers of training: TensorBoard, Weights & Biases and MLflow, as `train.trackers` asks. None can end a training."""

from avpea.trackers._base import About, Tracker
from avpea.trackers._trackers import Trackers, tracked

__all__ = ["About", "Tracker", "Trackers", "tracked"]
