"""Folders to share: what `save_pretrained` writes loads again; the hub, out of reach in tests, is a stand-in."""

import json
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import timm
from safetensors import safe_open
from safetensors.torch import save_file

import avpea
from avpea.checkpoint import CheckpointInfo, read_info, save_model
from avpea.errors import CheckpointError, WeightsError
from avpea.model import build
from avpea.records import Records
from avpea.sharing import model_card, push_to_hub, save_pretrained
from tests.tiny import event_labels


def test_a_saved_folder_loads_and_answers_the_same(tiny_run: Path, tiny_data: Path, tmp_path: Path) -> None:
    folder = save_pretrained(tiny_run, tmp_path / "shared")
    assert sorted(p.name for p in folder.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    video = next((tiny_data / "AVE").iterdir())
    one, other = (avpea.load(place).predict(video) for place in (tiny_run, folder))
    assert one.to_dict() == other.to_dict()


def test_the_card_and_the_configuration_say_what_it_is(tiny_run: Path, tmp_path: Path) -> None:
    folder = save_pretrained(tiny_run, tmp_path)
    card = (folder / "README.md").read_text()
    config = json.loads((folder / "config.json").read_text())
    assert card.startswith("---\nlibrary_name: avpea")
    assert "segment accuracy" in card
    assert all(f"`{name}`" in card for name in config["classes"])
    assert config["fingerprint"] in card
    assert str(tmp_path) not in card
    with safe_open(folder / "model.safetensors", "pt") as file:
        assert not [key for key in file.keys() if "backbone" in key]  # noqa: SIM118


def test_the_card_of_an_encoder_without_adapters_claims_none(tiny_experiment: Callable[..., Any]) -> None:
    experiment = tiny_experiment(**{"encoder.name": "mbt"})
    card = str(model_card(CheckpointInfo(experiment, event_labels("green"), "test_vit", "0" * 64), Records({})))
    assert "What the encoder `mbt` trains, if any, and head (linear) for the backbone `test_vit`." in card
    assert "av_pea" not in card


def test_upload_sends_that_folder(tiny_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: dict[str, Any] = {}

    class Hub:
        def __init__(self, token: str | None) -> None:
            sent["token"] = token

        def create_repo(self, repository: str, **options: Any) -> None:
            sent["created"] = (repository, options)

        def upload_folder(self, *, repo_id: str, folder_path: str, **_: Any) -> str:
            sent["files"] = sorted(p.name for p in Path(folder_path).iterdir())
            return f"hub/{repo_id}"

    monkeypatch.setattr(huggingface_hub, "HfApi", Hub)
    assert push_to_hub(tiny_run, "someone/adapter", private=True) == "hub/someone/adapter"
    assert sent["created"] == ("someone/adapter", {"private": True, "exist_ok": True})
    assert sent["files"] == ["README.md", "config.json", "model.safetensors"]


def test_a_refused_upload_is_one_sentence(tiny_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Hub:
        def __init__(self, token: str | None) -> None: ...

        def create_repo(self, *_: Any, **__: Any) -> None:
            raise OSError("401 Unauthorized\nmore")

    monkeypatch.setattr(huggingface_hub, "HfApi", Hub)
    with pytest.raises(CheckpointError, match=r"someone/adapter failed \(401 Unauthorized\)"):
        push_to_hub(tiny_run, "someone/adapter")


def test_a_repository_out_of_reach_is_answered_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    started = time.perf_counter()
    with pytest.raises(WeightsError, match=r"someone/adapter.*cache folder"):
        avpea.load("someone/adapter")
    assert time.perf_counter() - started < 6


def on_a_file(tiny_experiment: Callable[..., Any], folder: Path) -> Path:
    """A run whose network lies beside it."""
    folder.mkdir()
    network = folder / "backbone.safetensors"
    save_file(timm.create_model("test_vit", pretrained=False).state_dict(), network)
    experiment, labels = tiny_experiment(**{"backbone.weights": str(network)}), event_labels("green", "red")
    save_model(folder / "model.safetensors", build(experiment, labels), experiment, labels, {})
    return folder


@pytest.mark.parametrize("ships", [True, False])
def test_the_network_of_a_run_comes_from_its_repository(
    ships: bool, tiny_experiment: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = save_pretrained(on_a_file(tiny_experiment, tmp_path / "own"), tmp_path / "shared")
    names = ["README.md", "backbone.safetensors", "config.json", "model.safetensors"]
    assert sorted(one.name for one in shared.iterdir()) == names
    shutil.rmtree(tmp_path / "own")
    cache = tmp_path / "cache" / "models--someone--run"  # as the hub's client keeps a repository: links to its blobs
    for kind in ("blobs", "refs", "snapshots/abc"):
        (cache / kind).mkdir(parents=True)
    (cache / "refs" / "main").write_text("abc")
    for name in names[1:] if ships else names[2:]:
        shutil.copy(shared / name, cache / "blobs" / f"blob-{name}")
        (cache / "snapshots" / "abc" / name).symlink_to(f"../../blobs/blob-{name}")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "somebody else"))
    if ships:
        assert not avpea.load("someone/run").info.own
    else:
        with pytest.raises(
            WeightsError, match=r"image network of 'someone/run' .* HF_HUB_OFFLINE is set: go online, or"
        ):
            avpea.load("someone/run")
        (cache / ".no_exist" / "abc").mkdir(parents=True)  # as the client notes that it was asked for in vain
        (cache / ".no_exist" / "abc" / "backbone.safetensors").touch()
        with pytest.raises(CheckpointError, match=r"wants to open .*own.backbone"):
            avpea.load("someone/run")
        network = str(shared / "backbone.safetensors")
        assert avpea.load("someone/run", weights=network).info.loaded
    stale = shutil.copytree(shared, tmp_path / "stale")
    (shared / "backbone.safetensors").unlink()
    with pytest.raises(CheckpointError, match="is the image network of another run; remove it, or name another folder"):
        save_pretrained(shared, stale)


@pytest.mark.parametrize(
    "typo", ["runs/typo", "my runs/own-seed0", "own..runs/x", "läufe/x", "a--b/c", "own/x.git", "-own/x", "o\0/x"]
)
def test_a_mistyped_run_is_not_taken_for_a_repository(typo: str) -> None:
    with pytest.raises(CheckpointError, match=re.escape(f"There is no run folder or checkpoint '{typo}'.")):
        avpea.load(typo)


def test_the_card_of_a_model_that_answers_questions(tiny_asked_run: Path, tmp_path: Path) -> None:
    card = (save_pretrained(tiny_asked_run, tmp_path / "shared") / "README.md").read_text(encoding="utf-8")
    assert '.ask("video.mp4", "How many instruments are sounding?")' in card
    assert "question-answering" in card
    assert "overall accuracy" in card
    assert "## Answers" in card
    config = json.loads((tmp_path / "shared" / "config.json").read_text())
    assert all(f"`{name}`" in card for name in config["answers"])


def test_cards_say_what_a_model_is_for(tiny_matched_run: Path, tiny_written_run: Path) -> None:
    assert "video-retrieval" in str(model_card(read_info(tiny_matched_run), Records({})))
    card = str(model_card(read_info(tiny_written_run), Records({})))
    assert 'caption("video.mp4")' in card
    assert "## Classes" not in card
    assert "## Answers" not in card


def test_the_hub_can_read_a_card(tiny_run: Path) -> None:
    info = read_info(tiny_run)
    found = {"segment_accuracy": 0.75, "videos": 3}
    card = model_card(info, Records({"test": found}))
    again = huggingface_hub.ModelCard(str(card))
    data: Any = again.data
    (result,) = data.eval_results
    assert (result.dataset_split, result.metric_type, result.metric_value) == ("test", "segment_accuracy", 0.75)
    assert result.task_type == "event-localization"
    assert data.library_name == "avpea"
    assert "| test | 75.00 % | 3 |" in str(card)
