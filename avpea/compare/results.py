"""The stored result of one run: everything that the report needs, without paths of the machine."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from avpea import backbones, data, registry
from avpea.accounting import count
from avpea.checkpoint import NAMED_WEIGHTS, read_info
from avpea.compare.sweep import Cell, Sweep
from avpea.data.identity import identify
from avpea.device import choose_device, named
from avpea.encoders import build_encoder
from avpea.errors import AvpeaError
from avpea.evaluate import SplitResult
from avpea.experiment import Experiment
from avpea.files import write_json
from avpea.history import read_experiment
from avpea.labels import shortened
from avpea.parsing import read_json
from avpea.run import RunFolder, differences, option_of, other_start, other_weights
from avpea.sections import BackboneOptions, EncoderOptions, ReaderOptions
from avpea.tasks import Task
from avpea.train import TrainResult
from avpea.trust import nothing_fetched

__all__ = [
    "by_video",
    "described",
    "described_costs",
    "load",
    "mixed_data",
    "other_costs",
    "other_data",
    "read",
    "read_costs",
    "record",
    "save",
]

_FORMAT = "avpea-result-1"
# Options that change a result by rounding at most, so that results with other values may be used.
_FREE = {"train.threads", "train.compile"}

# Fingerprints of frozen weights, by the options that name them.
_Frozen = dict[tuple[BackboneOptions, EncoderOptions], dict[str, str]]

# Metrics that a result stores under other keys.
_ELSEWHERE = ("split", "metric", "epoch", "selected_on", "kept", "skipped", "data", "model")


def record(cell: Cell, trained: TrainResult, tested: SplitResult) -> dict[str, Any]:
    """The result of a finished run, as it is stored."""
    experiment = cell.experiment
    info, folder = read_info(trained.run), RunFolder(trained.run, experiment)
    task: type[Task] = registry.load("task", experiment.task.name)
    metric = task.figure.metric
    return {
        "format": _FORMAT,
        "row": cell.row.label,
        "seed": cell.seed,
        "selected_on": trained.best["selected_on"],
        "best_epoch": trained.best["epoch"],
        "kept": trained.best.get("kept", "best"),
        "metric": metric,
        "breakdown": task.figure.breakdown,
        "selection": {metric: trained.best[metric]},
        "test": {k: v for k, v in tested.metrics.items() if k not in _ELSEWHERE},
        **by_video(tested),
        "skipped": tested.metrics["skipped"],
        "data": {key: tested.metrics["data"][key] for key in ("reader", "root", "fingerprint", "rows")},
        "epochs": trained.epochs,
        "parameters": count(experiment, info.labels).to_dict(),
        "backbone_fingerprint": info.fingerprint,
        "other_fingerprints": info.other_fingerprints,
        "started_from": folder.origin.start,
        "environment": folder.environments(),
        "experiment": described(experiment),
    }


def by_video(tested: SplitResult) -> dict[str, dict[str, float]]:
    """The score of each video and its weight, of those that need an answer."""
    asked = [(one.key, *of) for one, of in zip(tested.samples, tested.scores, strict=True) if of[1]]
    return {
        "test_videos": {key: round(score / of, 6) for key, score, of in asked},
        "test_weights": {key: of for key, _, of in asked},
    }


def described(experiment: Experiment) -> dict[str, Any]:
    """The experiment as a dictionary, without paths of the machine."""
    values = experiment.to_dict()
    values["data"] |= {"root": Path(experiment.data.root).name, "cache": ""}
    return _without_folders(values)


def _without_folders(values: dict[str, Any]) -> dict[str, Any]:
    """Absolute paths replaced by their last part."""

    def named(value: Any) -> Any:
        if isinstance(value, dict):
            return _without_folders(value)
        return Path(value).name if isinstance(value, str) and Path(value).is_absolute() else value

    return {key: named(value) for key, value in values.items()}


def save(out: Path, cell: Cell, result: Mapping[str, Any]) -> None:
    """Write `OUT/CELL.json` atomically."""
    write_json(out / f"{cell.name}.json", result, indent=1)


def read(out: Path, cell: Cell, frozen: _Frozen | None = None) -> dict[str, Any] | None:
    """The stored result of a cell; None if there is none.

    Args:
        out: Folder of the results.
        cell: The run.
        frozen: Fingerprints of frozen weights that were computed before, to which others are added.

    Raises:
        AvpeaError: The file is broken, or has a result of other settings.
    """
    path = out / f"{cell.name}.json"
    if not path.is_file():
        return None
    try:
        result: dict[str, Any] = read_json(path, AvpeaError, paths=True)
        settings, form = result["experiment"], result["format"]
        _require_kinds(result)
    except (AvpeaError, KeyError, TypeError, AttributeError):
        raise AvpeaError(f"{path} is no result of avpea compare; remove it, or choose another --out.") from None
    if form != _FORMAT:
        raise AvpeaError(f"{path} has format {form}, expected {_FORMAT}; remove it, or choose another --out.")
    # Options that did not exist yet are taken to have had their defaults.
    known = read_experiment(settings, str(path)).to_dict()
    changed = differences(known, cell.experiment.to_dict(), _FREE | cell.experiment.harmless())
    changed += _other_start(result, known, cell.experiment)
    changed += _other_weights(result, known, cell.experiment, {} if frozen is None else frozen)
    if changed:
        raise AvpeaError(
            f"{path} holds a result of other settings ({'; '.join(changed[:4])}); give the options that it was made "
            "with, or choose another --out."
        )
    return result


def _other_start(result: Mapping[str, Any], known: Mapping[str, Any], experiment: Experiment) -> list[str]:
    """A phrase if a result's run was started from other weights; by the name of the run where they are not known."""
    return other_start(result.get("started_from"), option_of(known, "train.start_from"), experiment.train.start_from)


