"""LayerNorm tuning (Basu et al., 2023, arXiv 2304.01917): the normalisations train, and nothing else."""

import re

from avpea.adapters._base import Tuning

__all__ = ["LayerNormTuning"]


class LayerNormTuning(Tuning):
    """Weights and biases of every normalisation, in the blocks and around them."""

    @classmethod
    def tunes(cls, name: str) -> bool:
        """Parameters of `norm1`, `norm2`, `norm_pre`, `final_norm` and the like."""
        return bool(re.search(r"(^|\.)\w*norm\w*\.(weight|bias)$", name))
