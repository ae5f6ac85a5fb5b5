"""AV-PEA with an exchange that opens: every token asks the other stream, by scaled attention, and g learns faster."""

from typing import ClassVar

from avpea.adapters._bottleneck import GatedOptions
from avpea.adapters.av_pea import AVPEA

__all__ = ["EXTENSION", "AVPEATokens"]


class AVPEATokens(AVPEA):
    r"""AV-PEA in which every token attends to the other stream, with scaled logits and a gate that opens.

    $$B = h \, f(X + g \, \mathrm{Softmax}(X X'^T / \sqrt D) \, X')$$

    It is `av_pea` with `scaled_attention: true` and `queries: all`, and g learns at 30 times the adapters' rate unless
    `train.gate_learning_rate` says otherwise. It has AV-PEA's number of parameters. In the paper's form only the CLS
    token attends, so that what the others learn of the other stream has to come through it, and little does:
    docs/results.md, "Which of two digits speaks" and "What is seen and what is heard", has what each form hears, and
    "Which part opens it" what each of the three changes does.

    Args:
        dim: Width of the tokens, D.
        reduction: D / d.
        cross_modal: Whether to attend to the other stream; without, it is a bottleneck on its own stream.
        cross_gate_init: Where g starts.
        has_cls: Whether token 0 is a CLS token.

    Raises:
        ExperimentError: `reduction` does not divide `dim`.
    """

    Options = GatedOptions
    follows_dtype = True
    adds = True
    gate_rate: ClassVar[float] = 30.0

    def __init__(
        self,
        dim: int,
        *,
        reduction: int = 8,
        cross_modal: bool = True,
        cross_gate_init: float = 0.0,
        has_cls: bool = True,
    ) -> None:
        super().__init__(
            dim,
            reduction=reduction,
            scaled_attention=True,
            queries="all",
            cross_modal=cross_modal,
            cross_gate_init=cross_gate_init,
            has_cls=has_cls,
        )


EXTENSION = AVPEATokens
