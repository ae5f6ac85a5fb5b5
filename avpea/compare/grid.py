"""Running or resuming a grid, and reporting on the stored results."""

import multiprocessing
import os
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from avpea.accounting import count
from avpea.compare import results
from avpea.compare.check import complaints
from avpea.compare.cost import measure_costs
from avpea.compare.report import require_pictures, write_report
from avpea.compare.summary import Summary, summarise
from avpea.compare.sweep import Cell, Sweep, parse_sweep, refusal
from avpea.device import choose_device, cpu_threads
from avpea.errors import AvpeaError, ExperimentError, InUseError
from avpea.evaluate import evaluate
from avpea.files import unwritable, write_json, write_text, writing
from avpea.locks import locked
from avpea.train import train

__all__ = ["Comparison", "compare"]


@dataclass(frozen=True)
class Comparison:
    """The result of `compare`.

    Attributes:
        summary: Summary of all stored results; None if there are none yet.
        page: The HTML report; None if there are no results yet.
        missing: Names of runs without a result: not started, failed, or running in another process.
        failed: Reason by name of run, for runs that failed; by `cost` if the training steps could not be measured. The
            reason names the file of the traceback, unless it is an error that a user can mend.
    """

    summary: Summary | None
    page: Path | None
    missing: tuple[str, ...] = ()
    failed: Mapping[str, str] = field(default_factory=dict)


def compare(
    sweep: str | Path | Sweep,
    changes: Mapping[str, Any] | None = None,
    *,
    runs: str | Path = "runs",
    out: str | Path = "comparison",
    seeds: Sequence[int] | None = None,
    only: Sequence[str] = (),
    device: str | None = None,
    run: bool = True,
    cost: bool = True,
    progress: bool = True,
    say: Callable[[str], None] = lambda _: None,
) -> Comparison:
    """Run everything in a sweep that has no result yet, then write its report.

    Interrupted runs are resumed. Several processes may share a grid: each takes runs that no other has started. A run
    that fails, in whatever way, is reported, and the others continue.

    Args:
        sweep: Name of a sweep, a YAML file, or a `Sweep`.
        changes: Options to change in every row, by dotted name, such as `data.root`; a `Sweep` has its own.
        runs: Folder of the run folders, which are named as by `avpea train`.
        out: Folder of the results, `OUT/RUN.json`, and of the report, `OUT/SWEEP/index.html` and `report.md`.
        seeds: Seeds to use instead of the sweep's; not beside a `Sweep`.
        only: Labels of the rows to run; the reference row is always included.
        device: Device to train, evaluate and measure on, instead of each row's `train.device`.
        run: Whether to run anything; if not, only the report is written.
        cost: Whether to measure seconds and memory of a training step, if that is not stored yet.
        progress: Whether to show progress bars.
        say: Called with each line about the progress.

    Raises:
        AvpeaError: matplotlib is not installed.
        ExperimentError: Entries of the sweep are wrong; names all of them, before anything runs.
    """
    _require_guard()
    require_pictures()
    if device is not None:
        choose_device(device)
    if isinstance(sweep, Sweep) and (changes or seeds is not None):
        raise ExperimentError("A Sweep has its options and seeds already; give changes and seeds to load_sweep.")
    grid, wrong = (sweep, []) if isinstance(sweep, Sweep) else parse_sweep(sweep, changes, seeds)
    grid = grid.only(only) if only and not wrong else grid
    runs, out = (Path(os.path.expanduser(one)) for one in (runs, out))
    found, unusable = results.load(grid, out)
    cells = [cell for cell in grid.cells() if cell not in found]
    wrong += unusable + results.mixed_data(found)
    wrong += (complaints(cells, runs, device) if run else []) + results.other_data(found, needed=run)
    if wrong:
        raise refusal(grid.name, wrong)
    failed: dict[str, str] = {}
    if run:
        make_folders(runs, out)
        for number, cell in enumerate(cells, 1):
            say(f"[{number}/{len(cells)}] {cell.row.label}, seed {cell.seed}")
            traced = out / grid.folder / f"failed-{cell.name}.txt"
            reason = _failure(traced, run_cell, cell, runs, out, progress, device)
            if reason:
                failed[cell.name] = reason
                say(f"  failed: {reason}")
        found, _ = results.load(grid, out)
    missing = tuple(cell.name for cell in grid.cells() if cell not in found)
    if not found:
        return Comparison(None, None, missing, failed)
    folder = out / grid.folder
    measured = run and cost and not missing
    costs = _stored_costs(grid, folder, device, say, measured)
    if measured and costs is None:
        reason = _failure(folder / "failed-cost.txt", _measure, grid, folder / "cost.json", say, device)
        if reason:
            failed["cost"] = reason
        else:
            costs = results.read_costs(folder, grid)
    summary, page = _reported(grid, found, costs, folder, out)
    return Comparison(summary, page, missing, failed)


