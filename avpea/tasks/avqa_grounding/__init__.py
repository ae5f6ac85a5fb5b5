"""The grounding stage before AVST's training, which matches frames with sounds."""
