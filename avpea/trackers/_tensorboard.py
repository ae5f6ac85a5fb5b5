"""TensorBoard: a file of events for each epoch, which is the old one or the complete new one."""

import io
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
    that an epoch that is trained again would be there twice.
    """

    title: ClassVar[str] = "TensorBoard"
    package: ClassVar[str] = "tensorboard"
    extra: ClassVar[str] = "train"
    remembers: ClassVar[bool] = False  # the files are the memory

    def start(self, about: About, known: str, epochs: int) -> tuple[str, int, str]:
        """Count the epochs that have files."""
        from tensorboard.summary.writer.record_writer import RecordWriter  # noqa: F401 (it is all there)

        self._folder = about.folder / "tensorboard"
        return "", next(number for number in count() if not self._path(number + 1).is_file()), ""

    def log(self, epoch: int, numbers: Mapping[str, float]) -> None:
        """Write the file of an epoch.

        Raises:
            WriteError: It cannot be written.
        """
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.summary.writer.record_writer import RecordWriter

        values = [Summary.Value(tag=name, simple_value=value) for name, value in numbers.items()]
        content, now = io.BytesIO(), time.time()
        writer = RecordWriter(content)
        for event in (
            Event(wall_time=now, file_version="brain.Event:2"),
            Event(wall_time=now, step=epoch, summary=Summary(value=values)),
        ):
            writer.write(event.SerializeToString())
        write_bytes(self._path(epoch), content.getvalue())

    def end(self, best: Mapping[str, float], outcome: Outcome) -> None:
        """Nothing is open."""

    def _path(self, epoch: int) -> Path:
        # TensorBoard reads the files of a folder in the order of their names.
        return self._folder / f"events.out.tfevents.{epoch:010}.avpea"
