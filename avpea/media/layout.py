"""How long a file is, and where its clock is broken: from its packets, since what a header declares may be wrong.

A header can declare too little (streams joined by `cat`, MP3 and AAC without an index, recordings that were never
closed), too much (a cut file, a jump in the time stamps), or the last time stamp instead of the length (Matroska). The
sample tables of MP4 and MOV list every frame, so they are believed; all other files are read once without decoding.

Two faults of the clock are mended, as ffmpeg does. Where time stamps start again, what follows is the continuation.
Where nothing at all lies for a long time, neither picture nor sound, that stretch is left out.
"""

import functools
import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import av
from av.container import InputContainer
from av.format import Flags
from av.frame import Frame
from av.packet import Packet
from av.stream import Stream
from av.video.stream import VideoStream

from avpea.media.container import opened, packets, seconds_of, zero_seconds
from avpea.media.info import CODEC_PADDING_SECONDS
from avpea.media.regular import require_file

__all__ = ["Layout", "Mender", "layout_of", "packet_seconds", "shown_seconds"]

ONE_FRAME_SECONDS = 0.04  # of a still image, whose frame has no duration
# Streams whose time stamps may jump (transport streams, Ogg): ffmpeg closes gaps above 10 s, and takes a step back of
# more than 0.1 s for a restart. Elsewhere time stamps are meant as they are, and only what is absurd is mended.
JUMP_SECONDS, BACK_SECONDS = 10.0, 0.1
STILL_SECONDS, CLEARLY_BACK_SECONDS = 60.0, 1.0
# A file with more than this many such gaps has an absurd clock: no picture of it is shown for more than a second.
MOST_GAPS, ABSURD_SECONDS = 10, 1.0
NEAR_SECONDS = 0.5  # how well a stretch that was joined before must fit a packet that goes back to it
INDEXED = {"mov", "matroska"}  # formats with an index of key frames; in others seeking is a guess
# Formats in which a length is written down; in others FFmpeg guesses it from bit rate and size.
DECLARING = {"mov", "matroska", "flv", "avi", "asf", "wav", "w64", "aiff", "flac", "mxf", "nut"}
EVEN_SECONDS = 0.05  # pictures at a constant rate are not further from their places than this, by rounding
EQUAL_SECONDS = 1.0  # smaller differences come from how the last frame's duration is counted


@dataclass(frozen=True)
class Layout:
    """The clock of a file.

    Attributes:
        zero_seconds: Time stamp at which the file starts.
        length_seconds: Length from the first picture or sound to the end of the last.
        declared_seconds: Length in the header; `length_seconds` if there is none.
        restarts: Where time stamps start again, in seconds of the mended clock.
        holes: Stretches [start, end) without any picture or sound, that are left out, before they are.
        gap_seconds: Longest gap that is kept.
        back_seconds: Step back that is taken for a restart.
        still_seconds: How long a picture is shown at most while there is nothing else.
        seekable: Whether seeking leads to the right place.
        ends: Number and end in seconds of each track whose end is known before it is decoded.
        stopped: FFmpeg's words if it cannot go on before the end of the file.
    """

    zero_seconds: float
    length_seconds: float
    declared_seconds: float
    restarts: tuple[float, ...]
    holes: tuple[tuple[float, float], ...]
    gap_seconds: float
    back_seconds: float
    still_seconds: float
    seekable: bool
    ends: tuple[tuple[int, float], ...] = ()
    stopped: str = ""

    def end_of(self, track: Stream | None) -> float:
        """End of a track in seconds: infinite if it is not known, and before everything if there is no track."""
        return -math.inf if track is None else dict(self.ends).get(track.index, math.inf)

    def remarks(self) -> tuple[str, ...]:
        """Sentences for the user about what was mended."""
        notes = []
        if self.declared_seconds + EQUAL_SECONDS < self.length_seconds:
            notes.append(f"The file declares {self.declared_seconds:.1f} s, but holds {self.length_seconds:.1f} s.")
        if self.restarts:
            notes.append(
                f"The file's time stamps start again ({_times(self.restarts)}), as in joined recordings; what follows "
                "is read as the continuation."
            )
        if self.holes:
            lost = sum(end - start for start, end in self.holes)
            starts = tuple(self.closed(start) for start, _ in self.holes)
            notes.append(
                f"The file's time stamps jump forward by {lost:.1f} s without picture or sound ({_times(starts)}); "
                "these seconds are left out, so later times are earlier by as much."
            )
        if self.stopped:
            notes.append(
                f"The file is read up to {self.length_seconds:.1f} s, where FFmpeg cannot go on ({self.stopped}); what "
                "follows is left out."
            )
        return tuple(notes)

    def closed(self, seconds: float) -> float:
        """A time without the holes before it."""
        return seconds - sum(end - start for start, end in self.holes if end <= seconds + 1e-6)


