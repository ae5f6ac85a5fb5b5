"""The timeline that a person reads."""

import torch

from avpea.tasks.avel.answer import Event, timeline

NAMES = ("bark", "flute")


def test_timeline_merges_neighbours_and_leaves_background_out() -> None:
    decisions = torch.tensor([0, 0, 2, 1, 0, 2])
    probabilities = torch.tensor(
        [[0.5, 0.1, 0.4], [1.0, 0.0, 0.0], [0, 0, 1.0], [0.25, 0.75, 0], [0.5, 0.25, 0.25], [0, 0, 1.0]]
    )
    assert timeline(probabilities, decisions, NAMES) == [
        Event("bark", 0.0, 2.0, 0.75),
        Event("flute", 3.0, 4.0, 0.75),
        Event("bark", 4.0, 5.0, 0.5),
    ]


def test_timeline_of_background_is_empty() -> None:
    assert timeline(torch.ones(3, 3) / 3, torch.full((3,), 2), NAMES) == []
