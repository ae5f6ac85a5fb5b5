"""What a worker sends, checked like any stranger's data before it is used: bounded, and of the right shape."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from avpea.errors import MediaError, MissingFile, NoAudioTrack, NoVideoTrack
from avpea.media import wire
from avpea.media._process import Worker
from avpea.media.found import Found, Heard, Stored
from avpea.media.growing import Receiving
from avpea.media.info import SAMPLE_RATE_HZ
from avpea.media.limits import Limits

__all__ = ["Refused", "received"]

ERRORS = {one.__name__: one for one in (MediaError, MissingFile, NoAudioTrack, NoVideoTrack)}
MOST_WORDS = 4000  # letters of a reason
MOST_SKIPPED = 2_000_000  # samples: 2 s at any rate that one reads sound at
ROW_BYTES = {wire.FRAMES: 1, wire.SAMPLES: 4}  # of a value

Answer = TypeVar("Answer")


class Refused(Exception):
    """The worker's reason why a file cannot be read, and whether the worker has to end."""

    def __init__(self, reason: MediaError, ends: bool) -> None:
        self.reason, self.ends = reason, ends
        super().__init__(str(reason))


class _Nonsense(Exception):
    """No worker that is itself sends this."""


def received(
    worker: Worker, answer: type[Answer], limits: Limits, path: Path, frames: Receiving, samples: Receiving
) -> Answer:
    """Receive all messages up to the answer; rows go to `frames` and `samples`.

    Raises:
        Ended: The worker ended.
        Refused: It gives a reason why the file cannot be read, or sends too much, or nonsense.
    """
    receiver = _Receiver(worker, limits, {wire.FRAMES: frames, wire.SAMPLES: samples})
    try:
        while (kind := receiver.message()) not in (wire.ANSWER, wire.ERROR):
            pass
        if kind == wire.ANSWER:
            return _answer(answer, receiver.body, limits, frames)
        name, reason = json.loads(receiver.body)
        raise Refused(ERRORS[name](path, str(reason)[:MOST_WORDS]), bool(receiver.sink))
    except (_Nonsense, ValueError, KeyError, TypeError, RecursionError):
        what = "what its decoder sent is nothing that avpea sends, as if the file had taken it over; delete the file."
        raise Refused(MediaError(path, what), ends=True) from None
    except (_TooMuch, MemoryError) as error:
        most = limits.result_mb if isinstance(error, _TooMuch) else receiver.total // 2**20
        raise Refused(MediaError(path, _too_much(limits, most)), ends=True) from None


def _too_much(limits: Limits, most: int) -> str:
    allows = f", or allow it with {limits.more('result_mb')}" if most >= limits.result_mb else ""
    return f"its frames and sound take more than {most} MB of memory; read a part of it{allows}."


class _TooMuch(Exception):
    """The rows take more than the limits allow."""


class _Receiver:
    """Takes one message after another."""

    def __init__(self, worker: Worker, limits: Limits, sinks: Mapping[int, Receiving]) -> None:
        self._worker, self._limits, self._sinks = worker, limits, sinks
        self._shapes: dict[int, tuple[int, ...]] = {wire.SAMPLES: ()}
        self.body, self.sink, self.total = b"", 0, 0

    def message(self) -> bytes:
        """Receive a message and return its kind."""
        kind, self.sink, count = self._worker.header()
        if kind in (wire.ANSWER, wire.ERROR, wire.SHAPE):
            self._charge(count)
            body = bytearray(count)
            self._worker.fill(memoryview(body))
            self.body = bytes(body)
            if kind == wire.SHAPE:
                self._shape(json.loads(self.body))
        elif kind == wire.ROWS or kind == wire.REPEAT:
            self._rows(kind, count)
        elif kind == wire.CLEAR:
            self._sinks[self.sink].clear()
            self.total = 0
        elif kind != wire.ALIVE:
            raise _Nonsense
        return kind

    def _shape(self, shape: Any) -> None:
        most = self._limits.megapixels * 1_000_000
        sizes = isinstance(shape, list) and all(type(size) is int and 0 < size <= most for size in shape)
        plain = self.sink == wire.SAMPLES and shape == []
        if not (plain or (sizes and len(shape) == 3 and shape[2] == 3 and shape[0] * shape[1] <= most)):
            raise _Nonsense
        if len(self._sinks[self.sink]):
            raise _Nonsense
        self._shapes[self.sink] = tuple(shape)

    def _rows(self, kind: bytes, count: int) -> None:
        rows, shape = self._sinks[self.sink], self._shapes[self.sink]
        self._charge(count * math.prod(shape) * ROW_BYTES[self.sink])
        if kind == wire.ROWS:
            place = rows.room(count, shape)
            self._worker.fill(place.data.cast("B"))
        elif len(rows):
            rows.repeat(count)
        else:
            raise _Nonsense

    def _charge(self, size: int) -> None:
        self.total += size
        if self.total > self._limits.result_mb * 2**20:
            raise _TooMuch


def _answer(kind: type[Answer], body: bytes, limits: Limits, frames: Receiving) -> Answer:
    """The answer of a job, if its values are of the right types, finite, and fit the frames.

    Raises:
        ValueError: They are not.
    """
    from pydantic import TypeAdapter

    answer: Answer = TypeAdapter(kind).validate_json(body, strict=True)
    for value in vars(answer).values():
        numbers = value if isinstance(value, tuple) else (value,)
        if not all(math.isfinite(one) for one in numbers if isinstance(one, float)):
            raise ValueError(f"{value} is not finite")
    if isinstance(answer, Found):
        times = len(answer.frame_seconds)
        if not 0 < answer.segments == times or len(frames) != (1 if answer.black else times):
            raise ValueError(f"{answer.segments} segments, {times} times and {len(frames)} frames")
        if not 0 <= answer.skip <= MOST_SKIPPED or 4 * SAMPLE_RATE_HZ * times > limits.result_mb * 2**20:
            raise ValueError(f"{answer.skip} samples are skipped")
    if isinstance(answer, Stored) and len(frames) != 3:
        raise ValueError(f"{len(frames)} rows of a picture")
    if isinstance(answer, Heard) and not (0 <= answer.skip <= MOST_SKIPPED and answer.seconds >= 0):
        raise ValueError(f"{answer.skip} samples are skipped")
    return answer
