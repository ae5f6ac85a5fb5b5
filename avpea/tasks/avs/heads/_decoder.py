"""The parts of TPAVI's decoder (Zhou et al., ECCV 2022, public code OpenNLPLab/AVSBench)."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from avpea.batch_norm import norm_of_all

__all__ = ["Decoder", "DilatedSum", "Exchange"]

DILATIONS = (3, 6, 12, 18)
LAST_WIDTH = 32


class DilatedSum(nn.Module):
    """The sum of four 3x3 convolutions with dilations 3, 6, 12 and 18: 4 (9 C C' + C') parameters.

    Args:
        channels: Width C of the map.
        width: Width C' of the sum.
    """

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(nn.Conv2d(channels, width, 3, 1, rate, rate) for rate in DILATIONS)
        for convolution in self.convolutions:
            nn.init.normal_(convolution.weight, 0, 0.01)  # type: ignore[arg-type]

    def forward(self, x: Float[Tensor, "images channels rows columns"]) -> Float[Tensor, "images width rows columns"]:
        """The sum."""
        total: Tensor = self.convolutions[0](x)
        for convolution in list(self.convolutions)[1:]:
            total = total + convolution(x)
        return total


class Exchange(nn.Module):
    """TPAVI: each position of a video's frames attends to the sound of all its seconds, without a softmax.

    z = LayerNorm(x + BN(conv(Y))), Y = (theta(x)^T phi(a) / N) g(x)^T over the N = T * H * W positions, where the
    projected sound a is repeated over the space of its frame. As it is the same there, the N x N attention is a
    product of two factors over the T seconds, and is never computed: theta(x)^T (sum over t of phi(a_t) G_t^T) / N,
    with G_t the sum of g(x) over frame t.

    Args:
        width: Width of the maps; 5 C²/2 + 8.5 C with the projection of the sound, of C / 2 numbers, without its bias.
        bias: Whether the projection of the sound has a bias, which AVSBench-semantic's has not.
    """

    def __init__(self, width: int, bias: bool = True) -> None:
        super().__init__()
        inner = width // 2
        self.sound = nn.Linear(inner, width, bias=bias)
        self.theta, self.phi, self.g = (nn.Conv1d(width, inner, 1) for _ in range(3))
        self.out = nn.Conv1d(inner, width, 1)
        self.out_norm = nn.BatchNorm1d(width)
        self.norm = nn.LayerNorm(width)
        nn.init.zeros_(self.out_norm.weight)
        nn.init.zeros_(self.out_norm.bias)

    def forward(
        self, x: Float[Tensor, "videos segments width rows columns"], sound: Float[Tensor, "videos segments inner"]
    ) -> tuple[Float[Tensor, "videos segments width rows columns"], Float[Tensor, "videos segments width"]]:
        """The maps after the exchange, and the projected sound."""
        heard = self.sound(sound)
        flat = x.transpose(1, 2).flatten(2)  # videos, width, N
        answered = norm_of_all(self.out(self.attend(flat, heard)), self.out_norm)
        z = self.norm((flat + answered).transpose(1, 2)).transpose(1, 2)
        return z.unflatten(2, (x.shape[1], *x.shape[3:])).transpose(1, 2), heard

    def attend(
        self, flat: Float[Tensor, "videos width positions"], heard: Float[Tensor, "videos segments width"]
    ) -> Float[Tensor, "videos inner positions"]:
        """Y, in its factors."""
        segments, positions = heard.shape[1], flat.shape[2]
        phi = self.phi(heard.transpose(1, 2))
        sums = self.g(flat).unflatten(2, (segments, positions // segments)).sum(dim=3)
        joined = torch.einsum("vks,vcs->vkc", phi, sums) / positions
        answer: Tensor = torch.einsum("vkp,vkc->vcp", self.theta(flat), joined)
        return answer


class _Residual(nn.Module):
    """r + conv(ReLU(conv(r))) with r = ReLU(x): the public code's first ReLU is in place, so the skip has it too."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second = (nn.Conv2d(width, width, 3, 1, 1) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        x = x.relu()
        answer: Tensor = x + self.second(self.first(x).relu())
        return answer


class _Fusion(nn.Module):
    """(running map + residual(skip)) -> residual -> twice the size; the first one has no running map."""

    def __init__(self, width: int, joins: bool) -> None:
        super().__init__()
        self.skip = _Residual(width) if joins else None
        self.residual = _Residual(width)

    def forward(self, running: Tensor, skip: Tensor | None = None) -> Tensor:
        if self.skip is not None:
            running = running + self.skip(skip)
        return F.interpolate(self.residual(running), scale_factor=2, mode="bilinear", align_corners=True)


class Decoder(nn.Module):
    """From maps of four stages, each of half the size, to logits of four times the size of the largest.

    Args:
        width: Width of the maps.
        channels: Number of logits for each pixel.
    """

    def __init__(self, width: int, channels: int) -> None:
        super().__init__()
        self.fusions = nn.ModuleList(_Fusion(width, joins=number > 0) for number in range(4))
        self.first = nn.Conv2d(width, width // 2, 3, 1, 1)
        self.second = nn.Conv2d(width // 2, LAST_WIDTH, 3, 1, 1)
        self.last = nn.Conv2d(LAST_WIDTH, channels, 1)

    def forward(
        self, maps: Sequence[Float[Tensor, "images width _rows _columns"]]
    ) -> Float[Tensor, "images channels _height _width"]:
        """The logits, from the maps with the largest first."""
        running: Tensor = self.fusions[0](maps[-1])
        for fusion, skip in zip(list(self.fusions)[1:], reversed(maps[:-1]), strict=True):
            running = fusion(running, skip)
        x = F.interpolate(self.first(running), scale_factor=2, mode="bilinear", align_corners=False)
        logits: Tensor = self.last(self.second(x).relu())
        return logits

    @staticmethod
    def dead(width: int) -> int:
        """Parameters that the public code registers in the first fusion, for a skip that it does not have."""
        return 2 * (9 * width**2 + width)
