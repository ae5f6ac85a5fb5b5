"""The report of a run: one HTML page of how it learned, what an evaluation found, and where it was surely wrong."""

import io
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from avpea import data, registry
from avpea.checkpoint import CheckpointInfo, read_info, weights_fingerprint
from avpea.data.cache import read_sample
from avpea.data.packed import unpacked
from avpea.device import choose_device
from avpea.drawings import Line, bars_of_reliability, learning_curve, matrix
from avpea.errors import AvpeaError, CheckpointError
from avpea.evaluate import evaluate
from avpea.files import write_text
from avpea.labels import Sample
from avpea.media import log_mel
from avpea.metrics.accuracy import precision_recall_f1
from avpea.metrics.figures import epoch_kept
from avpea.page import Card, Cards, Code, Drawing, Figures, Heading, Part, Picture, Text, as_html
from avpea.parsing import json_lines, read_json
from avpea.records import home
from avpea.sections import ReaderOptions
from avpea.tables import Table, clock, how_many
from avpea.tasks import Mistake, Task
from avpea.trackers import tracked

__all__ = ["report"]

MISTAKES = 10
MOST_NAMES = 60  # in a confusion matrix that one can still look at
_PICTURE_HEIGHT, _MEL_BINS = 150, 64
# From silence to loud: dark to light, even in steps of lightness.
_RAMP = np.array([(0, 0, 4), (59, 15, 112), (140, 41, 129), (222, 73, 104), (254, 159, 109), (252, 253, 191)], float)


@dataclass(frozen=True)
class _Found:
    """What a run folder holds for its report; `weights` is the fingerprint of the model's."""

    folder: Path
    info: CheckpointInfo
    weights: str
    task: type[Task]
    record: Mapping[str, Any]
    rows: Sequence[Mapping[str, Any]]
    epochs: Sequence[Mapping[str, Any]]
    trusted: bool


def report(
    run: str | Path,
    split: str = "test",
    *,
    out: str | Path | None = None,
    root: str | Path | None = None,
    cache: str | Path | None = None,
    weights: str | Path | None = None,
    audio_weights: str | Path | None = None,
    device: str | torch.device = "auto",
    trust: bool = False,
    progress: bool = True,
) -> Path:
    """Write a run's report as one HTML page, without scripts and without anything from another host.

    Args:
        run: Run folder or checkpoint file.
        split: Split whose evaluation is reported; it is evaluated first if it was not yet.
        out: File to write; None means `report.html` beside the evaluation, in the run folder for the run's own data.
        root: Folder of the data set, if moved since training, or of another one, which is evaluated first.
        cache: Folder of the sample cache, if moved since training.
        weights: File of the backbone's weights, if moved since training.
        audio_weights: File of VGGish's weights, if moved since training.
        device: Device to evaluate on; see `avpea.load`.
        trust: Whether to open and to download what the run names although somebody else made it.
        progress: Whether to show progress bars.

    Returns:
        The file.

    Raises:
        CheckpointError: There is no run, or a file of it is broken.
        DataError, WeightsError, DeviceMemoryError: The split has to be evaluated first, and cannot be.
        ExperimentError: There is no such device here.
        WriteError: The page cannot be written.
    """
    choose_device(device)
    folder = place = home(run)
    known = read_info(run).experiment.data.root
    elsewhere = root is not None and os.path.abspath(root) != os.path.abspath(known)
    if elsewhere or not (folder / f"evaluation-{split}.json").is_file():
        files: dict[str, Any] = {"root": root, "cache": cache, "weights": weights, "audio_weights": audio_weights}
        place = evaluate(run, split, **files, trust=trust, device=device, progress=progress).folder or folder
    found = _found(folder, place, run, split, trust)
    path = place / "report.html" if out is None else Path(os.path.expanduser(out))
    try:
        write_text(path, as_html(f"{folder.resolve().name}: report", list(_parts(found, root))))
    except AvpeaError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(
            f"The records in {folder} are not as avpea writes them ({type(error).__name__}: {error}); remove "
            f"evaluation-{split}.json, and `avpea evaluate {run} --split {split}` writes it again."
        ) from error
    return path


