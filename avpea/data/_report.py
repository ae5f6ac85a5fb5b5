"""The result of filling a source of samples: what can be read, and what was found in the files."""

from collections.abc import Mapping
from dataclasses import dataclass

from avpea.data._reading import as_options
from avpea.errors import DataError
from avpea.labels import Sample
from avpea.media import segments_in
from avpea.tables import how_many

__all__ = ["PAST_END", "FillReport", "padding", "strict_error"]

# What is said of videos that are shorter than their window, where their labels go on to its end.
PAST_END = (
    "their missing seconds are trained on and scored as background, as the protocol of a data set in this layout does; "
    "a table of your own (data.name manifest or lanes) leaves them out"
)


@dataclass(frozen=True)
class FillReport:
    """The result of filling the cache.

    Attributes:
        ready: Samples that can be read, in the given order.
        broken: Reason by sample key, for samples that cannot be read.
        padded: Description by sample key, for samples in `ready` whose file ends before they do, and which are padded
            with the last frame and silence.
        repaired: Description by sample key, for samples in `ready` whose file was not read as it is: time stamps that
            jump, sound that is NaN, an end that does not decode.
        decoded: Number of samples that were decoded now, and not before.
        seconds: Time taken.
    """

    ready: tuple[Sample, ...]
    broken: dict[str, str]
    padded: dict[str, str]
    repaired: dict[str, str]
    decoded: int
    seconds: float

    def told(self) -> list[str]:
        """How many samples are left out, mended or scored past their end, in sentences with an example each."""
        kinds = ((self.broken, "left out"), (self.repaired, "read with repairs"))
        found = [(how_many(len(some), "sample is", "samples are"), what, some) for some, what in kinds if some]
        told = [as_options(f"{are} {what}, such as {next(iter(some.values()))}") for are, what, some in found]
        past_end = {
            sample.video: reason
            for sample in self.ready
            if sample.labels_past_end and (reason := self.padded.get(sample.key))
        }
        if past_end:
            are = how_many(len(past_end), "video is", "videos are")
            told.append(f"{are} shorter than the window, such as {next(iter(past_end.values()))}: {PAST_END}.")
        return told


def padding(sample: Sample, about: Mapping[str, str]) -> str:
    """How much of an entry is padding, in a sentence; empty if nothing is."""
    duration_seconds = float(about["duration_seconds"])
    available = segments_in(duration_seconds - sample.start_seconds)
    if available >= sample.segments:
        return ""
    return (
        f"{sample.video} ends at {duration_seconds:.1f} s; "
        f"{sample.segments - available} of {sample.segments} segments are padding"
    )


def strict_error(broken: Mapping[str, str], asked: int) -> DataError:
    first = "\n".join(f"  {key}: {reason}" for key, reason in list(broken.items())[:5])
    more = f"\n  and {len(broken) - 5} more" if len(broken) > 5 else ""
    return DataError(
        f"{len(broken)} of {asked} samples cannot be used, and data.strict is set; "
        f"mend or remove them, or set data.strict to false to skip them:\n{as_options(first)}{more}"
    )
