"""What a plot asks of an event: a label, a range in seconds and a confidence."""

from typing import Protocol, runtime_checkable

__all__ = ["EventLike"]


@runtime_checkable
class EventLike(Protocol):
    """Anything with these attributes, such as `avpea.tasks.avel.answer.Event`; the range is half open."""

    @property
    def label(self) -> str:
        """Its category."""

    @property
    def start_seconds(self) -> float:
        """Where it begins."""

    @property
    def end_seconds(self) -> float:
        """Where it ends."""

    @property
    def confidence(self) -> float:
        """How sure the model was, in [0, 1]; not read for annotated events."""
