"""Audio-visual segmentation (AVS): which pixels belong to what sounds, second by second."""
