"""Imports of files that are hostile, incomplete or of another kind: a sentence each, and nothing is left behind."""

import os
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from avpea.cli import main
from avpea.errors import CheckpointError
from avpea.official import import_checkpoint
from avpea.official._engine import _making
from tests.official import files


@pytest.fixture(scope="module")
def table() -> dict[str, Tensor]:
    return files.values(files.cmbs())


class Code:
    """Unpickling it would run a command."""

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        return os.system, ("touch /tmp/avpea-ran-code",)


Make = Callable[[Path, dict[str, Tensor]], object]


def expanded(path: Path, table: dict[str, Tensor]) -> None:
    """A few bytes that claim to be a terabyte."""
    torch.save(table | {"v_fc.weight": torch.zeros(1).expand(512, 2**31)}, path)


def cut(path: Path, table: dict[str, Tensor]) -> None:
    torch.save(table, path)
    path.write_bytes(path.read_bytes()[: 3 * path.stat().st_size // 4])


BAD: dict[str, tuple[Make, str]] = {
    "no file": (lambda path, table: None, "cannot be read as weights"),
    "a folder": (lambda path, table: path.mkdir(), "cannot be read as weights"),
    "empty": (lambda path, table: path.write_bytes(b""), "cannot be read as weights"),
    "text": (lambda path, table: path.write_text("no checkpoint"), "cannot be read as weights"),
    "code": (lambda path, table: path.write_bytes(pickle.dumps({"a": Code()})), "cannot be read as weights"),
    "code inside": (lambda path, table: torch.save(table | {"x": Code()}, path), "cannot be read as weights"),
    "a whole module": (lambda path, table: torch.save(torch.nn.Linear(2, 2), path), "cannot be read as weights"),
    "cut off": (cut, "cannot be read as weights"),
    "numbers": (lambda path, table: torch.save([1, 2], path), "holds no table of named tensors"),
    "nothing": (lambda path, table: torch.save({}, path), "is no checkpoint of marmot-xy/CMBS: its 0 tensors"),
    "another network": (lambda path, table: torch.save({"conv1.weight": torch.zeros(2)}, path), "is no checkpoint of"),
    "another kind": (
        lambda path, table: torch.save(files.values(files.grounding()), path),
        "looks like a checkpoint of GeWu-Lab/MUSIC-AVQA.*avpea import avst",
    ),
    "too few": (
        lambda path, table: torch.save({k: v for k, v in table.items() if not k.startswith("AVInter")}, path),
        "lacks 6 tensors of this model, such as head.head.join_video",
    ),
    "another shape": (
        lambda path, table: torch.save(table | {"AVInter.norm1.weight": torch.zeros(3)}, path),
        r"head.head.join_video.norm.weight has shape \(3,\) there, expected \(256,\)",
    ),
    "not finite": (
        lambda path, table: torch.save(table | {"AVInter.norm1.weight": torch.full((256,), torch.nan)}, path),
        "not finite",
    ),
    "too large for float32": (
        lambda path, table: torch.save(
            table | {"AVInter.norm1.weight": torch.full((256,), 1e39, dtype=torch.float64)}, path
        ),
        "not finite",
    ),
    "no recurrent layer": (
        lambda path, table: torch.save({k: v for k, v in table.items() if "audio_rnn" not in k}, path),
        r"lacks the tensor audio_visual_rnn_layer\.audio_rnn\.weight_ih_l0; expected a whole checkpoint of marmot-xy",
    ),
    "no classes": (
        lambda path, table: torch.save({k: v for k, v in table.items() if "event_classifier" not in k}, path),
        r"lacks the tensor localize_module\.event_classifier\.weight",
    ),
    "a vector": (
        lambda path, table: torch.save(table | {"v_fc.weight": torch.zeros(4)}, path),
        "has a tensor of a shape that cannot be .*; expected a whole checkpoint of marmot-xy/CMBS, such as model_epoch",
    ),
    "one name twice": (
        lambda path, table: torch.save(table | {"module.v_fc.bias": table["v_fc.bias"] + 5}, path),
        r"has two tensors for one name, 'v_fc\.bias' and 'module\.v_fc\.bias'",
    ),
    "expanded": (expanded, "not stored as such"),
    "sparse": (
        lambda path, table: torch.save(table | {"v_fc.weight": torch.zeros(512, 512).to_sparse()}, path),
        "not stored as such",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files_are_refused_in_a_sentence(
    name: str, table: dict[str, Tensor], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make, message = BAD[name]
    file = tmp_path / "given.pt"
    make(file, table)
    before = sorted(tmp_path.iterdir())
    assert main(["import", "cmbs", str(file), "--run", str(tmp_path / "run")]) == 1
    said = capsys.readouterr().err
    assert pytest.importorskip("re").search(message, said), said
    assert said.count("\n") == 1
    assert said.rstrip().endswith(".")
    assert "Traceback" not in said
    assert sorted(tmp_path.iterdir()) == before
    assert not Path("/tmp/avpea-ran-code").exists()


_ADAPTERS = ("my_tokens", "down_sampler.weight", "up_sampler.weight", "ln_before.weight", "ln_post.weight")
_FLAT = {f"vis_adapter_blocks_p1.0.{name}": torch.zeros(2) for name in _ADAPTERS}
_EMPTY = {name: torch.zeros((2, 0, 1, 1) if "down" in name else (2, 8)) for name in _FLAT}
_CLASS = {"ViT.v.cls_token": torch.zeros(1, 1, 768)}


@pytest.mark.parametrize(
    ("kind", "given", "told"),
    [
        (
            "avst",
            dict.fromkeys(("fc_gl.weight", "fc_a1.weight", "fc_ans.weight"), torch.zeros(4, 2)),
            "lacks the tensor",
        ),
        ("lavish", _FLAT | _CLASS, "cannot be"),
        ("lavish", _FLAT | {"ViT.v.cls_token": torch.zeros(768)}, "cannot be"),
        ("lavish", _EMPTY | _CLASS, "cannot be"),
        ("valor", {"clip_model.visual.class_embedding": torch.tensor(1.0)}, "cannot be"),
    ],
)
def test_other_kinds_say_what_a_file_lacks(kind: str, given: dict[str, Tensor], told: str, tmp_path: Path) -> None:
    torch.save(given, tmp_path / "given.pt")
    with pytest.raises(CheckpointError, match=rf"given\.pt .*{told}.*; expected a whole checkpoint of .*\.$"):
        import_checkpoint(kind, tmp_path / "given.pt", tmp_path / "run")
    assert [path.name for path in tmp_path.iterdir()] == ["given.pt"]


def test_imports_side_by_side_keep_their_folders(tmp_path: Path) -> None:
    """A run whose name starts with another one's and a dot; and one whose name is a pattern."""
    for name in ("m", "m.v2", "[m]"):
        (tmp_path / f".{name}.0123abcd.tmp").mkdir()
    with _making(tmp_path / "m") as aside:
        assert aside.parent == tmp_path
        assert {path.name for path in tmp_path.glob(".*.tmp")} == {
            aside.name,
            ".m.v2.0123abcd.tmp",
            ".[m].0123abcd.tmp",
        }
    with _making(tmp_path / "[m]"):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == [".m.v2.0123abcd.tmp", "[m]", "m"]


def test_wrapped_tables_are_opened(table: dict[str, Tensor], tmp_path: Path) -> None:
    for number, wrapped in enumerate(
        ({"state_dict": table, "epoch": 3}, {"model": {f"module.{k}": v for k, v in table.items()}, "optimizer": {}})
    ):
        torch.save(wrapped, tmp_path / f"{number}.pth")
        report = import_checkpoint("cmbs", tmp_path / f"{number}.pth", tmp_path / f"run{number}")
        assert report.missing == report.unknown == ()


def test_the_run_is_a_new_folder_in_a_place_that_can_be_written(
    table: dict[str, Tensor], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save(table, tmp_path / "a.pt")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "note").write_text("")
    (tmp_path / "empty").mkdir()
    for run, message in (
        (tmp_path / "full", "is not empty; choose another folder"),
        (tmp_path / "a.pt", "is a file; choose another folder"),
        (tmp_path / "a.pt" / "run", "cannot be"),
        (Path("/proc/avpea/run"), "cannot be made"),
    ):
        assert main(["import", "cmbs", str(tmp_path / "a.pt"), "--run", str(run)]) == 1
        assert message in capsys.readouterr().err
    assert main(["import", "cmbs", str(tmp_path / "a.pt"), "--run", str(tmp_path / "empty")]) == 0
    said = capsys.readouterr().out
    assert "registered there, but never used" in said
    assert "How inputs differ" in said
    assert sorted(p.name for p in (tmp_path / "empty").iterdir()) == [
        "experiment.yaml",
        "import.json",
        "model.safetensors",
    ]


def test_a_recipe_of_another_task_is_refused(
    table: dict[str, Tensor], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save(table, tmp_path / "a.pt")
    assert main(["import", "cmbs", str(tmp_path / "a.pt"), "paper/avqa-avst", "--run", str(tmp_path / "run")]) == 1
    assert "is a checkpoint for avel, but the recipe paper/avqa-avst is for avqa" in capsys.readouterr().err


def test_an_unknown_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemExit):
        main(["import", "cmbz", "a.pt", "--run", str(tmp_path / "run")])