def _times(seconds: Sequence[float]) -> str:
    shown = ", ".join(f"at {one:.1f} s" for one in seconds[:3])
    return shown if len(seconds) <= 3 else f"{shown} and {len(seconds) - 3} times more"


class Mender:
    """Mends the time stamps of packets, in the order of the file from its start.

    Args:
        layout: What is known of the clock; before the holes are known, a layout without any.
    """

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._shifts = [0.0]  # seconds to add to the time stamps of each stretch, the newest last
        self._shift: dict[int, float] = {}  # by track, as a track's last packets may lie behind the other's restart
        self._end: dict[int, float] = {}
        self._tick: dict[int, float] = {}  # by track, since PyAV makes a fraction each time it is asked for one
        self._reorders: dict[int, bool] = {}
        self.restarts: list[float] = []

    def mended(self, packet: Packet) -> Packet:  # type: ignore[type-arg]  # generic in stubs only
        """A packet, with its time stamps changed."""
        if not packet.size:
            return packet
        shift = self.shift(packet)
        shown = seconds_of(packet, self._layout.zero_seconds)
        if shown is not None:
            shift += self._layout.closed(shown + shift) - (shown + shift)
        if shift and packet.time_base:
            ticks = round(shift / float(packet.time_base))
            packet.pts = None if packet.pts is None else packet.pts + ticks
            packet.dts = None if packet.dts is None else packet.dts + ticks
        return packet

    def shift(self, packet: Packet) -> float:  # type: ignore[type-arg]
        """Seconds to add to a packet's time stamps, so that stretches whose clock starts again follow one another."""
        track = packet.stream_index
        shift = self._shift.get(track, self._shifts[-1])
        tick = self._tick.setdefault(track, 0.0) or float(packet.time_base or 0)
        stamp = packet.dts
        if stamp is None and not self._is_reordered(packet):
            stamp = packet.pts
        if stamp is None or not tick:
            return shift
        self._tick[track] = tick
        seconds = stamp * tick - self._layout.zero_seconds
        expected = self._end.get(track)
        if expected is not None:
            shift = self._continued(seconds, shift, expected, track)
        self._shift[track] = shift
        self._end[track] = seconds + shift + (packet.duration or 0) * tick
        return shift

    def _is_reordered(self, packet: Packet) -> bool:  # type: ignore[type-arg]
        """Whether pictures of the packet's track are stored in another order than shown: their pts go back and forth.

        Matroska has no dts, and FFmpeg knows none for the first pictures of such a track.
        """
        track = packet.stream_index
        if track not in self._reorders:
            self._reorders[track] = _reorders(packet.stream)
        return self._reorders[track]

    def _continued(self, seconds: float, shift: float, expected: float, track: int) -> float:
        """The shift of the next packet of a track, whose previous one ended at `expected`."""
        off, back = seconds + shift - expected, self._layout.back_seconds
        if -back <= off <= 2 * NEAR_SECONDS:
            return shift
        newest = self._shifts[-1]
        if off < 0 and newest != shift and -NEAR_SECONDS <= seconds + newest - expected <= JUMP_SECONDS:
            return newest  # the other track has already started again
        for known in reversed(self._shifts[-8:]):
            if abs(seconds + known - expected) <= NEAR_SECONDS:
                return known
        if off >= -back:
            return shift
        self._shifts.append(expected - seconds)
        self.restarts.append(expected)
        return expected - seconds


def _reorders(track: Stream) -> bool:
    return isinstance(track, VideoStream) and bool(track.codec_context and track.codec_context.has_b_frames)


def packet_seconds(packet: Packet, track: Stream, still_seconds: float) -> float:  # type: ignore[type-arg]
    """How long what is in a packet is shown or heard, as `shown_seconds`."""
    return min(max((packet.duration or 0) * float(packet.time_base or 0), _least_seconds(track)), still_seconds)


