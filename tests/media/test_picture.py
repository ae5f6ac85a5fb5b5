"""Which frame is chosen, how it is turned, and its colours and size."""

from collections.abc import Callable
from contextlib import nullcontext
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from avpea.errors import MediaError
from avpea.media import Clip, boxed, probe, read, read_stored
from avpea.media.found import Stored
from tests.media_factory import make_video, number_of

QUADRANTS = np.array([[(255, 0, 0), (0, 255, 0)], [(0, 0, 255), (255, 255, 255)]], np.uint8)


def quadrants(number: int, size: tuple[int, int]) -> np.ndarray:
    return QUADRANTS.repeat(size[1] // 2, 0).repeat(size[0] // 2, 1)


def numbers(clip: Clip) -> list[int]:
    return [number_of(frame) for frame in clip.frames]


def silent(path: Path, **options: Any) -> Clip:
    return read(path, missing_audio="silence", **options)


@pytest.mark.parametrize(
    "ending", ["mp4", "mkv", "mov", "ts"], ids=["edit list", "milliseconds", "exact", "does not start at 0"]
)
def test_the_frame_on_show_at_the_middle_of_each_second_is_chosen(tmp_path: Path, ending: str) -> None:
    clip = silent(make_video(tmp_path / f"a.{ending}", seconds=4, fps=10, audio_hz=None))
    assert numbers(clip) == [5, 15, 25, 35]
    assert clip.frame_seconds.tolist() == pytest.approx([0.5, 1.5, 2.5, 3.5], abs=2e-3)
    assert clip.frame_seconds.dtype == torch.float64


def test_a_frame_stays_on_show_until_the_next_one_when_the_frame_rate_varies(tmp_path: Path) -> None:
    times = [0.3, 0.49, 0.51, 1.6, 1.7, 3.2, 4.4]
    path = make_video(tmp_path / "vfr.mp4", seconds=5, frame_times=times, audio_seconds=5)
    clip = read(path)
    assert numbers(clip) == [1, 2, 4, 5, 6]
    assert clip.frame_seconds.tolist() == pytest.approx([0.49, 0.51, 1.7, 3.2, 4.4], abs=1e-4)


def test_the_first_frame_is_chosen_before_it_and_the_last_is_held(tmp_path: Path) -> None:
    path = make_video(tmp_path / "late.mp4", seconds=6, frame_times=[2.0, 2.1, 2.2], audio_seconds=6)
    clip = read(path)
    assert numbers(clip) == [0, 0, 2, 2, 2, 2]
    assert read(path, start_seconds=4).frame_seconds.tolist() == pytest.approx([2.2, 2.2], abs=1e-3)


@pytest.mark.parametrize(("fps", "expected"), [(1, [0, 1, 2]), (0.5, [0, 0, 1, 1]), (60, [30, 90, 150])])
def test_any_frame_rate(tmp_path: Path, fps: float, expected: list[int]) -> None:
    path = make_video(tmp_path / "fps.mp4", seconds=len(expected), fps=fps, audio_hz=None)
    assert numbers(silent(path)) == expected


@pytest.mark.parametrize("hflip", [False, True])
@pytest.mark.parametrize("rotation", [0, 90, 180, -90])
def test_the_display_matrix_turns_the_picture_upright(tmp_path: Path, rotation: int, hflip: bool) -> None:
    path = make_video(
        tmp_path / "turned.mp4", seconds=1, audio_hz=None, picture=quadrants, pixel_format="yuv444p",
        rotation=rotation, hflip=hflip,
    )  # fmt: skip
    upright = np.rot90(quadrants(0, (96, 64)), rotation // 90)
    upright = np.ascontiguousarray(upright[:, ::-1] if hflip else upright)
    shown = silent(path).frames[0].numpy()
    assert shown.shape == upright.shape
    assert np.abs(shown.astype(int) - upright).max() <= 2
    info = probe(path)
    assert (info.height, info.width) == upright.shape[:2]
    squashed = silent(path, frame_size=(30, 50)).frames[0].numpy()
    expected = np.asarray(Image.fromarray(upright).resize((50, 30), Image.Resampling.BICUBIC))
    assert np.abs(squashed.astype(int) - expected).mean() < 0.5


def test_pixels_that_are_not_square_widen_the_picture_unless_a_size_is_given(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", seconds=1, audio_hz=None, size=(60, 64), pixel_aspect=Fraction(4, 3))
    assert silent(path).frames.shape == (1, 64, 80, 3)
    assert (probe(path).height, probe(path).width) == (64, 80)
    squashed = silent(path, frame_size=(20, 20))
    assert squashed.frames.shape == (1, 20, 20, 3)
    assert squashed.frame_aspect == silent(path).frame_aspect == 80 / 64


@pytest.mark.parametrize(
    ("codec", "pixel_format", "size"),
    [
        ("libx264", "yuv420p", (96, 64)),
        ("libx264", "yuv444p", (97, 63)),
        ("libx264", "yuv420p10le", (96, 64)),
        ("libx264", "gray", (96, 64)),
        ("mjpeg", "yuvj420p", (32, 24)),
        ("ffv1", "yuv420p", (97, 63)),
    ],
)
def test_odd_sizes_and_pixel_formats(tmp_path: Path, codec: str, pixel_format: str, size: tuple[int, int]) -> None:
    path = make_video(
        tmp_path / "odd.mkv",
        seconds=2,
        audio_hz=None,
        video_codec=codec,
        pixel_format=pixel_format,
        size=size,
    )
    clip = silent(path)
    assert clip.frames.shape == (2, size[1], size[0], 3)
    assert numbers(clip) == [5, 15]
    assert clip.frames.min() <= 8  # black is 0 and white is 255, whatever range the file counts in
    assert clip.frames.max() >= 247


@pytest.mark.parametrize("frame_size", [(84, 84), (224, 224), (17, 150)])
def test_resizing_is_bicubic_and_antialiased(tmp_path: Path, frame_size: tuple[int, int]) -> None:
    def waves(number: int, size: tuple[int, int]) -> np.ndarray:
        y, x = np.mgrid[: size[1], : size[0]]
        fine = 127 + 60 * np.sin(x / 3) + 60 * np.sin(y * x / 900)
        return np.stack([fine, np.roll(fine, 9, 1), 255 - fine], -1).astype(np.uint8)

    path = make_video(
        tmp_path / "waves.mkv",
        seconds=1,
        size=(320, 240),
        audio_hz=None,
        picture=waves,
        pixel_format="yuv444p",
    )
    whole = Image.fromarray(silent(path).frames[0].numpy())
    expected = np.asarray(whole.resize(frame_size[::-1], Image.Resampling.BICUBIC)).astype(int)
    small = silent(path, frame_size=frame_size).frames[0].numpy()
    assert np.abs(small - expected).mean() < 1  # the two choose another coefficient of the cubic
    assert np.abs(np.asarray(whole.resize(frame_size[::-1], Image.Resampling.NEAREST)) - expected).mean() > 3


def test_colours_survive(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", seconds=1, audio_hz=None, picture=quadrants)
    small = silent(path, frame_size=(32, 48)).frames[0].numpy().astype(int)
    assert np.abs(small[8::16, 12::24] - QUADRANTS).max() < 6


def test_colours_of_high_definition_have_another_matrix(tmp_path: Path) -> None:
    path = make_video(
        tmp_path / "a.mp4", seconds=1, audio_hz=None, picture=quadrants, pixel_format="yuv444p", bt709=True
    )
    assert np.abs(silent(path, frame_size=(32, 48)).frames[0].numpy()[8::16, 12::24].astype(int) - QUADRANTS).max() < 6


def test_one_frame_and_a_fifth_of_a_second(tmp_path: Path) -> None:
    one = silent(make_video(tmp_path / "one.mp4", seconds=0.1, audio_hz=None))
    assert numbers(one) == [0]
    short = read(make_video(tmp_path / "short.mp4", seconds=0.2))
    assert numbers(short) == [1]
    assert short.waveform.shape == (16_000,)


def test_black_frames_stand_in_for_a_missing_picture(tmp_path: Path) -> None:
    path = make_video(tmp_path / "sound.m4a", seconds=3, fps=None)
    clip = read(path, missing_video="black", frame_size=(20, 30))
    assert clip.frames.shape == (3, 20, 30, 3)
    assert not clip.frames.any()
    assert clip.frame_seconds.tolist() == [0.5, 1.5, 2.5]
    assert read(path, missing_video="black").frames.shape == (3, 224, 224, 3)


# What to do with the pixels as they are stored, by EXIF's orientation from 1 on.
UPRIGHT: tuple[Callable[[np.ndarray], np.ndarray], ...] = (
    lambda a: a, np.fliplr, lambda a: np.rot90(a, 2), np.flipud,
    lambda a: a.T, lambda a: np.rot90(a, -1), lambda a: np.rot90(a.T, 2), np.rot90,
)  # fmt: skip


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("ending", ["jpg", "png", "tiff"])
def test_a_picture_with_exif_is_turned_upright(tmp_path: Path, ending: str, orientation: int) -> None:
    """PyAV 18.1 refuses all that FFmpeg says beside a frame if some of it is EXIF; cameras and editors write it."""
    pixels = np.kron(np.arange(6, dtype=np.uint8).reshape(2, 3) * 40, np.ones((16, 16), np.uint8))
    path, about = tmp_path / f"photo.{ending}", Image.Exif()
    about[0x0112], about[0x010F] = orientation, "a maker"
    options: dict[str, Any] = {"quality": 98} if ending == "jpg" else {}
    Image.fromarray(pixels).save(path, exif=about, **options)
    upright = UPRIGHT[orientation - 1](pixels)[..., None].astype(int)
    read_as_video = read(path, missing_audio="silence").frames[0].numpy()
    assert np.abs(read_as_video - upright).max() <= 2
    assert np.abs(read_stored(path)[0] // 257 - upright).max() <= 2
    assert (probe(path).height, probe(path).width) == upright.shape[:2]


def test_an_animated_webp_is_told_from_a_broken_file(tmp_path: Path) -> None:
    pictures = [Image.fromarray(np.full((16, 16, 3), value, np.uint8)) for value in (9, 99, 199)]
    pictures[0].save(tmp_path / "a.webp", save_all=True, append_images=pictures[1:], duration=400)
    with pytest.raises(MediaError, match=r"is an animated WebP, which is not read; convert it, for example to GIF"):
        silent(tmp_path / "a.webp")
    pictures[0].save(tmp_path / "a.gif", save_all=True, append_images=pictures[1:], duration=400)
    assert len(silent(tmp_path / "a.gif").frames) == 2


STORED: dict[str, Any] = {
    "bits": lambda chance: chance.integers(0, 2, (10, 14)).astype(bool),
    "grey": lambda chance: chance.integers(0, 256, (10, 14)).astype(np.uint8),
    "grey of 16 bits": lambda chance: chance.integers(0, 65_536, (10, 14)).astype(np.uint16),
    "RGB": lambda chance: chance.integers(0, 256, (10, 14, 3)).astype(np.uint8),
    "RGBA": lambda chance: chance.integers(0, 256, (10, 14, 4)).astype(np.uint8),
}


@pytest.mark.parametrize("boxes", [False, True], ids=["here", "boxed"])
@pytest.mark.parametrize("ending", ["png", "tiff"])
@pytest.mark.parametrize("kind", STORED)
def test_a_stored_picture_keeps_each_value(tmp_path: Path, kind: str, ending: str, boxes: bool) -> None:
    pixels, path = STORED[kind](np.random.default_rng(0)), tmp_path / f"a.{ending}"
    Image.fromarray(pixels).save(path)
    with boxed() if boxes else nullcontext():
        colours, opacity, stored = read_stored(path)
    deep = pixels.dtype == np.uint16
    values = pixels.astype(int) * {"bits": 255 * 257, "grey of 16 bits": 1}.get(kind, 257)
    wanted = values[..., :3] if values.ndim == 3 else values[..., None].repeat(3, axis=2)
    assert stored == Stored(16 if deep else 8, lossy=False)
    assert np.array_equal(colours, wanted)
    assert np.array_equal(opacity, pixels[..., 3] if kind == "RGBA" else np.full((10, 14), 255))


@pytest.mark.parametrize(
    ("name", "options", "lossy"),
    [
        ("a.jpg", {"quality": 100, "subsampling": 0}, True),
        ("grey.jpg", {"quality": 95}, True),
        ("a.webp", {"quality": 95}, True),
        ("a.webp", {"lossless": True}, False),
        ("a.bmp", {}, False),
        ("a.gif", {}, False),
        ("grey.png", {}, False),
    ],
)
def test_a_stored_picture_tells_whether_it_was_saved_with_loss(
    tmp_path: Path, name: str, options: dict[str, Any], lossy: bool
) -> None:
    pixels = np.zeros((16, 24) if "grey" in name else (16, 24, 3), np.uint8)
    pixels[4:9, 5:11] = 255
    Image.fromarray(pixels).save(tmp_path / name, **options)
    assert read_stored(tmp_path / name)[2].lossy is lossy
