"""Metrics: pure functions with cases that one can count by eye."""