def _found(folder: Path, place: Path, run: str | Path, split: str, trust: bool) -> _Found:
    info = read_info(run)
    task: type[Task] = registry.load("task", info.experiment.task.name)
    record = _read_json(place / f"evaluation-{split}.json")
    if not isinstance(record, dict) or task.figure.metric not in record:
        raise CheckpointError(
            f"{place / f'evaluation-{split}.json'} is no evaluation of this run; remove it, and "
            f"`avpea evaluate {run} --split {split}` writes it again."
        )
    rows, epochs = _read_lines(place / f"predictions-{split}.jsonl"), _read_lines(folder / "metrics.jsonl")
    return _Found(folder, info, weights_fingerprint(run), task, record, rows, epochs, info.own or trust)


def _read_json(path: Path) -> Any:
    remedy = "remove it, or write it again with `avpea evaluate`"
    return read_json(path, remedy=remedy, paths=True) if path.is_file() else None


def _read_lines(path: Path) -> list[dict[str, Any]]:
    """The lines of a file of JSON, up to one that an interruption cut short; none if there is no file."""
    found: list[dict[str, Any]] = []
    with suppress(CheckpointError):
        found.extend(one for _, one in json_lines(path, paths=True) if isinstance(one, dict))
    return found


def _parts(found: _Found, root: str | Path | None) -> Iterator[Part]:
    yield from _summary(found)
    yield Heading("Learning")
    yield from _learning(found)
    yield Heading(found.task.figure.parts)
    yield from _classes(found)
    yield Heading("Reliability")
    yield from _reliability(found.record.get("reliability"))
    yield Heading(f"The {found.task.worst}")
    yield from _mistakes(found, root)
    yield Heading("What was left out")
    yield from _left_out(found)
    yield Heading("What it was measured on")
    yield from _measured_on(found.record)
    yield Heading("Settings")
    yield Code(found.info.experiment.to_yaml().rstrip())
    yield Heading("Where it was trained")
    yield from _environments(found)
    yield from _trackers(found.folder)


def _summary(found: _Found) -> Iterator[Part]:
    record, figure = found.record, found.task.figure
    reached = figure.reached(record[figure.metric])
    yield Text(f"On the split `{record['split']}`: {reached} ({how_many(record['videos'], 'video')}).")
    epoch, ours = record.get("epoch"), found.info.results.get("epoch")
    yield Text(f"{epoch_kept(record)}.")
    if epoch != ours or record.get("model", found.weights) != found.weights:
        yield Text(
            f"Note: this evaluation, of a model of epoch {epoch}, is not of the model in this folder, of epoch {ours}; "
            f"`avpea evaluate` makes a new one."
        )
    for name, share in (record.get("references") or {}).items():
        yield Text(f"For comparison, {name}: {figure.reached(share)}.")


def _learning(found: _Found) -> Iterator[Part]:
    if not found.epochs:
        yield Text("There is no metrics.jsonl in the run folder, so how it learned is not known.")
        return
    chosen = found.info.experiment.train.select_on
    best, figure = found.info.results.get("epoch"), found.task.figure

    def line(name: str, key: str, factor: float = 1.0) -> Line:
        known = [(one["epoch"], one.get(key)) for one in found.epochs]
        return Line(name, [(x, factor * y) for x, y in known if isinstance(y, int | float)])

    losses = [line("train", "train/loss"), line(chosen, f"{chosen}/loss")]
    marked = f"; the dashed line is the epoch that was kept, {best}" if best else ""
    known = [one for one in losses if one.points]
    if drawn := learning_curve("Loss", known, best):
        yield Drawing(drawn, f"Loss of each epoch{marked}.")
    if not losses[1].points:
        yield Text(f"The loss on {chosen} was not recorded by the version that trained this run.")
    key = f"{chosen}/{figure.metric}"
    if drawn := learning_curve(f"{figure.heading()}, on {chosen}", [line(chosen, key, 100)], best):
        yield Drawing(drawn, f"{figure.heading()} of each epoch{marked}.")


