"""The forms of what a server answers; those about a video are what the command line's `--json` prints.

A form's `schema`, such as `avpea-events-1`, changes its number when a field changes its meaning or goes.
"""

from typing import Any, Literal, NotRequired

from typing_extensions import TypedDict  # pydantic knows that of `typing` from Python 3.12 on

__all__ = [
    "Beginning",
    "Captioned",
    "Captions",
    "Decided",
    "Event",
    "Found",
    "JobState",
    "LaneChances",
    "LaneEvent",
    "LaneSecond",
    "Lanes",
    "Localized",
    "LookedAt",
    "MaskedSecond",
    "Masks",
    "OtherCaption",
    "Place",
    "Progress",
    "Reply",
    "Run",
    "Second",
    "Sounding",
    "Video",
]


class Beginning(TypedDict):
    """What every answer about a video begins with, after its `schema`."""

    video: str
    duration_seconds: float
    declared_seconds: float
    remarks: list[str]


class Event(TypedDict):
    """Something that is both seen and heard."""

    label: str
    start_seconds: float
    end_seconds: float
    confidence: float
    doubtful: bool


class Decided(TypedDict):
    """The category of a second before threshold and shortest event."""

    label: str
    novelty: float | None


class Second(TypedDict):
    """What a second of a video is."""

    start_seconds: float
    label: str
    confidence: float
    probabilities: dict[str, float]
    decided: Decided
    novelty: float | None


class Localized(Beginning):
    """The answer of `localize`, which is that of `avpea predict --json`."""

    schema: Literal["avpea-events-1"]
    events: list[Event]
    seconds: list[Second]
    threshold: float
    threshold_from: str
    min_seconds: float
    min_seconds_from: str
    calibration: dict[str, Any] | None


class Place(TypedDict):
    """Where in a frame a sound was found, in [0, 1] from the left and from the top."""

    x: float
    y: float
    share: float


class LookedAt(TypedDict):
    """How much of a question's attention a second has."""

    start_seconds: float
    seen: NotRequired[float]
    heard: NotRequired[float]
    sound_found_at: NotRequired[Place]


class Reply(Beginning):
    """The answer of `ask`, which is that of `avpea ask --json`."""

    schema: Literal["avpea-reply-1"]
    question: str
    read_as: str
    left_out: list[str]
    nearest_training_question: str | None
    outside_training: bool
    answer: str
    probability: float
    answers: dict[str, float]
    calibration: dict[str, Any] | None
    seconds: list[LookedAt]


class OtherCaption(TypedDict):
    """A caption that is less likely."""

    text: str
    log_probability: float


class Captioned(TypedDict):
    """A sentence about a stretch of a video."""

    start_seconds: float
    end_seconds: float
    text: str
    log_probability: float
    others: list[OtherCaption]


class Captions(Beginning):
    """The answer of `caption`, which is that of `avpea caption --json`."""

    schema: Literal["avpea-captions-1"]
    captions: list[Captioned]


class LaneEvent(TypedDict):
    """Something that goes on in a lane: `seen`, `heard`, or `both` at once."""

    label: str
    lane: Literal["seen", "heard", "both"]
    start_seconds: float
    end_seconds: float
    confidence: float


class LaneChances(TypedDict):
    """Probability of each class in a second: that it is seen, that it is heard, and that its window has it at all."""

    seen: dict[str, float]
    heard: dict[str, float]
    occurs: dict[str, float]


class LaneSecond(TypedDict):
    """The classes of each lane in a second."""

    start_seconds: float
    seen: list[str]
    heard: list[str]
    both: list[str]
    probabilities: LaneChances


class Lanes(Beginning):
    """The answer of `parse`, which is that of `avpea predict --json` for a run of that task."""

    schema: Literal["avpea-lanes-1"]
    events: list[LaneEvent]
    seconds: list[LaneSecond]
    threshold: float
    threshold_from: str
    min_seconds: float
    min_seconds_from: str


class Sounding(TypedDict):
    """An object that sounds: its share of the frame, and its box in shares of it (left, top, right, bottom)."""

    label: str
    share: float
    box: list[float]
    confidence: float


class MaskedSecond(TypedDict):
    """What sounds in a second."""

    start_seconds: float
    objects: list[Sounding]


class Masks(Beginning):
    """The answer of `segment`, which is that of `avpea segment --json`."""

    schema: Literal["avpea-masks-1"]
    seconds: list[MaskedSecond]


class Found(TypedDict):
    """A window that `search` found: `file` is its name, `video` its id, `thumbnail` an address of the server."""

    score: float
    file: str
    start_seconds: float
    end_seconds: float
    thumbnail: str | None
    video: str | None


class Run(TypedDict):
    """A run of the server; see `/docs` there."""

    run: str
    task: str
    title: str
    can: list[str]
    outputs: str
    classes: list[str]
    window_seconds: int
    threshold: float | None
    attention: bool
    trained_bytes: int
    own: bool


class Video(TypedDict):
    """A video that the server knows; `revision` counts the edits of its review, `unsure` is that of a run.

    `remarks` says what keeps its review from being read.
    """

    video: str
    name: str
    uploaded: bool
    size: int
    seconds: float | None
    has_video: bool | None
    has_audio: bool | None
    media_type: str
    revision: int
    done: bool
    remarks: list[str]
    unsure: float | None


class Progress(TypedDict):
    """How far a job is."""

    stage: Literal["decoding", "window"]
    done: float
    of: float


class JobState(TypedDict):
    """How a job stands."""

    job: str
    kind: str
    state: Literal["queued", "running", "done", "failed", "cancelled"]
    progress: Progress | None
    result: Any
    problem: dict[str, Any] | None
