"""Audio-visual event localization (AVEL): which event is both seen and heard, second by second."""
