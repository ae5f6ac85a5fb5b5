"""LayerNorm tuning (Basu et al., 2023, arXiv 2304.01917): only the normalisations are trained."""

import re

from avpea.adapters._base import Tuning

__all__ = ["LayerNormTuning"]


class LayerNormTuning(Tuning):
    """Trains weights and biases of all normalisations, inside and outside the blocks."""

    @classmethod
    def tunes(cls, name: str) -> bool:
        """Weights and biases of modules with `norm` in their name (`norm1`, `norm_pre`, `final_norm`)."""
        return bool(re.search(r"(^|\.)\w*norm\w*\.(weight|bias)$", name))
