"""Pictures are drawn for every length and case, with panels that share their time axis."""

from pathlib import Path

import pytest
import torch

from avpea import plot
from avpea.errors import AvpeaError
from avpea.tasks.avel import Event

NAMES = ("bark", "a very long name of a class that no axis has room for", "horn")


def draw(path: Path, seconds: int, events: list[Event]) -> None:
    generator = torch.Generator().manual_seed(0)
    plot.timeline(
        path,
        title="video.mp4",
        frames=torch.randint(0, 256, (seconds, 24, 32, 3), dtype=torch.uint8, generator=generator),
        waveform=torch.randn(seconds * 16_000, generator=generator) * 0.1,
        events=events,
        probabilities=torch.rand(seconds, 4, generator=generator).softmax(-1),
        class_names=NAMES,
    )


@pytest.mark.parametrize("seconds", [1, 10, 95])
@pytest.mark.parametrize("ending", ["png", "svg"])
def test_a_timeline_of_any_length(tmp_path: Path, seconds: int, ending: str) -> None:
    events = [Event(NAMES[i % 3], i, i + 1, 0.5) for i in range(0, seconds, 2)]
    draw(tmp_path / f"timeline.{ending}", seconds, events)
    assert (tmp_path / f"timeline.{ending}").stat().st_size > 5_000


def test_no_event_and_a_silent_clip(tmp_path: Path) -> None:
    draw(tmp_path / "a.png", 3, [])
    frames, silence = torch.zeros(2, 8, 8, 3, dtype=torch.uint8), torch.zeros(32_000)
    plot.timeline(
        tmp_path / "b.png", title="", frames=frames, waveform=silence, events=[], probabilities=torch.ones(2, 4) / 4,
        class_names=NAMES,
    )  # fmt: skip
    assert (tmp_path / "b.png").is_file()


@pytest.mark.parametrize("missing", ["sound_looked", "image_listened", None])
def test_attention_with_one_stream_or_both(tmp_path: Path, missing: str | None) -> None:
    maps = {"sound_looked": torch.rand(3, 6, 6), "image_listened": torch.rand(3, 6, 5)}
    plot.attention(
        tmp_path / "a.png",
        title="video.mp4",
        frame=torch.zeros(84, 84, 3, dtype=torch.uint8),
        log_mel=torch.randn(85, 84),
        second=3.0,
        **{name: None if name == missing else values for name, values in maps.items()},
    )
    assert (tmp_path / "a.png").stat().st_size > 5_000


def test_what_cannot_be_saved_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(AvpeaError, match=r"timeline\.gif.*\.png"):
        draw(tmp_path / "timeline.gif", 1, [])
    (tmp_path / "file").write_text("")
    with pytest.raises(AvpeaError, match="cannot be written"):
        draw(tmp_path / "file" / "timeline.png", 1, [])