def _other_weights(
    result: Mapping[str, Any], known: Mapping[str, Any], experiment: Experiment, frozen: _Frozen
) -> list[str]:
    """A phrase for each option by which a result is of other frozen weights."""
    values = described(experiment)
    pairs = {name: (option_of(known, name), option_of(values, name)) for name in NAMED_WEIGHTS}
    moved = {name: (then, now) for name, (then, now) in pairs.items() if then != now}
    if all(then == now and now in ("", "pretrained", "random") for then, now in pairs.values()):
        return []
    if any("random" in pair for pair in moved.values()):
        return other_weights({}, {}, moved)
    before = {"backbone.weights": result["backbone_fingerprint"], **result.get("other_fingerprints", {})}
    parts = experiment.backbone, experiment.encoder
    if parts not in frozen:
        frozen[parts] = _fingerprints(experiment)
    return other_weights(before, frozen[parts], moved)


def _fingerprints(experiment: Experiment) -> dict[str, str]:
    """The fingerprints of an experiment's frozen weights; none if they are not on this machine."""
    try:
        with nothing_fetched("a stored result can be reported on without it"):
            return build_encoder(backbones.build(experiment.backbone), experiment).fingerprints()
    except AvpeaError:
        return {}


def _require_kinds(result: Mapping[str, Any]) -> None:
    """Raise TypeError, KeyError or AttributeError for a result that is not as `record` makes it."""
    about = result.get("data") or {"fingerprint": ""}  # version 0.1.0 did not know it
    kinds: list[tuple[Any, Any]] = [(result["experiment"], dict), (result["epochs"], list), (about["fingerprint"], str)]
    kinds += [(result[name], dict) for name in ("test", "test_videos", "parameters")]
    kinds += [(result["backbone_fingerprint"], str), (result.get("other_fingerprints", {}), dict)]
    kinds += [(result.get("started_from") or "", str)]
    kinds += [(value, str) for value in result.get("other_fingerprints", {}).values()]
    kinds += [(value, int | float) for value in result["test_videos"].values()]
    if not all(isinstance(value, kind) for value, kind in kinds):
        raise TypeError


def load(sweep: Sweep, out: Path) -> tuple[dict[Cell, dict[str, Any]], list[str]]:
    """The stored results of a sweep by cell, and the reasons why other files cannot be used, in sentences."""
    found, wrong = {}, []
    frozen: _Frozen = {}
    for cell in sweep.cells():
        try:
            result = read(out, cell, frozen)
        except AvpeaError as error:
            wrong.append(str(error))
            continue
        if result is not None:
            found[cell] = result
    return found, wrong


