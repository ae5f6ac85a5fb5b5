"""Recalls and ranks, counted by eye and against sorting."""

import pytest
import torch

from avpea.metrics.retrieval import both_ranks, dual_softmax, ranks, recalls


def test_ranks_by_eye() -> None:
    similarity = torch.tensor([[0.9, 0.1, 0.3], [0.5, 0.2, 0.4], [0.1, 0.2, 0.3]])
    assert ranks(similarity, torch.tensor([0, 1, 2])).tolist() == [1, 3, 1]


def test_a_model_that_likes_everything_alike_gains_nothing() -> None:
    places = ranks(torch.zeros(4, 4), torch.arange(4))
    assert places.tolist() == [4, 4, 4, 4]


def test_ranks_equal_sorting_where_nothing_ties() -> None:
    similarity = torch.randn(40, 30, generator=torch.Generator().manual_seed(0))
    own = torch.arange(40) % 30
    order = similarity.argsort(dim=1, descending=True)
    expected = [int((order[i] == own[i]).nonzero()) + 1 for i in range(40)]
    assert ranks(similarity, own).tolist() == expected


def test_recalls_of_a_permutation() -> None:
    places = torch.arange(1, 21)
    found = recalls(places)
    assert (found["r1"], found["r5"], found["r10"], found["median_rank"]) == (0.05, 0.25, 0.5, 10.5)
    assert found["mean_recall"] == pytest.approx((0.05 + 0.25 + 0.5) / 3)


def test_both_directions_with_several_texts_of_a_video() -> None:
    # Texts 0 and 1 are of video 0. Video 0 likes text 1 best of all.
    similarity = torch.tensor([[0.1, 0.4], [0.9, 0.2], [0.3, 0.5]])
    forth, back = both_ranks(similarity, torch.tensor([0, 0, 1]))
    assert forth.tolist() == [2, 1, 1]
    assert back.tolist() == [1, 1]


def test_texts_of_a_video_do_not_count_against_each_other() -> None:
    similarity = torch.tensor([[0.9, 0.1], [0.9, 0.9], [0.1, 0.9], [0.9, 0.0]])
    assert both_ranks(similarity, torch.tensor([0, 0, 1, 0]))[1].tolist() == [1, 2]
    assert both_ranks(torch.zeros(5, 2), torch.tensor([0, 0, 1, 1, 1]))[1].tolist() == [4, 3]  # ties with others do


def test_ranks_of_videos_with_one_text_each_are_those_of_sorting() -> None:
    similarity = torch.randn(30, 30, generator=torch.Generator().manual_seed(0))
    video = torch.randperm(30, generator=torch.Generator().manual_seed(1))
    texts = video.argsort()  # the text of each video
    assert torch.equal(both_ranks(similarity, video)[1], ranks(similarity.T, texts))


def test_dual_softmax_prefers_what_prefers_back() -> None:
    # A hub: video 0 is liked by both texts, but prefers text 0.
    similarity = torch.tensor([[0.9, 0.1], [0.8, 0.7]])
    assert ranks(similarity, torch.arange(2)).tolist() == [1, 2]
    assert ranks(dual_softmax(similarity, 0.1), torch.arange(2)).tolist() == [1, 1]
