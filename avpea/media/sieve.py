"""Which pictures of a video need not be decoded: those that nobody is shown and no other picture refers to."""

from collections import deque
from collections.abc import Callable

from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

__all__ = ["Sieve"]

REMEMBERED = 64  # times of packets; references lie at most 16 pictures apart
CODECS = {"h264"}  # whose decoder leaves out exactly the pictures that the stream marks as referred to by none


class Sieve:
    """Tells an H.264 decoder to leave out pictures that no other one refers to, where they are not the ones chosen.

    All other pictures, and so all chosen ones, are those of a full decode, bit by bit. A picture is left out where
    a later one has been decoded already that is displayed at the moment as well. Nothing is left out before the
    first picture is seen, of interlaced video, whose pictures may be pairs of fields, and after the first damage,
    where what stands in for a lost picture is its neighbour.

    Args:
        video: The track.
        moment: The first moment at or after a time at which a picture is chosen.
    """

    def __init__(self, video: VideoStream, moment: Callable[[float], float]) -> None:
        self._context, self._moment = video.codec_context, moment
        self._possible, self._seen = self._context.name in CODECS, False
        self._times: deque[float] = deque(maxlen=REMEMBERED)

    def look(self, packet: Packet, seconds: float | None) -> None:  # type: ignore[type-arg]  # generic in stubs only
        """Prepare the decoder for the next packet, which is shown from `seconds` on."""
        if not self._possible:
            return
        skip = False
        if seconds is not None:
            moment = self._moment(seconds)
            skip = self._seen and any(seconds < time <= moment for time in self._times)
            self._times.append(seconds)
        self._context.skip_frame = "NONREF" if skip and packet.size else "DEFAULT"

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
