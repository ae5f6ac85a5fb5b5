"""Heads for audio-visual segmentation."""
