"""Extensions of another package do all that ours do: the package in tests/outside, through entry points."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.contract import assert_refuses_other_data, assert_task

OUTSIDE = Path(__file__).parent / "outside"
NAMES = {
    "adapter": {"their_convolution", "their_plain", "their_pooled"},
    "backbone": {"their_mixer"},
    "reader": {"their_lines"},
    "task": {"clip_label"},
    "head": {"clip_linear"},
}


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The package, as pip would install it."""
    from avpea import registry

    site = tmp_path_factory.mktemp("site")
    shutil.copytree(OUTSIDE / "theirs", site / "theirs")
    about = site / "theirs-0.1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 0.1\n")
    shutil.copy(OUTSIDE / "entry_points.txt", about)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(site))
        patch.setenv("PYTHONPATH", os.pathsep.join([str(site), str(Path(__file__).parents[1])]))
        registry._found_by.cache_clear()
        yield site
    registry._found_by.cache_clear()
    for name in [name for name in sys.modules if name.partition(".")[0] == "theirs"]:
        del sys.modules[name]


@pytest.fixture
def values(installed: Path, tiny_values: dict[str, Any], tiny_data: Path, tmp_path: Path) -> dict[str, Any]:
    """An experiment in which everything is theirs but the encoder."""
    root = tmp_path / "lines"
    root.mkdir()
    videos = sorted((tiny_data / "AVE").iterdir())
    for split in ("train", "val", "test"):
        lines = [f"{video.stem} {'green' if video.stem[0] == 'g' else 'red'}" for video in videos]
        (root / f"{split}.txt").write_text("\n".join(lines))
    for video in videos:
        (root / f"{video.stem}.film").symlink_to(video)
    return {
        **tiny_values,
        "task": {"name": "clip_label", "smoothing": 0.5},
        "data": {**tiny_values["data"], "name": "their_lines", "root": str(root), "suffix": ".film"},
        "backbone": {"name": "their_mixer", "width": 24, "image_size": 32},
        "adapter": {"name": "their_convolution", "kernel": 5},
        "head": {"dropout": 0.1},
        "train": {**tiny_values["train"], "epochs": 1, "segments": 2},
    }


def test_they_are_listed_beside_ours(installed: Path) -> None:
    from avpea import registry

    assert all(names <= set(registry.names(kind)) for kind, names in NAMES.items())


def test_from_recipe_to_answer(values: dict[str, Any], tiny_data: Path, tmp_path: Path, capsys: Any) -> None:
    from avpea.checkpoint import read_info

    run = assert_task(values, min((tiny_data / "AVE").iterdir()), tmp_path, capsys)
    assert_refuses_other_data(values)
    trained: Any = read_info(run).experiment
    assert (trained.adapter.kernel, trained.head.name, trained.head.dropout) == (5, "clip_linear", 0.1)
    assert (trained.backbone.width, trained.data.suffix, trained.task.smoothing) == (24, ".film", 0.5)


def test_options_of_the_constructor_are_options_of_the_recipe(values: dict[str, Any]) -> None:
    from avpea.errors import ExperimentError
    from avpea.experiment import Experiment

    made: Any = Experiment.from_dict({**values, "adapter": {"name": "their_pooled", "scale": 2}}).adapter
    assert (made.scale, made.streams) == (2.0, "both")
    for adapter, message in (
        ({"name": "their_pooled", "kernel": 3}, "adapter.kernel is an option of the adapter 'their_convolution'"),
        ({"name": "their_pooled", "scale": "wide"}, "adapter.scale is 'wide'; expected a number"),
        ({"name": "their_convolution", "kernal": 3}, "Did you mean 'adapter.kernel'"),
        ({"name": "their_convolution", "kernel": 4}, "adapter.kernel is 4; expected an odd number"),
        ({"name": "av_pea", "kernel": 3}, "adapter.kernel is an option of the adapter 'their_convolution'"),
    ):
        with pytest.raises(ExperimentError, match=message):
            Experiment.from_dict({**values, "adapter": adapter})


@pytest.mark.parametrize("adapter", ["their_convolution", "their_plain", "their_pooled"])
def test_they_train_and_answer_in_bfloat16(
    values: dict[str, Any], tiny_data: Path, tmp_path: Path, adapter: str
) -> None:
    """Whatever type their layers are written for: trained weights are in float32, frozen ones in bfloat16."""
    import avpea
    from avpea.experiment import Experiment
    from avpea.train import train

    train_options = {**values["train"], "precision": "bf16"}
    experiment = Experiment.from_dict({**values, "adapter": {"name": adapter}, "train": train_options})
    train(experiment, tmp_path / "run", progress=False)
    predictor = avpea.load(tmp_path / "run")
    assert {str(p.dtype) for p in predictor.model.encoder.backbone.parameters()} == {"torch.bfloat16"}
    assert {str(p.dtype) for group in predictor.model.trained_parameters().values() for p in group} == {"torch.float32"}
    assert predictor.label(min((tiny_data / "AVE").iterdir())).label in ("green", "red")


def test_every_keyword_of_a_constructor_can_be_set(values: dict[str, Any]) -> None:
    from avpea.experiment import Experiment, parse_overrides

    words = ["--adapter.name", "their_plain", "--adapter.dropout_rate", "0.3", "--adapter.reduction", "2"]
    made: Any = Experiment.from_dict(values).override(parse_overrides(words)).adapter
    assert (made.dropout_rate, made.reduction) == (0.3, 2)


def test_their_backbone_serves_ours_and_ours_serve_theirs(values: dict[str, Any], tiny_values: dict[str, Any]) -> None:
    from avpea.accounting import count
    from avpea.errors import ExperimentError
    from avpea.experiment import Experiment

    mixed = {**tiny_values, "backbone": values["backbone"], "adapter": {"name": "lavish", "reduction": 4}}
    assert count(Experiment.from_dict(mixed)).adapters > 0
    with pytest.raises(ExperimentError, match="works inside the attention's linear layers"):
        count(Experiment.from_dict({**mixed, "adapter": {"name": "lora"}}))


@pytest.mark.slow
def test_whole_comparison_with_costs_and_the_command_in_a_process_of_its_own(
    values: dict[str, Any], tiny_data: Path, tmp_path: Path
) -> None:
    import yaml

    recipe, sweep = tmp_path / "recipe.yaml", tmp_path / "sweep.yaml"
    recipe.write_text(yaml.safe_dump(values))
    rows = {"theirs": str(recipe), "other": {"recipe": str(recipe), "adapter": {"name": "their_pooled"}}}
    sweep.write_text(yaml.safe_dump({"rows": rows, "seeds": [0]}))
    words = [sys.executable, "-c", "import sys; from avpea.cli import main; sys.exit(main())"]

    def run(*more: str) -> str:
        done = subprocess.run([*words, *more], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    summary = json.loads(run("compare", str(sweep), "--json", "--quiet"))
    assert summary["metric"] == "clip_accuracy"
    assert all(row["step"]["step_seconds"] > 0 for row in summary["rows"])
    video = min((tiny_data / "AVE").iterdir())
    trained = next(path for path in (tmp_path / "runs").iterdir() if path.is_dir())
    assert json.loads(run("label", str(trained), str(video), "--json"))["label"] in ("green", "red")
    assert "label" in run("--help")
