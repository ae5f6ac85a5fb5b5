"""The grounding stage before AVST's training: whether a frame belongs to a second's sound."""
