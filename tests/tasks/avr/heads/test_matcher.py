"""Fine-grained similarity and its loss against the formula in plain loops; over two processes as over one."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from avpea.embeddings import Embeddings, fine_similarity, stacked
from avpea.tasks.avr.heads._matching import TokenWeights, contrastive_loss
from avpea.tasks.avr.heads.matcher import Matcher, MatcherOptions
from avpea.tasks.avr.task import _trimmed
from avpea.text import TextOptions, build_text

TEXTS, WORDS, VIDEOS, TOKENS, DIM = 3, 5, 4, 6, 8
LENGTHS = (5, 2, 4)
EVERY = torch.ones(VIDEOS, TOKENS, dtype=torch.bool)  # no video has padding


def given() -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)

    def unit(*shape: int) -> Tensor:
        return F.normalize(torch.randn(*shape, generator=generator, dtype=torch.float64), dim=-1)

    mask = torch.tensor([[place < length for place in range(WORDS)] for length in LENGTHS])
    weights = torch.rand(TEXTS, WORDS, generator=generator, dtype=torch.float64) * mask
    shares = torch.rand(VIDEOS, TOKENS, generator=generator, dtype=torch.float64)
    return (
        unit(TEXTS, WORDS, DIM),
        weights / weights.sum(dim=1, keepdim=True),
        mask,
        unit(VIDEOS, TOKENS, DIM),
        shares / shares.sum(dim=1, keepdim=True),
    )


def test_equals_the_formula_written_out() -> None:
    text, text_weights, mask, video, video_weights = given()
    found = fine_similarity(text, text_weights, mask, video, video_weights, EVERY)
    for t in range(TEXTS):
        words = [w for w in range(WORDS) if mask[t, w]]
        for v in range(VIDEOS):
            product = [[float((text[t, w] * video[v, k]).sum()) for k in range(TOKENS)] for w in words]
            forth = sum(float(text_weights[t, w]) * max(row) for w, row in zip(words, product, strict=True))
            back = sum(float(video_weights[v, k]) * max(row[k] for row in product) for k in range(TOKENS))
            assert float(found[t, v]) == pytest.approx((forth + back) / 2, abs=1e-12)


def test_padding_does_not_matter() -> None:
    text, text_weights, mask, video, video_weights = given()
    changed = torch.where(mask[..., None], text, 100 * torch.ones_like(text))
    torch.testing.assert_close(
        fine_similarity(changed, text_weights, mask, video, video_weights, EVERY),
        fine_similarity(text, text_weights, mask, video, video_weights, EVERY),
    )


@pytest.mark.parametrize("sign", [1, -1])
def test_a_videos_padding_does_not_matter(sign: int) -> None:
    """Beside a longer one a video has the similarity that it has alone, also where all products are negative."""
    words, _, mask, tokens, _ = given()
    texts = Embeddings(words.abs(), torch.zeros(TEXTS, WORDS).double(), mask)
    videos = [
        Embeddings(sign * tokens[v : v + 1, : v + 1].abs(), torch.randn(1, v + 1).double(), EVERY[:1, : v + 1])
        for v in range(VIDEOS)
    ]
    apart = torch.cat([texts.similarity(one) for one in videos], dim=1)
    assert bool((sign * apart > 0).all())
    torch.testing.assert_close(texts.similarity(stacked(videos)), apart, rtol=0, atol=1e-12)


def test_padding_counts_as_in_valors_public_code() -> None:
    """Its products are multiplied by the mask before the maximum, so padding is a word with product 0."""
    text = torch.tensor([[[1.0, 0.0], [0.0, 0.0]]])
    embedded = Embeddings(text, torch.zeros(1, 2), torch.tensor([[True, False]]))
    video = Embeddings(torch.tensor([[[-1.0, 0.0]]]), torch.zeros(1, 1), torch.ones(1, 1, dtype=torch.bool))
    assert float(embedded.similarity(video)) == -1.0
    assert float(replace(embedded, padding_counts=True).similarity(video)) == -0.5

    words, weights, mask, tokens, shares = given()
    found = fine_similarity(words, weights, mask, tokens, shares, EVERY, padding_counts=True)
    products = torch.einsum("atd,bvd->abtv", words, tokens) * mask[:, None, :, None]
    forth = (products.amax(dim=3) * weights[:, None]).sum(dim=2)
    back = (products.amax(dim=2) * shares[None]).sum(dim=2)
    torch.testing.assert_close(found, (forth + back) / 2, rtol=0, atol=1e-12)


def test_a_text_is_padded_to_its_full_length_where_padding_counts() -> None:
    """So that its similarity depends neither on its batch nor on where padding was cut off."""
    torch.manual_seed(0)
    text = build_text(TextOptions(name="tiny", weights="random", length=7))
    head = Matcher(8, 8, text, MatcherOptions(padding="zero")).eval()
    seen, _ = head(torch.randn(3, 2, 8), torch.randn(3, 2, 8))
    sentences = "a dog", "a dog barks at the cat and a bird"
    with torch.no_grad():
        both = head.read(text.sentences(sentences))
        assert both.scores.shape == (2, 7)
        found = both.similarity(seen)
        alone = torch.cat([head.read(text.sentences([one])).similarity(seen) for one in sentences])
        cut = stacked([_trimmed(both, 0), _trimmed(both, 1)]).similarity(seen)
    torch.testing.assert_close(found, alone)
    torch.testing.assert_close(found, cut)


def test_weights_sum_to_one_over_what_is_there() -> None:
    torch.manual_seed(0)
    text, _, mask, _, _ = given()
    weights = Embeddings(text, TokenWeights(DIM).double()(text), mask).weights
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(TEXTS, dtype=torch.float64))
    assert not weights[~mask].any()


def test_loss_is_both_directions_cross_entropy() -> None:
    similarity = torch.randn(4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    temperature = torch.tensor(0.07, dtype=torch.float64)
    rows, columns = (similarity / temperature), (similarity / temperature).T
    expected = -sum(float(x[i].log_softmax(0)[i]) for x in (rows, columns) for i in range(4)) / 8
    assert float(contrastive_loss(similarity, temperature)) == pytest.approx(expected, abs=1e-12)
