"""Which device and precision are chosen, what is said where there is none, and where its memory ends."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch

import avpea
from avpea import predict
from avpea.cli import main, make_parser
from avpea.cluster import device_of_workers
from avpea.device import choose_device, choose_precision, enough_memory, float32_products
from avpea.errors import AvpeaError, DeviceMemoryError, ExperimentError
from avpea.model import build
from avpea.search import Query, index
from avpea.tasks import Encoded
from avpea.train import train
from tests.faked import faked
from tests.tiny import event_labels

NONSENSE = ["gpu", "cuda:", "cuda:x", "cuda:-1", "cuda:0:1", "mps:1", "cpu:0", "CUDA", "", " cpu", "cuda:٣", "cuda\n"]


def pretend(monkeypatch: pytest.MonkeyPatch, cards: int = 0, capability: tuple[int, int] = (9, 0)) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: cards > 0)
    monkeypatch.setattr("torch.cuda.device_count", lambda: cards)
    monkeypatch.setattr("torch.cuda.get_device_name", lambda _=0: "Pretended")
    monkeypatch.setattr("torch.cuda.get_device_capability", lambda _=0: capability)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)


def test_auto_takes_cuda_then_mps_then_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, cards=2)
    assert choose_device("auto") == torch.device("cuda")
    assert choose_device("cuda:1") == torch.device("cuda", 1)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: True)
    assert choose_device("auto") == torch.device("cuda")
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert choose_device("auto") == torch.device("mps")
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
    assert choose_device("auto") == choose_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize("name", NONSENSE)
def test_what_is_no_device_is_refused(name: str, tiny_experiment: Any) -> None:
    with pytest.raises(ExperimentError, match=r"(?s)^device is '.*'; expected auto, cpu, cuda, cuda:N"):
        choose_device(name)
    with pytest.raises(ExperimentError, match=r"(?s)train.device is '.*'; expected auto"):
        tiny_experiment(**{"train.device": name})


def test_what_is_not_here_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch)
    with pytest.raises(ExperimentError, match=r"^device is 'mps', and torch finds no such device here; expected auto"):
        choose_device("mps")
    with pytest.raises(ExperimentError, match=r"^device is 'cuda:3', and torch finds no such device here.*; expected "):
        choose_device("cuda:3")
    pretend(monkeypatch, cards=1)
    with pytest.raises(ExperimentError, match=r"^device is 'cuda:7', but this machine has cuda:0 only; expected"):
        choose_device("cuda:7")
    pretend(monkeypatch, cards=4)
    with pytest.raises(ExperimentError, match=r"^device is 'cuda:4', but this machine has cuda:0 to cuda:3 only"):
        choose_device("cuda:4")


@pytest.mark.parametrize(("capability", "precision"), [((7, 5), "fp32"), ((8, 0), "bf16"), ((9, 0), "bf16")])
def test_bfloat16_only_where_a_card_has_it(
    capability: tuple[int, int], precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Torch says of every card that it supports bfloat16, since it emulates it."""
    pretend(monkeypatch, cards=1, capability=capability)
    monkeypatch.setattr("torch.version.hip", None)
    assert choose_precision("auto", torch.device("cuda")) == precision
    assert choose_precision("auto", torch.device("mps")) == "fp32"
    assert choose_precision("bf16", torch.device("mps")) == "bf16"


def flags() -> tuple[bool, bool]:
    return torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32


