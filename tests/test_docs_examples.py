"""The extensions of the documentation: installed as a package would be, named in a recipe, trained, and used."""

import json
import shutil
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from avpea import registry

EXAMPLES = Path(__file__).parents[1] / "docs" / "examples"
PROJECT = tomllib.loads((EXAMPLES / "pyproject.toml").read_text("utf-8"))["project"]
KINDS = ("adapter", "encoder", "backbone", "head", "reader", "task")


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The example package as `pip install docs/examples` leaves it, from its own pyproject.toml."""
    site = tmp_path / "site"
    shutil.copytree(EXAMPLES / "avpea_examples", site / "avpea_examples", ignore=shutil.ignore_patterns("__pycache__"))
    about = site / f"avpea_examples-{PROJECT['version']}.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {PROJECT['name']}\nVersion: {PROJECT['version']}\n")
    groups = [
        f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in points.items())
        for group, points in PROJECT["entry-points"].items()
    ]
    (about / "entry_points.txt").write_text("\n".join(groups))
    monkeypatch.syspath_prepend(str(site))
    registry._found_by.cache_clear()
    yield
    registry._found_by.cache_clear()
    for name in [name for name in sys.modules if name.partition(".")[0] == "avpea_examples"]:
        del sys.modules[name]


def trained(experiment: Any, run: Path) -> Any:
    from avpea.evaluate import evaluate
    from avpea.train import train

    train(experiment, run, progress=False)
    return evaluate(run, "test", progress=False)


@pytest.mark.usefixtures("installed")
def test_there_is_one_of_each_kind() -> None:
    groups = {f"avpea.{kind}s" for kind in KINDS}
    assert PROJECT["entry-points"].keys() == groups
    for kind in KINDS:
        for name in PROJECT["entry-points"][f"avpea.{kind}s"]:
            assert name in registry.names(kind)
            assert registry.load(kind, name)


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    "changes",
    [
        {"adapter.name": "mean_exchange", "adapter.width": 4},
        {"encoder.name": "bridge"},
        {
            "backbone.name": "torchvision/vit_b_16", "backbone.weights": "random", "backbone.image_size": 32,
            "backbone.depth": 1, "adapter.reduction": 64,
        },
        {"head.name": "cosine", "head.temperature": 0.2},
    ],
    ids=["adapter", "encoder", "backbone", "head"],
)  # fmt: skip
def test_it_trains_and_is_evaluated(
    changes: dict[str, Any], tiny_experiment: Callable[..., Any], tmp_path: Path
) -> None:
    import avpea

    experiment = tiny_experiment(**changes, **{"train.epochs": 1})
    result = trained(experiment, tmp_path / "run")
    assert 0 <= result.metrics["segment_accuracy"] <= 1
    # The checkpoint alone rebuilds it.
    predictor = avpea.load(tmp_path / "run")
    assert predictor.info.experiment.to_dict() == experiment.rebuilt().to_dict()
    assert len(predictor.predict(result.samples[0].video).decisions) == 3


@pytest.mark.usefixtures("installed")
def test_a_new_adapter_changes_nothing_and_then_exchanges() -> None:
    import torch
    from avpea_examples.adapter import MeanExchange

    x, other = torch.randn(2, 5, 8), torch.randn(2, 7, 8)
    adapter = MeanExchange(8, width=3)
    assert not adapter(x, other).any()
    with torch.no_grad():
        adapter.gate.fill_(1)
    assert not torch.equal(adapter(x, other), adapter(x, other + 1))


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"adapter.name": "mean_exchange", "adapter.width": 0}, r"adapter\.width is 0; expected 1 or more\."),
        ({"adapter.name": "mean_exchange", "adapter.rank": 4}, "an option of the adapter 'lora'.*'mean_exchange'"),
        ({"head.name": "cosine", "head.temperature": -1}, r"head\.temperature is -1"),
        ({"encoder.name": "bridge", "adapter.name": "lora"}, "the encoder 'bridge' has no place for it"),
    ],
)
def test_what_an_extension_cannot_be_told_is_refused(
    changes: dict[str, Any], message: str, tiny_experiment: Callable[..., Any]
) -> None:
    from avpea.errors import ExperimentError

    with pytest.raises(ExperimentError, match=message):
        tiny_experiment(**changes)


@pytest.mark.usefixtures("installed")
def test_the_backbone_takes_a_file_of_torchvisions(tmp_path: Path) -> None:
    import torch
    from torchvision.models import VisionTransformer

    from avpea import backbones
    from avpea.experiment import parse_section

    torch.manual_seed(3)
    vit = VisionTransformer(32, 16, 2, 12, 768, 3072).eval()
    torch.save(vit.state_dict(), tmp_path / "vit.pth")
    options = parse_section(
        "backbone", name="torchvision/vit_b_16", weights=str(tmp_path / "vit.pth"), image_size=32, depth=2
    )
    backbone, pixels = backbones.build(options), torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        x = backbone.embed(pixels)
        for block in backbone.blocks_for(32, 32):
            x = x + block.attend(x)
            x = x + block.feed(x)
        torch.testing.assert_close(vit.heads(backbone.norm(x)[:, 0]), vit(pixels))


@pytest.mark.usefixtures("installed")
def test_the_reader_reads_folders(
    tiny_data: Path, tmp_path: Path, tiny_experiment: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    from avpea.cli import main

    root = tmp_path / "sorted"
    places = ["train/green/g0", "train/red/r0", "train/background/g1", "val/green/g3", "test/red/r4", "more/blue/g4"]
    places.append("test/green/g0")  # another video of the same name
    for place in places:
        video = root / f"{place}.mp4"
        video.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(tiny_data / "AVE" / video.name, video)
    assert main(["data", "verify", "split_folders", "--data.root", str(root), "--data.segments", "3"]) == 0
    told = capsys.readouterr().out
    assert "train: 3 samples (3 with a video that opens), 9 seconds" in told
    assert "Remark: Not used, as they are none of train, val, test: more." in told
    assert "in two splits" not in told
    changes = {"data.name": "split_folders", "data.root": str(root), "data.cache": str(tmp_path / "cache")}
    experiment = tiny_experiment(**changes, **{"train.epochs": 1})
    assert experiment.data.segments == 3  # what both readers share has stayed
    assert trained(experiment, tmp_path / "run").metrics["videos"] == 2


@pytest.mark.usefixtures("installed")
def test_the_task_has_a_head_a_metric_an_answer_and_a_command(
    tiny_values: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import avpea
    from avpea.cli import main, make_parser
    from avpea.experiment import Experiment

    values = {key: value for key, value in tiny_values.items() if key != "head"} | {"task": "tagging"}
    experiment = Experiment.from_dict(values).override({"train.epochs": 1, "train.segments": 2})
    assert experiment.head.name == "tags"
    result = trained(experiment, tmp_path / "run")
    assert 0 <= result.metrics["tag_accuracy"] <= 1
    assert result.metrics["accuracy_per_class"].keys() == {"green", "red"}
    assert "tag" in make_parser().format_help()
    video = str(result.samples[0].video)
    assert main(["tag", str(tmp_path / "run"), video, "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    table = tmp_path / "tags.csv"
    assert main(["tag", str(tmp_path / "run"), str(Path(video).parent), "--csv", str(table), "--quiet"]) == 0
    assert table.read_text().startswith("video,tag,probability,error\n")
    capsys.readouterr()
    assert printed["tags"] == dict(avpea.load(tmp_path / "run").tag(video).tags)
    assert main(["predict", str(tmp_path / "run"), video]) == 1
    assert f"it is for `avpea tag {tmp_path / 'run'} VIDEO`" in capsys.readouterr().err
