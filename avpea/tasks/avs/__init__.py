"""Audio-visual segmentation."""
