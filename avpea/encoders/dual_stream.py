"""The dual-stream encoder (AV-PEA paper, Section 3.3): one frozen transformer, two streams, adapters between them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any, ClassVar, Literal, cast

import torch
from jaxtyping import Float
from torch import Tensor

from avpea import registry
from avpea.adapters import AdapterOptions, SideNetwork, Trained, Tuning
from avpea.backbones import CNN, FrozenBlock, Positions, Transformer
from avpea.encoders._base import Encoder, KeptOptions, Size, Streams, as_transformer, require_sounds
from avpea.encoders._merging import Merged, merge_tokens, require_merging
from avpea.encoders._parts import BlockAdapters, block_adapters, read_by, side_network, tuning
from avpea.encoders._running import lend_tuned
from avpea.errors import ExperimentError
from avpea.experiment import Experiment
from avpea.options import require, require_choice
from avpea.sections import RowsOptions

__all__ = ["EXTENSION", "DualStreamEncoder", "DualStreamOptions"]

_STREAMS: tuple[Literal["visual", "audio"], ...] = ("visual", "audio")


@dataclass(frozen=True)
class DualStreamOptions(KeptOptions):
    """Options of the dual-stream encoder.

    Attributes:
        merge_visual: How many visual tokens each block merges into the most similar ones, r of token merging (ToMe):
            later blocks then have fewer to compute. The attention counts a token as often as it stands for others; CLS
            and registers are spared; the head gets a token for each patch again. Only for ViTs without rotary
            positions.
        merge_audio: The same for the tokens of the sound.
    """

    merge_visual: int = 0
    merge_audio: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("merge_visual", "merge_audio"):
            value = getattr(self, name)
            require(value >= 0, f"encoder.{name} is {value}; expected 0 (none are merged) or more.")


def _require_tokens(backbone: Transformer, experiment: Experiment) -> None:
    """Refuse to merge more tokens than a block can.

    Raises:
        ExperimentError: It is asked for.
    """
    options, audio, side = cast("Any", experiment.encoder), experiment.audio, backbone.image_size
    sound = (audio.rows, audio.mel_bins) if isinstance(audio, RowsOptions) else (side, side)
    for name, what, size in (("merge_visual", "a frame", (side, side)), ("merge_audio", "a log-mel", sound)):
        tokens, count = math.prod(backbone.grid(*size)), getattr(options, name)
        require(
            count <= tokens // 2,
            f"encoder.{name} is {count}, but {what} has {tokens} tokens, of which a block merges at most half; "
            f"expected 0 to {tokens // 2}.",
        )


class DualStreamEncoder(Encoder):
    """Frames and log-mel images through the same frozen blocks, with adapters beside them.

    Args:
        backbone: The frozen transformer.
        adapter: Which adapters, in which streams and blocks.
        positions: How position embeddings are resampled to the grid of a log-mel image.
        merge: How many tokens of each stream a block merges.
    """

    Options = DualStreamOptions
    adapters: ClassVar[tuple[type[Trained], ...]] = (Trained,)
    default_adapter = "av_pea"
    sees_alone = True
    backbone: Transformer

    def __init__(
        self,
        backbone: Transformer,
        adapter: AdapterOptions,
        positions: Positions = "grid",
        merge: tuple[int, int] = (0, 0),
    ) -> None:
        require_choice("positions", positions, Positions)
        super().__init__()
        self.backbone = backbone
        self.visual_dim = self.audio_dim = backbone.dim
        self.positions: Positions = positions
        self.beside = block_adapters(adapter, backbone)
        self.tuning = tuning(adapter, backbone)
        self.side = side_network(adapter, backbone)
        self.read = () if self.side is None else read_by(adapter, backbone.depth)
        self.merge = merge
        if any(merge):
            require_merging(backbone, adapter.name if self.read else "")

    @classmethod
    def build(cls, backbone: Transformer | CNN, experiment: Experiment) -> "DualStreamEncoder":
        """The encoder of an experiment, with new adapters."""
        options: Any = experiment.encoder
        assert experiment.adapter is not None
        merge = options.merge_visual, options.merge_audio
        if any(merge):
            _require_tokens(as_transformer(backbone, experiment), experiment)
        require_sounds(as_transformer(backbone, experiment), experiment)
        made = cls(as_transformer(backbone, experiment), experiment.adapter, options.positions, merge)
        # What a side network reads, or where the tokens enter the first block with adapters.
        made.kept = options.kept(*made.read or (made.first_trained,))
        if made.kept and any(merge):
            with_them = (("merge_visual", merge[0]), ("merge_audio", merge[1]))
            made.kept = made.kept._replace(more=("sizes", "sources"), made_with=with_them)
        return made

    @classmethod
    def check(cls, experiment: Experiment) -> None:
        """Tokens can be kept only if the same layers always make the same tokens of a clip.

        Raises:
            ExperimentError: Something changes them, or there is nothing to compute again in the backward pass.
        """
        options, train, adapter = cast("Any", experiment.encoder), experiment.train, experiment.adapter
        kind: Any = None if adapter is None or adapter.streams == "none" else _kind(adapter)
        if adapter is not None and kind is not None and issubclass(kind, SideNetwork) and train.checkpointing:
            raise ExperimentError(
                f"train.checkpointing is true, but with adapter.name '{adapter.name}' no gradient flows through the "
                "frozen blocks, so none of their activations is kept; leave it out."
            )
        if not options.keep_frozen:
            return
        kept = "encoder.keep_frozen is true, so the frozen layers see each clip only once, but"
        if train.augment.used:
            raise ExperimentError(
                f"{kept} train.augment.{train.augment.used[0]} changes it in each epoch; leave either out."
            )
        if train.segments:
            raise ExperimentError(f"{kept} train.segments is {train.segments} of its seconds; leave either out.")
        if adapter is not None and kind is not None and issubclass(kind, Tuning):
            raise ExperimentError(
                f"{kept} adapter.name '{adapter.name}' trains weights of all of them; leave either out."
            )
        if registry.load("head", experiment.head.name).reads_stages:
            raise ExperimentError(
                f"{kept} head.name '{experiment.head.name}' reads the tokens of each stage; leave it out."
            )
        if getattr(experiment.head, "negatives", "batch") == "frozen":
            raise ExperimentError(f"{kept} head.negatives is 'frozen', which needs frames; set it to batch.")

    def forward(
        self, frames: Float[Tensor, "images 3 height width"], sounds: Float[Tensor, "images 3 rows columns"]
    ) -> Streams:
        """Normalised frames and log-mel images to tokens after the backbone's last norm."""
        if self.side is not None:
            return self.resume(self.enter(frames, sounds), (_size(frames), _size(sounds)))
        tokens: Streams = lend_tuned(self.tuning, self.backbone, self._run, frames, sounds)
        return tokens

    def _run(self, frames: Tensor, sounds: Tensor, stages: list[Tensor] | None = None) -> Streams:
        sizes = _size(frames), _size(sounds)
        return self._finish(self.embed(frames, sounds), sizes, 0, stages=stages)

    @property
    def stage_dims(self) -> tuple[int, ...]:
        """See `Encoder`: of a Swin, whose tokens get wider from stage to stage."""
        dims = tuple(dict.fromkeys(self.backbone.dims))
        return dims if len(dims) > 1 else ()

    def with_stages(
        self, frames: Float[Tensor, "images 3 height width"], sounds: Float[Tensor, "images 3 rows columns"]
    ) -> tuple[Streams, tuple[Float[Tensor, "images _tokens _dim"], ...]]:
        """See `Encoder`."""
        stages: list[Tensor] = []
        tokens: Streams = lend_tuned(self.tuning, self.backbone, self._run, frames, sounds, stages)
        return tokens, (*stages, tokens.visual)

    @property
    def first_trained(self) -> int:
        """Index of the first block with adapters; the depth of the backbone if there are none."""
        holds = [any(True for _ in block.parameters()) for block in self.in_blocks()]
        return holds.index(True) if True in holds else self.backbone.depth

    def enter(
        self, frames: Float[Tensor, "images 3 height width"], sounds: Float[Tensor, "images 3 rows columns"]
    ) -> tuple[Streams, ...]:
        """See `Encoder`; the one layer is the last before anything is trained, unless a side network reads several."""
        x, sizes = self.embed(frames, sounds), (_size(frames), _size(sounds))
        if self.read:
            return self._outputs(x, sizes)
        x, merged = self._through(x, sizes, 0, self.first_trained)
        return (x, *(Streams(*each) for each in zip(*merged, strict=True)))

    @torch.no_grad()
    def _outputs(self, x: Streams, sizes: tuple[Size, Size]) -> tuple[Streams, ...]:
        """What the side network reads: the tokens that enter the first block, and those after some of the blocks."""
        every = [x]
        for index in range(self.backbone.depth):
            every.append(self._through(every[-1], sizes, index, index + 1)[0])
        return tuple(every[count] for count in self.read)

    def resume(self, entered: Sequence[Streams], sizes: tuple[Size, Size]) -> Streams:
        """See `Encoder`."""
        if self.side is None:
            merged = tuple(Merged(*each) for each in zip(*entered[1:], strict=True))
            return self._finish(entered[0], sizes, self.first_trained, merged)
        with torch.no_grad():
            norm = self.backbone.norm
            last = entered[-1].each(norm, norm)
        return last.plus(self.side([one.visual for one in entered], [one.audio for one in entered]))

    def _finish(
        self,
        x: Streams,
        sizes: tuple[Size, Size],
        start: int,
        merged: tuple[Merged, ...] = (),
        stages: list[Tensor] | None = None,
    ) -> Streams:
        norm = self.backbone.norm
        x, merged = self._through(x, sizes, start, self.backbone.depth, merged, stages)
        x = x.each(norm, norm)
        return Streams(*(one.spread(tokens) for one, tokens in zip(merged, x, strict=True))) if merged else x

    def _through(
        self,
        x: Streams,
        sizes: tuple[Size, Size],
        start: int,
        stop: int,
        merged: tuple[Merged, ...] = (),
        stages: list[Tensor] | None = None,
    ) -> tuple[Streams, tuple[Merged, ...]]:
        """The tokens after the blocks from `start` to before `stop`, and what they stand for, if any are merged.

        Adds the visual ones that end a stage to `stages`.
        """
        if any(self.merge) and not merged:
            merged = Merged.none(x.visual), Merged.none(x.audio)
        blocks = enumerate(zip(*self._blocks(*sizes), self.in_blocks(), strict=True))
        for index, (see, hear, beside) in islice(blocks, start, stop):
            if see.merge and hear.merge:  # where a stage of Swin's begins
                if stages is not None:
                    stages.append(x.visual)
                x = x.each(see.merge, hear.merge)
            if merged:
                run = partial(self._merging_block, see, hear, beside)
                state = [tensor for one in merged for tensor in one]
                visual, audio, merged = self.in_block(index, run, *x, *state, trained=(beside,))
                x = Streams(visual, audio)
            else:
                x = Streams(*self.in_block(index, partial(self._block, see, hear, beside), *x, trained=(beside,)))
        return x, merged

    def _merging_block(
        self,
        see: FrozenBlock,
        hear: FrozenBlock,
        beside: BlockAdapters,
        visual: Tensor,
        audio: Tensor,
        *state: Tensor,
    ) -> tuple[Tensor, Tensor, tuple[Merged, ...]]:
        """The tokens after a block that merges some between its branches, and what they stand for."""
        x, blocks = Streams(visual, audio), cast("tuple[Any, Any]", (see, hear))
        merged = Merged(*state[:2]), Merged(*state[2:])
        attended = [
            block.attend_with_keys(tokens, one.bias(tokens.dtype))
            for block, tokens, one in zip(blocks, x, merged, strict=True)
        ]
        x = beside.attn(x, Streams(*(branch for branch, _ in attended)))  # Eq. (3), (4)
        spared = self.backbone.num_prefix_tokens
        fewer = [
            merge_tokens(tokens, keys, one, count, spared)
            for tokens, (_, keys), one, count in zip(x, attended, merged, self.merge, strict=True)
        ]
        x = Streams(*(tokens for tokens, _ in fewer))
        x = beside.mlp(x, x.each(see.feed, hear.feed, self.run))
        return x.visual, x.audio, tuple(one for _, one in fewer)

    def _block(self, see: FrozenBlock, hear: FrozenBlock, beside: BlockAdapters, *tokens: Tensor) -> Streams:
        """The tokens after a block."""
        x = Streams(*tokens)
        branch = x.each(see.attend, hear.attend, self.run)
        x = beside.attn(x, branch)  # Eq. (3), (4): x + branch + residuals
        branch = x.each(see.feed, hear.feed, self.run)
        after: Streams = beside.mlp(x, branch)  # AV-PEA leaves this one empty
        return after

    def _blocks(self, frames: Size, sounds: Size) -> tuple[list[FrozenBlock], list[FrozenBlock]]:
        """The blocks for each stream: the same frozen weights, for its patch grid and with its inner adapters."""
        seeing, hearing = self.backbone.blocks_for(*frames), self.backbone.blocks_for(*sounds)
        inside = [adapters.inside for adapters in self.in_blocks()]
        layers = list(self.backbone.layers)
        return (
            [i.enter(block, layer, "visual") for i, block, layer in zip(inside, seeing, layers, strict=True)],
            [i.enter(block, layer, "audio") for i, block, layer in zip(inside, hearing, layers, strict=True)],
        )

    def in_blocks(self) -> list[BlockAdapters]:
        """The adapters of each block, in order."""
        return cast("list[BlockAdapters]", list(self.beside))

    def beside_attention(self) -> list[tuple[int, Literal["visual", "audio"], Any]]:
        """See `Encoder`."""
        pairs = [(i, s, getattr(block.attn, s)) for i, block in enumerate(self.in_blocks()) for s in _STREAMS]
        return [(index, stream, adapter) for index, stream, adapter in pairs if adapter is not None]

    def embed(
        self, frames: Float[Tensor, "images 3 height width"], sounds: Float[Tensor, "images 3 rows columns"]
    ) -> Streams:
        """Pixels to the tokens that enter the first block."""
        return Streams(self.backbone.embed(frames), self.backbone.embed(sounds, self.positions))


def _size(images: Tensor) -> Size:
    height, width = images.shape[-2:]
    return height, width


def _kind(adapter: AdapterOptions) -> Any:
    return registry.load("adapter", adapter.name)


EXTENSION = DualStreamEncoder
