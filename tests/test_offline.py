"""With weights at hand nothing asks for the network: not training, not evaluation, not prediction."""

import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from avpea.evaluate import evaluate
from avpea.experiment import Experiment
from avpea.predict import load
from avpea.train import train


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every attempt to resolve a name or to connect, all of which fail."""
    attempts: list[str] = []

    def refuse(*of: object, **_: object) -> None:
        attempts.append(str(of))
        raise OSError("there is no network in this test")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    return attempts


def test_a_run_from_training_to_prediction(
    no_network: list[str], tiny_experiment: Callable[..., Experiment], tiny_data: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    train(tiny_experiment(**{"train.epochs": 1}), run, progress=False)
    evaluate(run, "test", progress=False)
    video = min((tiny_data / "AVE").iterdir())
    assert load(run).predict(video).decisions.numel()
    moved = shutil.copy(run / "model.safetensors", tmp_path / "elsewhere.safetensors")
    assert load(moved).predict(video).decisions.numel()
    assert no_network == []
