"""TPAVI's decoder on a small pyramid of a plain ViT's tokens, which have one size only."""

from jaxtyping import Float
from torch import Tensor

from avpea.tasks import Dims, Encoded
from avpea.tasks.avs.heads.tpavi import TPAVI

__all__ = ["EXTENSION", "TPAVIPyramid"]


class TPAVIPyramid(TPAVI):
    """As `TPAVI`, with four projections of the last tokens instead of one of each stage, resized to the same sizes.

    Beyond the public codes, which have no plain ViT. The projections have (D + 1) (C1 + C2 + C3 + C4) parameters, and
    that of the sound (D' + 1) C / 2: 885,888 with ViT-B and the widths of the public code.
    """

    reads_stages = False

    @staticmethod
    def widths(dims: Dims) -> tuple[int, ...]:
        """The width of the last tokens, four times."""
        return (dims.visual,) * 4

    def tokens(self, encoded: Encoded) -> tuple[Float[Tensor, "images patches _dim"], ...]:
        """The last tokens, four times."""
        return (encoded.patches.flatten(0, 1),) * 4


EXTENSION = TPAVIPyramid
