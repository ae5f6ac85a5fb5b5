"""The tests themselves: wrong shapes and types are refused in every module that says any."""

import contextlib
import importlib
from typing import Any

import jaxtyping
import pytest
import torch
from beartype import beartype
from beartype.roar import BeartypeCallHintViolation
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from avpea.adapters.av_pea import AVPEA
from avpea.data.cache import Batch
from avpea.model import _resized
from tests.shapes import checked, with_shapes


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


def test_shapes_that_have_passed_are_not_taken_for_others() -> None:
    """Neither another argument beside one of before, nor another answer to the same ones."""
    axes: list[int] = []

    def padded(rows: Float[Tensor, "row width"], names: list[Any]) -> Float[Tensor, "row wider"]:
        return rows.new_zeros(axes[-1], 5)

    checks = checked(beartype)(padded)
    for answered, rows, names, fits in (
        (2, (2, 3), [], True), (2, (2, 3), [], True), (3, (2, 3), [], False), (2, (2, 3), [], True),
        (3, (3, 3), [], True), (2, (3, 3), [], False), (2, (2, 3, 1), [], False), (3, (3, 3), ["a"] * 50, True),
        (2, (3, 3), ["a"] * 50, False),
    ):  # fmt: skip
        axes.append(answered)
        with contextlib.nullcontext() if fits else pytest.raises(BeartypeCallHintViolation):
            checks(torch.zeros(rows), names)
    with pytest.raises(BeartypeCallHintViolation):
        checks(torch.zeros(2, 3, dtype=torch.int64), [])
    with pytest.raises(BeartypeCallHintViolation):
        checks(torch.zeros(2, 3), {})


@pytest.mark.parametrize("name", with_shapes())
def test_each_module_is_checked(name: str) -> None:
    assert type(importlib.import_module(name).__loader__).__module__ == "jaxtyping._import_hook"
