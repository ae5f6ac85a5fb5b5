"""Tagging: which events occur in a video at all, whenever that is."""
