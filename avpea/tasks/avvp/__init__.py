"""Audio-visual video parsing (AVVP): which events are seen, which are heard and which are both, several at once."""
