"""Clip labels: which event a whole video has."""
