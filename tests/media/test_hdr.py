"""High dynamic range: pictures written with the standards' formulas come out as the ordinary video that they show."""

from pathlib import Path

import av
import numpy as np
import pytest

from avpea.media import read

# From BT.709 to BT.2020 (BT.2087).
TO_BT2020 = np.array([[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]])
KNEE = 0.3  # of white; darker light is not changed


def pq(nits: np.ndarray) -> np.ndarray:
    """The inverse EOTF of SMPTE ST 2084."""
    y = (nits / 10_000) ** (2610 / 16_384)
    return ((3424 / 4096 + 2413 / 128 * y) / (1 + 2392 / 128 * y)) ** (2523 / 32)


def hlg(nits: np.ndarray) -> np.ndarray:
    """The inverse OOTF of a display of 1,000 nits, and the OETF of BT.2100."""
    luminance = np.maximum(nits @ [0.2627, 0.6780, 0.0593] / 1000, 1e-9)[..., None]
    scene = nits / 1000 / luminance ** (0.2 / 1.2)
    high = 0.17883277 * np.log(np.maximum(12 * scene - 0.28466892, 1e-9)) + 0.55991073
    return np.where(scene <= 1 / 12, np.sqrt(3 * scene), high)


def ordinary() -> np.ndarray:
    """RGB in [0, 1]: ramps of different colours, from black to white."""
    x = np.linspace(0, 1, 64)[None, :].repeat(32, 0)
    return np.stack(
        [x, np.where(np.arange(32)[:, None] < 8, x, x / 2), np.where(np.arange(32)[:, None] < 16, x, 0)], -1
    )


def write(path: Path, coded: np.ndarray, curve: int) -> Path:
    with av.open(str(path), "w") as container:
        track = container.add_stream("ffv1", rate=5)
        track.width, track.height, track.pix_fmt = coded.shape[1], coded.shape[0], "gbrp12le"
        track.codec_context.color_trc, track.codec_context.color_primaries = curve, 9
        for number in range(5):
            deep = (np.clip(coded, 0, 1) * 65_535).round().astype(np.uint16)
            frame = av.VideoFrame.from_ndarray(deep, format="rgb48le").reformat(format="gbrp12le")
            frame.pts, frame.color_trc, frame.color_primaries = number, curve, 9
            container.mux(track.encode(frame))
        container.mux(track.encode(None))
    return path


@pytest.mark.parametrize(("name", "curve"), [("PQ", 16), ("HLG", 18)])
def test_hdr_looks_like_the_ordinary_video_of_the_same_scene(tmp_path: Path, name: str, curve: int) -> None:
    light = ordinary() ** 2.4  # of a display, where white is 1
    nits = 203 * light @ TO_BT2020.T
    clip = read(write(tmp_path / "a.mkv", pq(nits) if name == "PQ" else hlg(nits), curve), missing_audio="silence")
    pixels, expected = clip.frames[0].numpy().astype(int), 255 * ordinary()
    dark = light.max(-1) <= KNEE
    assert np.abs(pixels - expected)[dark].max() <= 4
    assert (np.diff(pixels[:, :, 0]) >= 0).all()  # brighter stays brighter
    assert pixels[0, -1].min() > 215  # white, with room above it for highlights
    assert clip.remarks() == [f"The picture is HDR ({name}) and is mapped to the range of ordinary video."]


def test_highlights_reach_white_and_nothing_overflows(tmp_path: Path) -> None:
    bright = np.linspace(0, 4000, 64)[None, :, None].repeat(16, 0).repeat(3, 2)
    row = (
        read(write(tmp_path / "a.mkv", pq(bright), 16), missing_audio="silence").frames[0, 4, :, 0].numpy().astype(int)
    )
    assert (np.diff(row) >= 0).all()
    assert row[-1] == 255
    assert row[0] == 0


def test_ordinary_video_is_left_as_it_is(tmp_path: Path) -> None:
    clip = read(write(tmp_path / "a.mkv", ordinary(), 1), missing_audio="silence")
    assert np.abs(clip.frames[0].numpy() - 255 * ordinary()).max() < 2
    assert clip.remarks() == []