def test_tf32_only_where_it_is_wanted(tiny_experiment: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch itself allows it for convolutions; what was set before is set again."""
    before = flags()
    for wanted in (True, False):
        with float32_products(torch.device("cuda"), wanted):
            assert flags() == (wanted, wanted)
        with pytest.raises(ZeroDivisionError), float32_products(torch.device("cuda"), wanted):
            _ = 1 / 0
        assert flags() == before
        with float32_products(torch.device("cpu"), wanted):
            assert flags() == before
        seen: list[tuple[bool, bool]] = []
        model = build(tiny_experiment(**{"train.tf32": wanted}), event_labels())
        monkeypatch.setattr(model.encoder, "forward", lambda *_, seen=seen: seen.append(flags()))
        monkeypatch.setattr(model, "_encoded", lambda *_: Encoded(None, None, 1, 1, True))
        monkeypatch.setattr(model, "pixels", lambda *_: ())
        with faked() as device:
            model.to(device).encode(torch.zeros(1, 1, 1, 1, device=device), torch.zeros(1, 1, 1, 1, device=device))
        assert seen == [(wanted, wanted)]
        assert flags() == before


def commands_that_run_a_model() -> list[str]:
    """From the parser: those that load a run or train one, but for the export, which is made on the CPU."""
    groups = make_parser()._subparsers
    assert groups is not None
    choices: Any = groups._group_actions[0].choices
    loading = [name for name, parser in choices.items() if "--trust" in parser.format_help() and name != "export"]
    return [*loading, "train", "compare"]


def test_every_command_that_runs_a_model_has_the_option() -> None:
    choices: Any = make_parser()._subparsers._group_actions[0].choices  # type: ignore[union-attr]
    names = commands_that_run_a_model()
    assert {"predict", "ask", "caption", "evaluate", "index", "search", "calibrate", "report"} <= set(names)
    assert [name for name in names if "--device DEVICE" not in choices[name].format_help()] == []


@pytest.mark.parametrize("device", ["gpu", "cuda", "cuda:7", "mps"])
def test_refused_before_anything_is_read_or_written(
    device: str, tiny_run: Path, tiny_values: Any, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(monkeypatch)
    recipe, videos = tmp_path / "recipe.yaml", tmp_path / "videos"
    recipe.write_text(json.dumps(tiny_values), encoding="utf-8")
    videos.mkdir()
    (videos / "a.mp4").touch()
    sweep = tmp_path / "sweep.yaml"
    sweep.write_text(f"rows: {{one: {recipe}}}\nseeds: [0]\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    for words in (
        ["predict", str(tiny_run), "a.mp4"], ["ask", str(tiny_run), "a.mp4", "What?"],
        ["caption", str(tiny_run), "a.mp4"], ["evaluate", str(tiny_run)], ["calibrate", str(tiny_run)],
        ["report", str(tiny_run), "--out", "page.html"], ["index", str(tiny_run), "videos", "--library", "library"],
        ["search", "library", "a dog"], ["train", str(recipe), "--run", "run"], ["compare", str(sweep), "--no-cost"],
    ):  # fmt: skip
        assert main([*words, "--device", device]) == 1, words
        said = capsys.readouterr().err
        assert re.fullmatch(rf"avpea: --device is '{device}'[^\n]*\.\n", said), (words, said)
    assert sorted(tmp_path.rglob("*")) == before


def test_refused_in_python(tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch)
    for call in (
        lambda: avpea.load("no/run", device="cuda"),
        lambda: Query(str(tmp_path / "library"), device="cuda"),
        lambda: index(tiny_run, tmp_path, str(tmp_path / "library"), device="cuda"),
    ):
        with pytest.raises(ExperimentError, match=r"^device is 'cuda', and torch finds no such"):
            call()
    assert list(tmp_path.iterdir()) == []


def test_what_auto_finds_is_said_once(
    tiny_run: Path, tiny_data: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    video = str(min((tiny_data / "AVE").iterdir()))
    with faked():
        assert main(["predict", str(tiny_run), video, "--json"]) == 0
    out, said = capsys.readouterr()
    assert said.count("computing on cuda (Faked); --device cpu does without it.") == 1
    pretend(monkeypatch)
    assert main(["predict", str(tiny_run), video, "--json"]) == 0
    assert capsys.readouterr() == (out, "")


def test_a_run_remembers_no_device(tiny_experiment: Any, tmp_path: Path) -> None:
    """A run is begun on one device and goes on on another."""
    run = tmp_path / "run"
    with faked():
        train(tiny_experiment(**{"train.epochs": 1, "train.device": "cuda"}), run, progress=False)
    assert {one.device.type for one in torch_tensors(run / "state.safetensors")} == {"cpu"}
    result = train(tiny_experiment(**{"train.epochs": 1}), run, extend=1, device="cpu", progress=False)
    assert len(result.epochs) == 2
    with faked():
        named = train(tiny_experiment(**{"train.epochs": 1}), tmp_path / "named", device="cuda", progress=False).run
    # The state of the card's random numbers, and what it was trained on.
    says = {path.name for path in named.rglob("*") if path.is_file() and b"cuda" in path.read_bytes()}
    assert says == {"state.safetensors", "environment.json"}
    avpea.load(named, device="cpu")


def torch_tensors(path: Path) -> list[torch.Tensor]:
    from safetensors.torch import load_file

    return list(load_file(path).values())


SHORTAGES = {
    "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 15.77 GiB of which 1.2 GiB is free.":
        "The memory of cuda:0 is too small for 2.00 GiB more; do less.",
    "MPS backend out of memory (MPS allocated: 8.00 GB, max allowed: 9.07 GB). Tried to allocate 256.00 MB on private":
        "The memory of cuda:0 is too small for 256.00 MB more; do less.",
    "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`":
        "The memory of cuda:0 is too small; do less.",
    "[enforce fail at alloc_cpu.cpp:118] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate "
    "4398046511104 bytes. Error code 12 (Cannot allocate memory)":
        "The memory of this computer is too small for 4096.0 GiB more; do less.",
}  # fmt: skip


@pytest.mark.parametrize("said", SHORTAGES)
def test_a_shortage_is_one_sentence(said: str) -> None:
    with pytest.raises(DeviceMemoryError) as caught, enough_memory(torch.device("cuda", 0), "do less"):
        raise RuntimeError(said)
    assert str(caught.value) == SHORTAGES[said]


def test_other_errors_stay_what_they_are() -> None:
    with pytest.raises(RuntimeError, match=r"^shapes$"), enough_memory(torch.device("cpu"), "do less"):
        raise RuntimeError("shapes")
    expected = pytest.raises(AvpeaError, match=r"^a.mp4: The memory of this computer is too small; do less")
    with expected, enough_memory(torch.device("cpu"), "do less", "a.mp4"):
        raise MemoryError


def test_what_torch_says_here_is_understood() -> None:
    expected = pytest.raises(DeviceMemoryError, match=r"this computer is too small for [\d.]+ GiB more; do less\.$")
    with expected, enough_memory(torch.device("cpu"), "do less"):
        torch.empty(2**60, dtype=torch.uint8)


def short_of_memory(*_: Any, **__: Any) -> Any:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has ...")


def test_each_command_says_what_helps(
    tiny_run: Path, tiny_values: Any, tiny_data: Path, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, video = tmp_path / "recipe.yaml", str(min((tiny_data / "AVE").iterdir()))
    recipe.write_text(json.dumps(tiny_values), encoding="utf-8")
    monkeypatch.setattr("avpea.encoders.dual_stream.DualStreamEncoder.forward", short_of_memory)
    for words, remedy in (
        (["evaluate", str(tiny_run)], "lower --batch-size 8, or close other programs that use it"),
        (["calibrate", str(tiny_run), "--batch-size", "1"], "close other programs that use it"),
        (["predict", str(tiny_run), video], "close other programs that use it, or cut the video into shorter ones"),
        (
            ["train", str(recipe), "--run", str(tmp_path / "run"), "--quiet"],
            "try --train.batch_size 1 with --train.accumulate 2 in a new run, or --train.checkpointing true in this "
            "one, or close other programs that use it",
        ),
    ):
        assert main(words) == 1
        said = capsys.readouterr().err.splitlines()[-1]
        assert said.endswith(f"The memory of this computer is too small for 2.00 GiB more; {remedy}."), said


def test_a_card_has_other_remedies(tiny_run: Path, tiny_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    video = min((tiny_data / "AVE").iterdir())
    with faked():
        predictor = avpea.load(tiny_run)
        monkeypatch.setattr("avpea.encoders.dual_stream.DualStreamEncoder.forward", short_of_memory)
        with pytest.raises(DeviceMemoryError, match=rf'^{video}: The memory of cuda:0.*, or use device="cpu"\.$'):
            predictor.predict(video)


def test_of_many_videos_one_that_is_too_big_fails_alone(
    tiny_run: Path, tiny_data: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode, videos = predict.VideoView.encode, sorted(map(str, (tiny_data / "AVE").iterdir()))[:3]

    def limited(self: predict.VideoView, window: Any) -> Any:
        return short_of_memory() if str(self.path) == videos[1] else encode(self, window)

    monkeypatch.setattr(predict.VideoView, "encode", limited)
    assert main(["predict", str(tiny_run), *videos, "--json", "--quiet"]) == 1
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert ["error" in line for line in lines] == [False, True, False]
    assert lines[1]["error"].startswith(f"{videos[1]}: The memory of this computer is too small for 2.00 GiB more; ")


@pytest.mark.parametrize("size", ["0", "-1"])
def test_a_batch_of_nothing_is_refused(size: str, tiny_run: Path, capsys: Any) -> None:
    assert main(["evaluate", str(tiny_run), "--batch-size", size]) == 1
    assert capsys.readouterr().err == f"avpea: --batch-size is {size}; expected 1 or more.\n"


@pytest.mark.parametrize(
    ("wanted", "workers", "cards", "expected"),
    [
        ("auto", 2, 0, ("auto", 0.0)), ("cpu", 2, 4, ("cpu", 0.0)), ("auto", 2, 2, ("cuda", 1.0)),
        ("cuda", 4, 2, ("cuda", 0.5)), ("auto", 1, 8, ("cuda", 1.0)), ("cuda", 5, 2, ("cuda", 0.3333)),
    ],
)  # fmt: skip
def test_workers_share_the_cards(wanted: str, workers: int, cards: int, expected: tuple[str, float]) -> None:
    """Ray puts as many workers on a card as their shares allow: all of them find a place."""
    device, share = device_of_workers(wanted, workers, float(cards))
    assert (device, share) == expected
    assert not share or int(1 / share) * cards >= workers


@pytest.mark.parametrize("wanted", ["cuda:1", "cuda"])
def test_workers_without_their_card_are_refused(wanted: str) -> None:
    with pytest.raises(ExperimentError, match=f"^device is '{wanted}', .*Ray"):
        device_of_workers(wanted, 2, 0.0)
