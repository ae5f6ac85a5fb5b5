"""TPAVI's decoder on the stages of a frozen Swin, as LAVISH and STG-CMA put it there."""

from dataclasses import dataclass
from typing import Any, Self

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from avpea.errors import ExperimentError
from avpea.labels import MaskLabels
from avpea.options import require
from avpea.tasks import Dims, Encoded, HeadOptions
from avpea.tasks.avs.heads._base import MaskHead, MaskOutput, as_map, resized
from avpea.tasks.avs.heads._decoder import Decoder, DilatedSum, Exchange

__all__ = ["EXTENSION", "TPAVI", "TPAVIOptions"]


@dataclass(frozen=True)
class TPAVIOptions(HeadOptions):
    """Options of TPAVI's decoder; the defaults are the public code's, with 19,877,569 parameters.

    Attributes:
        width: Width of the maps in the decoder; the sound has half as many numbers.
        stages: Width of the map of each of four stages, largest first, as PVT-v2 has them.
    """

    width: int = 256
    stages: tuple[int, ...] = (64, 128, 320, 512)

    def __post_init__(self) -> None:
        width = self.width
        require(2 <= width <= 4096 and width % 2 == 0, f"head.width is {width}; expected an even number, 2 to 4096.")
        require(
            len(self.stages) == 4 and all(1 <= one <= 4096 for one in self.stages),
            f"head.stages is {list(self.stages)}; expected four widths from 1 to 4096.",
        )


class TPAVI(MaskHead):
    """The decoder, on linear projections of the stages, resized bicubically to sizes that halve from stage to stage.

    Four sums of dilated convolutions, four exchanges with the sound, and four fusions from small to large. The decoder
    has 18,697,409 parameters as used and 19,877,569 as registered in the public code (C = 256); the projections, of
    LAVISH's public code, have 1,291,392 with Swin-L.

    Args:
        dims: Widths of the tokens.
        channels: Number of logits for each pixel.
        side: Height and width of the masks.
        options: Widths inside.
    """

    Options = TPAVIOptions
    gives_maps = True
    reads_stages = True

    def __init__(self, dims: Dims, channels: int, side: int, options: TPAVIOptions) -> None:
        super().__init__()
        self.side, self.smallest = side, -(-side // 32)
        widths = self.widths(dims)
        self.projections = nn.ModuleList(nn.Linear(a, b) for a, b in zip(widths, options.stages, strict=True))
        self.sound = nn.Linear(dims.audio, options.width // 2)
        self.sums = nn.ModuleList(DilatedSum(one, options.width) for one in options.stages)
        self.exchanges = nn.ModuleList(Exchange(options.width, bias=channels == 1) for _ in options.stages)
        self.decoder = Decoder(options.width, channels)
        self.width = options.width

    @classmethod
    def build(cls, options: Any, dims: Dims, labels: MaskLabels) -> Self:
        """Build a new head.

        Raises:
            ExperimentError: The encoder gives no four stages.
        """
        return cls(dims, labels.channels, labels.side, options)

    @staticmethod
    def widths(dims: Dims) -> tuple[int, ...]:
        """Widths of the tokens of each stage.

        Raises:
            ExperimentError: There are not four.
        """
        if len(dims.stages) != 4:
            raise ExperimentError(
                f"head.name is 'tpavi', which reads four stages of a Swin in the encoder dual_stream, but the encoder "
                f"gives {len(dims.stages)}; name a Swin V2 as backbone.name, or set head.name to tpavi_pyramid."
            )
        return dims.stages

    def tokens(self, encoded: Encoded) -> tuple[Float[Tensor, "images patches _dim"], ...]:
        """The tokens that each stage's map is made of."""
        return encoded.stages

    def forward(self, encoded: Encoded) -> MaskOutput:
        """The masks of a batch of videos."""
        videos, segments = encoded.frames.shape[:2]
        heard = self.sound(encoded.audio_cls)
        maps, sounds = [], []
        every = zip(self.tokens(encoded), self.projections, self.sums, self.exchanges, strict=True)
        for number, (tokens, projection, dilated, exchange) in enumerate(every):
            size = self.smallest * 2 ** (3 - number)
            found = F.interpolate(as_map(projection(tokens)), (size, size), mode="bicubic", align_corners=False)
            joined, sound = exchange(dilated(found).unflatten(0, (videos, segments)), heard)
            maps.append(joined.flatten(0, 1))
            sounds.append(sound.flatten(0, 1))
        return MaskOutput(resized(self.decoder(maps), self.side), tuple(maps), tuple(sounds))

    def registered_but_unused(self) -> dict[str, int]:
        """The skip of the first fusion, which has nothing to join."""
        return {"first fusion's skip": Decoder.dead(self.width)}


EXTENSION = TPAVI
