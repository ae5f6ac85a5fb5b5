"""Masks in pictures: read exactly, compared with their frames, and resized by their nearest pixels.

The public code reads masks in a way that depends on how they are stored: with PIL's mode `P` white in RGB becomes 0.88,
and a palette of 0 and 1 becomes 0.004. Here a pixel sounds if it is not black, whatever the file's colours are and in
the file's own depth, so that the value 1 of 16 bits sounds too; where colours tell classes, they are those of Pascal
VOC's palette, and others are refused.
"""

from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int, UInt8
from torch import Tensor

from avpea.data.colours import colour_of
from avpea.errors import MediaError, MissingFile
from avpea.labels import AVSS_CLASSES, SILENT, MaskSample, shortened
from avpea.media import probe, read_stored

__all__ = ["mask_faults", "read_masks"]

_PLAIN = {0, 0xFFFF_FFFF_FFFF}  # black and white, as all colours here with 16 bits for each of red, green and blue


def read_masks(sample: MaskSample) -> tuple[UInt8[Tensor, "segments side side"], tuple[str, ...]]:
    """The masks of a sample: the class of each pixel, plus `SILENT` where something is seen that does not sound.

    Returns:
        The masks, zero where there is no annotation; and remarks about their colours.

    Raises:
        MediaError: A mask cannot be read, has another size than its frame, or colours that tell nothing.
    """
    found = torch.zeros(sample.segments, sample.side, sample.side, dtype=torch.uint8)
    remarks: list[str] = []
    size_of = _Sizes()
    for second, silent, path, frame in _files(sample):
        classes, remark = _read(path, size_of[frame], sample.colours)
        small = _resized(classes, sample.side)
        found[second] += SILENT * (small > 0).to(torch.uint8) if silent else small
        remarks += [remark] if remark else []
    return found, tuple(dict.fromkeys(remarks))


def mask_faults(sample: MaskSample) -> tuple[dict[str, str], tuple[str, ...]]:
    """Why masks of a sample that are there cannot be used, by file; and remarks about the colours of the others."""
    faults, remarks, size_of = dict[str, str](), dict[str, None](), _Sizes()
    for _, _, path, frame in _files(sample):
        try:
            remark = _read(path, size_of[frame], sample.colours)[1]
        except MissingFile:
            continue
        except MediaError as error:
            faults[str(path)] = str(error)
        else:
            remarks |= {remark: None} if remark else {}
    return faults, tuple(remarks)


def _files(sample: MaskSample) -> Iterator[tuple[int, bool, Path, Path]]:
    """Masks of annotated seconds: the second, whether it is of what is silent, the file, and what it is a mask of."""
    for second in range(sample.segments):
        for silent, files in ((False, sample.masks), (True, sample.others)):
            path = files[second] if files else None
            if path and sample.masks[second] is not None:
                yield second, silent, Path(path), sample.picture_files()[second] if sample.pictures else sample.video


class _Sizes(dict[Path, tuple[tuple[int, int], ...]]):
    """Height and width of frames, each looked at once, since a video has many masks.

    As displayed, and as stored, which is what most programs make masks of if pixels are not square.
    """

    def __missing__(self, frame: Path) -> tuple[tuple[int, int], ...]:
        info = probe(frame)
        self[frame] = (info.height, info.width), (info.stored_height, info.stored_width)
        return self[frame]


def _read(path: Path, sizes: tuple[tuple[int, int], ...], colours: bool) -> tuple[UInt8[Tensor, "height width"], str]:
    picture, opacity, stored_as = read_stored(path)
    if picture.shape[:2] not in sizes:
        (height, width), (own_height, own_width) = sizes
        stored = f" ({own_width} x {own_height} as it is stored)" if sizes[0] != sizes[1] else ""
        raise MediaError(
            path,
            f"is a mask of {picture.shape[1]} x {picture.shape[0]} pixels, but its frame has {width} x {height}"
            f"{stored}; make it of the frame as it is.",
        )
    if stored_as.lossy:
        raise MediaError(path, "is a mask saved with loss, as in JPEG, which changes its edges; save it as PNG.")
    codes = picture[..., 0] << 32 | picture[..., 1] << 16 | picture[..., 2]
    _require_opaque(path, codes, opacity)
    values = torch.from_numpy(codes)
    return (_classes(path, values), "") if colours else _sounding(path, values)


def _require_opaque(
    path: Path, codes: Int[np.ndarray, "height width"], opacity: UInt8[np.ndarray, "height width"]
) -> None:
    """Refuse a mask that says by its opacity what its colours do not say.

    Raises:
        MediaError: Something that shines through is not black, or all is black and only some of it shines through.
    """
    clear = opacity < 255
    if clear.any() and (codes[clear].any() or not (clear.all() or codes.any())):
        raise MediaError(
            path,
            "is a mask with pixels that shine through; save it without transparency, black where nothing sounds.",
        )


def _sounding(path: Path, codes: Int[Tensor, "height width"]) -> tuple[UInt8[Tensor, "height width"], str]:
    """1 where a pixel is not black."""
    used = set(np.unique(codes.numpy()).tolist())
    if 0 not in used and len(used) > 1:
        raise MediaError(
            path,
            f"is a mask with the colours {_named(used)}, of which none is black; make what does not sound black, and "
            "what sounds white.",
        )
    shown = f"{path}: a mask with the colours {_named(used)}; whatever is not black sounds."
    return (codes > 0).to(torch.uint8), "" if used <= _PLAIN else shown


def _classes(path: Path, codes: Int[Tensor, "height width"]) -> UInt8[Tensor, "height width"]:
    """The class of each pixel by its colour."""
    known = _palette()
    strange = set(np.unique(codes.numpy()).tolist()) - known.keys()
    if strange:
        raise MediaError(
            path,
            f"is a mask with the colour {_named(strange)}, which stands for no class; expected those of Pascal VOC's "
            f"palette from 0 to {len(AVSS_CLASSES)}, such as {_named({_wide(colour_of(1))})} for class 1.",
        )
    classes = torch.zeros_like(codes, dtype=torch.uint8)
    for code in np.unique(codes.numpy()).tolist():
        classes[codes == code] = known[code]
    return classes


@cache
def _palette() -> dict[int, int]:
    return {_wide(colour_of(number)): number for number in range(len(AVSS_CLASSES) + 1)}


def _wide(colour: int) -> int:
    """A colour of three times 8 bits in three times 16."""
    red, green, blue = (257 * (colour >> shift & 255) for shift in (16, 8, 0))
    return red << 32 | green << 16 | blue


def _named(codes: set[int]) -> str:
    """Some colours by red, green and blue, in 8 bits if all have no more."""
    parts = [[code >> shift & 0xFFFF for shift in (32, 16, 0)] for code in sorted(codes)]
    narrow = all(value % 257 == 0 for colour in parts for value in colour)
    every = [f"({', '.join(str(value // 257 if narrow else value) for value in colour)})" for colour in parts]
    return shortened(every, 3) + ("" if narrow else " in 16 bits")


def _resized(classes: UInt8[Tensor, "height width"], side: int) -> UInt8[Tensor, "side side"]:
    """The nearest pixels, by their centres."""
    rows, columns = (
        ((torch.arange(side) + 0.5) * length / side).long().clamp(max=length - 1) for length in classes.shape
    )
    return classes[rows][:, columns]