def other_data(found: Mapping[Cell, Mapping[str, Any]], *, needed: bool) -> list[str]:
    """A sentence for each stored result that was measured on other data than `data.root` holds now.

    Results of version 0.1.0 do not know their data. Without `data.root` there is nothing to compare with.

    Args:
        found: The stored results.
        needed: Whether there is a sentence, too, for data that cannot be read.
    """
    known: dict[ReaderOptions, str | AvpeaError] = {}
    wrong: dict[str, None] = {}
    for cell, result in found.items():
        options = cell.experiment.data
        if not options.root or not result.get("data"):
            continue
        if options not in known:
            known[options] = _fingerprint(options)
        now, then = known[options], result["data"]["fingerprint"]
        if isinstance(now, AvpeaError):
            wrong |= {str(now): None} if needed else {}
        elif now != then:
            wrong[
                f"{cell.name} has a stored result on other data than {options.root} holds now (fingerprint "
                f"{then[:12]}, not {now[:12]}); put the data back, or choose another --out and other --runs."
            ] = None
    return list(wrong)


def _fingerprint(options: ReaderOptions) -> str | AvpeaError:
    try:
        return identify(options, data.read(options), files=()).fingerprint
    except AvpeaError as error:
        return error


def mixed_data(found: Mapping[Cell, Mapping[str, Any]]) -> list[str]:
    """A sentence if results of the same settings of `data` were measured on different data, as far as they know."""
    seen: dict[str, dict[str, list[str]]] = {}
    for cell, result in found.items():
        if result.get("data"):
            options = {**vars(cell.experiment.data), "root": "", "cache": "", "workers": 0}
            of_options = seen.setdefault(repr(options), {})
            of_options.setdefault(result["data"]["fingerprint"], []).append(cell.name)
    return [
        "The stored results are of different data: "
        + " and ".join(f"{shortened(names, 3)} of {one[:12]}" for one, names in some.items())
        + "; run them again on the same data, with another --out and other --runs."
        for some in seen.values()
        if len(some) > 1
    ]


def read_costs(folder: Path, sweep: Sweep) -> dict[str, Any] | None:
    """The stored costs, if they were measured for every row and with the same reference row."""
    path = folder / "cost.json"
    try:
        costs: dict[str, Any] = read_json(path, AvpeaError)
        whole = {row.label for row in sweep.rows} <= costs["rows"].keys() and costs["reference"] == sweep.reference
    except (AvpeaError, KeyError, TypeError, AttributeError):
        return None
    return costs if whole else None


def described_costs(costs: Mapping[str, Any], sweep: Sweep) -> bool:
    """Whether costs say of every row with which options they were measured; those of version 0.1.0 do not."""
    rows = [costs["rows"][row.label] for row in sweep.rows]
    return all(isinstance(row, dict) and isinstance(row.get("experiment"), dict) for row in rows)


def other_costs(costs: Mapping[str, Any], sweep: Sweep, device: str | None, *, here: bool) -> list[str]:
    """A phrase for each row whose stored costs were measured with other options; none where they do not say.

    Args:
        costs: The stored costs.
        sweep: The rows as they are now.
        device: Device to measure on, instead of each row's `train.device`.
        here: Whether they could be measured here; then they are of other rows on another device, too.
    """
    found = []
    for row in sweep.rows:
        known = costs["rows"][row.label]
        if not isinstance(known, dict) or not isinstance(known.get("experiment"), dict):
            continue
        changed = _other_options(known["experiment"], row.experiment)
        wanted = device or row.experiment.train.device
        now = _device(wanted) if here and wanted != "auto" else ""  # figures of a card that is not here are kept
        if now and known.get("device") != now:
            changed.append(f"the device is {known.get('device')}, not {now}")
        found += [f"{row.label}: {', '.join(changed[:3])}"] if changed else []
    return found


def _other_options(stored: Mapping[str, Any], experiment: Experiment) -> list[str]:
    """A phrase for each option that differs and has a part in what a training step costs."""
    try:
        then = read_experiment(stored).to_dict()
    except AvpeaError:
        return ["its options cannot be read"]
    free = experiment.harmless() - {"train.checkpointing"} | {"train.seed"}
    return differences(then, described(experiment), free)


def _device(wanted: str) -> str:
    """The device by name; empty if there is none here."""
    try:
        return named(choose_device(wanted))
    except AvpeaError:
        return ""
