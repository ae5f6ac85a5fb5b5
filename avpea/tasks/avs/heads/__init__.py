"""Heads for audio-visual segmentation. Each file defines one head, called by the file's name."""

from avpea.tasks.avs.heads._base import MaskHead, MaskOutput

__all__ = ["MaskHead", "MaskOutput"]
