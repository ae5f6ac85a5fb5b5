"""The ten figures of video parsing: as the official functions have them, and as one can count them by eye."""

import numpy as np
import pytest
import torch
from torch import Tensor

from avpea.metrics.video_parsing import FIGURES, Masks, parsing_figures, parsing_scores, runs

CLASSES, SEGMENTS = 25, 10


def mask(*events: tuple[int, int, int]) -> Tensor:
    """A video's mask from (class, first second, one past the last)."""
    found = torch.zeros(1, SEGMENTS, CLASSES, dtype=torch.bool)
    for name, start, stop in events:
        found[0, start:stop, name] = True
    return found


NOTHING = Masks(mask(), mask())
TRUTH = Masks(heard=mask((0, 0, 4)), seen=mask((0, 2, 10)))

# Measured on the official `eval_metrics.py`: A, V, Event@AV and AV by segments, then by events.
ORACLES = {
    "nothing, and nothing true": (NOTHING, NOTHING, (1, 1, 1, 1), (1, 1, 1, 1)),
    "perfect": (TRUTH, TRUTH, (1, 1, 1, 1), (1, 1, 1, 1)),
    "nothing": (NOTHING, TRUTH, (0, 0, 0, 0), (0, 0, 0, 0)),
    "0-10 in both streams": (
        Masks(mask((0, 0, 10)), mask((0, 0, 10))), TRUTH, (0.5714, 0.8889, 0.75, 0.3333), (0, 1, 0.5, 0),
    ),
    "perfect and a second of class 3 in audio": (
        Masks(TRUTH.seen, mask((0, 0, 4), (3, 5, 6))), TRUTH, (0.5, 1, 0.5, 1), (0.5, 1, 0.5, 1),
    ),
    "audio 0-2 only": (Masks(TRUTH.seen, mask((0, 0, 2))), TRUTH, (0.6667, 1, 0.9091, 0), (1, 1, 1, 0)),
    "audio in seconds 0, 1 and 3": (
        Masks(TRUTH.seen, mask((0, 0, 2), (0, 3, 4))), TRUTH, (0.8571, 1, 0.9565, 0.6667), (0.6667, 1, 0.8, 1),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", ORACLES)
def test_as_the_official_functions(case: str) -> None:
    found, truth, segment, event = ORACLES[case]
    figures = parsing_figures(found, truth)
    for level, expected in (("segment", segment), ("event", event)):
        own = [round(figures[f"{level}_{name}"], 4) for name in ("a", "v", "event", "av")]
        assert own == list(expected)
        mean = (figures[f"{level}_a"] + figures[f"{level}_v"] + figures[f"{level}_av"]) / 3
        assert figures[f"{level}_type"] == pytest.approx(mean, abs=1e-12)
    assert set(figures) == {f"{level}_{name}" for level in ("segment", "event") for name in FIGURES}


def official(found: np.ndarray, truth: np.ndarray, event: bool) -> float | None:
    """F of one class, written out from the paper's definition with 0/1 vectors; None if it does not occur."""

    def vectors(row: np.ndarray) -> list[np.ndarray]:
        edges = np.flatnonzero(np.diff(np.concatenate(([0], row, [0]))))
        return [((np.arange(SEGMENTS) >= a) & (np.arange(SEGMENTS) < b)).astype(int) for a, b in edges.reshape(-1, 2)]

    if not event:
        tp, fp, fn = (int(np.sum(x)) for x in (found * truth, found * (1 - truth), (1 - found) * truth))
    else:
        own, true = vectors(found), vectors(truth)
        match = np.array([[np.sum(a * b) >= 0.5 * np.sum(a + b - a * b) for b in true] for a in own])
        match = match.reshape(len(own), len(true))
        tp = int(match.any(axis=1).sum())
        fp, fn = len(own) - tp, len(true) - int(match.any(axis=0).sum())
    return 2 * tp / (2 * tp + fp + fn) if tp + fp + fn else None


@pytest.mark.parametrize("event", [False, True])
def test_as_written_out_on_random_masks(event: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    found, truth = (
        Masks(*(torch.rand(12, SEGMENTS, 4, generator=generator) < 0.35 for _ in range(2))) for _ in range(2)
    )
    found.seen[0] = found.heard[1] = truth.heard[1] = truth.seen[0] = False
    scores = parsing_scores(found, truth)["event" if event else "segment"]
    for name, one, other in (("a", found.heard, truth.heard), ("v", found.seen, truth.seen)):
        for video in range(12):
            rows = [(one[video, :, c].int().numpy(), other[video, :, c].int().numpy()) for c in range(4)]
            each = [official(*pair, event) for pair in rows]
            kept = [value for value in each if value is not None]
            assert float(scores[name][video]) == pytest.approx(np.mean(kept) if kept else 1.0, abs=1e-12)


def test_a_mean_over_videos_and_not_over_all_their_events() -> None:
    many = torch.zeros(2, SEGMENTS, 2, dtype=torch.bool)
    truth, found = many.clone(), many.clone()
    truth[0, :, 0] = found[0, :, 0] = True  # ten seconds right in one video
    truth[1, 0, 1] = True  # one second missed in the other
    figures = parsing_figures(Masks(found, many), Masks(truth, many))
    assert figures["segment_v"] == figures["event_v"] == 0.5
    assert figures["segment_a"] == figures["segment_av"] == 1.0  # nothing there and nothing found


def test_padding_is_no_part_of_an_event() -> None:
    real = torch.ones(1, SEGMENTS, dtype=torch.bool)
    real[0, 6:] = False
    found = Masks(mask((0, 0, 10)), mask()).within(real)
    assert parsing_figures(found, Masks(mask((0, 0, 6)), mask()))["event_v"] == 1.0
    assert found.seen.sum() == 6


def test_runs() -> None:
    assert runs(torch.tensor([1, 1, 0, 1, 0, 0, 1]).bool()) == [range(2), range(3, 4), range(6, 7)]
    assert runs(torch.zeros(3).bool()) == []
    assert runs(torch.ones(3).bool()) == [range(3)]
