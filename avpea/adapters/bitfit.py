"""BitFit (Ben Zaken et al., ACL 2022): only the biases of the transformer are trained."""

from avpea.adapters._base import Tuning

__all__ = ["BitFit"]


class BitFit(Tuning):
    """Trains all biases of linear layers, normalisations and the patch convolution."""

    @classmethod
    def tunes(cls, name: str) -> bool:
        """Names that end in `bias`; some families have `q_bias` and `v_bias`."""
        return name.endswith("bias")
