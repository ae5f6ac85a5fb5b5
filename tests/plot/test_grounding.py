"""The picture of an answered question: panels for each second, heat where its sound was found, bars of its share."""

import itertools
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from avpea import plot
from avpea.errors import AvpeaError
from avpea.plot._grounding import grounding_figure
from avpea.tables import clock

ANSWERS = [("two", 0.6), ("three", 0.3), ("one", 0.1)]


def given(segments: int = 10, **changes: Any) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(segments)
    shares = torch.randn(segments, 6, 6, generator=generator).flatten(1).softmax(dim=1).reshape(segments, 6, 6)
    return {
        "title": "video.mp4",
        "question": "How many instruments are sounding in the video?",
        "answers": ANSWERS,
        "frames": torch.randint(0, 256, (segments, 36, 64, 3), dtype=torch.uint8, generator=generator),
        "frame_seconds": [6.0 * index for index in range(segments)],
        "frame_aspect": 16 / 9,
        "waveform": 0.1 * torch.randn(segments * 16_000, generator=generator),
        "spatial": shares,
        "seen": torch.randn(segments, generator=generator).softmax(dim=0),
        "heard": torch.randn(segments, generator=generator).softmax(dim=0),
    } | changes


def panels(figure: Figure) -> dict[str, Axes]:
    return {str(axes.get_label()): axes for axes in figure.axes}


def words(figure: Figure) -> str:
    return "\n".join(text.get_text() for text in figure.texts)


@pytest.mark.parametrize("segments", [1, 3, 10, 12])
def test_a_column_for_each_second(segments: int) -> None:
    figure = grounding_figure(**given(segments))
    found = panels(figure)
    assert set(found) == {
        "answers", "picture", "sound", *(f"{kind} {i}" for kind in ("frame", "sound") for i in range(segments)),
    }  # fmt: skip
    width, height = figure.get_size_inches()
    boxes = [axes.get_position() for axes in found.values()]
    assert all(0 <= box.x0 < box.x1 <= 1 and 0 <= box.y0 < box.y1 <= 1 for box in boxes)
    for one, two in itertools.combinations(boxes, 2):
        beside = one.x1 < two.x0 + 1e-6 or two.x1 < one.x0 + 1e-6
        assert beside or one.y1 < two.y0 + 1e-6 or two.y1 < one.y0 + 1e-6
    assert width < 14
    assert height < 9
    assert clock(6 * (segments - 1)) in words(figure)


def test_heat_is_where_the_sound_was_found() -> None:
    spatial = torch.full((2, 6, 6), 0.02)
    spatial[1, 4, 2] = 1 - 35 * 0.02
    figure = grounding_figure(**given(2, spatial=spatial))
    heat = np.asarray(panels(figure)["frame 1"].images[1].get_array())
    assert [int(place) for place in np.unravel_index(heat.argmax(), heat.shape)] == [4, 2]
    assert heat.max() == 1
    assert "brightest patch: 10.8 times an even share" in words(figure)


def test_an_even_map_is_hardly_any_heat() -> None:
    figure = grounding_figure(**given(2, spatial=torch.full((2, 6, 6), 1 / 36)))
    assert np.asarray(panels(figure)["frame 0"].images[1].get_array()).max() < 1e-5


def rectangles(axes: Axes) -> list[Rectangle]:
    return [cast(Rectangle, patch) for patch in axes.patches]


def test_bars_are_the_shares() -> None:
    inputs = given()
    found = panels(grounding_figure(**inputs))
    for name, shares in (("picture", inputs["seen"]), ("sound", inputs["heard"])):
        assert [patch.get_height() for patch in rectangles(found[name])] == pytest.approx(shares.tolist())
        middles = [patch.get_x() + patch.get_width() / 2 for patch in rectangles(found[name])]
        assert middles == sorted(middles)
    assert [patch.get_width() for patch in rectangles(found["answers"])] == [0.6, 0.3, 0.1]


def test_what_is_not_there_is_left_out() -> None:
    found = panels(grounding_figure(**given(3, spatial=None, seen=None, heard=None)))
    assert "picture" not in found
    assert len(found["frame 0"].images) == 1  # the frame in its colours


@pytest.mark.parametrize("suffix", [".png", ".pdf", ".svg"])
def test_odd_words_are_drawn_and_files_repeat(tmp_path: Path, suffix: str) -> None:
    odd = given(
        3, title="$\\alpha$ ?.mp4", question="¿$Qué$ " + "very " * 80 + "long?", answers=[("$x_1$ " * 20, 0.9)] * 7
    )
    plot.grounding(tmp_path / f"one{suffix}", **odd)
    plot.grounding(tmp_path / f"two{suffix}", **odd)
    assert (tmp_path / f"one{suffix}").read_bytes() == (tmp_path / f"two{suffix}").read_bytes()


def test_a_wrong_path_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AvpeaError, match=r"ends in '.txt'; expected .png, .pdf, .svg"):
        plot.grounding(tmp_path / "x.txt", **given(1))
    with pytest.raises(AvpeaError, match=r"the folder .*nowhere does not exist"):
        plot.grounding(tmp_path / "nowhere" / "x.png", **given(1))
