"""Damaged media from sound media: bit flips, cuts, spliced files, and lies in the headers of each container.

    data, kind = mutant(files, random.Random(7))

The same seed gives the same mutant.
"""

import os
import random
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tests.media_factory import make_video

__all__ = ["KINDS", "mutant", "sources"]

Mutation = Callable[[bytearray, random.Random], bool]

SMALL: dict[str, Any] = {"fps": 8, "size": (64, 48), "seconds": 2, "key_every": 8}
MJPEG = {"video_codec": "mjpeg", "pixel_format": "yuvj420p", "audio_hz": 8000}
# One of each container and many codecs, as far as the FFmpeg in PyAV writes them.
MADE: dict[str, dict[str, Any]] = {
    "h264_aac.mp4": {},
    "h264_aac_fragmented.mp4": {"mux_options": {"movflags": "frag_keyframe+empty_moov"}},
    "mjpeg_pcm.mov": {**MJPEG, "audio_codec": "pcm_s16le"},
    "hevc_flac.mkv": {
        "video_codec": "libx265",
        "audio_codec": "flac",
        "video_options": {"x265-params": "log-level=none"},
    },
    "h264_opus.mkv": {"audio_codec": "libopus", "audio_hz": 48_000},
    "vp9_opus.webm": {"video_codec": "libvpx-vp9", "audio_codec": "libopus", "audio_hz": 48_000},
    "vp8_opus.webm": {"video_codec": "libvpx", "audio_codec": "libopus", "audio_hz": 48_000},
    "mpeg4_mp3.avi": {"video_codec": "mpeg4", "audio_codec": "libmp3lame"},
    "mjpeg_pcm.avi": {**MJPEG, "audio_codec": "pcm_s16le"},
    "mpeg2_mp2.mpg": {"video_codec": "mpeg2video", "audio_codec": "mp2", "fps": 25},
    "mpegts.ts": {},
    "mpeg2_ac3.ts": {"video_codec": "mpeg2video", "audio_codec": "ac3", "fps": 25},
    "flv1_mp3.flv": {"video_codec": "flv", "audio_codec": "libmp3lame"},
    "vp8_opus.ogv": {"video_codec": "libvpx", "audio_codec": "libopus", "audio_hz": 48_000},
    "wmv2_mp3.asf": {"video_codec": "wmv2", "audio_codec": "libmp3lame"},
    "pcm.wav": {"fps": None, "audio_hz": 8000, "audio_codec": "pcm_s16le"},
    "float.wav": {"fps": None, "audio_hz": 8000, "audio_codec": "pcm_f32le", "audio_layout": "5.1"},
    "flac.flac": {"fps": None, "audio_codec": "flac"},
    "opus.opus": {"fps": None, "audio_codec": "libopus", "audio_hz": 48_000},
    "mp3.mp3": {"fps": None, "audio_codec": "libmp3lame"},
    "aac.aac": {"fps": None},
    "surround.mp4": {"audio_layout": "5.1"},
    "mpeg2_pcm.mxf": {"video_codec": "mpeg2video", "audio_codec": "pcm_s16le", "audio_hz": 48_000, "fps": 25},
    "mpeg4_mp2.nut": {"video_codec": "mpeg4", "audio_codec": "mp2"},
}
BOXES = (
    b"mvhd tkhd mdhd stsd stts ctts stsz stsc stco co64 stss elst hdlr avcC hvcC esds trun tfhd tfdt moof sidx moov "
    b"trak mdat ftyp mp4a avc1 hev1 colr pasp dref"
)
ELEMENTS = (
    "1A45DFA3 18538067 1549A966 2AD7B1 4489 1654AE6B AE D7 83 86 63A2 E0 B0 BA 54B0 54BA E1 B5 9F 6264 1F43B675 E7 A3 "
    "A0 A1 9B 1C53BB6B BB B3 B7 F1 23E383 56AA 56BB"
)
LYING = (0, 1, 2, 0x7F, 0xFF, 0x100, 0x7FFF, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF)


