"""Metrics for TensorBoard: a file of events for each epoch, which is the old one or the complete new one."""

import io
import time
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from avpea.files import write_bytes

__all__ = ["write_events", "writes_tensorboard"]


def writes_tensorboard() -> bool:
    """Whether TensorBoard is installed, so that metrics are written for it too."""
    return find_spec("tensorboard") is not None


def write_events(folder: Path, record: Mapping[str, Any]) -> None:
    """Write the numbers of an epoch.

    TensorBoard's own writer has a thread, which an error ends with a traceback, and names its files by the clock, so
    that an epoch that is trained again would be there twice.

    Raises:
        WriteError: The file cannot be written.
    """
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.summary.writer.record_writer import RecordWriter

    numbers = {name: value for name, value in record.items() if type(value) in (int, float) and name != "epoch"}
    values = [Summary.Value(tag=name, simple_value=value) for name, value in numbers.items()]
    content, epoch, now = io.BytesIO(), int(record["epoch"]), time.time()
    writer = RecordWriter(content)
    for event in (
        Event(wall_time=now, file_version="brain.Event:2"),
        Event(wall_time=now, step=epoch, summary=Summary(value=values)),
    ):
        writer.write(event.SerializeToString())
    # TensorBoard reads the files of a folder in the order of their names.
    write_bytes(folder / f"events.out.tfevents.{epoch:010}.avpea", content.getvalue())
