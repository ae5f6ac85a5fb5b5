"""The pictures: they exist, their panels line up, and what is drawn lies where it happened."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle, StepPatch
from PIL import Image

from avpea import media, plot
from avpea.errors import AvpeaError
from avpea.plot._attention import attention_figure
from avpea.plot._timeline import ROWS, timeline_figure
from avpea.plot.style import legend, new_figure

NAMES = ["Church bell", "Male speech, man speaking", "Dog", "Violin, fiddle"]


@dataclass(frozen=True)
class Found:
    label: str
    start_seconds: float
    end_seconds: float
    confidence: float = 0.9


def video(segments: int, names: list[str] = NAMES, height: int = 36, width: int = 64, **changes: Any) -> dict[str, Any]:
    """Inputs of a timeline: second s has frames of brightness s, and a soft noise with a loud last third."""
    generator = torch.Generator().manual_seed(segments)
    waveform = 0.01 * torch.randn(segments * 16_000, generator=generator)
    waveform[len(waveform) * 2 // 3 :] *= 30
    brightness = torch.arange(segments).remainder(256).to(torch.uint8)
    return {
        "title": "video.mp4",
        "frames": brightness[:, None, None, None].expand(segments, height, width, 3).contiguous(),
        "waveform": waveform,
        "events": [],
        "probabilities": torch.randn(segments, len(names) + 1, generator=generator).softmax(dim=1),
        "class_names": names,
    } | changes


def panels(figure: Figure) -> dict[str, Axes]:
    return {str(axes.get_label()): axes for axes in figure.axes}


def bars(axes: Axes, filled: bool = True) -> list[tuple[float, float]]:
    """Start and end of each event bar, or of each outline."""
    boxes = [p for p in axes.patches if isinstance(p, Rectangle) and p.get_fill() == filled]
    return sorted((p.get_x(), p.get_x() + p.get_width()) for p in boxes)


def words(figure: Figure) -> str:
    owners: list[Figure | Axes] = [figure, *figure.axes]
    texts = [t for owner in owners for t in owner.texts]
    keys = [t for axes in figure.axes if (key := axes.get_legend()) for t in key.get_texts()]
    return "\n".join(t.get_text() for t in texts + keys)


@pytest.mark.parametrize(
    "segments", [1, pytest.param(3, marks=pytest.mark.slow), 10, pytest.param(60, marks=pytest.mark.slow), 600]
)
def test_panels_line_up_for_any_length(segments: int, tmp_path: Path) -> None:
    inputs = video(segments, events=[Found("Dog", 0.0, 1.0)], start_seconds=7.0)
    figure = timeline_figure(**inputs)
    axes = panels(figure)
    assert list(axes) == ["frames", "sound", "events", "confidence"]
    assert {a.get_xlim() for a in axes.values()} == {(7.0, 7.0 + segments)}
    assert len({(a.get_position().x0, a.get_position().x1) for a in axes.values()}) == 1
    for above, below in zip(figure.axes, figure.axes[1:], strict=False):
        assert above.get_position().y0 > below.get_position().y1
    plot.timeline(tmp_path / "t.png", **inputs)
    with Image.open(tmp_path / "t.png") as image:
        assert image.width == 1600
        assert 600 < image.height < 1200


@pytest.mark.parametrize(("segments", "height", "width"), [(1, 36, 64), (10, 36, 64), (10, 64, 36), (600, 30, 30)])
def test_thumbnails_keep_their_shape_and_show_their_second(segments: int, height: int, width: int) -> None:
    figure = timeline_figure(**video(segments, height=height, width=width))
    strip = panels(figure)["frames"]
    figure.canvas.draw()  # places axes in pixels
    shown = strip.images
    assert len(shown) == segments if segments <= 10 else 8 <= len(shown) <= 16
    for image in shown:
        left, right, *_ = image.get_extent()
        box = image.get_window_extent()
        assert box.width / box.height == pytest.approx(width / height, rel=0.04)
        second = int((left + right) / 2)
        assert np.asarray(image.get_array()).max() == second % 256


def test_frames_squashed_for_a_model_are_shown_as_wide_as_they_were() -> None:
    figure = timeline_figure(**video(4, height=32, width=32), frame_aspect=2.0)
    figure.canvas.draw()
    box = panels(figure)["frames"].images[0].get_window_extent()
    assert box.width / box.height == pytest.approx(2.0, rel=0.04)


@pytest.mark.parametrize("segments", [3, 30, 95])
def test_the_loud_third_of_the_sound_is_bright(segments: int) -> None:
    image = panels(timeline_figure(**video(segments)))["sound"].images[0]
    left, right, *_ = image.get_extent()
    assert left == 0.0
    assert right == pytest.approx(segments, abs=0.01)
    loudness = np.asarray(image.get_array()).mean(axis=0)
    louder = np.flatnonzero(loudness > (loudness.min() + loudness.max()) / 2)
    assert louder[0] / len(loudness) == pytest.approx(2 / 3, abs=0.02)
    assert louder[-1] >= len(loudness) - 5


def test_a_tone_is_drawn_at_its_pitch() -> None:
    tone = torch.sin(2 * torch.pi * 1000.0 / 16_000 * torch.arange(32_000))
    axes = panels(timeline_figure(**video(2, waveform=tone)))["sound"]
    row = int(np.asarray(axes.images[0].get_array()).mean(axis=1).argmax()) + 0.5  # bin b covers [b, b + 1)
    marks = {t.get_text(): y for t, y in zip(axes.get_yticklabels(), axes.get_yticks(), strict=True)}
    assert row == pytest.approx(marks["1"], abs=1.0)


def test_events_are_bars_and_annotations_outlines() -> None:
    events = [Found("Dog", 2.0, 5.0, 0.87), Found("Dog", 7.0, 8.0), Found("Violin, fiddle", 0.0, 1.0)]
    figure = timeline_figure(**video(10, events=events, truth=[Found("Dog", 1.0, 5.0), Found("Church bell", 6.0, 7.0)]))
    axes = panels(figure)["events"]
    assert bars(axes) == [(0.0, 1.0), (2.0, 5.0), (7.0, 8.0)]
    assert bars(axes, filled=False) == [(1.0, 5.0), (6.0, 7.0)]
    text = words(figure)
    assert all(word in text for word in ("Dog", "Violin, fiddle", "Church bell", "87 %", "annotated", "no event"))
    assert "Male speech" not in text


def test_confidence_lines_are_the_probabilities() -> None:
    inputs = video(10, events=[Found("Dog", 2.0, 5.0)])
    no_event, dog = panels(timeline_figure(**inputs))["confidence"].patches
    for steps, column in ((no_event, -1), (dog, NAMES.index("Dog"))):
        assert isinstance(steps, StepPatch)
        values, edges, _ = steps.get_data()
        np.testing.assert_allclose(values, inputs["probabilities"][:, column].numpy())
        np.testing.assert_array_equal(edges, np.arange(11))


def test_no_event_says_so_and_names_the_likeliest() -> None:
    probabilities = torch.tensor([0.1, 0.1, 0.3, 0.1, 0.4]).expand(5, 5)
    text = words(timeline_figure(**video(5, probabilities=probabilities)))
    assert "no event found" in text
    assert "likeliest category: Dog" in text
    missed = timeline_figure(**video(5, probabilities=probabilities, truth=[Found("Dog", 0.0, 2.0)]))
    assert "none found" in words(missed)
    assert bars(panels(missed)["events"], filled=False) == [(0.0, 2.0)]


def test_many_labels_share_the_last_row_and_long_ones_are_cut() -> None:
    names = [f"Number {i} of the categories whose names go on for ever and ever, and a day" for i in range(40)]
    events = [Found(name, float(i), float(i + 1)) for i, name in enumerate(names)]
    figure = timeline_figure(**video(40, names, events=events))
    axes = panels(figure)["events"]
    assert len(bars(axes)) == 40
    assert len({p.get_y() for p in axes.patches if isinstance(p, Rectangle)}) == ROWS
    assert f"{40 - ROWS + 1} further labels" in words(figure)
    assert "…" in words(figure)
    assert axes.get_position().x0 < 0.3
    for text in axes.texts:
        assert text.get_window_extent().x0 >= 0


def test_names_are_text_not_markup(tmp_path: Path) -> None:
    name = "a $x_$ \\frac _b_ \udcff " + "long " * 60
    plot.timeline(tmp_path / "t.png", **video(3, [name], title=name, events=[Found(name, 0.0, 2.0)]))
    plot.timeline(tmp_path / "none.png", **video(3, [name], title=name))


def test_silence_and_black_frames() -> None:
    silent = video(2, waveform=torch.zeros(32_000), frames=torch.zeros(2, 8, 8, 3, dtype=torch.uint8))
    assert len(timeline_figure(**silent).axes) == 4


@pytest.mark.parametrize("suffix", [".png", ".pdf", ".svg", ".PNG"])
def test_formats_are_written_and_repeatable(suffix: str, tmp_path: Path) -> None:
    paths = [tmp_path / f"{name}{suffix}" for name in "ab"]
    for path in paths:
        plot.timeline(path, **video(2, events=[Found("Dog", 0.0, 1.0)]))
    first, second = (path.read_bytes() for path in paths)
    assert len(first) > 5000
    assert first == second


def test_unknown_format_and_unwritable_path_are_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(AvpeaError, match=r"ends in '.gif'; expected .png, .pdf, .svg"):
        plot.timeline(tmp_path / "t.gif", **video(1))
    with pytest.raises(AvpeaError, match="ends in ''"):
        plot.attention(tmp_path / "t", **maps())
    with pytest.raises(AvpeaError, match=r"cannot be written: the folder .* does not exist"):
        plot.timeline(tmp_path / "absent" / "t.png", **video(1))
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(AvpeaError, match=r"folder\.png is a folder; name a picture in it"):
        plot.attention(tmp_path / "folder.png", **maps())


def test_without_matplotlib_the_remedy_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(AvpeaError, match=r"pip install 'avpea\[plot\]'"):
        plot.timeline(tmp_path / "t.png", **video(1))


def test_importing_plot_imports_no_matplotlib() -> None:
    code = "import sys, avpea.plot; assert 'matplotlib' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[1], env=dict(os.environ))


def maps(blocks: int = 12, audio_grid: tuple[int, int] = (6, 8), **changes: Any) -> dict[str, Any]:
    """Inputs of an attention picture; the last block looks at patch (2, 5) and listens to time 1, mel 6."""
    generator = torch.Generator().manual_seed(blocks)
    looked = 0.002 * torch.rand(blocks, 14, 14, generator=generator)
    listened = 0.01 * torch.rand(blocks, *audio_grid, generator=generator)
    looked[-1, 2, 5] = listened[-1, 1, 6] = 0.5
    frame = torch.randint(0, 256, (28, 28, 3), generator=generator, dtype=torch.uint8)
    return {
        "title": "video.mp4",
        "frame": frame,
        "log_mel": torch.randn(98, 128, generator=generator),
        "sound_looked": looked,
        "image_listened": listened,
        "second": 3.0,
    } | changes


def brightest(axes: Axes) -> tuple[float, float]:
    """Centre of the brightest patch of the heat, as fractions of the axes from the bottom left."""
    heat = axes.images[-1]
    values = np.asarray(heat.get_array())
    row, column = np.unravel_index(values.argmax(), values.shape)
    height = (row + 0.5) / values.shape[0]
    return (column + 0.5) / values.shape[1], height if heat.origin == "lower" else 1 - height


def test_heat_lies_where_the_attention_was() -> None:
    axes = panels(attention_figure(**maps()))
    assert brightest(axes["look last block"]) == pytest.approx((5.5 / 14, 1 - 2.5 / 14))
    assert brightest(axes["listen last block"]) == pytest.approx((1.5 / 6, 6.5 / 8))  # time to the right, mel upwards


def test_heat_spectrogram_and_seconds_share_their_axes() -> None:
    inputs = maps()
    axes = panels(attention_figure(**inputs))
    listening = [a for name, a in axes.items() if name.startswith("listen")]
    assert {(a.get_xlim(), a.get_ylim()) for a in listening} == {((3.0, 4.0), (0.0, 128.0))}
    assert {tuple(i.get_extent()) for a in listening for i in a.images} == {(3.0, 4.0, 0, 128)}
    source = axes["listen source"].images[0]
    assert source.origin == "lower"
    assert np.asarray(source.get_array()).shape == (128, 98)
    mean = np.asarray(axes["listen mean of blocks"].images[-1].get_array())
    expected = inputs["image_listened"].mean(dim=0).T * (6 * 8 + 1) / 3  # even shares of 49 tokens, up to 3 of them
    np.testing.assert_allclose(mean, expected.clamp(max=1), rtol=1e-5)


def test_shares_of_attention_are_told() -> None:
    looked = torch.full((2, 2, 2), 0.1)
    looked[1, 0, 0] = 0.5
    text = words(attention_figure(**maps(sound_looked=looked)))
    assert "20 % on CLS\nbrightest patch\n250 % of even share" in text  # of five tokens, an even share is 20 %
    assert "40 % on CLS\nbrightest patch\n150 % of even share" in text
    assert {"1: 60 %", "2: 20 %"} <= set(text.split("\n"))
    registers = words(attention_figure(**maps(sound_looked=looked, num_prefix_tokens=5)))
    assert "20 % on CLS and registers\nbrightest patch\n450 % of even share" in registers
    without = words(
        attention_figure(**maps(sound_looked=looked / looked.sum(dim=(1, 2), keepdim=True), num_prefix_tokens=0))
    )
    assert "on CLS" not in without


def test_attention_on_the_cls_token_is_not_stretched_to_look_like_a_finding() -> None:
    looked = torch.full((2, 14, 14), 1e-6)
    looked[:, 3, 4] = 1e-4  # a hundred times the others, and 2 % of an even share
    figure = attention_figure(**maps(sound_looked=looked))
    heat = np.asarray(panels(figure)["look last block"].images[-1].get_array())
    assert heat.max() == pytest.approx(1e-4 * 197 / 3, rel=1e-4)
    assert "100 % on CLS\nbrightest patch\n2.0 % of even share" in words(figure)
    even = torch.full((1, 14, 14), 1 / 197)
    scaled = panels(attention_figure(**maps(sound_looked=even)))["look last block"].images[-1]
    np.testing.assert_allclose(np.asarray(scaled.get_array()), 1 / 3, rtol=1e-5)
    scale = panels(figure)["scale"]
    assert [label.get_text() for label in scale.get_xticklabels()] == ["0", "100", "200", "≥ 300 %"]


def test_frames_are_drawn_in_the_shape_that_people_see_and_blocks_by_their_own_number() -> None:
    inputs = maps(2) | {"frame_aspect": 2.0, "blocks": (4, 9)}
    axes = panels(attention_figure(**inputs))
    box = axes["look source"].get_window_extent()
    assert box.width / box.height == pytest.approx(2.0, rel=0.02)
    assert {"look block 5", "look block 10", "listen block 5"} <= set(axes)


@pytest.mark.parametrize(
    ("blocks", "shown"),
    [(1, 1), pytest.param(4, 4, marks=pytest.mark.slow), pytest.param(12, 12, marks=pytest.mark.slow), (24, 12)],
)
def test_small_maps_go_from_the_first_to_the_last_block(blocks: int, shown: int, tmp_path: Path) -> None:
    axes = panels(attention_figure(**maps(blocks)))
    numbers = [int(name.removeprefix("look block ")) for name in axes if name.startswith("look block")]
    assert len(numbers) == shown
    assert (numbers[0], numbers[-1]) == (1, blocks)
    plot.attention(tmp_path / "a.png", **maps(blocks))
    with Image.open(tmp_path / "a.png") as image:
        assert image.width > 1500
        assert image.height > 500


@pytest.mark.parametrize(("missing", "stream"), [("sound_looked", "audio"), ("image_listened", "visual")])
def test_a_stream_without_adapters_says_so(missing: str, stream: str, tmp_path: Path) -> None:
    changes: dict[str, Any] = {missing: None}
    figure = attention_figure(**maps(**changes))
    assert f"no adapters in the {stream} stream" in words(figure)
    side = "look" if missing == "sound_looked" else "listen"
    assert [name for name in panels(figure) if name.startswith(side)] == [f"{side} source", f"{side} absent"]
    plot.attention(tmp_path / "a.png", **maps(**changes))


def test_a_doubtful_event_is_hatched_and_explained() -> None:
    @dataclass(frozen=True)
    class Doubted(Found):
        doubtful: bool = True

    unlike = torch.tensor([True] * 3 + [False] * 7)
    events = [Doubted("Dog", 0.0, 3.0), Found("Dog", 5.0, 9.0)]
    figure = timeline_figure(**video(10, events=events, threshold=0.4, unlike=unlike))
    boxes = [p for p in panels(figure)["events"].patches if isinstance(p, Rectangle)]
    assert [bool(p.get_hatch()) for p in sorted(boxes, key=lambda p: p.get_x())] == [True, False]
    text = words(figure)
    assert "90 % ?" in text.split("\n")
    assert "doubtful: unlike the training set" in text
    assert "threshold, 40 %" in text
    assert bars(panels(figure)["confidence"]) == [(0.0, 3.0)]
    plain = words(timeline_figure(**video(10, events=events[1:])))
    assert "doubtful" not in plain
    assert "threshold" not in plain


def test_no_stream_with_adapters_and_a_silent_second() -> None:
    figure = attention_figure(**maps(sound_looked=None, image_listened=None, log_mel=torch.full((98, 128), -15.94)))
    assert len(figure.axes) == 4


def test_a_real_clip(shared_data: Path, tmp_path: Path) -> None:
    clip = media.read(shared_data / "clips" / "natural" / "dog_pug.mp4", frame_size=(224, 224))
    plot.timeline(
        tmp_path / "t.png",
        **video(
            len(clip.frames),
            title=clip.path.name,
            frames=clip.frames,
            waveform=clip.waveform,
            events=[Found("Dog", 0.0, 3.0)],
        ),
        frame_aspect=4 / 3,
    )
    log_mel = media.log_mel(clip.segment_waveforms()[0])
    plot.attention(tmp_path / "a.png", **maps(frame=clip.frames[0], log_mel=log_mel))
    assert (tmp_path / "t.png").stat().st_size > 100_000
    assert (tmp_path / "a.png").stat().st_size > 100_000


def test_a_legend_of_long_names_has_room() -> None:
    figure = new_figure(9, 3, "A title")
    axes = figure.add_axes((0.1, 0.1, 0.7, 0.7))
    (line,) = axes.plot([0, 1], [0, 1])
    before = axes.get_window_extent().bounds
    legend(figure, {"a short name": line}, 0.82, 8)
    assert figure.get_figwidth() == 9
    figure.legends.clear()
    legend(figure, {"a name of forty letters, and not one more": line}, 0.82, 8)
    assert figure.legends[0].get_window_extent().x1 < figure.bbox.x1
    assert axes.get_window_extent().bounds == pytest.approx(before)


def test_a_place_where_nothing_can_be_written_is_refused_beforehand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plot.check(tmp_path / "a.png")
    monkeypatch.setattr(plot, "unwritable", lambda _: "Read-only file system")
    for refuse, path in ((plot.check, "a.png"), (plot.check_film, "a.mp4"), (plot.check_folder, "plots")):
        with pytest.raises(AvpeaError, match=r"written.* \(Read-only file system\); choose another place\."):
            refuse(tmp_path / path)
