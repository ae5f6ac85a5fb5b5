"""What every task is: it turns both token streams into an output, and knows its loss, metrics and answer."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from avpea.heads._base import Head

__all__ = ["Task"]


class Task(nn.Module, ABC):
    """A task with its trained head. A file in `avpea/tasks/` with one subclass is a task's name.

    Args:
        head: What answers.
    """

    @abstractmethod
    def __init__(self, head: Head) -> None:
        super().__init__()
        self.head = head

    @abstractmethod
    def forward(self, visual: Tensor, audio: Tensor, *, segments: int, num_prefix_tokens: int, has_cls: bool) -> Any:
        """Tokens (images, tokens, dim) of both streams to an output; images are videos' seconds in turn."""

    @abstractmethod
    def loss(self, output: Any, labels: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The total and its named terms."""

    @abstractmethod
    def probabilities(self, output: Any) -> Tensor:
        """How sure the answer is."""

    @abstractmethod
    def decide(self, output: Any) -> Tensor:
        """The answer."""

    @staticmethod
    @abstractmethod
    def evaluate(answers: Tensor, labels: Tensor, class_names: Sequence[str]) -> dict[str, Any]:
        """Metrics by name, as plain values."""
