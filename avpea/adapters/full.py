"""Full fine-tuning: every weight of the transformer trains, for both streams at once."""

from avpea.adapters._base import Tuning

__all__ = ["Full"]


class Full(Tuning):
    """All weights. Learned rotary frequencies (some `Eva` models) stay as they are."""

    @classmethod
    def tunes(cls, name: str) -> bool:
        """Everything but rotary positions."""
        return not name.startswith("rope.")