def _classes(found: _Found) -> Iterator[Part]:
    confusion = found.task.confusion(found.record, found.rows)
    if confusion is None or set(confusion.names) != set(found.record[found.task.figure.breakdown]):
        for part in found.task.report(found.record):  # else recall, below, says the same
            yield from _shown(part)
    if confusion is None:
        return
    counts = torch.tensor(confusion.counts)
    each = precision_recall_f1(counts)
    totals = counts.sum(dim=1).tolist()
    rows = [
        [name, *(_percent(float(score[index])) for score in each), str(totals[index])]
        for index, name in enumerate(confusion.names)
    ]
    yield Figures([confusion.of, "precision, %", "recall, %", "F1, %", "annotated"], rows)
    if len(confusion.names) > MOST_NAMES:
        yield Text(f"There is no picture of the confusion matrix, whose {len(confusion.names)} rows are too many.")
        return
    says = "Confusion matrix; the darker a field, the larger its share of the row. Pointing at one tells its names."
    yield Drawing(matrix(confusion.names, confusion.counts), says)


def _percent(share: float) -> str:
    return "–" if share != share else f"{100 * share:.1f}"


def _shown(part: str | Table) -> Iterator[Part]:
    if isinstance(part, str):
        yield Text(part)
        return
    if part.title:
        yield Text(part.title)
    yield Figures(part.columns, [row for row in part.rows if row is not None], left=part.left)


def _reliability(known: Any) -> Iterator[Part]:
    if not isinstance(known, Mapping) or not known.get("bins"):
        yield Text("This evaluation has no reliability figure: its version, or its task, makes none.")
        return
    bins = [(one["from"], one["to"], one["accuracy"], one["count"]) for one in known["bins"]]
    yield Drawing(
        bars_of_reliability(bins),
        "Correct answers by confidence; on the dashed line confidence is right. Pale bars have few answers.",
    )
    error = known.get("expected_calibration_error")
    if isinstance(error, int | float):
        yield Text(f"Expected calibration error: {100 * error:.1f} %, the mean distance of confidence and accuracy.")
    if temperature := known.get("temperature"):
        yield Text(f"With the temperature {temperature:.2f}, fitted on {known.get('fitted_on')}.")


def _mistakes(found: _Found, root: str | Path | None) -> Iterator[Part]:
    if not found.rows:
        yield Text(f"There is no predictions-{found.record['split']}.jsonl beside the evaluation, so none are known.")
        return
    mistakes = found.task.mistakes(found.rows, MISTAKES)
    if not mistakes:
        yield Text("None: every answer was correct, or the task names none.")
        return
    samples, reason = _samples(found, root)
    if reason:
        yield Text(f"Without pictures: {reason}")
    config = replace(found.info.experiment.data, missing_audio="silence", missing_video="black")
    yield Cards([_card(number, one, samples.get(one.key), config) for number, one in enumerate(mistakes, 1)])


def _samples(found: _Found, root: str | Path | None) -> tuple[dict[str, Sample], str]:
    """The samples of the split by key, and why there are none."""
    if not (root or found.trusted):
        named = found.info.experiment.data.root
        return (
            {},
            f"the run names '{named}' as its data set, but is not one of yours; give --data.root DIR, or --trust.",
        )
    experiment = found.info.experiment.override({"data.root": root} if root else {})
    try:
        annotations = data.read(experiment.data)
    except AvpeaError as error:
        return {}, str(error)
    return {sample.key: sample for sample in annotations.splits.get(found.record["split"], ())}, ""