def _require_guard() -> None:
    # Such a process dies of this, and its parent says what to do. Otherwise it would begin the same grid, and report
    # that each run failed.
    if getattr(multiprocessing.current_process(), "_inheriting", False):  # what multiprocessing itself asks
        raise AvpeaError(
            "A process that decodes videos has imported the script that calls avpea.compare, which must not begin "
            "again in it; guard its start with `if __name__ == '__main__':`."
        )


def _reported(
    grid: Sweep, found: Mapping[Cell, dict[str, Any]], costs: dict[str, Any] | None, folder: Path, out: Path
) -> tuple[Summary, Path]:
    try:
        summary = summarise(grid, found, costs)
        return summary, write_report(summary, folder)
    except AvpeaError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise AvpeaError(
            f"The results of {grid.name} in {out} are not as avpea writes them ({_brief(error)}); remove the damaged "
            "one, or choose another --out."
        ) from error


def _failure(traced: Path, action: Callable[..., None], *arguments: Any) -> str:
    """Why an action failed, empty if it did not; the traceback of what is no user's error goes to a file."""
    try:
        with writing(traced):
            traced.unlink(missing_ok=True)
        action(*arguments)
    except AvpeaError as error:
        return str(error)
    except Exception as error:
        try:
            write_text(traced, "".join(traceback.format_exception(error)))
        except AvpeaError as unwritten:
            return f"{_brief(error)} ({unwritten})"
        return f"{_brief(error)} (traceback in {traced})"
    return ""


def _brief(error: Exception) -> str:
    """Kind and text of an exception that was not written for users, in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


def _stored_costs(
    grid: Sweep, folder: Path, device: str | None, say: Callable[[str], None], measured: bool
) -> dict[str, Any] | None:
    """The stored costs, unless rows have changed since; what is wrong with them is said.

    Args:
        grid: The rows.
        folder: Folder of the report.
        device: Device to measure on, instead of each row's `train.device`.
        say: Called with a sentence.
        measured: Whether they are measured if there are none.
    """
    costs, file = results.read_costs(folder, grid), folder / "cost.json"
    if costs is None:
        return None
    if changed := results.other_costs(costs, grid, device, here=measured):
        then = "measured again" if measured else "left out"
        say(f"The costs in {file} were measured otherwise ({'; '.join(changed[:3])}); they are {then}.")
        return None
    if not results.described_costs(costs, grid):
        say(f"{file} is of an earlier version and does not say what was measured; if rows have changed, remove it.")
    return costs


def _measure(grid: Sweep, file: Path, say: Callable[[str], None], device: str | None) -> None:
    write_json(file, measure_costs(grid, say=say, device=device), indent=1)


def make_folders(*folders: Path) -> None:
    """Make folders that do not exist yet.

    Raises:
        AvpeaError: A folder cannot be made or written to.
    """
    for folder in folders:
        if obstacle := unwritable(folder):
            raise AvpeaError(f"{folder} cannot be used as a folder ({obstacle}); choose another one.")
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)


def run_cell(cell: Cell, runs: Path, out: Path, progress: bool, device: str | None = None) -> None:
    """Train and evaluate one run on one device and store its result, unless another process does or has done so."""
    try:
        with locked(runs / cell.name, "is being trained"):
            if results.read(out, cell) is not None:
                return
            experiment = cell.experiment
            count(experiment)  # which `record` needs at the end: what fails there should fail before training
            trained = train(experiment, runs / cell.name, device=device, progress=progress)
            with cpu_threads(experiment.train.threads):
                tested = evaluate(
                    trained.run,
                    "test",
                    root=experiment.data.root,
                    cache=experiment.data.cache,
                    weights=experiment.backbone.weights,
                    audio_weights=getattr(experiment.encoder, "audio_weights", None),
                    device=device or experiment.train.device,
                    trust=True,  # it has just been trained here, whether it could be signed or not
                    progress=progress,
                )
            results.save(out, cell, results.record(cell, trained, tested))
    except InUseError:
        return