def sources(folder: Path) -> list[bytes]:
    """Small sound media made in a folder, and those of the development data if they are there."""
    found = []
    for name, options in MADE.items():
        try:
            found.append(make_video(folder / name, **{**SMALL, **options}).read_bytes())
        except (ValueError, OSError):  # an encoder or a container that this FFmpeg lacks
            continue
    shared = Path(os.environ.get("AVPEA_SHARED", "")) / "clips" / "odd"
    if os.environ.get("AVPEA_SHARED") and shared.is_dir():
        found += [path.read_bytes() for path in sorted(shared.iterdir()) if path.stat().st_size]
    return found


def mutant(files: Sequence[bytes], draw: random.Random) -> tuple[bytes, str]:
    """A damaged file, and the kind of its damage; on average every third has two kinds."""
    data, kinds = bytearray(draw.choice(files)), []
    for _ in range(draw.choice((1, 1, 2))):
        kind = draw.choice([name for name, (fits, _) in KINDS.items() if fits(data)])
        if kind == "splice":
            data = _spliced(data, draw.choice(files), draw)
        elif not KINDS[kind][1](data, draw):
            kind = "flips"
            _flip(data, draw)
        kinds.append(kind)
    return bytes(data), "+".join(kinds)


def _spliced(data: bytearray, other: bytes, draw: random.Random) -> bytearray:
    return data[: draw.randrange(len(data) + 1)] + other[draw.randrange(len(other) + 1) :]


def _flip(data: bytearray, draw: random.Random) -> bool:
    """Flip a few bits: anywhere, or among the first bytes, where headers are."""
    reach = len(data) if draw.random() < 0.6 else min(len(data), draw.choice((64, 512, 4096)))
    for _ in range(draw.choice((1, 2, 8, 64, 256)) if reach else 0):
        data[draw.randrange(reach)] ^= 1 << draw.randrange(8)
    return True


def _cut(data: bytearray, draw: random.Random) -> bool:
    """Remove the end, the start, or a part of the middle; or repeat a part."""
    start, stop = sorted(draw.randrange(len(data) + 1) for _ in range(2))
    match draw.randrange(4):
        case 0:
            del data[start:]
        case 1:
            del data[:start]
        case 2:
            del data[start:stop]
        case _:
            data[stop:stop] = data[start : min(stop, start + 65_536)]
    return True


