"""Check that the extensions of an experiment fit together."""

from collections.abc import Callable
from typing import Any

from avpea import registry
from avpea.errors import ExperimentError

__all__ = ["require_fitting"]

_SAMPLE_BYTES = 4 << 30


def _those(kind: str, fits: Callable[[Any], bool]) -> list[str]:
    return [name for name, each in registry.usable(kind).items() if fits(each)]


def _may_read(reader: Any, needs: type[Any]) -> bool:
    """Whether a reader reads a kind of labels; of one that reads any kind, that is known when it has read them."""
    return issubclass(reader.labels, needs) or issubclass(needs, reader.labels)


def require_fitting(experiment: Any) -> None:
    """Refuse extensions that do not fit together.

    Raises:
        ExperimentError: The message names what does not fit, and what would.
    """
    task = registry.load("task", experiment.task.name)
    head = registry.load("head", experiment.head.name)
    reader = registry.load("reader", experiment.data.name)
    encoder = registry.load("encoder", experiment.encoder.name)
    train, audio = experiment.train, experiment.audio
    name = experiment.task.name
    if not issubclass(head, task.heads):
        fitting = _those("head", lambda one: issubclass(one, task.heads))
        raise ExperimentError(
            f"head.name is '{experiment.head.name}', which is no head of the task '{name}'; expected "
            f"{' or '.join(fitting)}."
        )
    if not _may_read(reader, task.needs):
        readers = _those("reader", lambda one: _may_read(one, task.needs))
        raise ExperimentError(
            f"The task '{name}' needs {task.needs.kind}, but data.name is '{experiment.data.name}', which reads "
            f"{reader.labels.kind}; expected {' or '.join(readers)}."
        )
    if audio.features != encoder.features:
        raise ExperimentError(
            f"audio.features is '{audio.features}', but the encoder '{experiment.encoder.name}' reads the features "
            f"'{encoder.features}'; set audio.features to {encoder.features}."
        )
    if reader.features != (encoder.features == "precomputed"):
        holds, reads = ("features", "videos") if reader.features else ("videos", "features")
        fitting = _those("encoder", lambda one: reader.features == (one.features == "precomputed"))
        raise ExperimentError(
            f"data.name is '{experiment.data.name}', which holds {holds}, but the encoder '{experiment.encoder.name}' "
            f"reads {reads}; set encoder.name to {' or '.join(fitting)}."
        )
    options = experiment.adapter
    adapter: Any = None if options is None else registry.load("adapter", options.name)
    if options is not None and not issubclass(adapter, encoder.adapters):
        fitting = _those("adapter", lambda one: issubclass(one, encoder.adapters))
        also = f", or name {' or '.join(fitting)}, which train the image network's own weights" if fitting else ""
        raise ExperimentError(
            f"adapter.name is '{options.name}', but the encoder '{experiment.encoder.name}' has no place for it; leave "
            f"the section out{also}."
        )
    if train.backbone_learning_rate and not getattr(adapter, "copies_weights", False):
        raise ExperimentError(
            f"train.backbone_learning_rate is {train.backbone_learning_rate}, but no weights of the backbone are "
            "trained; leave it at 0."
        )
    exchanges = options is not None and options.exchanges and getattr(adapter, "exchange_gates", ())
    if train.gate_learning_rate and not exchanges:
        raise ExperimentError(
            f"train.gate_learning_rate is {train.gate_learning_rate}, but no adapter has a gate of what it reads from "
            "the other stream; leave it at 0."
        )
    layout = getattr(audio, "layout", "")
    if layout in ("slices", "continuous") and not task.whole_videos:
        raise ExperimentError(
            f"audio.layout is '{layout}', but the task '{name}' asks about each second's own sound; set it to image or "
            "native."
        )
    if train.segments and not task.whole_videos:
        raise ExperimentError(
            f"train.segments is {train.segments}, but the task '{name}' asks about each segment; leave it at 0."
        )
    if train.segments > experiment.data.segments:
        raise ExperimentError(
            f"train.segments is {train.segments}, but there are only {experiment.data.segments} (data.segments)."
        )
    if layout in ("continuous", "slices") and experiment.encoder.name != "audio_tower":
        raise ExperimentError(
            f"audio.layout is '{layout}', whose slices belong to no frame, but the encoder "
            f"'{experiment.encoder.name}' pairs them; set encoder.name to audio_tower, or audio.layout to image."
        )
    _require_room(experiment.data, audio, experiment.backbone)
    for option in train.augment.used:
        value = getattr(train.augment, option)
        if option not in task.augments:
            raise ExperimentError(
                f"train.augment.{option} is {value}, but it would not leave the annotations of the task '{name}' true; "
                "leave it at 0."
            )
        if option in ("flip", "mixup") and audio.features == "precomputed":
            raise ExperimentError(
                f"train.augment.{option} is {value}, but it changes pictures, and there are only precomputed features; "
                "leave it at 0."
            )
        if option in ("time_masks", "mel_masks") and audio.features != "kaldi":
            raise ExperimentError(
                f"train.augment.{option} is {value}, but masks are for the features 'kaldi', and audio.features is "
                f"'{audio.features}'; leave it at 0."
            )
    if train.augment.shift and train.augment.shift >= experiment.data.segments:
        raise ExperimentError(
            f"train.augment.shift is {train.augment.shift}, but a clip has {experiment.data.segments} seconds "
            "(data.segments); expected fewer."
        )
    for one in (task, head, encoder, adapter, reader):
        check = getattr(one, "check", None)
        if check is not None:
            check(experiment)


def _require_room(data: Any, audio: Any, backbone: Any) -> None:
    """Refuse a sample that no machine holds as frames and log-mel.

    Raises:
        ExperimentError: It would take gigabytes.
    """
    if not hasattr(audio, "frame_shift_ms"):
        return  # features that the data set holds are made by nobody
    side, windows = backbone.image_size or 512, 1000 / audio.frame_shift_ms
    for what, size, options in (
        ("frames", data.segments * side * side * 3, f"data.segments {data.segments} or backbone.image_size {side}"),
        ("log-mel", data.segments * windows * audio.mel_bins * 4, f"data.segments {data.segments} or audio.mel_bins"),
    ):
        if size > _SAMPLE_BYTES:
            raise ExperimentError(
                f"The {what} of one sample would take {size / 2**30:.1f} GiB; expected at most "
                f"{_SAMPLE_BYTES >> 30}, so lower {options}."
            )
