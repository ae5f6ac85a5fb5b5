"""Event localization: what the head is given, what is answered, and what is counted."""

from typing import Any

import pytest
import torch
from torch import Tensor

from avpea import registry
from avpea.tasks import Dims, Encoded
from avpea.tasks.avel.heads import EventHead
from avpea.tasks.avel.task import AVEL, localization_metrics
from tests.tiny import event_labels, section

NAMES = ("bark", "flute")
LABELS = event_labels(*NAMES)
HEADS = [name for name in registry.names("head") if issubclass(registry.load("head", name), EventHead)]


class Recorder(EventHead):
    """A head that keeps what it was given."""

    def __init__(self, dim: int = 4, num_classes: int = 2) -> None:
        super().__init__(dim, num_classes)

    def forward(self, visual: Tensor, visual_cls: Tensor, audio_cls: Tensor) -> Any:
        return visual, visual_cls, audio_cls

    def loss(self, output: Any, labels: Tensor) -> dict[str, Tensor]:
        return {"one": output[0].sum() * 0 + 1.5, "two": labels.sum() * 2.0}

    def probabilities(self, output: Any) -> Tensor:
        return torch.ones(2, 3, 3) / 3

    def decide(self, output: Any) -> Tensor:
        return torch.zeros(2, 3, dtype=torch.long)


def tokens(prefix: int, patches: int, offset: int = 0) -> Tensor:
    """Tokens whose first channel is the image's number, and whose second is the token's."""
    rows = torch.zeros(6, prefix + patches, 4)
    rows[..., 0] = torch.arange(6)[:, None] + offset
    rows[..., 1] = torch.arange(prefix + patches)
    return rows


@pytest.mark.parametrize("prefix", [1, 5])
def test_segments_of_a_video_stay_together_and_registers_are_left_out(prefix: int) -> None:
    visual, visual_cls, audio_cls = AVEL(Recorder(), LABELS)(
        Encoded(tokens(prefix, 4), tokens(prefix, 2, 10), segments=3, num_prefix_tokens=prefix, has_cls=True)
    )
    assert visual.shape == (2, 3, 4, 4)
    assert visual[..., 0, 0].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert visual[0, 0, :, 1].tolist() == [prefix, prefix + 1, prefix + 2, prefix + 3]
    assert visual_cls[..., 0].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert audio_cls[..., 0].tolist() == [[10, 11, 12], [13, 14, 15]]
    assert not visual_cls[..., 1].any()
    assert not audio_cls[..., 1].any()


def test_without_a_cls_token_the_mean_stands_in() -> None:
    visual, visual_cls, audio_cls = AVEL(Recorder(), LABELS)(
        Encoded(tokens(0, 4), tokens(0, 2), segments=3, num_prefix_tokens=0, has_cls=False)
    )
    assert visual.shape == (2, 3, 4, 4)
    assert visual_cls[0, 0, 1] == (0 + 1 + 2 + 3) / 4
    assert audio_cls[0, 0, 1] == (0 + 1) / 2


def test_loss_is_the_sum_of_its_terms() -> None:
    total, terms = AVEL(Recorder(), LABELS).loss((torch.ones(1),), torch.tensor([[1, 2]]))
    assert {name: value.item() for name, value in terms.items()} == {"one": 1.5, "two": 6.0}
    assert total.item() == 7.5


@pytest.mark.parametrize("name", HEADS)
def test_with_every_head(name: str) -> None:
    torch.manual_seed(0)
    task = AVEL(registry.load("head", name).build(section("head", name), Dims(8, 8), LABELS), LABELS)
    output = task(Encoded(torch.randn(6, 5, 8), torch.randn(6, 5, 8), segments=3, num_prefix_tokens=1, has_cls=True))
    labels = torch.tensor([[0, 0, 2], [2, 2, 2]])
    total, terms = task.loss(output, labels)
    torch.testing.assert_close(total, sum(terms.values(), torch.zeros(())))
    answers = task.answers(output)
    assert [tuple(answer.probabilities.shape) for answer in answers] == [(3, 3), (3, 3)]
    assert torch.equal(torch.stack([answer.probabilities for answer in answers]), task.head.probabilities(output))
    decisions = torch.stack([answer.decisions for answer in answers])
    assert torch.equal(decisions, task.head.decide(output))
    assert set(localization_metrics(decisions, labels, NAMES)["per_class_accuracy"]) == {*NAMES, "background"}


def test_the_registry_knows_the_task() -> None:
    assert registry.load("task", "avel") is AVEL


def test_metrics_are_plain_values() -> None:
    labels = torch.tensor([[0, 0, 2, 2], [2, 2, 2, 2]])
    answers = torch.tensor([[0, 1, 2, 0], [2, 2, 2, 2]])
    assert localization_metrics(answers, labels, NAMES) == {
        "segment_accuracy": 6 / 8,
        "foreground_accuracy": 7 / 8,
        "category_accuracy": 1.0,
        "per_class_accuracy": {"bark": 0.5, "flute": None, "background": 5 / 6},
        "confusion_matrix": [[1, 1, 0], [0, 0, 0], [1, 0, 5]],
    }
    silent = localization_metrics(torch.full((1, 2), 2), torch.full((1, 2), 2), NAMES)
    assert silent["segment_accuracy"] == 1
    assert silent["category_accuracy"] is None
