"""What is left out when timm is imported, torch's compiler and the hub's client, works all the same afterwards."""

import subprocess
import sys

import pytest
import torch

from avpea.backbones import WithoutValues

CODE = """
import sys
import torch

already = "torch._dynamo" in sys.modules
from avpea import backbones
from avpea.backbones import TransformerOptions

shape = backbones.shape_only(TransformerOptions(name="vit_tiny_patch16_224"))
assert next(shape.parameters()).is_meta
assert already or "torch._dynamo" not in sys.modules, "the compiler was imported"

from avpea.compare.cost import TrainingStep
from avpea.experiment import Experiment

tiny = {"name": "test_vit", "weights": "random", "depth": 1, "image_size": 32}
values = {"task": "avel", "data": {"name": "ave", "root": "none"}, "backbone": tiny, "train": {"batch_size": 1}}
step = TrainingStep(Experiment.from_dict(values))
step()
step.optimizer.load_state_dict(step.optimizer.state_dict())
assert already or "torch._dynamo" not in sys.modules, "the optimiser has imported the compiler"

import timm, torchvision
boxes = torchvision.ops.roi_align(torch.ones(1, 1, 4, 4), [torch.tensor([[0.0, 0.0, 4.0, 4.0]])], 2)
assert boxes.shape == (1, 1, 2, 2)

assert "wandb" not in sys.modules
import torch._dynamo
assert torch._dynamo.__file__ and torch._dynamo.utils.__file__
assert torch.compile(lambda x: x + 1, backend="eager")(torch.zeros(2)).tolist() == [1.0, 1.0]
"""


HUB = """
import sys
from avpea import backbones, predict
assert "huggingface_hub" not in sys.modules, "the hub's client was imported"

import os
os.environ["HF_HUB_OFFLINE"] = "1"
from timm.models import _hub
assert _hub.has_hf_hub()
known = _hub.EntryNotFoundError
try:
    _hub.load_state_dict_from_hf("nobody/nothing")
except Exception as error:
    assert type(error).__name__ == "LocalEntryNotFoundError", repr(error)
    from huggingface_hub import errors
    assert isinstance(error, errors.EntryNotFoundError)
    assert _hub.EntryNotFoundError is errors.EntryNotFoundError is not known
    assert _hub.RepositoryNotFoundError is errors.RepositoryNotFoundError
else:
    raise AssertionError("there are such weights")
assert "create_repo" in dir(_hub.HfApi())
"""

# Another version of timm imports something else of it.
OTHER = """
import importlib, sys
from avpea.backbones import _light
stand_ins = _light._hub_later()
for name in [name for name in sys.modules if name.partition(".")[0] == "huggingface_hub"]:
    del sys.modules[name]
sys.modules.update(stand_ins)
import importlib.util
assert importlib.util.find_spec("huggingface_hub").name == "huggingface_hub"
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub import create_repo
assert create_repo.__module__.startswith("huggingface_hub")
assert not any(sys.modules.get(name) is each for name, each in stand_ins.items())
from huggingface_hub.utils import EntryNotFoundError
from huggingface_hub import errors
assert EntryNotFoundError is errors.EntryNotFoundError
"""


@pytest.mark.parametrize("code", [HUB, OTHER])
def test_the_client_of_the_hub_comes_when_timm_asks_for_it(code: str) -> None:
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.slow
def test_nothing_needs_the_compiler_and_it_is_there_when_asked_for() -> None:
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", CODE], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]


def test_only_values_on_the_meta_device_are_left_out() -> None:
    with WithoutValues():
        real = torch.nn.init.ones_(torch.zeros(2))
        with torch.device("meta"):
            made = torch.nn.Linear(3, 2)
        grown = torch.zeros(2).add_(1.0)
    assert real.tolist() == grown.tolist() == [1.0, 1.0]
    assert made.weight.is_meta
    assert made.weight.requires_grad
    assert made.weight.shape == (2, 3)
