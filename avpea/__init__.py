"""avpea: a frozen image transformer learns to hear."""

__version__ = "0.1.0"
