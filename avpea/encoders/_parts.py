"""Adapters beside and inside frozen blocks, trained copies of frozen weights, and side networks."""

import inspect
from collections.abc import Mapping
from typing import Any, Literal

from torch import Tensor, nn

from avpea import registry
from avpea.adapters import Adapter, AdapterOptions, LinearAdapter, SideNetwork, Trained, Tuning
from avpea.backbones import CNN, FrozenBlock, Transformer, attention_linears
from avpea.encoders._base import Streams, as_transformer
from avpea.errors import ExperimentError
from avpea.experiment import Experiment

__all__ = ["BlockAdapters", "block_adapters", "own_tuning", "read_by", "side_network", "tuning"]

Stream = Literal["visual", "audio"]


class Beside(nn.Module):
    """The adapters beside one frozen branch, at most one per stream."""

    def __init__(self, visual: Adapter | None = None, audio: Adapter | None = None) -> None:
        super().__init__()
        self.visual = visual
        self.audio = audio

    def forward(self, x: Streams, branch: Streams) -> Streams:
        """Input and output of the branch and the adapters' residuals, added up."""

        def total(adapter: Any, stream: Stream, other: Stream) -> Tensor:
            both: Tensor = getattr(x, stream) + getattr(branch, stream)
            if adapter is None:
                return both
            read = x if adapter.reads == "input" else branch
            inputs = getattr(read, stream), getattr(read, other)
            answer: Tensor = adapter(*inputs, both) if adapter.adds else both + adapter(*inputs)
            return answer

        return Streams(total(self.visual, "visual", "audio"), total(self.audio, "audio", "visual"))


class Inside(nn.Module):
    """The adapters inside one block's attention, by stream and by frozen layer."""

    def __init__(self, visual: Mapping[str, LinearAdapter], audio: Mapping[str, LinearAdapter]) -> None:
        super().__init__()
        self.visual = nn.ModuleDict(dict(visual))
        self.audio = nn.ModuleDict(dict(audio))

    def enter(self, block: FrozenBlock, layer: nn.Module, stream: Stream) -> FrozenBlock:
        """The block with this stream's adapters in its attention."""
        adapters = getattr(self, stream)
        if not len(adapters):
            return block
        frozen = attention_linears(layer)
        return block.with_attention({name: _Sum(frozen[name], adapter) for name, adapter in adapters.items()})


class _Sum(nn.Module):
    def __init__(self, frozen: nn.Module, added: nn.Module) -> None:
        super().__init__()
        self.frozen, self.added = frozen, added

    def forward(self, x: Tensor) -> Tensor:
        answer: Tensor = self.frozen(x) + self.added(x)
        return answer


class BlockAdapters(nn.Module):
    """The adapters of one frozen block: beside its attention, beside its feed-forward layer, and inside."""

    def __init__(self, attn: Beside, mlp: Beside, inside: Inside) -> None:
        super().__init__()
        self.attn = attn
        self.mlp = mlp
        self.inside = inside


def block_adapters(config: AdapterOptions, backbone: Transformer) -> nn.ModuleList:
    """New adapters for a backbone, one `BlockAdapters` per block.

    Raises:
        ExperimentError: No such adapter, an option that does not work with it, or a block index beyond the depth.
    """
    kind: type[Trained] = registry.load("adapter", config.name)
    config = config.resolved(backbone.depth)
    asks = "has_cls" in inspect.signature(kind.__init__).parameters
    given = {"has_cls": backbone.has_cls} if asks else {}

    def wanted(index: int, stream: Stream) -> bool:
        return (not config.blocks or index in config.blocks) and config.streams in ("both", stream)

    def beside(index: int, branch: str) -> Beside:
        def adapter(stream: Stream) -> Adapter | None:
            if not issubclass(kind, Adapter) or branch not in kind.beside or not wanted(index, stream):
                return None
            return kind(backbone.dims[index], **config.arguments(index), **given)

        return Beside(adapter("visual"), adapter("audio"))

    def inside(index: int) -> Inside:
        def adapters(stream: Stream) -> dict[str, LinearAdapter]:
            if not issubclass(kind, LinearAdapter) or not wanted(index, stream):
                return {}
            linears = attention_linears(backbone.layers[index])
            if not linears:
                raise ExperimentError(
                    f"adapter.name '{config.name}' works inside the attention's linear layers, and '{backbone.name}' "
                    "does not call them as layers; choose an adapter that stands beside, for example 'av_pea'."
                )
            own = config.arguments(index) | given
            return {n: kind(linears[n].in_features, linears[n].out_features, **own) for n in kind.inside}

        return Inside(adapters("visual"), adapters("audio"))

    return nn.ModuleList(BlockAdapters(beside(i, "attn"), beside(i, "mlp"), inside(i)) for i in range(backbone.depth))


def side_network(config: AdapterOptions, backbone: Transformer) -> SideNetwork | None:
    """A new side network for a backbone, if the adapter is one.

    Raises:
        ExperimentError: The tokens of some blocks have another width or number than those of others.
    """
    kind: Any = registry.load("adapter", config.name)
    if not issubclass(kind, SideNetwork) or config.streams == "none":
        return None
    if len(set(backbone.dims)) > 1:
        raise ExperimentError(
            f"adapter.name '{config.name}' joins tokens of several blocks, and those of '{backbone.name}' differ in "
            "number and width from stage to stage; name a plain ViT, or an adapter that stands beside single blocks, "
            "for example 'av_pea'."
        )
    made: SideNetwork = kind(backbone.dim, len(_chosen(config, backbone.depth)), config.streams, **config.arguments(0))
    return made


def read_by(config: AdapterOptions, depth: int) -> tuple[int, ...]:
    """After how many blocks a side network reads tokens: before the first, after the chosen ones, and at the end."""
    return tuple(sorted({0, *(index + 1 for index in _chosen(config, depth)), depth}))


def _chosen(config: AdapterOptions, depth: int) -> tuple[int, ...]:
    return tuple(sorted(set(config.resolved(depth).blocks))) or tuple(range(depth))


def tuning(config: AdapterOptions, backbone: Transformer) -> Tuning | None:
    """New trained copies of the backbone's weights, if the adapter is a `Tuning`.

    Raises:
        ExperimentError: `adapter.streams` is a single stream, but both share the weights.
    """
    kind: type[Trained] = registry.load("adapter", config.name)
    if not issubclass(kind, Tuning) or config.streams == "none":
        return None
    if config.streams != "both":
        raise ExperimentError(
            f"adapter.streams is '{config.streams}', but '{config.name}' trains weights that both streams share; "
            "expected 'both' or 'none'."
        )
    chosen = tuple(f"layers.{index}." for index in config.resolved(backbone.depth).blocks)
    frozen = {name: weight for name, weight in backbone.named_parameters() if name.startswith(chosen or "")}
    return kind(frozen)


def own_tuning(backbone: Transformer | CNN, experiment: Experiment) -> Tuning | None:
    """New trained copies of a transformer's weights, for encoders without other adapters; None without adapter.

    Raises:
        ExperimentError: The backbone is a CNN.
    """
    if experiment.adapter is None:
        return None
    return tuning(experiment.adapter, as_transformer(backbone, experiment))
