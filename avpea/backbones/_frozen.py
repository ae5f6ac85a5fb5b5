"""What every frozen network is: no gradient, evaluation mode, and a fingerprint of its weights."""

import hashlib

import torch
from torch import nn

__all__ = ["Frozen"]


class Frozen(nn.Module):
    """A network whose weights do not change once `freeze` was called.

    Attributes:
        name: What errors call it.
    """

    name: str
    _fingerprint: str = ""

    def freeze(self) -> None:
        """Let no weight learn, and take the fingerprint of the weights as they are now."""
        self.requires_grad_(False).train(False)
        # Before any cast: runs in bfloat16 and in float32 agree on the network that they were trained with.
        self._fingerprint = "" if next(self.parameters()).is_meta else _fingerprint(self)

    def train(self, mode: bool = True) -> "Frozen":
        """Stay in evaluation mode, whatever the surrounding model does."""
        return super().train(False)

    def fingerprint(self) -> str:
        """SHA-256 (64 hex digits) of names, shapes and float32 values of the weights, as they were loaded."""
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
