"""What a stranger's checkpoint says of itself: every damaged variant is refused in a sentence, and costs nothing."""

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from avpea.checkpoint import load_model, load_state, read_info, save_model, save_state
from avpea.description import read_description
from avpea.errors import AvpeaError, CheckpointError
from avpea.experiment import Experiment
from avpea.labels import QuestionLabels
from avpea.model import build
from avpea.optimizer import make_optimizer
from tests.tiny import event_labels, tensors

Make = Callable[..., Experiment]
OTHERS: list[Any] = [
    None,
    True,
    -1,
    0,
    2**40,
    10**30,
    0.5,
    float("nan"),
    "",
    "x",
    "../../etc/passwd",
    [],
    [1],
    {},
    {"a": 1},
]
TEXTS = ["", " ", "null", "true", "7", '"text"', "[]", "[[]]", "{}", '{"a": 1}', "NaN", "{", "[" * 5000, '{"a":' * 5000]


@pytest.fixture(scope="module")
def metadata(tiny_experiment: Make, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    path = tmp_path_factory.mktemp("saved") / "model.safetensors"
    experiment = tiny_experiment()
    results = {"epoch": 4, "selected_on": "val", "segment_accuracy": 0.5}
    save_model(path, build(experiment, event_labels("green", "red")), experiment, event_labels("green", "red"), results)
    with safe_open(path, framework="pt") as file:
        return dict(file.metadata())


def variants(value: Any) -> Iterator[Any]:
    """A plain value with each key left out, each value replaced by each of another kind, and each list spoiled."""
    if isinstance(value, dict):
        for key in value:
            yield {k: v for k, v in value.items() if k != key}
            yield {(f"{k}x" if k == key else k): v for k, v in value.items()}
            for other in [*OTHERS, *variants(value[key])]:
                yield {**value, key: other}
        yield {**value, "unheard_of": 1}
    elif isinstance(value, list):
        yield [*value, *value]
        yield [*value, ""]
        yield [*value, 7]
        yield value[:-1]


def damaged(metadata: dict[str, str]) -> Iterator[dict[str, str]]:
    for key, text in metadata.items():
        yield {k: v for k, v in metadata.items() if k != key}
        yield from ({**metadata, key: other} for other in TEXTS)
        yield {**metadata, key: text[: len(text) // 2]}
        if text[:1] in "{[":
            yield from ({**metadata, key: json.dumps(value)} for value in [*OTHERS, *variants(json.loads(text))])


def of_questions(metadata: dict[str, str]) -> dict[str, str]:
    experiment = json.loads(metadata["experiment"])
    experiment |= {"task": {"name": "avqa"}, "head": {"name": "avst"}, "data": {"name": "music_avqa"}}
    labels = QuestionLabels.typical().to_dict()
    return {**metadata, "experiment": json.dumps(experiment), "labels": json.dumps(labels)}


def of_version_0_1_0(_: dict[str, str]) -> dict[str, str]:
    with safe_open(Path(__file__).parent / "written_before" / "avqa" / "model.safetensors", framework="pt") as file:
        return dict(file.metadata())


@pytest.mark.parametrize(
    "form",
    [dict, pytest.param(of_questions, marks=pytest.mark.slow), pytest.param(of_version_0_1_0, marks=pytest.mark.slow)],
)
def test_every_damaged_description_is_refused_or_read(
    metadata: dict[str, str], form: Callable[[dict[str, str]], dict[str, str]]
) -> None:
    refused = 0
    for variant in damaged(form(metadata)):
        try:
            read_description(variant, "FILE")
        except AvpeaError as error:
            refused += 1
            message = str(error)
            assert "FILE" in message
            assert message.endswith((".", "?"))
            assert len(message) < 2500
    assert refused > 400


def test_a_description_in_full_is_read(metadata: dict[str, str]) -> None:
    assert read_description(of_questions(metadata), "FILE").labels == QuestionLabels.typical()
    info = read_description(metadata, "FILE")
    assert info.labels == event_labels("green", "red")
    assert not info.own
    old = {k: v for k, v in metadata.items() if k not in ("labels", "other_fingerprints")}
    old |= {"class_names": '["green", "red"]', "questions": "null"}
    assert read_description(old, "FILE") == info


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("labels", {"class_names": ["green", "green"]}, "'green' stands 2 times"),
        ("labels", {"class_names": ["green", ""]}, "'' stands 1 times"),
        ("labels", {"class_names": []}, "there are no classes"),
        ("labels", {"class_names": ["green", 5]}, "'class_names.1': input should be a valid string"),
        ("labels", {"class_names": "green"}, "'class_names'"),
        ("labels", {"class_names": ["a"], "more": 1}, "'more'"),
        ("results", {"epoch": "4"}, "epoch '4'; expected a count"),
        ("results", {"epoch": 4, "selected_on": 5}, "selected_on 5"),
        ("results", {"segment_accuracy": "0.5"}, "'0.5' for segment_accuracy"),
        ("results", [], "expected names and values"),
        ("other_fingerprints", {"encoder.audio_weights": 5}, "expected 64 hexadecimal digits"),
    ],
)
def test_what_is_wrong_is_said(key: str, value: Any, reason: str, metadata: dict[str, str]) -> None:
    with pytest.raises(CheckpointError) as error:
        read_description({**metadata, key: json.dumps(value)}, "FILE")
    assert reason in str(error.value)
    assert str(error.value).startswith("FILE: ")


# Whole files: what a stranger made, with the checksums of nobody.


@pytest.fixture
def saved(tiny_experiment: Make, tmp_path: Path) -> Path:
    experiment, labels = tiny_experiment(), event_labels("green", "red")
    path = tmp_path / "run" / "model.safetensors"
    save_model(path, build(experiment, labels), experiment, labels, {"epoch": 4})
    return path


def rewritten(
    path: Path, changes: dict[str, Any] | None = None, replaced: dict[str, torch.Tensor] | None = None
) -> None:
    """The file as a stranger would write it: of the older form, without checksums and signature."""
    with safe_open(path, framework="pt") as file:
        metadata = {k: v for k, v in file.metadata().items() if "sha256" not in k and k != "signature"}
    experiment = json.loads(metadata["experiment"])
    for name, value in (changes or {}).items():
        section, _, option = name.partition(".")
        if option:
            experiment[section][option] = value
        else:
            experiment[section] = value
    experiment = {key: value for key, value in experiment.items() if value is not None}
    metadata |= {"format": "avpea-1", "experiment": json.dumps(experiment)}
    save_file({**tensors(path), **(replaced or {})}, path, metadata)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (torch.tensor([0.0, float("nan"), 0.0]), r"no finite numbers, in 1 tensor "),
        (torch.tensor([0.0, float("-inf"), 0.0]), "no finite numbers"),
        (torch.tensor([0, 1, 2]), "type I64, expected F32"),
        (torch.zeros(3, dtype=torch.float64), "type F64, expected F32"),
        (torch.zeros(3, dtype=torch.float16), "type F16, expected F32"),
        (torch.zeros(3, dtype=torch.bool), "type BOOL, expected F32"),
        (torch.zeros(3, 1), r"shape \(3, 1\), expected \(3,\)"),
    ],
)
def test_weights_that_are_none_are_refused(value: torch.Tensor, reason: str, saved: Path) -> None:
    rewritten(saved)
    load_model(saved)
    rewritten(saved, replaced={"head.head.classes.bias": value})
    with pytest.raises(CheckpointError, match=reason):
        load_model(saved)


