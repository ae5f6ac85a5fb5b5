"""Exported models: they compute and answer as the run does, by themselves, and what is wrong with one is a sentence."""

import dataclasses
import hashlib
import importlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import jaxtyping
import pytest
import torch

from avpea import registry
from avpea.checkpoint import save_model
from avpea.cli import main
from avpea.description import CheckpointInfo, described
from avpea.errors import AvpeaError, CheckpointError
from avpea.experiment import Experiment
from avpea.export import _export, _graph, _write, export
from avpea.export._about import inputs_of, preprocessing
from avpea.exported import named, open_export, restored
from avpea.labels import CaptionLabels
from avpea.model import build
from avpea.predict import Predictor, load
from tests.test_history import differences
from tests.tiny import coloured_video, event_labels, tiny_options

WITHOUT = [name for name in ("onnx", "onnxscript", "onnxruntime") if importlib.util.find_spec(name) is None]
if WITHOUT:
    pytest.skip(f"{' and '.join(WITHOUT)} are not installed (avpea[onnx])", allow_module_level=True)


@pytest.fixture(scope="module", autouse=True)
def untyped() -> Iterator[None]:
    """Without the checks of shapes, which take the symbols of sizes in tracing for no numbers."""
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", before)


@pytest.fixture(scope="module")
def made(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """The tiny run for ONNX Runtime, and what it was written from. Read only."""
    kept: list[Any] = []

    def traced(*some: Any, **more: Any) -> Any:
        kept.append(_graph.traced(*some, **more))
        return kept[0]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_export, "traced", traced)
        report = export(tiny_run, "onnx", tmp_path_factory.mktemp("exported") / "onnx")
    assert report.difference < 1e-5
    assert report.segments is None
    return report.folder, kept[0]


@pytest.fixture(scope="module")
def exported(made: tuple[Path, Any]) -> Path:
    """The folder of `made`."""
    return made[0]


@pytest.fixture
def copy(exported: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(exported, tmp_path / "copy"))


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return coloured_video(tmp_path_factory.mktemp("videos") / "seven.mp4", "red", 1, 4, seconds=7)


def alike(one: Predictor, other: Predictor, video: Path) -> None:
    verb = one.model.task.verb
    answers = [getattr(predictor, verb)(video).to_dict() for predictor in (one, other)]
    assert list(differences(*answers)) == []


# What it computes and answers.


@pytest.mark.parametrize("seconds", [0.4, 2, 7])
def test_it_answers_as_the_run_does(exported: Path, tiny_run: Path, tmp_path: Path, seconds: float) -> None:
    clip = coloured_video(tmp_path / "clip.mp4", "green", 0, seconds / 2, seconds=seconds)
    alike(load(tiny_run), load(exported), clip)


