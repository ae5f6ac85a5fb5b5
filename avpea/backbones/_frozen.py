"""The base class of frozen networks: no gradient, evaluation mode, and a fingerprint of the weights."""

import hashlib
from typing import Self

import torch
from torch import nn

__all__ = ["Frozen"]


class Frozen(nn.Module):
    """A network whose weights do not change after `freeze`.

    Attributes:
        name: Its name in errors.
    """

    name: str
    _fingerprint: str = ""

    def freeze(self) -> None:
        """Freeze all weights and compute their fingerprint."""
        self.requires_grad_(False).train(False)
        # Before any cast, so that runs in bfloat16 and in float32 have the same fingerprint.
        self._fingerprint = "" if next(self.parameters()).is_meta else _fingerprint(self)

    def train(self, mode: bool = True) -> Self:
        """Stay in evaluation mode, whatever the surrounding model does."""
        return super().train(False)

    def fingerprint(self) -> str:
        """SHA-256 (64 hex digits) of names, shapes and float32 values of the weights as loaded."""
        if not self._fingerprint:
            raise ValueError(f"'{self.name}' was built for its shapes only and has no weights to fingerprint")
        return self._fingerprint


def _fingerprint(module: nn.Module) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        values = tensor.detach().to("cpu", torch.float32).contiguous()
        digest.update(f"{name} {tuple(values.shape)}\n".encode())
        digest.update(memoryview(values.numpy()).cast("B"))
    return digest.hexdigest()
