"""The linear readout of lanes: its parameters, and what it can know of the sound."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from avpea.tasks.avvp.heads.lane_readout import LaneReadout
from tests.tasks.avvp.heads.test_parsing_head_contract import targets


@pytest.mark.parametrize(("reads", "parameters"), [("both", 10 * (2 * 16 + 8 + 2)), ("visual", 10 * (4 * 16 + 2))])
def test_counts_in_closed_form(reads: Any, parameters: int) -> None:
    assert sum(p.numel() for p in LaneReadout(16, 10, 8, reads).parameters()) == parameters


def test_reading_the_visual_tokens_it_does_not_know_the_sound() -> None:
    torch.manual_seed(0)
    picture, cls, sound, other = torch.randn(4, 2, 5, 16)
    cases: list[tuple[Any, bool]] = [("visual", False), ("both", True)]
    for reads, knows in cases:
        head = LaneReadout(16, 3, reads=reads)
        found, again = head(picture, cls, sound), head(picture, cls, other)
        assert torch.equal(found.seen, again.seen)
        assert torch.equal(found.heard, again.heard) != knows
        assert torch.equal(found.heard, head(cls, picture, sound).heard) == knows


def test_losses_as_written() -> None:
    torch.manual_seed(0)
    head = LaneReadout(16, 3)
    found, wanted, weak = head(*torch.randn(3, 2, 5, 16)), targets(), targets(timed=False)
    assert torch.equal(found.video_seen, found.seen.max(dim=1).values)
    assert torch.equal(found.video, torch.stack((found.seen, found.heard)).amax(dim=(0, 2)))
    terms = head.loss(found, wanted)
    assert terms["video"] == terms["video_seen"] == terms["video_heard"] == 0
    torch.testing.assert_close(terms["seconds_heard"], F.binary_cross_entropy(found.heard, wanted.heard))
    terms, y = head.loss(found, weak), weak.classes
    for name, truth in {"video": y, "video_heard": y, "video_seen": 0.9 * y + 0.05}.items():
        torch.testing.assert_close(terms[name], F.binary_cross_entropy(getattr(found, name), truth))
