"""The head of the grounding stage."""
