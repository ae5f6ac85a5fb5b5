"""TensorBoard: a file of events for each epoch, which is the old one or the complete new one."""

import struct
import time
from collections.abc import Mapping
from itertools import count
from pathlib import Path
from typing import ClassVar

from avpea.files import write_bytes
from avpea.trackers._base import About, Outcome, Tracker

__all__ = ["TensorBoard"]


class TensorBoard(Tracker):
    """Event files in the run's folder `tensorboard`.

    TensorBoard's own writer has a thread, which an error ends with a traceback, and names its files by the clock, so
    that an epoch that is trained again would be there twice. Its writer of records imports boto3, where that is
    installed, which takes as long as everything else of TensorBoard.
    """

    title: ClassVar[str] = "TensorBoard"
    package: ClassVar[str] = "tensorboard"
    extra: ClassVar[str] = "train"
    remembers: ClassVar[bool] = False  # the files are the memory

    def start(self, about: About, known: str, epochs: int) -> tuple[str, int, str]:
        """Count the epochs that have files."""
        from tensorboard.compat.proto import event_pb2  # noqa: F401 (it is there)

        self._folder = about.folder / "tensorboard"
        return "", next(number for number in count() if not self._path(number + 1).is_file()), ""

    def log(self, epoch: int, numbers: Mapping[str, float]) -> None:
        """Write the file of an epoch.

        Raises:
            WriteError: It cannot be written.
        """
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary

        values = [Summary.Value(tag=name, simple_value=value) for name, value in numbers.items()]
        now = time.time()
        events = (
            Event(wall_time=now, file_version="brain.Event:2"),
            Event(wall_time=now, step=epoch, summary=Summary(value=values)),
        )
        write_bytes(self._path(epoch), b"".join(_record(event.SerializeToString()) for event in events))

    def end(self, best: Mapping[str, float], outcome: Outcome) -> None:
        """Nothing is open."""

    def _path(self, epoch: int) -> Path:
        # TensorBoard reads the files of a folder in the order of their names.
        return self._folder / f"events.out.tfevents.{epoch:010}.avpea"


def _record(content: bytes) -> bytes:
    """A record of a TFRecord file: length, its checksum, content, its checksum."""
    length = struct.pack("<Q", len(content))
    return b"".join((length, _checksum(length), content, _checksum(content)))


def _checksum(content: bytes) -> bytes:
    """CRC-32C, turned by 15 bits and moved, as TFRecord has it."""
    crc = 0xFFFFFFFF
    for byte in content:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    crc ^= 0xFFFFFFFF
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)
