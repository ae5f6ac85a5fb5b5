"""The base class of encoders, which turn frames and log-mel images of the same seconds into tokens."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Literal, NamedTuple, Self

import torch
from jaxtyping import Float
from torch import Tensor, nn

from avpea import registry
from avpea.adapters import Trained, Tuning
from avpea.backbones import CNN, Features, FrozenBlock, Transformer
from avpea.encoders._running import Compiled, lend_tuned, recomputed
from avpea.errors import ExperimentError
from avpea.experiment import Experiment
from avpea.options import require
from avpea.sections import EncoderOptions, RowsOptions

__all__ = [
    "AudioWeightsOptions",
    "Encoder",
    "Kept",
    "KeptOptions",
    "PositionOptions",
    "Size",
    "Streams",
    "as_transformer",
    "build_encoder",
    "require_sounds",
]

Size = tuple[int, int]  # height and width of an image in pixels


@dataclass(frozen=True)
class PositionOptions(EncoderOptions):
    """Options of encoders that run log-mel images through an image transformer.

    Attributes:
        positions: How position embeddings are resampled to the grid of a log-mel image. `grid`: in two dimensions;
            `sequence`: linearly along the whole sequence, CLS included, as in LAVISH.
    """

    positions: Literal["grid", "sequence"] = "grid"


@dataclass(frozen=True)
class KeptOptions(PositionOptions):
    """Options of encoders that can keep outputs of frozen layers on disk.

    Attributes:
        keep_frozen: Whether to compute the layers before the first adapter (without adapters: all; for a side network:
            all, and it reads several of them) only once for each clip, and keep the tokens on disk beside the sample
            cache. Then an epoch takes a fraction of the time, but clips cannot be augmented. A clip takes twice as much
            disk as it does without, or more with a large network; `avpea plan` says how much.
        keep_precision: How tokens are kept: `auto`, as they are computed (`train.precision`), so that nothing is lost;
            or `bf16`, which takes half the disk where they are computed in float32, and rounds them.
        keep_gb: The most gigabytes (10^9 bytes) that the kept tokens of one network, of all runs, may take; what does
            not fit is computed each time. 0 means no limit.
    """

    harmless: ClassVar[tuple[str, ...]] = ("keep_gb",)

    keep_frozen: bool = False
    keep_precision: Literal["auto", "bf16"] = "auto"
    keep_gb: float = 0.0

    def __post_init__(self) -> None:
        require(self.keep_gb >= 0, f"encoder.keep_gb is {self.keep_gb}; expected 0 (no limit) or more.")
        for name in ("keep_precision", "keep_gb"):
            value = getattr(self, name)
            require(
                self.keep_frozen or value == getattr(KeptOptions, name),
                f"encoder.{name} is {value}, but encoder.keep_frozen is false, so nothing is kept; leave either out.",
            )

    def kept(self, *layers: int) -> "Kept | None":
        """Which outputs are kept, and how; None if none are."""
        if not self.keep_frozen:
            return None
        dtype = torch.bfloat16 if self.keep_precision == "bf16" else None
        return Kept(layers, dtype, 1e9 * self.keep_gb or math.inf)


@dataclass(frozen=True)
class AudioWeightsOptions(EncoderOptions):
    """Options of encoders with an audio network of its own.

    Attributes:
        audio_weights: Weights of the audio network: a local file (`separate`: VGGish's, .safetensors or .pth with the
            keys of torchvggish; `audio_tower`: AST's own checkpoint, where training starts), or `random`. They are on
            no hub: with the default, `pretrained`, an error says which file to download.
    """

    locations: ClassVar[tuple[str, ...]] = ("audio_weights",)

    audio_weights: str = "pretrained"

    def __post_init__(self) -> None:
        require(bool(self.audio_weights), "encoder.audio_weights is empty; expected 'pretrained', 'random' or a file.")


class Kept(NamedTuple):
    """Outputs of frozen layers that are kept on disk.

    Attributes:
        layers: The layers: 0 is the embedding, i the i-th block, counted from 1.
        dtype: The type that they are kept in; None keeps them as they are computed.
        most_bytes: How much they may take.
        more: Names of what `enter` returns after the outputs of the layers, whole numbers of both streams.
        made_with: Options of the encoder, with their values, that change what the layers make.
    """

    layers: tuple[int, ...]
    dtype: torch.dtype | None = None
    most_bytes: float = math.inf
    more: tuple[str, ...] = ()
    made_with: tuple[tuple[str, int | float | str], ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all that is kept, in order."""
        return (*map(str, self.layers), *self.more)


class Streams(NamedTuple):
    """Tokens of both streams; where one transformer serves both, image i of one belongs to image i of the other."""

    visual: Float[Tensor, "images visual_tokens dim"]
    audio: Float[Tensor, "images_of_sound audio_tokens audio_dim"]

    def each(
        self,
        see: Callable[[Tensor], Tensor],
        hear: Callable[[Tensor], Tensor],
        run: Callable[[Callable[[Tensor], Tensor], Tensor], Tensor] = lambda layer, tokens: layer(tokens),
    ) -> "Streams":
        """Apply frozen layers to both streams, in one call if the layer is the same and that is faster.

        Args:
            see: The layer for the frames.
            hear: The layer for the sound.
            run: Calls a layer.
        """
        # On a CPU two calls cost the same and avoid the copies (docs/log.md), and a stream without adapters so far
        # then needs no backward pass.
        alike = self.visual.shape == self.audio.shape and self.visual.requires_grad == self.audio.requires_grad
        if see == hear and alike and self.visual.device.type != "cpu":
            visual, audio = run(see, torch.cat(self)).chunk(2)
            return Streams(visual, audio)
        return Streams(run(see, self.visual), run(hear, self.audio))

    def plus(self, residuals: tuple[Tensor | None, Tensor | None]) -> "Streams":
        """Add a residual to each stream; None adds nothing."""
        visual, audio = residuals
        return Streams(
            self.visual if visual is None else self.visual + visual,
            self.audio if audio is None else self.audio + audio,
        )


class Encoder(nn.Module, ABC):
    """Pixels of both streams to tokens.

    A file in `avpea/encoders/` with one subclass is an encoder: recipes can name it, its parameters are counted, and
    the contract tests cover it. Its trained modules are of type `Trained`; everything else is frozen.

    Attributes:
        Options: Its options, a subclass of `EncoderOptions`.
        features: The kind of log-mel that it reads, as `audio.features` names it.
        adapters: Base classes of the adapters that it can hold.
        default_adapter: Name of the adapter that it gets if a recipe names none; empty means no adapter.
        sees_alone: Whether it has a frozen image network, with which `see` works.
        kept: Which outputs of frozen layers are kept on disk, if any are; then `enter` and `resume` work.
        checkpointing: Whether blocks forget their activations and compute them again in the backward pass.
        compiled: What runs the frozen blocks, if they are compiled.
        backbone: The image network; defines how pixels are normalised, and the type to compute in.
        visual_dim: Width of the visual tokens.
        audio_dim: Width of the audio tokens.
    """

    Options: ClassVar[type[EncoderOptions]] = EncoderOptions
    features: ClassVar[Literal["kaldi", "vggish", "precomputed"]] = "kaldi"
    adapters: ClassVar[tuple[type[Trained], ...]] = ()
    default_adapter: ClassVar[str] = ""
    sees_alone: ClassVar[bool] = False
    kept: Kept | None = None
    checkpointing: bool = False
    compiled: Compiled | None = None
    backbone: Transformer | CNN
    visual_dim: int
    audio_dim: int

    @classmethod
    @abstractmethod
    def build(cls, backbone: Transformer | CNN, experiment: Experiment) -> "Encoder":
        """The encoder of an experiment, with new trained modules.

        Raises:
            ExperimentError: An option that does not work with this encoder.
        """

    @abstractmethod
    def forward(
        self, frames: Float[Tensor, "images 3 height width"], sounds: Float[Tensor, "images 3 rows columns"]
    ) -> Streams:
        """Normalised frames, and log-mels from `avpea.model.log_mel_image`, to tokens."""

    @classmethod
    def check(cls, experiment: Experiment) -> None:
        """Check other sections of the experiment when it is read.

        Raises:
            ExperimentError: An option that does not fit the encoder.
        """

    @classmethod
    def require_files(cls, experiment: Experiment) -> None:
        """Check, before any work, that the encoder's own files of weights exist.

        Raises:
            WeightsError: One does not.
        """

    @property
    def stage_dims(self) -> tuple[int, ...]:
        """Width of the visual tokens at the end of each stage of a Swin; empty where `with_stages` does not work."""
        return ()

    def with_stages(
        self, frames: Float[Tensor, "images 3 height width"], sounds: Float[Tensor, "images 3 rows columns"]
    ) -> tuple[Streams, tuple[Float[Tensor, "images _tokens _dim"], ...]]:
        """What `forward` gives, and the visual tokens at the end of each stage, the last ones after the last norm."""
        raise NotImplementedError

    def enter(
        self, frames: Float[Tensor, "images 3 height width"], sounds: Float[Tensor, "images 3 rows columns"]
    ) -> tuple[Streams, ...]:
        """The outputs of the layers in `kept`, in their order, and what `kept.more` names.

        `forward` is `resume` of them.
        """
        raise NotImplementedError

    def resume(self, entered: Sequence[Streams], sizes: tuple[Size, Size]) -> Streams:
        """The tokens after the last norm, from what `enter` made.

        Args:
            entered: Tokens of both streams, of each layer in `kept`.
            sizes: Sizes of the frames and of the log-mel images that they were made from.
        """
        raise NotImplementedError

    def see(self, frames: Float[Tensor, "images 3 height width"]) -> Float[Tensor, "images visual_tokens dim"]:
        """Tokens of frames from the image network alone, without sound or adapters; only where `sees_alone`."""
        if isinstance(self.backbone, CNN):
            tokens: Tensor = self.backbone(frames)
            return tokens
        x = self.backbone.embed(frames)
        for index, block in enumerate(self.backbone.blocks_for(*frames.shape[-2:])):
            x = block.merge(x) if block.merge else x
            x = self.in_block(index, partial(self._branches, block), x)
        return self.backbone.norm(x)

    def _branches(self, block: FrozenBlock, x: Tensor) -> Tensor:
        x = x + self.run(block.attend, x)
        return x + self.run(block.feed, x)

    def run(self, layer: Callable[[Tensor], Tensor], tokens: Tensor) -> Tensor:
        """Call a frozen layer, compiled if that is wanted."""
        return layer(tokens) if self.compiled is None else self.compiled.run(layer, tokens)

    def in_block(self, index: int, run: Callable[..., Any], *tokens: Tensor, trained: Iterable[nn.Module] = ()) -> Any:
        """Call what belongs to a block: with `checkpointing`, its activations are computed again when needed.

        Args:
            index: Index of the block.
            run: The function.
            tokens: Its arguments.
            trained: Trained modules that it calls.
        """
        if not self.checkpointing or not torch.is_grad_enabled():
            # Nothing is computed again, and so trained copies are lent already where they are to be used: frames of
            # other videos are seen by the frozen weights.
            return run(*tokens)
        tuning: Tuning | None = getattr(self, "tuning", None)
        if tuning is None:
            return recomputed(run, *tokens, trained=trained)
        again = lambda *tokens: lend_tuned(tuning, self.backbone, run, *tokens, within=f"layers.{index}.")  # noqa: E731
        return recomputed(again, *tokens, trained=trained)

    def checkpoint_blocks(self) -> None:
        """Let training compute the activations of each block again in the backward pass, instead of keeping them.

        Raises:
            ExperimentError: There are no blocks.
        """
        if not isinstance(self.backbone, Transformer):
            raise ExperimentError(
                "train.checkpointing is true, but this encoder has no transformer whose blocks could be computed "
                "again; leave it out."
            )
        self.checkpointing = True

    def compile_blocks(self) -> str:
        """Compile the frozen blocks; why that is impossible here, or an empty string."""
        if not isinstance(self.backbone, Transformer):
            return "this encoder has no transformer"
        self.compiled = Compiled(next(self.parameters()).device)
        return self.compiled.obstacle

    def require_see(self) -> None:
        """Check, before any work, that `see` works.

        Raises:
            ExperimentError: The encoder has no frozen image network.
        """
        if not self.sees_alone:
            raise ExperimentError(
                f"The encoder {type(self).__name__} trains its image network, so there are no frozen features of other "
                "videos' frames; set head.negatives to batch."
            )

    def beside_attention(self) -> list[tuple[int, Literal["visual", "audio"], Any]]:
        """Adapters beside the attention of frozen blocks, each with the index of its block and its stream."""
        return []

    def trained_parts(self) -> list[tuple[str, Trained]]:
        """The trained modules with their names; a checkpoint holds them and the head."""
        return [(name, module) for name, module in self.named_modules() if isinstance(module, Trained)]

    def parameter_counts(self) -> tuple[int, int]:
        """Number of frozen and of trained parameters; weights with a trained copy count once, as trained."""
        trained = sum(p.numel() for _, part in self.trained_parts() for p in part.parameters())
        tuning: Tuning | None = getattr(self, "tuning", None)
        copied = 0 if tuning is None else sum(p.numel() for p in tuning.parameters())
        return sum(p.numel() for p in self.parameters()) - trained - copied, trained

    def other_fingerprints(self) -> dict[str, str]:
        """SHA-256 of frozen weights other than the backbone's, by the option that names their file."""
        return {}

    def fingerprints(self) -> dict[str, str]:
        """SHA-256 of all frozen weights, by the option that names their file."""
        backbone: Any = self.backbone
        return {"backbone.weights": backbone.fingerprint(), **self.other_fingerprints()}

    def half_precision(self) -> "Encoder":
        """Keep all frozen weights in bfloat16, in which the pixels come too."""
        _halve_frozen(self)
        return self

    def train(self, mode: bool = True) -> Self:
        """Set the mode of the trained modules; frozen ones stay in evaluation mode."""
        super().train(False)
        for _, part in self.trained_parts():
            part.train(mode)
        self.training = mode
        return self


def _halve_frozen(module: nn.Module) -> None:
    if isinstance(module, Trained):
        return
    if not any(isinstance(part, Trained) for part in module.modules()):
        module.to(torch.bfloat16)
        return
    for weight in module.parameters(recurse=False):
        weight.data = weight.data.to(torch.bfloat16)
    for part in module.children():
        _halve_frozen(part)


def build_encoder(backbone: Transformer | CNN | Features, experiment: Experiment) -> Encoder:
    """The encoder that an experiment names, with new trained modules.

    Raises:
        ExperimentError: No such encoder, or an option that does not work with it.
        WeightsError: The encoder's own frozen weights cannot be loaded.
    """
    kind: Any = registry.load("encoder", experiment.encoder.name)
    made: Encoder = kind.build(backbone, experiment)
    return made


def as_transformer(backbone: Transformer | CNN, experiment: Experiment) -> Transformer:
    """The backbone, if it is a transformer.

    Raises:
        ExperimentError: It is a CNN.
    """
    if isinstance(backbone, Transformer):
        return backbone
    raise ExperimentError(
        f"backbone.name '{backbone.name}' is a CNN, but the encoder '{experiment.encoder.name}' works on a "
        "transformer's blocks; name a timm ViT or Swin V2, or set encoder.name to separate."
    )


def require_sounds(backbone: Transformer, experiment: Experiment) -> None:
    """Refuse, before any video is decoded, log-mel images that the transformer cannot read.

    Raises:
        ExperimentError: They are smaller than a patch, or their positions cannot be resampled as `encoder.positions`
            says.
    """
    options: Any = experiment.encoder
    backbone.require_positions(options.positions)
    for name in ("rows", "mel_bins") if isinstance(experiment.audio, RowsOptions) else ():
        size, patch = getattr(experiment.audio, name), backbone.patch_size
        if size < patch:
            of = f"a patch of '{backbone.name}' has {patch}x{patch} pixels"
            raise ExperimentError(f"audio.{name} is {size}, and {of}; expected at least {patch}.")