def test_a_damaged_model_is_refused(saved: Path) -> None:
    whole = saved.read_bytes()
    saved.write_bytes(whole[:-50] + bytes(20) + whole[-30:])
    with pytest.raises(CheckpointError, match=r"is damaged: its tensors .*; copy it anew, or train again\."):
        load_model(saved)
    saved.write_bytes(whole.replace(b"green", b"groen"))
    with pytest.raises(CheckpointError, match="is damaged: its description"):
        read_info(saved)
    saved.write_bytes(whole.replace(b'"sha256"', b'"sha257"').replace(b'"tensors_sha256"', b'"tensors_sha257"'))
    with pytest.raises(CheckpointError, match="since its checksums are missing"):
        read_info(saved)


def test_a_damaged_state_is_refused(saved: Path, tiny_experiment: Make) -> None:
    experiment = tiny_experiment()
    model = build(experiment, event_labels("green", "red"))
    optimizer = make_optimizer(model, experiment.train)
    state = saved.with_name("state.safetensors")
    save_state(state, model, optimizer, {"epoch": 1, "best": {}})
    assert load_state(state, model, optimizer) == {"epoch": 1, "best": {}}
    whole = state.read_bytes()
    state.write_bytes(whole[:-50] + bytes(20) + whole[-30:])
    with pytest.raises(CheckpointError, match=r"is damaged.*; remove it to train from the start"):
        load_state(state, model, optimizer)
    for metadata in ({}, {"position": "[" * 3000}, {"position": "NaN"}, {"position": "7"}):
        save_file(tensors_of(model), state, {"format": "avpea-1-state", **metadata})
        with pytest.raises(CheckpointError):
            load_state(state, model, optimizer)