def _lie(data: bytearray, place: int, size: int, order: str, draw: random.Random) -> None:
    """Write another number over one of `size` bytes."""
    now = int.from_bytes(data[place : place + size], order)  # type: ignore[arg-type]
    value = draw.choice((*LYING, now + 1, now - 1, now * 2, now // 2, now << 8, draw.randrange(1 << 32)))
    data[place : place + size] = (value % (1 << (8 * size))).to_bytes(size, order)  # type: ignore[arg-type]


def _mp4(data: bytearray, draw: random.Random) -> bool:
    """Lie in a box of MP4: its size, a count, a duration, a rate, a dimension, or an entry of a table."""
    places = [place for name in BOXES.split() for place in _all(data, name)]
    if not places:
        return False
    place = draw.choice(places)
    within = draw.choice((-4, *range(4, 44, draw.choice((1, 2, 4)))))
    if 0 <= place + within <= len(data) - 4:
        _lie(data, place + within, draw.choice((1, 2, 4)), "big", draw)
    return True


def _ebml(data: bytearray, draw: random.Random) -> bool:
    """Lie in an element of Matroska: its size or its value, of the track, the clock, a block or the lacing."""
    places = [place for name in ELEMENTS.split() for place in _all(data, bytes.fromhex(name))[:50]]
    if not places:
        return False
    place = draw.choice(places) + draw.choice((1, 2, 3, 4))
    if place + 8 <= len(data):
        _lie(data, place, draw.choice((1, 1, 2, 4, 8)), "big", draw)
    return True


def _riff(data: bytearray, draw: random.Random) -> bool:
    """Lie in a chunk of AVI or WAV: its size, a rate, a scale, a stride, a count, or an entry of the index."""
    names = b"RIFF LIST avih strh strf idx1 indx movi 00dc 01wb fmt  data fact hdrl strl".split(b" ")
    places = [place for name in names if name for place in _all(data, name)[:40]]
    if not places:
        return False
    place = draw.choice(places) + draw.choice((4, 8, 12, 16, 20, 24, 28, 32, 36, 40, 44, 48, 10, 14, 22))
    if place + 4 <= len(data):
        _lie(data, place, draw.choice((1, 2, 4)), "little", draw)
    return True


def _ogg(data: bytearray, draw: random.Random) -> bool:
    """Lie in a page of Ogg (flags, position, segments, content), with a checksum that is right again."""
    places = _all(data, b"OggS")
    if not places:
        return False
    place = draw.choice(places)
    if place + 27 > len(data):
        return False
    count = data[place + 26]
    end = place + 27 + count + sum(data[place + 27 : place + 27 + count])
    match draw.randrange(4):
        case 0:
            _lie(data, place + 6, 8, "little", draw)
        case 1:
            data[place + 5] = draw.randrange(256)
        case 2 if count:
            data[place + 27 + draw.randrange(count)] = draw.randrange(256)
        case _:
            for _ in range(draw.choice((1, 4))):
                data[min(draw.randrange(place + 14, max(end, place + 15)), len(data) - 1)] ^= 1 << draw.randrange(8)
    count = data[place + 26]
    end = min(len(data), place + 27 + count + sum(data[place + 27 : place + 27 + count]))
    data[place + 22 : place + 26] = bytes(4)
    data[place + 22 : place + 26] = struct.pack("<I", _ogg_checksum(data[place:end]))
    return True


def _ogg_checksum(page: bytes | bytearray) -> int:
    """The CRC of Ogg: polynomial 0x04c11db7, neither reflected nor inverted."""
    crc = 0
    for byte in page:
        crc ^= byte << 24
        for _ in range(8):
            crc = (crc << 1 ^ (0x04C11DB7 if crc & 0x80000000 else 0)) & 0xFFFFFFFF
    return crc


def _ts(data: bytearray, draw: random.Random) -> bool:
    """Lie in packets of a transport stream: flags, counters, stuffing, clock; drop, repeat or swap packets."""
    if len(data) < 188 * 4 or data[0] != 0x47 or data[188] != 0x47:
        return False
    count = len(data) // 188
    for _ in range(draw.choice((1, 3, 10))):
        one, other = (188 * draw.randrange(count) for _ in range(2))
        match draw.randrange(5):
            case 0:
                data[one + draw.randrange(1, 6)] = draw.randrange(256)
            case 1:
                data[one + draw.randrange(4, 30)] ^= 1 << draw.randrange(8)
            case 2:
                data[one : one + 188] = data[other : other + 188]
            case 3:
                data[one + 3] = data[one + 3] & 0xF0 | draw.randrange(16)
            case _:
                data[one + 4 : one + 4 + 4] = draw.randbytes(4)
    return True


def _all(data: bytes | bytearray, name: bytes) -> list[int]:
    """Every place of some bytes in a file."""
    found: list[int] = []
    place = data.find(name)
    while place >= 0 and len(found) < 500:
        found.append(place)
        place = data.find(name, place + 1)
    return found


KINDS: dict[str, tuple[Callable[[bytes | bytearray], bool], Mutation]] = {
    "flips": (lambda data: True, _flip),
    "cut": (lambda data: True, _cut),
    "splice": (lambda data: True, _flip),
    "mp4": (lambda data: data[4:8] in (b"ftyp", b"moov", b"wide", b"free"), _mp4),
    "mp4 again": (lambda data: data[4:8] == b"ftyp", _mp4),
    "ebml": (lambda data: data[:4] == b"\x1a\x45\xdf\xa3", _ebml),
    "ebml again": (lambda data: data[:4] == b"\x1a\x45\xdf\xa3", _ebml),
    "riff": (lambda data: data[:4] == b"RIFF", _riff),
    "riff again": (lambda data: data[:4] == b"RIFF", _riff),
    "ogg": (lambda data: data[:4] == b"OggS", _ogg),
    "ts": (lambda data: data[:1] == b"G", _ts),
}
