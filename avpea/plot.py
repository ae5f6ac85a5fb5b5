"""Pictures: the timeline of a video, and where sound and image looked in each other."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from avpea.errors import AvpeaError
from avpea.media import SAMPLE_RATE_HZ, log_mel

__all__ = ["EventLike", "attention", "timeline"]

# Okabe and Ito's palette, distinguishable with colour vision deficiencies; the orange stays with the first label.
_COLOURS = ("#E69F00", "#0072B2", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#F0E442")
_BACKGROUND = "#888888"
_ENDINGS = {".png", ".pdf", ".svg"}


@runtime_checkable
class EventLike(Protocol):
    """Something with a label that lasts from one second to another."""

    @property
    def label(self) -> str:
        """Its category."""

    @property
    def start_seconds(self) -> float:
        """Where it begins."""

    @property
    def end_seconds(self) -> float:
        """Where it ends."""

    @property
    def confidence(self) -> float:
        """How sure the model is, in [0, 1]."""


def timeline(
    path: Path,
    *,
    title: str,
    frames: UInt8[Tensor, "segments height width 3"],
    waveform: Float[Tensor, " samples"],
    events: Sequence[EventLike],
    probabilities: Float[Tensor, "segments categories"],
    class_names: Sequence[str],
) -> None:
    """Draw frames, spectrogram, events and confidence over one time axis, and save it.

    Args:
        path: A .png, .pdf or .svg file.
        title: Above the picture.
        frames: One for each second.
        waveform: The sound, mono at 16 kHz.
        events: What was found.
        probabilities: Of each category in each second; the last one is background.
        class_names: Categories without background.

    Raises:
        AvpeaError: Another ending, or a folder that cannot be written.
    """
    _save(_timeline_figure(title, frames, waveform, events, probabilities, class_names), path)


def attention(
    path: Path,
    *,
    title: str,
    frame: UInt8[Tensor, "height width 3"],
    log_mel: Float[Tensor, "rows mel_bins"],
    sound_looked: Float[Tensor, "blocks grid_rows grid_columns"] | None,
    image_listened: Float[Tensor, "blocks audio_rows audio_columns"] | None,
    second: float,
) -> None:
    """Draw the attention maps Θ of Eq. (7), (8) over the frame and the spectrogram, and save them.

    Args:
        path: A .png, .pdf or .svg file.
        title: Above the picture.
        frame: The second's frame.
        log_mel: The second's log-mel; rows are time.
        sound_looked: Where the sound's CLS token looked in the image, block by block; None without an adapter.
        image_listened: Where the image's CLS token listened in the spectrogram; None without an adapter.
        second: Start of the second, in seconds.

    Raises:
        AvpeaError: Another ending, or a folder that cannot be written.
    """
    _save(_attention_figure(title, frame, log_mel, sound_looked, image_listened, second), path)


def _timeline_figure(
    title: str,
    frames: Tensor,
    waveform: Tensor,
    events: Sequence[EventLike],
    probabilities: Tensor,
    class_names: Sequence[str],
) -> Any:
    from matplotlib.figure import Figure

    seconds = len(frames)
    labels = list(dict.fromkeys(event.label for event in events))
    colours = {label: _COLOURS[i % len(_COLOURS)] for i, label in enumerate(labels)}
    rows = max(1, len(labels))
    figure = Figure(figsize=(11, 5.2 + 0.34 * rows), layout="constrained")
    strip, sound, bars, lines = figure.subplots(4, 1, sharex=True, height_ratios=(1.25, 1.4, 0.25 + 0.34 * rows, 1.3))
    figure.suptitle(title, x=0.01, ha="left", fontsize=12, fontweight="bold")
    _draw_strip(strip, frames)
    mel = log_mel(waveform, mel_bins=80).T
    low, high = (
        float(v) for v in torch.quantile(mel.flatten()[:: max(1, mel.numel() // 100_000)], torch.tensor([0.05, 0.995]))
    )
    sound.imshow(
        mel.numpy(), origin="lower", aspect="auto", extent=(0, len(waveform) / SAMPLE_RATE_HZ, 0, 1), cmap="magma",
        vmin=low, vmax=max(high, low + 1e-3),
    )  # fmt: skip
    sound.set_yticks([0, 1], ["20 Hz", "8 kHz"])
    sound.set_ylabel("sound")
    _draw_bars(bars, events, labels, colours)
    edges = range(seconds + 1)
    for label in labels[: len(_COLOURS)]:
        lines.stairs(
            probabilities[:, list(class_names).index(label)].numpy(),
            edges,
            color=colours[label],
            lw=2,
            label=label,
            baseline=None,
        )
    lines.stairs(
        probabilities[:, -1].numpy(),
        edges,
        color=_BACKGROUND,
        lw=1.5,
        ls=":",
        label="no event",
        baseline=None,
    )
    lines.set(ylim=(-0.03, 1.03), ylabel="probability", xlabel="seconds", xlim=(0, seconds))
    lines.legend(loc="upper right", ncols=4, frameon=True, framealpha=0.8, fontsize=9)
    lines.spines[["top", "right"]].set_visible(False)
    lines.grid(axis="x", alpha=0.25)
    return figure


def _draw_strip(axes: Any, frames: Tensor) -> None:
    """Frames over the seconds they stand for, thinned so that each stays legible; their shape is kept."""
    every = -(-len(frames) // 12)
    for start in range(0, len(frames), every):
        stop = min(start + every, len(frames))
        axes.imshow(frames[(start + stop - 1) // 2].numpy(), extent=(start, stop, 0, 1), aspect="auto")
        axes.axvline(start, color="white", lw=1.5)
    axes.set(xlim=(0, len(frames)), ylim=(0, 1), yticks=[])
    axes.set_ylabel("frames")
    axes.tick_params(bottom=False)


def _draw_bars(axes: Any, events: Sequence[EventLike], labels: Sequence[str], colours: dict[str, str]) -> None:
    for event in events:
        row, width = labels.index(event.label), event.end_seconds - event.start_seconds
        axes.barh(row, width, left=event.start_seconds, height=0.72, color=colours[event.label])
        axes.text(
            event.start_seconds + width / 2, row, f"{event.confidence:.2f}", ha="center", va="center", color="white",
            fontsize=9, fontweight="bold", clip_on=True,
        )  # fmt: skip
    if not events:
        axes.text(0.5, 0.5, "no event found", transform=axes.transAxes, ha="center", va="center", color=_BACKGROUND)
    axes.set_yticks(range(len(labels)), [label if len(label) < 24 else f"{label[:22]}…" for label in labels])
    axes.set_ylim(max(1, len(labels)) - 0.4, -0.6)
    axes.grid(axis="x", alpha=0.25)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _attention_figure(
    title: str,
    frame: Tensor,
    mel: Tensor,
    sound_looked: Tensor | None,
    image_listened: Tensor | None,
    second: float,
) -> Any:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 5.6), layout="constrained")
    figure.suptitle(f"{title}   second {second:g} to {second + 1:g}", x=0.01, ha="left", fontsize=12, fontweight="bold")
    axes = figure.subplots(2, 4)
    image = {"X": frame.numpy()}
    # Rows of a log-mel are time: turned, so that time runs to the right and low tones are at the bottom.
    spectrogram = {"X": mel.T.numpy(), "origin": "lower", "cmap": "gray"}
    _draw_maps(axes[0], image, sound_looked, frame.shape[:2], "frame", "where the sound looked")
    turned = None if image_listened is None else image_listened.transpose(1, 2)
    _draw_maps(axes[1], spectrogram, turned, mel.T.shape, "sound (time to the right)", "where the image listened")
    return figure


def _draw_maps(
    axes: Any, picture: dict[str, Any], maps: Tensor | None, size: Sequence[int], name: str, what: str
) -> None:
    """The picture alone, then under the mean of all blocks, the middle and the last block."""
    for one in axes:
        one.set(xticks=[], yticks=[])
        one.imshow(**picture, aspect="auto", extent=(0, 1, 0, 1))
    axes[0].set_title(name, fontsize=10)
    if maps is None:
        for one in axes[1:]:
            one.clear()
            one.axis("off")
        axes[2].text(0.5, 0.5, f"{what}:\nno adapter in this stream", ha="center", va="center", color=_BACKGROUND)
        return
    middle = len(maps) // 2
    chosen = {
        "mean of blocks": maps.mean(dim=0),
        f"block {middle}": maps[middle],
        f"block {len(maps) - 1}": maps[-1],
    }
    for one, (label, values) in zip(axes[1:], chosen.items(), strict=True):
        # What is not on the patches went to the other stream's CLS token; the heat shows where the rest went.
        heat = (values - values.min()) / (values.max() - values.min()).clamp_min(1e-12)
        one.imshow(
            heat.numpy(), cmap="inferno", alpha=(0.8 * heat).numpy(), extent=(0, 1, 0, 1), aspect="auto", vmin=0,
            vmax=1, origin=picture.get("origin", "upper"),
        )  # fmt: skip
        name = f"{what}: {label}" if one is axes[1] else label
        one.set_title(f"{name}\n{100 * float(values.sum()):.0f} % on patches", fontsize=10)


def _save(figure: Any, path: Path) -> None:
    if path.suffix.lower() not in _ENDINGS:
        raise AvpeaError(f"'{path}' ends in '{path.suffix}'; pictures are saved as {', '.join(sorted(_ENDINGS))}.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=110)
    except OSError as error:
        raise AvpeaError(f"'{path}' cannot be written: {error.strerror}.") from None
