"""The tests themselves: wrong shapes and types are refused in every module that says any."""

import importlib

import jaxtyping
import pytest
import torch
from torch.nn import functional

from avpea.adapters.av_pea import AVPEA
from avpea.data.cache import Batch
from avpea.model import _resized
from tests.shapes import with_shapes


def test_a_wrong_shape_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    adapter = AVPEA(16)
    with pytest.raises(jaxtyping.TypeCheckError, match="batch"):
        adapter(torch.zeros(2, 3, 16), torch.zeros(3, 4, 16))  # another batch
    image = torch.zeros(1, 1, 2, 2)
    assert _resized(image, 4).shape == (1, 1, 4, 4)
    monkeypatch.setattr(functional, "interpolate", lambda *given, **named: torch.zeros(1, 1, 4, 3))
    with pytest.raises(jaxtyping.TypeCheckError, match="return"):  # an axis of the size that an argument says
        _resized(image, 4)


def test_a_wrong_field_is_refused() -> None:
    frames, log_mel = torch.zeros(2, 3, 4, 4, 3, dtype=torch.uint8), torch.zeros(2, 3, 5, 6)
    assert Batch(frames, log_mel, ()).positions is None
    with pytest.raises(jaxtyping.TypeCheckError, match="positions"):
        Batch(frames, log_mel, (), torch.zeros(2, 4, dtype=torch.int64))


@pytest.mark.parametrize("name", with_shapes())
def test_each_module_is_checked(name: str) -> None:
    assert type(importlib.import_module(name).__loader__).__module__ == "jaxtyping._import_hook"
