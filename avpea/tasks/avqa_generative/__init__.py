"""Generative question answering: the answer is written word by word."""