def tensors_of(model: Any) -> dict[str, torch.Tensor]:
    return {f"model.{key}": value.clone() for key, value in model.trained_state().items()}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"backbone.weights": "/etc/hostname"}, r"wants to open '/etc/hostname' \(backbone\.weights\)"),
        ({"backbone.weights": "~nobody-at-all/x"}, "wants to open"),
        ({"backbone.weights": "../../weights.pth"}, "wants to open"),
        ({"backbone.weights": "\0"}, "has a null"),
        ({"backbone.weights": "x" * 5000}, "wants to open"),
        ({"backbone.weights": "pretrained", "backbone.name": "vit_base_patch16_224.augreg_in21k"}, "does not fit"),
        ({"backbone.name": "vit_giant_patch14_224", "backbone.depth": 0}, "random weights, but it is not a run of"),
        ({"backbone.image_size": 100_000}, "expected 0 .* to 4096 pixels"),
        ({"data.segments": 10**8}, "data.segments is 100000000"),
        ({"data.segments": 80_000, "backbone.image_size": 448}, "frames of one sample would take"),
        ({"audio.mel_bins": 257, "audio.frame_shift_ms": 0.0625, "data.segments": 3000}, "log-mel of one sample"),
        ({"audio.layout": "native", "audio.rows": 10**9}, "expected 1 to 16384"),
        ({"adapter.reduction": 10**9}, "does not divide"),
        ({"adapter": {"name": "lora", "rank": 10**9}}, "does not fit the model"),
        ({"adapter": {"name": "lavish", "latents": 10**9}}, "does not fit the model"),
        ({"adapter": {"name": "lora", "rank": 10**18}}, r"^adapter\.rank is 1e\+18, which makes a tensor"),
        ({"adapter": {"name": "lavish", "latents": 10**18}}, r"^adapter\.latents is 1e\+18, which makes a tensor"),
        ({"encoder": {"name": "mbt", "bottleneck_tokens": 10**9, "fusion_from": 1}, "adapter": None}, "does not fit"),
        ({"backbone.name": "hf-hub:owner/name"}, "No timm model is called"),
        ({"backbone.name": "local-dir:/tmp"}, "No timm model is called"),
    ],
)  # fmt: skip
def test_a_strangers_run_opens_and_makes_nothing(
    changes: dict[str, Any], reason: str, saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def called(*_: Any, **__: Any) -> Any:
        raise AssertionError("the backbone is built, or something is read")

    rewritten(saved, changes)
    with monkeypatch.context() as patch:
        patch.setattr("avpea.backbones.build", called)
        patch.setattr("avpea.backbones.hub._reachable", called)
        with pytest.raises(AvpeaError, match=reason) as error:
            load_model(saved)
    assert len(str(error.value)) < 6000


@pytest.fixture
def on_a_file(tiny_experiment: Make, tmp_path: Path) -> Path:
    """A run on a file of weights outside its folder."""
    save_file(timm.create_model("test_vit", pretrained=False).state_dict(), tmp_path / "frozen.safetensors")
    experiment = tiny_experiment(**{"backbone.weights": str(tmp_path / "frozen.safetensors")})
    labels, path = event_labels("green", "red"), tmp_path / "own" / "model.safetensors"
    save_model(path, build(experiment, labels), experiment, labels, {})
    return path


def test_what_the_command_names_is_opened(on_a_file: Path, tmp_path: Path) -> None:
    outside, inside = tmp_path / "frozen.safetensors", on_a_file.parent / "frozen.safetensors"
    assert load_model(on_a_file)[1].own  # the user's own runs are asked nothing
    rewritten(on_a_file)
    with pytest.raises(CheckpointError, match=r"--backbone\.weights FILE, or add trust=True"):
        load_model(on_a_file)
    load_model(on_a_file, weights=str(outside))
    load_model(on_a_file, trust=True)
    outside.rename(inside)
    rewritten(on_a_file, {"backbone.weights": str(inside)})
    load_model(on_a_file)
    inside.rename(outside)
    inside.symlink_to(outside)
    with pytest.raises(CheckpointError, match="wants to open"):
        load_model(on_a_file)


def test_nothing_is_downloaded_because_a_stranger_says_so(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def unreachable(endpoint: str) -> bool:
        asked.append(endpoint)
        return False

    monkeypatch.setattr("avpea.backbones.hub._reachable", unreachable)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_: None)
    rewritten(saved, {"backbone.weights": "pretrained", "backbone.name": "test_vit.r160_in1k"})
    with pytest.raises(AvpeaError, match=r"nothing is downloaded .* --backbone\.weights pretrained"):
        load_model(saved)
    assert asked == []
    either: list[dict[str, Any]] = [{"trust": True}, {"weights": "pretrained"}]
    for options in either:
        with pytest.raises(AvpeaError, match="does not answer"):
            load_model(saved, **options)
    assert len(asked) == 2


def test_a_text_models_name_is_no_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from avpea.text import TextOptions

    monkeypatch.chdir(tmp_path)
    (tmp_path / "owner").mkdir()
    for name in ("../x", "/x", "~/x", "a/b/c", "owner", "a\nb", ".hidden"):
        assert TextOptions(name).outside() == {"name": name}
    for name in ("bert-base-uncased", "google/bert_uncased_L-2_H-128_A-2", "minilm"):
        assert TextOptions(name).outside() == {}
    assert TextOptions(weights="folder").outside() == {"weights": "folder"}


def test_the_command_line_has_the_option(saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from avpea.cli import main

    rewritten(saved, {"backbone.weights": "/etc/hostname"})
    with contextlib.suppress(SystemExit):
        assert main(["predict", str(saved), "video.mp4"]) == 1
    assert "or add --trust if you trust whoever made it." in capsys.readouterr().err
