"""Which pictures of a video need not be decoded: those that nobody is shown and no other picture needs."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

__all__ = ["Sieve"]

REMEMBERED = 64  # times of packets; references lie at most 16 pictures apart
HELD_PACKETS, HELD_BYTES = 512, 64 * 2**20  # the most that wait for what comes after them
START_CODE = b"\0\0\1"


@dataclass(frozen=True)
class Units:
    """NAL units of a codec, of which its packets consist.

    Attributes:
        shift: Bits before the kind in a unit's first byte, counted from the last one.
        kinds: Number of kinds.
        slices: Kinds that hold a part of a picture.
        idr: Those of a picture before which nothing is referred to by it, or by what comes after it in the file.
        header: Bytes of a unit before what it holds.
        length_at: Where in the track's header the length of units' lengths is, less 1 and in the last two bits.
    """

    shift: int
    kinds: int
    slices: range
    idr: range
    header: int
    length_at: int

    def begins(self, packet: Packet, header: bytes) -> bool:  # type: ignore[type-arg]  # generic in stubs only
        """Whether the first slice in a packet is one of an IDR picture.

        Args:
            packet: Units, each after its length (ISO/IEC 14496-15) or after a start code (Annex B).
            header: The track's header, which tells which.
        """
        data = bytes(packet)
        lengths = (header[self.length_at] & 3) + 1 if len(header) > self.length_at and header[0] == 1 else 0
        end = 0
        while end < len(data):
            if lengths:
                begin = end + lengths
                end = begin + int.from_bytes(data[end:begin], "big")
            elif (code := data.find(START_CODE, end)) >= 0:
                begin = code + len(START_CODE)
                end = begin + self.header + 1
            else:
                break
            if begin + self.header < min(end, len(data)):
                kind = data[begin] >> self.shift & self.kinds - 1
                if kind in self.slices:
                    return kind in self.idr and not (self.header == 2 and data[begin + 2] & NO_OUTPUT)
        return False


# ITU-T H.264, table 7-1, and H.265, table 7-1.
UNITS = {
    "h264": Units(shift=0, kinds=32, slices=range(1, 6), idr=range(5, 6), header=1, length_at=4),
    "hevc": Units(shift=1, kinds=64, slices=range(32), idr=range(19, 21), header=2, length_at=21),
}
NO_OUTPUT = 64  # H.265, no_output_of_prior_pics_flag: what waits to be shown before this picture is not
TELL = {"h264"}  # whose decoder leaves out exactly the pictures that the stream marks as referred to by none


class Sieve:
    """Leaves out pictures of H.264 and H.265 that are not the ones chosen, where the ones chosen do not need them.

    All other pictures, and so all chosen ones, are those of a full decode, bit by bit. Left out are:

    - all pictures before an IDR picture, to which nothing from that one on refers, after the last one that is chosen
      or that a chosen one may refer to; their packets are dropped;
    - in H.264, pictures that no other one refers to, where a later one is displayed at the moment as well; the decoder
      is told.

    Nothing is left out before the first picture is seen, of interlaced video, whose pictures may be pairs of fields,
    and after the first damage, where what stands in for a lost picture is its neighbour.

    Args:
        video: The track.
        moment: The first moment at or after a time at which a picture is chosen.
        seconds: When the picture of a packet is shown, if the packet says so.
    """

    def __init__(
        self,
        video: VideoStream,
        moment: Callable[[float], float],
        seconds: Callable[[Packet], float | None],  # type: ignore[type-arg]  # generic in stubs only
    ) -> None:
        self._video, self._context, self._moment, self._seconds = video, video.codec_context, moment, seconds
        self._units = UNITS.get(self._context.name)
        self._possible, self._seen = self._units is not None, False
        self._times: deque[float] = deque(maxlen=REMEMBERED)

    def sift(self, packets: Iterable[Packet]) -> Iterator[Packet]:  # type: ignore[type-arg]  # generic in stubs only
        """The packets of all tracks in their order, without those that are left out.

        Each is decoded before the next one is asked for, since the decoder is prepared for it.
        """
        held: list[Packet] = []  # type: ignore[type-arg]  # from a picture on that the next key frame may make needless
        for_moment, latest, size = 0.0, 0.0, 0
        for packet in packets:
            of_video = packet.stream is self._video
            seconds = self._seconds(packet) if of_video and packet.size else None
            moment = 0.0 if seconds is None else self._moment(seconds)
            if of_video and (seconds is None or not self._possible or not self._seen or moment != for_moment):
                yield from self._released(held)
                held = []
            elif seconds is not None and held and seconds > latest and self._is_first(packet):
                yield from (one for one in held if one.stream is not self._video)
                held = []
                self._times.clear()
            elif len(held) >= HELD_PACKETS or size > HELD_BYTES:
                yield from self._released(held)
                held = []
            if seconds is not None:
                latest = max(latest, seconds) if held else seconds
                for_moment = moment
                self._times.append(seconds)
            if held or (seconds is not None and self._possible and self._seen):
                size = packet.size + (size if held else 0)
                held.append(packet)
            else:
                yield self._prepared(packet)
        yield from self._released(held)

    def seen(self, frame: VideoFrame) -> None:
        """A picture was decoded."""
        self._seen = True
        if frame.interlaced_frame:
            self.stop()

    def stop(self) -> None:
        """Leave out nothing any more."""
        if self._possible:
            self._context.skip_frame = "DEFAULT"
            self._possible = False

    def _released(self, held: list[Packet]) -> Iterator[Packet]:  # type: ignore[type-arg]
        return map(self._prepared, held)

    def _prepared(self, packet: Packet) -> Packet:  # type: ignore[type-arg]
        """A packet, of whose picture the decoder knows whether it may leave it out."""
        if packet.stream is self._video and self._possible and self._context.name in TELL:
            seconds = self._seconds(packet) if packet.size else None
            skip = False
            if self._seen and seconds is not None:
                moment = self._moment(seconds)
                skip = any(seconds < time <= moment for time in self._times)
            self._context.skip_frame = "NONREF" if skip else "DEFAULT"
        return packet

    def _is_first(self, packet: Packet) -> bool:  # type: ignore[type-arg]
        """Whether nothing from this packet on refers to anything before it."""
        assert self._units is not None
        whole = packet.is_keyframe and not packet.is_corrupt
        return whole and self._units.begins(packet, self._context.extradata or b"")
