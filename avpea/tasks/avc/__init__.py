"""Audio-visual captioning (AVC): a sentence for a video."""
