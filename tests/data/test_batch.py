"""Batches: which segments are drawn."""

from pathlib import Path

import torch

from avpea.data._batch import Batch
from avpea.labels import EventSample


def test_segments_are_drawn_from_equal_parts() -> None:
    frames = torch.arange(10, dtype=torch.uint8)[None, :, None, None, None].expand(50, 10, 1, 1, 3)
    samples = tuple(EventSample(f"v{i}", "v", Path("v"), 0.0, 10, "train", labels=(0,) * 10) for i in range(50))
    batch = Batch(frames, torch.arange(10.0)[None, :, None, None].expand(50, 10, 1, 1), samples)
    torch.manual_seed(0)
    drawn = batch.drawn(4)
    assert drawn.positions is not None
    for part, seconds in enumerate(({0, 1}, {2, 3, 4}, {5, 6, 7}, {8, 9})):
        assert set(drawn.positions[:, part].tolist()) == seconds
    assert torch.equal(drawn.frames[..., 0, 0, 0].long(), drawn.positions)
    assert torch.equal(drawn.log_mel[..., 0, 0].long(), drawn.positions)
