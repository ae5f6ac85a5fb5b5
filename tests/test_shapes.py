"""The tests themselves: wrong shapes and types are refused in every module that says any."""

import importlib

import jaxtyping
import pytest
import torch

from avpea.adapters.av_pea import AVPEA
from tests.shapes import with_shapes


def test_a_wrong_shape_is_refused() -> None:
    adapter = AVPEA(16)
    with pytest.raises(jaxtyping.TypeCheckError):
        adapter(torch.zeros(2, 3, 16), torch.zeros(3, 4, 16))  # another batch


@pytest.mark.parametrize("name", with_shapes())
def test_each_module_is_checked(name: str) -> None:
    assert type(importlib.import_module(name).__loader__).__module__ == "jaxtyping._import_hook"
