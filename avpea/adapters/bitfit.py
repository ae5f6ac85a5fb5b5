"""BitFit (Ben Zaken et al., ACL 2022): the transformer's biases train, and nothing else of it."""

from avpea.adapters._base import Tuning

__all__ = ["BitFit"]


class BitFit(Tuning):
    """All biases: of linear layers, normalisations and the patch convolution."""

    @classmethod
    def tunes(cls, name: str) -> bool:
        """`….bias`, and the separate `q_bias` and `v_bias` of some families."""
        return name.endswith("bias")