def shown_seconds(item: Frame, track: Stream | None, still_seconds: float) -> float:
    """How long a frame is shown: as written, or by the frame rate if that is more, but at most `still_seconds`."""
    return min(max((item.duration or 0) * float(item.time_base or 0), _least_seconds(track)), still_seconds)


def _least_seconds(track: Stream | None) -> float:
    """How long a frame of a track is shown at least, by its frame rate."""
    return min(1 / float(track.average_rate or 25), 1.0) if isinstance(track, VideoStream) else 0.0


def layout_of(container: InputContainer, path: Path, tracks: Sequence[Stream | None]) -> Layout:
    """Find the clock of some tracks of a file.

    Raises:
        MediaError: The file cannot be opened again, or cannot be read to its end.
    """
    about = require_file(path)
    used = tuple(track.index for track in tracks if track is not None)
    found = _KNOWN.get(key := (str(path), about.st_size, about.st_mtime_ns, used))
    if found is None:
        found = _layout(container, path, used)
        if found.stopped:
            return found
        if len(_KNOWN) >= MOST_KNOWN:
            _KNOWN.pop(next(iter(_KNOWN)))
        _KNOWN[key] = found
    return found


# Layouts of the files that were read last, since a long file is read in many windows.
_KNOWN: dict[tuple[str, int, int, tuple[int, ...]], Layout] = {}
MOST_KNOWN = 4096


def _layout(container: InputContainer, path: Path, used: tuple[int, ...]) -> Layout:
    name = container.format.name.split(",")[0]
    jumps = bool(container.format.flags & Flags.ts_discont.value)  # type: ignore[operator]  # stubs only
    gap, back = (JUMP_SECONDS, BACK_SECONDS) if jumps else (STILL_SECONDS, CLEARLY_BACK_SECONDS)
    bare = Layout(zero_seconds(container), 0.0, 0.0, (), (), gap, back, STILL_SECONDS, name in INDEXED)
    tracks = [container.streams[index] for index in used]
    if name == "mov" and (ends := _listed_seconds(path, tracks, bare.zero_seconds)):
        length = max(0.0, *(end for _, end in ends))
        return replace(bare, length_seconds=length, declared_seconds=length, ends=ends)
    found = _scanned(path, used, bare)
    if len(found.holes) > MOST_GAPS:
        found = _scanned(path, used, replace(bare, gap_seconds=ABSURD_SECONDS, still_seconds=ABSURD_SECONDS))
    if name not in DECLARING and not (name == "mp3" and _has_xing(path)):
        return found
    header = float(container.duration or 0) / av.time_base
    # Matroska and others may write the last time stamp instead of the length.
    candidates = [seconds for seconds in (header, header - bare.zero_seconds) if seconds > 0]
    lost = sum(end - start for start, end in found.holes)
    declared = min((abs(one - lost - found.length_seconds), one - lost) for one in candidates)[1] if candidates else 0.0
    if abs(declared - found.length_seconds) <= CODEC_PADDING_SECONDS:
        return replace(found, length_seconds=declared, declared_seconds=declared)
    if not declared or abs(declared - found.length_seconds) <= EQUAL_SECONDS:
        return found
    return replace(found, declared_seconds=declared)


def _listed_seconds(path: Path, tracks: Sequence[Stream], zero: float) -> tuple[tuple[int, float], ...]:
    """Number and end of each track by the sample tables of MP4.

    None if they are not all there, or list nothing for a long time.
    """
    ends: list[tuple[int, float]] = []
    for track in tracks:
        if not (track.frames and track.duration and track.time_base):
            return ()
        tick = float(track.time_base)
        last = float((track.start_time or 0) + track.duration) * tick - zero
        times = [0.0, *(entry.timestamp * tick - zero for entry in track.index_entries), last]
        steps = [after - before for before, after in itertools.pairwise(times)]
        if max(steps) > STILL_SECONDS:
            return ()
        # The tables sum up the times between decoding; where these vary, the last picture may be shown much later.
        if _reorders(track) and max(steps[1:-1], default=0.0) - min(steps[1:-1], default=0.0) > EVEN_SECONDS:
            shown, length = _shown_last(path, track.index, zero)
            last = last if last > shown else shown + length
        ends.append((track.index, last))
    return tuple(ends)


