"""What a library keeps of tokens, in five bits a number."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from avpea.search._tokens import complaint_about_tokens, packed_tokens, size_of, unpacked_tokens

# Max (1960), table of 32 levels.
LEVELS = [0.0659, 0.1981, 0.3314, 0.4668, 0.6050, 0.7473, 0.8947, 1.049, 1.212, 1.387, 1.577, 1.788, 2.029, 2.319]
LEVELS += [2.692, 3.263]
LEVELS += [-level for level in LEVELS]


def test_each_level_is_the_mean_of_what_is_nearest_to_it() -> None:
    """Of normally distributed numbers, which makes the quantiser the best one (Max, 1960; Lloyd)."""
    normal = torch.distributions.Normal(0.0, 1.0)
    levels = torch.tensor(sorted(LEVELS), dtype=torch.float64)
    ends = torch.cat([levels.new_tensor([-40.0]), (levels[1:] + levels[:-1]) / 2, levels.new_tensor([40.0])])
    density = normal.log_prob(ends).exp()
    means = (density[:-1] - density[1:]) / (normal.cdf(ends[1:]) - normal.cdf(ends[:-1]))
    torch.testing.assert_close(means, levels, rtol=0, atol=1e-3)


def plainly(token: torch.Tensor) -> torch.Tensor:
    """The nearest level of each number over the root mean square, as long in the direction of the token as that is."""
    levels = torch.tensor(LEVELS)
    scaled = token / token.square().mean().sqrt()
    nearest = levels[(scaled[:, None] - levels).abs().argmin(dim=1)]
    return nearest * (token @ token) / (nearest @ token)


@pytest.mark.parametrize("width", [1, 3, 8, 13, 512])
def test_what_is_read_back_is_the_nearest_level(width: int) -> None:
    tokens = torch.randn(7, width, generator=torch.Generator().manual_seed(width)) * torch.logspace(-3, 3, 7)[:, None]
    kept = packed_tokens(tokens)
    assert len(kept) == 7 * size_of(width) == 7 * (2 + -(-5 * width // 8))
    found = unpacked_tokens([kept], [7], width)
    torch.testing.assert_close(found, torch.stack([plainly(token) for token in tokens]), rtol=1e-3, atol=1e-4)


def test_products_differ_by_a_four_hundredth_of_unit_vectors() -> None:
    """Max (1960): a mean squared error of 0.002505, which 512 numbers spread."""
    generator = torch.Generator().manual_seed(0)
    tokens, others = (F.normalize(torch.randn(400, 512, generator=generator), dim=-1) for _ in range(2))
    found = unpacked_tokens([packed_tokens(tokens)], [400], 512)
    torch.testing.assert_close((found * tokens).sum(dim=1), torch.ones(400), rtol=0, atol=1e-3)
    wrong = (found - tokens) @ others.T
    assert wrong.std() == pytest.approx((0.002505 / 512) ** 0.5, rel=0.1)
    assert abs(wrong.mean()) < 1e-4


def test_rows_of_both_versions_are_read_beside_each_other() -> None:
    tokens = torch.randn(5, 16, generator=torch.Generator().manual_seed(1))
    whole, first, second = (
        tokens[:2].half().numpy().astype("<f2").tobytes(),
        *map(packed_tokens, (tokens[2:4], tokens[4:])),
    )
    found = unpacked_tokens([first, whole, second], [2, 2, 1], 16)
    torch.testing.assert_close(found[2:4], tokens[:2].half().float(), rtol=0, atol=0)
    assert torch.equal(found[[0, 1, 4]], unpacked_tokens([first, second], [2, 1], 16))
    assert complaint_about_tokens([first, whole, second], [2, 2, 1], 16) == "vectors of a wrong length"


def test_what_are_no_tokens_is_said() -> None:
    kept = packed_tokens(torch.full((2, 16), 0.25))
    assert complaint_about_tokens([kept, bytes(64)], [2, 2], 16) == complaint_about_tokens([], [], 16) == ""
    for wrong, count, width in ((kept, 3, 16), (kept[:-1], 2, 16), (kept, 2, 0), (b"", 0, 16)):
        assert complaint_about_tokens([kept, wrong], [2, count], width) == "no vectors"
    endless = np.array([np.inf], "<f2").tobytes() + kept[2:]
    assert complaint_about_tokens([kept, endless], [2, 2], 16) == "vectors that are no numbers"
    for length in (65504, -1, 2.5):  # as damage would give, and a search would put first or last
        wrong_length = np.array([length], "<f2").tobytes() + kept[2:]
        assert complaint_about_tokens([wrong_length], [2], 16) == "vectors of a wrong length"
    assert complaint_about_tokens([np.full((2, 16), 7, "<f2").tobytes()], [2], 16) == "vectors of a wrong length"
    assert not unpacked_tokens([packed_tokens(torch.zeros(2, 16))], [2], 16).any()
