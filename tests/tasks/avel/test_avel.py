"""Event localization: what the head is given, what is answered, and what is counted."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from avpea import registry
from avpea.labels import EventSample
from avpea.tasks import Calibration, Dims, Encoded
from avpea.tasks.avel.heads import EventHead
from avpea.tasks.avel.task import AVEL, Localization, localization_metrics
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


def test_padding_after_the_end_of_a_video_is_not_scored() -> None:
    # Two videos in windows of 4 s: one of 4 s, and one of 2 s, whose last two seconds are padding.
    whole = EventSample("a", "a", Path("a.mp4"), 0.0, 4, "val", labels=(0, 0, 2, 2))
    short = EventSample("b", "b", Path("b.mp4"), 0.0, 4, "val", labels=(1, 2, 2, 2), padding=2)
    chances = F.one_hot(torch.tensor([[0, 2, 2, 0], [1, 1, 2, 0]]), 3).float()
    answers = [Localization(one, one.argmax(dim=1), torch.arange(8.0).reshape(4, 2)) for one in chances]
    task, samples = AVEL(Recorder(), LABELS), [whole, short]
    metrics = task.evaluate(samples, answers)
    assert metrics["segment_accuracy"] == 3 / 6  # 2 of 4, and 1 of 2; with the padding it would be 4 of 8
    assert metrics["foreground_accuracy"] == 3 / 6
    assert metrics["category_accuracy"] == 1.0
    assert metrics["confusion_matrix"] == [[1, 0, 1], [0, 1, 0], [1, 1, 1]]
    assert [(task.score(*both), task.weight(both[0])) for both in zip(samples, answers, strict=True)] == [
        (2, 4),
        (1, 2),
    ]
    found = task.chances(samples, answers)
    assert found.right.tolist() == [0, 0, 2, 2, 1, 2]
    assert found.given.tolist() == [0, 2, 2, 0, 1, 1]
    known = task.features(samples, answers)
    assert known is not None
    assert known.shape == (6, 2)
    assert task.row(short, answers[1])["target"] == ["flute", "background"]
    assert len(task.row(short, answers[1])["confidence"]) == 2
    assert LABELS.background_share(samples) == 3 / 6
    assert task.references([whole], samples)["always 'bark', the most frequent class in training"] == 2 / 6
    assert whole.rotated(1).real == (2, 0, 0, 2)


def test_options_are_chosen_without_padding() -> None:
    # Sure of an event in the padding alone: no threshold may be chosen because of it.
    short = EventSample("b", "b", Path("b.mp4"), 0.0, 4, "val", labels=(1, 1, 2, 2), padding=2)
    chances = torch.tensor([[[0.2, 0.5, 0.3], [0.2, 0.5, 0.3], [0.9, 0.05, 0.05], [0.9, 0.05, 0.05]]])
    task = AVEL(Recorder(), LABELS)
    task.calibration = Calibration("val", 1, 2, 1.0, "", {}, torch.zeros(3, 2))
    answers = [Localization(one, one.argmax(dim=1), torch.full((4, 2), 3.0)) for one in chances]
    assert task.choose([short], answers)["threshold"] == 0.0
