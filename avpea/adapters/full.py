"""Full fine-tuning: every weight of the transformer is trained, and used by both streams."""

from avpea.adapters._base import Tuning

__all__ = ["Full"]


class Full(Tuning):
    """Trains all weights except learned rotary frequencies (some `Eva` models have them)."""

    @classmethod
    def tunes(cls, name: str) -> bool:
        """Everything but rotary positions."""
        return not name.startswith("rope.")