def _card(number: int, one: Mistake, sample: Sample | None, config: ReaderOptions) -> Card:
    sure = "" if one.confidence is None else f" ({100 * one.confidence:.1f} %)"
    lines = [one.about] * bool(one.about) + [f"annotated: {one.expected}", f"answered: {one.answered}{sure}"]
    lines[0] = f"{number}. {lines[0]}"
    if sample is None:
        return Card((), (*lines, one.key))
    segment = sample.segments // 2 if one.second is None else one.second
    try:
        with unpacked(sample) as here:
            clip = read_sample(here, config, (_PICTURE_HEIGHT, 2 * _PICTURE_HEIGHT))
        if not 0 <= segment < len(clip.frames):  # the data are not those of the predictions any more
            raise AvpeaError(f"It has no second {segment}; evaluate the run again.")
        clip = clip.part(segment, segment + 1)
    except AvpeaError as error:
        return Card((), (*lines, _place(sample, sample.start_seconds + segment), str(error)))
    place = _place(sample, clip.start_seconds)
    frame, sound = _frame(clip.frames[0], clip.frame_aspect), _spectrogram(clip.waveform)
    pictures = Picture(frame, f"Frame of {place}"), Picture(sound, f"Spectrogram of {place}")
    return Card(pictures, (*lines, place))


def _place(sample: Sample, start: float) -> str:
    return f"{sample.video_id}, at {clock(start, decimals=int(start % 1 > 0))}"


def _frame(pixels: Tensor, aspect: float) -> bytes:
    width, height = 2 * _PICTURE_HEIGHT, _PICTURE_HEIGHT
    size = (round(height * aspect), height) if aspect <= 2 else (width, round(width / aspect))
    picture = Image.fromarray(pixels.numpy()).resize((max(1, size[0]), max(1, size[1])))
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=85)
    return file.getvalue()


def _spectrogram(waveform: Tensor) -> bytes:
    """One second of sound: time to the right, high frequencies at the top."""
    values = log_mel(waveform, mel_bins=_MEL_BINS, frame_shift_ms=10.0).T.flip(0).numpy()
    low = float(np.quantile(values, 0.05))
    shares = np.clip((values - low) / max(6.0, float(values.max()) - low), 0, 1) * (len(_RAMP) - 1)
    colours = np.stack([np.interp(shares, range(len(_RAMP)), _RAMP[:, channel]) for channel in range(3)], axis=-1)
    picture = Image.fromarray(colours.round().astype(np.uint8)).resize((_PICTURE_HEIGHT, _PICTURE_HEIGHT))
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


def _left_out(found: _Found) -> Iterator[Part]:
    for what, skipped in (
        ("for training", _read_json(found.folder / "skipped.json")),
        ("for this evaluation", found.record.get("skipped")),
    ):
        if not skipped:
            known = "No video was left out" if skipped is not None else "Which videos were left out is not known"
            yield Text(f"{known} {what}.")
            continue
        yield Text(f"{how_many(len(skipped), 'video was', 'videos were')} left out {what}:")
        yield Figures(["video", "reason"], [[key, str(reason)] for key, reason in skipped.items()], left=2)


def _measured_on(record: Mapping[str, Any]) -> Iterator[Part]:
    rows = [["split", str(record["split"])], ["videos", str(record["videos"])]]
    rows += [["annotations", str(record["source"])]] * bool(record.get("source"))
    known = record.get("data")
    if isinstance(known, Mapping):
        rows += [[str(key), _plain(value)] for key, value in known.items() if value not in (None, "", [], {})]
    yield Figures(["", ""], rows, left=2)
    if not isinstance(known, Mapping):
        yield Text("The version that evaluated did not record more about the data.")


def _plain(value: Any) -> str:
    return str(value) if isinstance(value, str | int | float) else json.dumps(value, ensure_ascii=False)


def _trackers(folder: Path) -> Iterator[Part]:
    """What other programs were told of the training, and what they lack."""
    if known := tracked(folder):
        yield Text("What was told to trackers:")
        rows = [[name, str(one["run"]), str(one["epochs"]), str(one["failed"])] for name, one in known.items()]
        yield Figures(["tracker", "its run", "epochs", "what failed"], rows, left=4)


def _environments(found: _Found) -> Iterator[Part]:
    sessions = _read_json(found.folder / "environment.json")
    if not sessions:
        yield Text("There is no environment.json in the run folder.")
        return
    for number, session in enumerate(sessions, 1):
        if len(sessions) > 1:
            yield Text(f"Session {number} of {len(sessions)}:")
        yield Figures(["", ""], [[key, _plain(value)] for key, value in session.items() if value is not None], left=2)