def test_the_folder_alone_is_enough(exported: Path, video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("the backbone was built")

    monkeypatch.setattr("avpea.backbones.build", never)
    assert load(exported).predict(video).events
    assert "/" not in json.dumps(json.loads((exported / "export.json").read_text())["description"]).replace("n/a", "")


def test_it_says_what_goes_in_and_what_comes_out(exported: Path) -> None:
    import onnx

    about = json.loads((exported / "export.json").read_text())
    frames, sound = about["inputs"]
    assert frames["shape"] == ["batch", "segments", 32, 32, 3]
    assert sound["shape"] == ["batch", "segments", 98, 32]
    assert (sound["sample_rate_hz"], sound["mel_bins"], sound["frame_shift_ms"]) == (16_000, 32, 10.0)
    assert about["labels"] == {"class_names": ["green", "red"]}
    assert {one["name"]: one["shape"] for one in about["outputs"]} == {
        "output": ["batch", "segments", 3],
        "visual_cls": ["batch", "segments", 64], "audio_cls": ["batch", "segments", 64],
    }  # fmt: skip
    assert about["parity"]["difference"] <= about["parity"]["tolerance"] == 1e-4
    inside = onnx.load(exported / "model.onnx").metadata_props
    known_later = {"parity", "files", "sha256"}
    described_inside = json.loads({one.key: one.value for one in inside}["avpea"])
    assert described_inside == {name: value for name, value in about.items() if name not in known_later}
    assert "novelty_limit" in described_inside["description"]["calibration"]


def test_it_says_which_frames_and_sounds_lavish_has(tiny_values: dict[str, Any]) -> None:
    values = {**tiny_values, "data": {**tiny_values["data"], "seconds": "lavish"}}
    experiment, model = Experiment.from_dict(values), SimpleNamespace(image_size=32)
    found = preprocessing(experiment, cast("Any", model), inputs_of(experiment, 32, 1, 3))
    assert "that at 0 s in it" in found[0]["about"]
    assert "start evenly from the window's start to 1.1 s before its end" in found[1]["about"]


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_a_batch_is_as_its_windows_one_by_one(exported: Path, batch: int) -> None:
    model = open_export(exported)
    frames = torch.randint(0, 255, (batch, 3, 32, 32, 3), dtype=torch.uint8)
    sounds = torch.randn(batch, 3, 98, 32)
    together = model(frames, sounds)
    apart = torch.cat([model(frames[i : i + 1], sounds[i : i + 1]) for i in range(batch)])
    torch.testing.assert_close(together, apart, rtol=1e-5, atol=1e-5)


def test_the_command_line_answers_the_same(
    exported: Path, tiny_run: Path, video: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = []
    for words in ([str(tiny_run)], [str(exported)], [str(exported), "--runtime", "onnx"]):
        assert main(["predict", *words, str(video), "--json"]) == 0
        lines.append(json.loads(capsys.readouterr().out))
    assert list(differences(lines[0], lines[1])) == []
    assert lines[1] == lines[2]
    out = tmp_path / "all.jsonl"
    assert main(["predict", str(exported), str(video), "--out", str(out), "--quiet"]) == 0
    assert json.loads(out.read_text())["events"] == lines[1]["events"]


def test_a_run_uses_its_own_export_until_it_changes(
    tiny_run: Path, exported: Path, video: Path, tmp_path: Path
) -> None:
    run = Path(shutil.copytree(tiny_run, tmp_path / "run"))
    with pytest.raises(CheckpointError, match=r"is not exported; `avpea export .* --to onnx` makes .*onnx\."):
        load(run, runtime="onnx")
    shutil.copytree(exported, run / "onnx")
    alike(load(tiny_run), load(run, runtime="onnx"), video)
    from avpea.checkpoint import add_calibration, load_model

    changed = load_model(run)[0].task.calibration
    assert changed is not None
    add_calibration(run / "model.safetensors", dataclasses.replace(changed, chosen={"threshold": 0.77}))
    with pytest.raises(CheckpointError, match="before it was trained or calibrated further"):
        load(run, runtime="onnx")


# What is refused.


def refused(tmp_path: Path, run: Path, match: str, to: Any = "onnx", **options: Any) -> None:
    with pytest.raises(AvpeaError, match=match):
        export(run, to, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.glob(".*"))


def test_tasks_that_need_more_than_a_video(tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reasons = {name: registry.load("task", name).unexported for name in registry.names("task")}
    assert {name for name, reason in reasons.items() if not reason} == {"avel", "avs", "avvp"}
    assert "beams" in reasons["avc"]
    assert all("question" in reasons[name] for name in ("avqa", "avqa_generative", "avqa_grounding"))
    monkeypatch.setattr(registry.load("task", "avel"), "unexported", reasons["avc"])
    refused(tmp_path, tiny_run, r"'avel' cannot be exported: it writes .* beams, .*; use `avpea predict .* VIDEO`\.$")


def test_a_graph_that_computes_something_else(
    tiny_run: Path, made: tuple[Path, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def off(*_: Any) -> Callable[..., Any]:
        def run(inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
            with torch.no_grad():
                return {name: value + 3e-4 for name, value in graph[0].outputs(**inputs).items()}

        return run

    graph: list[Any] = []
    monkeypatch.setattr(_export, "write_graph", lambda *_: None)
    monkeypatch.setattr(_export, "runner", off)

    def traced(one: Any, *_: Any, **__: Any) -> Any:
        graph.append(one)
        return made[1]

    monkeypatch.setattr(_export, "traced", traced)
    refused(tmp_path, tiny_run, r"differ by 0\.0003, and at most 0\.0001 is rounding; nothing was written")


def test_a_run_that_is_written_anew_meanwhile(
    tiny_run: Path, made: tuple[Path, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the export would be of the weights before, and be taken for one of those now."""

    def trained_on(*_: Any, **__: Any) -> Any:
        os.utime(run / "model.safetensors", ns=(0, 0))
        return made[1]

    run = shutil.copytree(tiny_run, tmp_path / "run")
    monkeypatch.setattr(_export, "traced", trained_on)
    refused(tmp_path, run, "has been written anew since it was loaded")


def test_nothing_is_left_of_an_export_that_fails(
    tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(_export, "_write", full)
    refused(tmp_path, tiny_run, "out cannot be written .No space left on device.; make room there")


def test_what_is_there_stays(tiny_run: Path, copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path.name: path.read_bytes() for path in copy.iterdir()}
    with pytest.raises(AvpeaError, match=r"copy exists; --overwrite replaces it, and --out DIR names another place\."):
        export(tiny_run, "onnx", copy)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    assert main(["export", str(tiny_run), "--to", "onnx", "--out", str(tmp_path / "mine"), "--overwrite"]) == 1
    assert "mine exists and is no exported model" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in copy.iterdir()} == before
    assert (tmp_path / "mine" / "letter.txt").read_text() == "dear"


def test_an_export_is_replaced_as_a_whole(
    tiny_run: Path, copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (copy / "old.txt").write_text("old")
    (tmp_path / ".copy.0123abcd.tmp").mkdir()  # of a killed process

    def written(*some: Any) -> dict[str, Any]:
        (some[-1] / "model.onnx").write_text("new")
        return {"parity": {"difference": 0.0}, "segments": None}

    monkeypatch.setattr(_export, "_write", written)
    export(tiny_run, "onnx", copy, overwrite=True)
    assert sorted(path.name for path in copy.iterdir()) == ["export.json", "model.onnx"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy"]

    def refuse(one: Path, name: Path) -> None:
        if one.suffix == ".tmp" and (one / "export.json").is_file() and not (one / "old.txt").exists():
            raise KeyboardInterrupt
        os.rename(one, name)

    (copy / "old.txt").write_text("old")
    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(KeyboardInterrupt):
        export(tiny_run, "onnx", copy, overwrite=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy"]
    assert sorted(path.name for path in copy.iterdir()) == ["export.json", "model.onnx", "old.txt"]


def test_exports_side_by_side_keep_their_folders(tmp_path: Path) -> None:
    """A folder whose name starts with another one's and a dot."""
    with _export._new_folder(tmp_path / "m.v2", False) as longer:
        with _export._new_folder(tmp_path / "m", False):
            pass
        assert longer.is_dir()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m", "m.v2"]


def test_a_folder_that_cannot_be_the_export(
    tiny_run: Path, copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here" / "below").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here" / "below")
    for place in (".", "..", "/", tmp_path / "here"):
        with pytest.raises(
            AvpeaError, match=r"is the folder that the command runs in, or above it; name a new one with"
        ):
            export(tiny_run, "onnx", place, overwrite=True)
    (tmp_path / "link").symlink_to(copy)

    def written(*some: Any) -> dict[str, Any]:
        (some[-1] / "model.onnx").write_text("new")
        return {"parity": {"difference": 0.0}, "segments": None}

    monkeypatch.setattr(_export, "_write", written)
    assert export(tiny_run, "onnx", tmp_path / "link", overwrite=True).folder == tmp_path / "link"
    assert (tmp_path / "link").readlink() == copy
    assert (copy / "model.onnx").read_text() == "new"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy", "here", "link"]


def test_a_run_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", str(tmp_path / "none"), "--to", "onnx"]) == 1
    assert "There is no run folder or checkpoint" in capsys.readouterr().err


def test_a_torch_that_is_too_old_is_named(tmp_path: Path, tiny_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "__version__", "2.7.1+cpu")
    with pytest.raises(AvpeaError, match=r"^Exporting to onnx needs torch 2\.8 or newer, and this is 2\.7\.1"):
        export(tiny_run, "onnx", tmp_path / "onnx")


def test_a_missing_library_is_named(tiny_run: Path, exported: Path, tmp_path: Path, monkeypatch: Any) -> None:
    found = importlib.util.find_spec
    absent = ("onnxscript", "openvino", "onnxruntime")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in absent else found(name))
    refused(tmp_path, tiny_run, r"Exporting to onnx needs onnxscript and onnxruntime: pip install 'avpea\[onnx\]'")
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    with pytest.raises(AvpeaError, match=r"^This needs ONNX Runtime: pip install 'avpea\[onnx\]'$"):
        load(exported)


def changed(folder: Path, **values: Any) -> None:
    """Change a description as in an export of earlier versions, which has no checksum of it."""
    path = folder / "export.json"
    about = {**json.loads(path.read_text()), **values}
    path.write_text(json.dumps({name: value for name, value in about.items() if name != "sha256"}))


def test_damage_is_a_sentence(copy: Path, exported: Path) -> None:
    def told(match: str) -> None:
        with pytest.raises(AvpeaError, match=match) as error:
            load(copy)
        assert str(error.value).endswith(".")
        assert "\n" not in str(error.value)
        shutil.rmtree(copy)
        shutil.copytree(exported, copy)

    about, graph = copy / "export.json", copy / "model.onnx"
    os.truncate(graph, 1000)
    told(r"model\.onnx has 1,000 bytes, and .* were written; copy the folder anew, or export the run again")
    content = bytearray(graph.read_bytes())
    content[len(content) // 2] ^= 1
    graph.write_bytes(content)
    told(r"model\.onnx is damaged")
    graph.unlink()
    told(r"model\.onnx is missing")
    (copy / "calibration.safetensors").unlink()
    told(r"calibration\.safetensors is missing")
    about.write_text("{")
    told(r"export\.json")
    about.write_text("[]")
    told("does not describe an exported model")
    wrong: tuple[dict[str, Any], ...] = (
        {"format": "avpea-export-9"}, {"to": "tf"}, {"to": ["onnx"]}, {"files": {}}, {"files": {"../x": {}}},
        {"description": {}}, {"description": 3}, {"outputs": [{}]}, {"tokens": {}}, {"frame_size": 10**9},
        {"segments": "3"},
        {"files": {"model.onnx": 3, "calibration.safetensors": 4}}, {"tokens": {"visual": [5], "audio": [5, 64]}},
    )  # fmt: skip
    for values in wrong:
        changed(copy, **values)
        told(r"export\.json|format")


@pytest.mark.parametrize(
    ("place", "told"),
    [
        ("elsewhere", r"export\.json wants to open '.*elsewhere' \(head\.text\.weights\), but an exported model opens"),
        ("copy/../elsewhere", "wants to open"),
        ("copy/text", r"^The text model .* cannot be loaded \(.*copy/text has no config\.json\)"),
    ],
)
def test_a_strangers_export_opens_nothing_outside_its_folder(copy: Path, tmp_path: Path, place: str, told: str) -> None:
    pytest.importorskip("tokenizers")
    (tmp_path / place).mkdir()
    values = tiny_options(tmp_path, tmp_path) | {
        "task": "avr", "head": {"text": {"weights": str(tmp_path / place)}}, "data": {"name": "captions", "root": ""},
    }  # fmt: skip
    del values["train"]
    info = CheckpointInfo(Experiment.from_dict(values), CaptionLabels(), "x", "a" * 64, results={"epoch": 1})
    changed(copy, description=described(info))
    with pytest.raises(AvpeaError, match=told):
        load(copy)


EDITS: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "an output renamed": (lambda x: x["outputs"][0].update(name="foo"), r"do not both have foo; export the run again"),
    "fewer outputs": (lambda x: x.update(outputs=x["outputs"][:1]), "do not both have audio_cls"),
    "size of frames": (lambda x: x.update(frame_size=64), r"frames of shape \(any, any, 32, 32, 3\), and by export"),
    "sound": (lambda x: x["inputs"][1]["shape"].__setitem__(3, 64), r"log_mel of shape .*, and by export\.json it is"),
    "a class more": (
        lambda x: of(x, "labels")["class_names"].append("blue"),
        r"output of shape \(any, any, 3\), .*, 4\)",
    ),
    "a class fewer": (lambda x: of(x, "labels")["class_names"].pop(), r"output of shape \(any, any, 3\), .*, 2\)"),
    "mel bins": (
        lambda x: of(x, "experiment")["audio"].update(mel_bins=64),
        "computes nothing of these inputs .*log_mel",
    ),
    "rows": (lambda x: of(x, "experiment")["audio"].update(frame_shift_ms=20.0), "computes nothing of these inputs"),
    "no calibration": (lambda x: x["description"].pop("calibration"), ""),
    "temperature": (lambda x: of(x, "calibration").update(temperature=1e-300), ""),
    "tokens": (lambda x: x["tokens"].update(visual=[4, 1]), ""),
}


def of(about: dict[str, Any], key: str) -> Any:
    """A part of a description, to be edited in place; `edited` writes it back."""
    about["description"][key] = json.loads(about["description"][key])
    return about["description"][key]


@pytest.mark.parametrize("name", EDITS)
def test_an_edited_description_is_told(copy: Path, video: Path, name: str) -> None:
    """By its checksum; in exports of earlier versions, which have none, by the graph where that contradicts."""
    edit, told = EDITS[name]
    path = copy / "export.json"
    about = json.loads(path.read_text())
    edit(about)
    texts = {key: text if isinstance(text, str) else json.dumps(text) for key, text in about["description"].items()}
    path.write_text(json.dumps(about | {"description": texts}))
    with pytest.raises(CheckpointError, match=r"export\.json is damaged or was edited: it does not have the checksum"):
        load(copy)
    changed(copy)
    if told:
        with pytest.raises(CheckpointError, match=told) as error:
            load(copy).predict(video)
        assert str(error.value).endswith("; export the run again.")
        assert "\n" not in str(error.value)


def test_a_file_that_the_runtime_cannot_read(copy: Path) -> None:
    for content in (b"", b"no graph", (copy / "model.onnx").read_bytes()[:5000]):
        (copy / "model.onnx").write_bytes(content)
        files = json.loads((copy / "export.json").read_text())["files"]
        files["model.onnx"] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        changed(copy, files=files)
        with pytest.raises(CheckpointError, match=r"model\.onnx cannot be read by ONNX Runtime \(.*\); export the run"):
            load(copy)


def test_inputs_of_other_sizes(exported: Path, copy: Path) -> None:
    model = open_export(exported)
    sounds = torch.randn(1, 3, 98, 32)
    for shape in ((1, 3, 16, 16, 3), (0, 3, 32, 32, 3), (3, 32, 32, 3)):
        with pytest.raises(
            AvpeaError, match=r"The frames have shape .*; the exported model takes \(batch, segments, 32"
        ):
            model(torch.zeros(shape, dtype=torch.uint8), sounds)
    changed(copy, segments=3)
    with pytest.raises(AvpeaError, match="The window has 2 seconds, and this exported model takes 3 only"):
        open_export(copy)(torch.zeros(1, 2, 32, 32, 3, dtype=torch.uint8), sounds[:, :2])


def test_an_answer_that_is_no_number(exported: Path) -> None:
    model = open_export(exported)
    sounds = torch.full((1, 3, 98, 32), torch.nan)
    with pytest.raises(AvpeaError, match="output is NaN"):
        model(torch.zeros(1, 3, 32, 32, 3, dtype=torch.uint8), sounds)


def test_what_an_export_has_not(exported: Path, copy: Path, video: Path, capsys: pytest.CaptureFixture[str]) -> None:
    predictor = load(exported)
    with pytest.raises(AvpeaError, match="no attention maps"):
        predictor.attention(predictor.read(video), 1)
    for options, match in (
        ({"device": "mps"}, "device is 'mps'"), ({"weights": "some.safetensors"}, "leave out some.safetensors"),
    ):  # fmt: skip
        with pytest.raises(AvpeaError, match=match):
            load(exported, **options)  # type: ignore[arg-type]
    changed(copy, to="torch", files={"model.pt2": {"bytes": 0, "sha256": hashlib.sha256().hexdigest()}})
    (copy / "model.pt2").touch()
    with pytest.raises(AvpeaError, match="which avpea does not open, since torch would unpickle parts of it"):
        load(copy)
    assert main(["evaluate", str(exported)]) == 1
    assert "is an exported model, which only answers about videos" in capsys.readouterr().err


# Every kind of model; longer.

KINDS: dict[str, dict[str, Any]] = {
    "cmbs": {"head.name": "cmbs"},
    "pooled, lavish, native": {"head.name": "pooled", "adapter.name": "lavish", "audio.layout": "native"},
    "lora": {"adapter.name": "lora"},
    "bitfit": {"adapter.name": "bitfit"},
    "ladder": {"adapter.name": "ladder"},
    "mbt": {"encoder.name": "mbt", "encoder.fusion_from": 1},
    "merged": {"encoder.merge_visual": 1, "encoder.merge_audio": 1},
    "han": {"task": {"name": "avvp"}, "data": {"name": "lanes"}, "head": {"name": "han"}},
    "mgn": {"task": {"name": "avvp", "supervision": "weak"}, "data": {"name": "lanes"}, "head": {"name": "mgn"}},
    "masks": {"task": {"name": "avs"}, "data": {"name": "masks"}, "head": {"name": "tpavi_pyramid"}},
}


@pytest.mark.slow
@pytest.mark.parametrize("to", ["onnx", "openvino", "torch"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_model(tiny_values: dict[str, Any], video: Path, tmp_path: Path, kind: str, to: Any) -> None:
    if to == "openvino":
        pytest.importorskip("openvino", reason="openvino is not installed (avpea[openvino])")
    changes = dict(KINDS[kind])
    sections = {name: value for name, value in changes.items() if "." not in name}
    changes = {name: value for name, value in changes.items() if "." in name}
    sections["data"] = {**tiny_values["data"], **sections.get("data", {})}
    experiment = Experiment.from_dict({**tiny_values, **sections}).override(changes)
    task = registry.load("task", experiment.task.name)
    labels = event_labels() if experiment.task.name == "avel" else task.needs.typical()
    torch.manual_seed(0)
    model = build(experiment, labels).eval()
    with torch.no_grad():
        for name, value in model.trained_state().items():
            if value.ndim == 0 and value.is_floating_point():
                value.fill_(0.5)  # the gates, which start at zero
            elif name.endswith("running_mean"):
                value.normal_()
    save_model(tmp_path / "run" / "model.safetensors", model, experiment, labels, {"epoch": 1, "selected_on": "val"})
    if kind in ("han", "mgn") and to == "torch":
        refused(tmp_path, tmp_path / "run", "does not take 1 window of 2 seconds .Guard failed", to)
        return
    report = export(tmp_path / "run", to)
    assert report.difference < 1e-5
    assert report.segments == (3 if (kind, to) == ("cmbs", "torch") else None)
    if to != "torch":
        alike(load(tmp_path / "run"), load(tmp_path / "run", runtime=to), video)


def test_the_rule_that_compares_all_slices_is_left_out_of_an_export_alone() -> None:
    from onnxscript import rewriter
    from onnxscript.rewriter.rules import common

    every = rewriter._DEFAULT_REWRITE_RULES
    with _write._without_slow_rule():
        assert list(rewriter._DEFAULT_REWRITE_RULES) == [rule for rule in every if rule is not common.slice_split_rule]
        assert len(rewriter._DEFAULT_REWRITE_RULES) == len(every) - 1
    assert rewriter._DEFAULT_REWRITE_RULES is every


def test_what_onnx_has_no_word_for_is_told_in_a_sentence(
    made: tuple[Path, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise torch.onnx.OnnxExporterError("Failed.\n\nMuch more") from ValueError("No word for aten.thing.\nMore")

    monkeypatch.setattr("torch.onnx.export", fails)
    with pytest.raises(
        AvpeaError, match=r"translate this model to ONNX \(No word for aten.thing.\); use the run itself"
    ):
        _write.write_graph(made[1].program, "onnx", tmp_path, ["output"], {})
    assert not list(tmp_path.iterdir())


def test_an_output_in_another_one_comes_back() -> None:
    found = Outer(Inner(torch.ones(2), ["a"]), torch.zeros(1), 3)
    assert {name: value.tolist() for name, value in named(found).items()} == {"inner.x": [1, 1], "y": [0]}
    back = restored(found, {"inner.x": torch.full((2,), 5.0), "y": torch.full((1,), 6.0)})
    assert (back.inner.x.tolist(), back.inner.names, back.y.tolist(), back.z) == ([5, 5], ["a"], [6], 3)


@dataclasses.dataclass
class Inner:
    x: torch.Tensor
    names: list[str]


@dataclasses.dataclass
class Outer:
    inner: Inner
    y: torch.Tensor
    z: int


def test_an_output_without_tensors() -> None:
    with pytest.raises(AvpeaError, match="The model's output is a int, which cannot be exported"):
        restored(3, {})


def test_openvino_keeps_nothing_that_it_compiled_for_another_window(tmp_path: Path) -> None:
    """With OpenVINO 2026.4 a kernel for one second answered for nine, in models too large for this test."""
    from types import SimpleNamespace

    from avpea.exported._sessions import _with_openvino

    told: list[dict[str, Any]] = []

    def compile_model(_model: Any, _device: str, hints: dict[str, Any]) -> Any:
        told.append(hints)
        return SimpleNamespace(inputs=[], outputs=[])

    core = SimpleNamespace(read_model=str, compile_model=compile_model)
    library = SimpleNamespace(Type=SimpleNamespace(f32="f32", bf16="bf16"), Core=lambda: core)
    _with_openvino(library, tmp_path / "model.xml", ["output"], "fp32", 1)
    assert [each["CPU_RUNTIME_CACHE_CAPACITY"] for each in told] == [0]
