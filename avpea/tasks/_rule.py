"""What of a model's answers counts as an event: how sure a second must be, and how long an event."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Self

from avpea.errors import AvpeaError
from avpea.tasks._calibration import Calibration

__all__ = ["EventRule", "plain_events"]


@dataclass(frozen=True)
class EventRule:
    """What counts as an event.

    Attributes:
        threshold: Lowest confidence of a second that counts, in [0, 1].
        min_seconds: Shortest event that counts.
        sources: Where each of the two is from: `given`, the split that it was chosen on, or `default`.
    """

    threshold: float = 0.0
    min_seconds: float = 1.0
    sources: tuple[str, str] = ("default", "default")

    @classmethod
    def of(cls, calibration: Calibration | None, threshold: float | None, min_seconds: float | None) -> Self:
        """What is given, else what was chosen on the selection split, else the defaults.

        Raises:
            AvpeaError: A value is out of its range.
        """
        if threshold is not None and not 0 <= threshold <= 1:
            raise AvpeaError(f"The threshold is {threshold:g}; expected a confidence from 0 to 1, such as 0.5.")
        if min_seconds is not None and not 0 <= min_seconds < float("inf"):
            raise AvpeaError(f"The shortest event is {min_seconds:g} s; expected 0 or more seconds, such as 2.")
        values, sources = [], []
        for name, given in (("threshold", threshold), ("min_seconds", min_seconds)):
            known = calibration is not None and name in calibration.chosen
            chosen = calibration.chosen[name] if calibration is not None and known else getattr(cls, name)
            values.append(float(chosen if given is None else given))
            sources.append("given" if given is not None else calibration.split if calibration and known else "default")
        return cls(values[0], values[1], (sources[0], sources[1]))

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as answers in JSON have them."""
        return {
            "threshold": self.threshold,
            "threshold_from": self.sources[0],
            "min_seconds": self.min_seconds,
            "min_seconds_from": self.sources[1],
        }


def plain_events(events: Iterable[Any]) -> list[dict[str, Any]]:
    """Events as plain values, to the millisecond; a task's event is a dataclass with an end and a confidence."""
    return [
        asdict(event) | {"end_seconds": round(event.end_seconds, 3), "confidence": round(event.confidence, 4)}
        for event in events
    ]
