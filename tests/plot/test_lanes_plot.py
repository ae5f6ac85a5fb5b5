"""The picture of a video with lanes: its panels line up, and bars lie where events are."""

from pathlib import Path

import pytest
import torch
from PIL import Image

from avpea import plot
from avpea.plot._lanes import lanes_figure
from tests.plot.test_plot import Found, bars, panels, video, words


def test_lanes_line_up_and_share_their_colours(tmp_path: Path) -> None:
    inputs = video(10)
    chances = inputs.pop("probabilities")[:, :-1]
    inputs.pop("events")
    lanes = {
        "seen": [Found("Dog", 0.0, 4.0), Found("Violin, fiddle", 2.0, 6.0)],
        "heard": [Found("Dog", 3.0, 9.0)],
        "both": [Found("Dog", 3.0, 4.0)],
    }
    figure = lanes_figure(**inputs, lanes=lanes, seen=chances, heard=chances.flip(0))
    axes = panels(figure)
    assert list(axes) == ["frames", "sound", "seen", "heard", "both", "confidence"]
    assert {a.get_xlim() for a in axes.values()} == {(0.0, 10.0)}
    for above, below in zip(figure.axes, figure.axes[1:], strict=False):
        assert above.get_position().y0 > below.get_position().y1
    assert bars(axes["seen"]) == [(0.0, 4.0), (2.0, 6.0)]
    assert bars(axes["heard"]) == [(3.0, 9.0)]
    assert bars(axes["both"]) == [(3.0, 4.0)]
    colours = {axes[lane].patches[0].get_facecolor() for lane in lanes}
    assert len(colours) == 1
    assert {"Seen", "Heard", "Seen and heard", "threshold, 50 %"} <= set(words(figure).split("\n"))
    plot.lanes(tmp_path / "lanes.png", **inputs, lanes=lanes, seen=chances, heard=chances)
    with Image.open(tmp_path / "lanes.png") as image:
        assert image.width == 1600


@pytest.mark.parametrize("segments", [1, 90])
def test_nothing_found(segments: int) -> None:
    inputs = video(segments)
    chances = inputs.pop("probabilities")[:, :-1]
    inputs.pop("events")
    figure = lanes_figure(**inputs, lanes={"seen": [], "heard": [], "both": []}, seen=chances, heard=chances)
    assert "Heard (none found)" in words(figure)
    assert torch.isfinite(chances).all()
