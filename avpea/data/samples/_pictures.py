"""The frames of clips with digits: handwritten digits or marks sway over a photograph or a texture."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, UInt8
from PIL import Image

from avpea.data.samples._plan import SECONDS

__all__ = ["FPS", "FRAME_SIZE", "MARKS", "Background", "Glyph", "choose_background", "frames", "mark"]

Glyph = Float32[np.ndarray, "8 8"]  # a digit or a mark, in 0..1
Mask = Bool[np.ndarray, "height width"]

FPS = 8
FRAME_SIZE = 112
_MARGIN = 16  # pixels by which a background is larger than the frame, so that it can pan
_PIECE = FRAME_SIZE + _MARGIN
_SIZES, _HALF_SIZES = (56, 88), (40, 54)  # pixels of a glyph alone in the frame, and of each of two

# Columns of scikit-learn's two photographs (427 x 640 pixels) from which a split cuts its backgrounds.
_PHOTO_COLUMNS = {"train": (0, 330), "val": (330, 480), "test": (480, 640)}
_PHOTOS = ("china.jpg", "flower.jpg")
_TEXTURES = ("clouds", "stripes", "plaid", "gradient")

# Strokes on a 0-8 grid, drawn like the digits at 8 x 8 so that only the shape tells a mark from a digit.
MARKS: dict[str, tuple[tuple[float, float, float, float], ...]] = {
    "plus": ((4, 1, 4, 7), (1, 4, 7, 4)),
    "cross": ((1.5, 1.5, 6.5, 6.5), (1.5, 6.5, 6.5, 1.5)),
    "equals": ((1, 2.5, 7, 2.5), (1, 5.5, 7, 5.5)),
    "hash": ((2.5, 1, 2.5, 7), (5.5, 1, 5.5, 7), (1, 2.5, 7, 2.5), (1, 5.5, 7, 5.5)),
    "star": ((4, 1, 4, 7), (1.4, 2.5, 6.6, 5.5), (1.4, 5.5, 6.6, 2.5)),
    "h": ((2, 1, 2, 7), (6, 1, 6, 7), (2, 4, 6, 4)),
    "w": ((1, 1, 2.5, 7), (2.5, 7, 4, 3), (4, 3, 5.5, 7), (5.5, 7, 7, 1)),
    "k": ((2, 1, 2, 7), (2, 4, 6, 1), (2, 4, 6, 7)),
}


@dataclass(frozen=True)
class Background:
    """The background of a clip: its name, and its pixels, which are more than those of a frame."""

    name: str
    pixels: Float32[np.ndarray, "height width 3"]


def choose_background(split: str, rng: np.random.Generator) -> Background:
    """Cut a photograph, or make a texture; photographs of two splits have no pixel in common."""
    if rng.random() < 0.5:
        name, pixels = _photo(split, rng)
    else:
        name, pixels = _texture(split, rng)
    # Less contrast than the digit, and random brightness.
    faded = (pixels - pixels.mean()) * rng.uniform(0.35, 0.8) + rng.uniform(60, 195)
    return Background(name, np.clip(faded, 0, 255).astype(np.float32))


def frames(
    shown: Sequence[Sequence[Glyph]], background: Background, rng: np.random.Generator
) -> tuple[UInt8[np.ndarray, "frames height width 3"], list[list[Mask]]]:
    """Draw a clip at `FPS`.

    Args:
        shown: What is seen in each second: one glyph anywhere in the frame, or two side by side, or nothing.
        background: The background.
        rng: Random generator for places, sizes and colours.

    Returns:
        The frames; and for each second the pixels of each of its glyphs in the frame at its middle, which are those
        that it makes up more than half of.
    """
    film = _panned(background.pixels, rng)
    masks: list[list[Mask]] = []
    for second, glyphs in enumerate(shown):
        part = film[second * FPS : (second + 1) * FPS]
        covered = np.zeros((len(glyphs), FRAME_SIZE, FRAME_SIZE), bool)
        places = np.split(part, len(glyphs), axis=2) if glyphs else []  # views
        for index, (place, glyph) in enumerate(zip(places, glyphs, strict=True)):
            own = np.split(covered[index], len(glyphs), axis=1)[index]
            own[:] = _draw(place, glyph, rng, _SIZES if len(glyphs) == 1 else _HALF_SIZES)[FPS // 2] > 0.5
        masks.append(list(covered))
    return film.round().astype(np.uint8), masks


def _panned(
    pixels: Float32[np.ndarray, "height width 3"], rng: np.random.Generator
) -> Float32[np.ndarray, "frames size size 3"]:
    path = np.linspace(rng.uniform(0, _MARGIN, 2), rng.uniform(0, _MARGIN, 2), SECONDS * FPS).astype(int)
    return np.stack([pixels[y : y + FRAME_SIZE, x : x + FRAME_SIZE] for y, x in path])


def _draw(
    film: Float32[np.ndarray, "frames height width 3"],
    glyph: Glyph,
    rng: np.random.Generator,
    sizes: tuple[int, int],
) -> Float32[np.ndarray, "frames height width"]:
    """Blend a glyph into all frames of `film`, swaying around a random position; its share of each pixel."""
    mask = _sprite(glyph, rng, sizes)
    height, width = mask.shape[:2]
    room = np.array([film.shape[1] - height, film.shape[2] - width])
    sway = np.minimum(room / 2, rng.uniform(2, 8, 2))
    centre = sway + rng.uniform(0, 1, 2) * (room - 2 * sway)
    angles = rng.uniform(0, 2 * np.pi, 2) + np.arange(len(film))[:, None] * rng.uniform(0.1, 0.4, 2)
    positions = (centre + sway * np.sin(angles)).round().astype(int)
    colour = _colour(float(film.mean()), rng)
    covered = np.zeros(film.shape[:3], np.float32)
    for frame, share, (y, x) in zip(film, covered, positions, strict=True):
        window = frame[y : y + height, x : x + width]
        window += mask * (colour - window)
        share[y : y + height, x : x + width] = mask[..., 0]
    return covered


def _sprite(glyph: Glyph, rng: np.random.Generator, sizes: tuple[int, int]) -> Float32[np.ndarray, "height width 1"]:
    size = int(rng.integers(sizes[0], sizes[1] + 1))
    small = Image.fromarray((glyph * 255).astype(np.uint8))
    # A border, so that rotation does not cut strokes at the edge of the 8 x 8 image.
    padded = Image.new("L", (10, 10))
    padded.paste(small, (1, 1))
    large = padded.resize((size, size), Image.Resampling.BICUBIC)
    turned = large.rotate(float(rng.uniform(-15, 15)), Image.Resampling.BICUBIC)
    alpha = np.asarray(turned, dtype=np.float32) / 255
    return np.clip((alpha - 0.15) * 1.6, 0, 1)[..., None]


def _colour(behind: float, rng: np.random.Generator) -> Float32[np.ndarray, "3"]:
    """A random colour that is clearly lighter or darker than the background."""
    hue = rng.uniform(-50, 50, 3)
    level = behind + (1 if behind < 128 else -1) * rng.uniform(95, 130)
    return np.asarray(np.clip(level + hue - hue.mean(), 0, 255), dtype=np.float32)


@functools.cache
def mark(number: int) -> Glyph:
    """A mark by its number in `MARKS`."""
    name = list(MARKS)[number]
    y, x = (np.mgrid[:64, :64] + 0.5) / 8
    nearest = np.full((64, 64), np.inf)
    for x0, y0, x1, y1 in MARKS[name]:
        along = ((x - x0) * (x1 - x0) + (y - y0) * (y1 - y0)) / ((x1 - x0) ** 2 + (y1 - y0) ** 2)
        along = np.clip(along, 0, 1)
        nearest = np.minimum(nearest, np.hypot(x - x0 - along * (x1 - x0), y - y0 - along * (y1 - y0)))
    ink = (nearest < 0.75).astype(np.float32)
    return np.asarray(ink.reshape(8, 8, 8, 8).mean((1, 3)), dtype=np.float32)


def _photo(split: str, rng: np.random.Generator) -> tuple[str, Float32[np.ndarray, "height width 3"]]:
    name = str(rng.choice(_PHOTOS))
    photo = _read_photo(name)
    first, last = _PHOTO_COLUMNS[split]
    x = int(rng.integers(first, last - _PIECE + 1))
    y = int(rng.integers(0, photo.shape[0] - _PIECE + 1))
    return f"{name} {x},{y},{_PIECE},{_PIECE}", photo[y : y + _PIECE, x : x + _PIECE].astype(np.float32)


@functools.cache
def _read_photo(name: str) -> UInt8[np.ndarray, "height width 3"]:
    from sklearn.datasets import load_sample_image

    return np.asarray(load_sample_image(name))


def _texture(split: str, rng: np.random.Generator) -> tuple[str, Float32[np.ndarray, "height width 3"]]:
    kind = str(rng.choice(_TEXTURES))
    seed = int(rng.integers(2**31))
    y, x = np.mgrid[:_PIECE, :_PIECE] / _PIECE
    angle, phase = rng.uniform(0, np.pi), rng.uniform(0, 2 * np.pi)
    u, v = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    cycles = rng.uniform(3, 12)
    if kind == "clouds":
        coarse = rng.uniform(0, 255, (int(rng.integers(4, 12)),) * 2).astype(np.uint8)
        shade = np.asarray(Image.fromarray(coarse).resize((_PIECE,) * 2, Image.Resampling.BICUBIC)) / 255
    elif kind == "stripes":
        shade = 0.5 + 0.5 * np.sin(2 * np.pi * cycles * u + phase)
    elif kind == "plaid":
        shade = 0.5 + 0.25 * (np.sin(2 * np.pi * cycles * u + phase) + np.sin(2 * np.pi * cycles * v))
    else:
        shade = 0.5 + 0.5 * u
    one, two = rng.uniform(0, 255, (2, 3))
    return f"{kind} {split}-{seed}", (one + (two - one) * shade[..., None]).astype(np.float32)