def _shown_last(path: Path, index: int, zero: float) -> tuple[float, float]:
    """When the last picture of a track is shown, and how long at least, by the packets from the last key frame on."""
    last = 0.0, 0.0
    with opened(path) as container:
        track = container.streams[index]
        container.seek(track.index_entries[-1].timestamp, stream=track)
        for packet in packets(container, track, path=path):
            shown = seconds_of(packet, zero) if packet.size else None
            if shown is not None:
                last = max(last, (shown, min(packet_seconds(packet, track, 1.0), _least_seconds(track))))
    return last


def _scanned(path: Path, used: tuple[int, ...], bare: Layout) -> Layout:
    """The clock by the packets of all tracks used."""
    mender, spans, unstamped = Mender(bare), {index: _Spans() for index in used}, 0.0
    stops: list[str] = []
    with opened(path) as container:
        tracks = [container.streams[index] for index in used]
        ticks = {track.index: float(track.time_base or 0) for track in tracks}
        least = {track.index: _least_seconds(track) for track in tracks}
        for packet in packets(container, *tracks, path=path, stopped=stops.append):
            if packet.size == 0:
                continue  # the end of a track
            track = packet.stream_index
            shift, tick, stamp = mender.shift(packet), ticks[track], packet.pts
            length = min(max((packet.duration or 0) * tick, least[track]), bare.still_seconds)
            if stamp is None:
                unstamped += length
            else:
                spans[track].add(max(stamp * tick - bare.zero_seconds + shift, 0.0), length)
    merged = _merged(spans.values())
    ends = [0.0, *(end for _, end in merged)]
    starts = [*(start for start, _ in merged), ends[-1]]
    gaps = [(end, start) for end, start in zip(ends, starts, strict=True) if start - end > bare.gap_seconds]
    holes = tuple((start - _lost(start, end, spans.values()), start) for end, start in gaps)
    length = ends[-1] - sum(end - start for start, end in holes)
    length = max(length, unstamped, ONE_FRAME_SECONDS)
    found = replace(bare, length_seconds=length, declared_seconds=length, holes=holes, stopped="".join(stops))
    # A track may restart while the clock of another has jumped: within what is left out, at its start.
    places = (next((a for a, b in holes if a < seconds < b), seconds) for seconds in mender.restarts)
    restarts = tuple(found.closed(seconds) for seconds in places)
    known = [(index, max((end for _, end in one.spans), default=0.0)) for index, one in spans.items()]
    found = replace(found, ends=tuple((index, found.closed(end)) for index, end in known))
    return replace(found, restarts=restarts, seekable=bare.seekable and not restarts and not holes)


def _lost(start: float, end: float, tracks: Iterable["_Spans"]) -> float:
    """Seconds to take off after a gap from `end` to `start`, so that the track with the widest gap goes on at once."""
    widest = start - end
    for track in tracks:
        before = [stop for _, stop in track.spans if end - NEAR_SECONDS <= stop <= end]
        after = [begin for begin, _ in track.spans if start <= begin <= start + NEAR_SECONDS]
        if before and after:
            widest = max(widest, after[0] - before[-1])
    return widest


class _Spans:
    """Stretches of a track in which something is shown or heard; neighbours closer than a second are one."""

    def __init__(self) -> None:
        self.spans: list[list[float]] = []

    def add(self, start: float, length: float) -> None:
        end = start + length
        if self.spans and self.spans[-1][0] <= start <= self.spans[-1][1] + 1.0:
            self.spans[-1][1] = max(self.spans[-1][1], end)
        else:
            self.spans.append([start, end])


def _merged(tracks: Iterable[_Spans]) -> list[tuple[float, float]]:
    """The stretches of several tracks as stretches of the file, in order."""
    merged: list[tuple[float, float]] = []
    for start, end in sorted(tuple(span) for track in tracks for span in track.spans):
        if merged and start <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(merged[-1][1], end)
        else:
            merged.append((start, end))
    return merged


def _has_xing(path: Path) -> bool:
    """Whether an MP3 file has an index frame with its number of frames; else FFmpeg guesses from the bit rate."""
    with path.open("rb") as file:
        head = file.read(10)
        tag = 0
        if head[:3] == b"ID3":  # its size has seven bits a byte
            tag = 10 + functools.reduce(lambda size, byte: size << 7 | byte & 0x7F, head[6:10], 0)
        file.seek(tag)
        first = file.read(4096)
    return any(name in first for name in (b"Xing", b"Info", b"VBRI"))
