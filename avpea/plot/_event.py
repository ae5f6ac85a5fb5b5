"""What a plot asks of an event: a label, a range in seconds and a confidence."""

from typing import Protocol, runtime_checkable

__all__ = ["EventLike"]


@runtime_checkable
class EventLike(Protocol):
    """Anything with these attributes, such as `avpea.tasks.avel.answer.Event`: [start_seconds, end_seconds).

    If it also has an attribute `doubtful` that is true, it is drawn as doubtful.
    """

    @property
    def label(self) -> str:
        """Name of its class."""

    @property
    def start_seconds(self) -> float:
        """Start in the video."""

    @property
    def end_seconds(self) -> float:
        """End in the video."""

    @property
    def confidence(self) -> float:
        """Confidence of the model, in [0, 1]; ignored for annotated events."""
