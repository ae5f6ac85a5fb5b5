"""The head that writes: what it hides, what it looks at, its loss, and its search against one that keeps nothing."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from avpea.errors import ExperimentError
from avpea.tasks.avc.heads._beams import beam_search
from avpea.tasks.avc.heads.writer import FRAMES, Writer, hide
from avpea.text import Sentences, TextModel, build_text
from tests.tiny import section

pytest.importorskip("tokenizers")


def make(visual: int = 8, audio: int = 8, **options: object) -> Writer:
    torch.manual_seed(0)
    chosen = section("head", "writer", text={"name": "tiny", "length": 12}, beams=3, longest=5, **options)
    text = build_text(chosen.text, writes=True)
    # BERT's own start is so small that all words are alike.
    for parameter in text.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.3)
    return Writer(visual, audio, text, chosen).eval()


def tokens(dim: int = 8, images: int = 3) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return tuple(torch.randn(2, images, 4, dim, generator=generator) for _ in range(2))  # type: ignore[return-value]


def test_hides_words_as_bert_was_trained() -> None:
    torch.manual_seed(0)
    mask = torch.ones(400, 30, dtype=torch.bool)
    mask[:, 25:] = False
    words = torch.randint(1000, 2000, (400, 30))
    hidden, chosen = hide(Sentences(words, mask), 0.6, 103, 30_522)
    assert not chosen[:, 0].any()
    assert not chosen[:, 25:].any()
    assert float(chosen[:, 1:25].float().mean()) == pytest.approx(0.6, abs=0.01)
    assert torch.equal(hidden.token_ids[~chosen], words[~chosen])
    masked = float((hidden.token_ids[chosen] == 103).float().mean())
    kept = float((hidden.token_ids[chosen] == words[chosen]).float().mean())
    assert masked == pytest.approx(0.8, abs=0.01)
    assert kept == pytest.approx(0.1, abs=0.01)
    assert int(hidden.token_ids[chosen & (hidden.token_ids != 103)].min()) >= 106


def test_hides_at_least_one_word_of_each_text() -> None:
    torch.manual_seed(0)
    mask = torch.tensor([[True, True, False], [True, True, True]])
    for _ in range(20):
        _, chosen = hide(Sentences(torch.full((2, 3), 2000), mask), 0.01, 103, 30_522)
        assert chosen.any(dim=1).all()
        assert not chosen[0, 2]


def test_memory_is_tokens_with_place_and_modality() -> None:
    head = make(visual=16, audio=16)
    seen, _ = tokens(16)
    found = head.memory("visual", seen)
    for video in range(2):
        for image in range(3):
            for token in range(4):
                expected = seen[video, image, token] + head.place["visual"][0, image] + head.modality["visual"][0, 0]
                torch.testing.assert_close(found[video, 4 * image + token], expected)
    drawn = head.memory("visual", seen, torch.tensor([[0, 4, 7], [1, 2, 9]]))
    torch.testing.assert_close(drawn[1, 8], seen[1, 2, 0] + head.place["visual"][0, 9] + head.modality["visual"][0, 0])


def test_groups_look_at_their_modalities() -> None:
    head = make(groups=("tva", "tv", "ta", "t"))
    seen, heard = tokens()
    found = head(seen, heard)
    assert found["t"] is None
    both, one, other = (found[group] for group in ("tva", "tv", "ta"))
    assert both is not None
    torch.testing.assert_close(both, torch.cat((one, other), dim=1))


def test_too_many_images_are_refused() -> None:
    with pytest.raises(ExperimentError, match=f"{FRAMES} positions for images, but data.segments is 33"):
        make().memory("visual", torch.zeros(1, 33, 4, 8))


@torch.no_grad()
def test_loss_is_the_cross_entropy_of_what_is_hidden() -> None:
    head = make(groups=("tva", "tv"))
    text = head.text.sentences(["a dog barks", "a train", "rain"])
    video = torch.tensor([0, 0, 1])
    memories = head(*tokens())
    torch.manual_seed(3)
    terms = head.loss(memories, text, video)
    torch.manual_seed(3)
    hidden, chosen = hide(text, 0.6, head.text.mask_id, 30_522)
    for group in ("tva", "tv"):
        memory = memories[group]
        assert memory is not None
        total, count = 0.0, 0
        for row in range(3):
            one = Sentences(hidden.token_ids[row : row + 1], hidden.mask[row : row + 1])
            logits = head.text.logits(head.text.write(one, None, memory[video[row] : video[row] + 1]))[0]
            for place in chosen[row].nonzero()[:, 0]:
                total += float(F.cross_entropy(logits[place], text.token_ids[row, place]))
                count += 1
        assert float(terms[f"words_{group}"]) == pytest.approx(total / count / 2, rel=1e-5)


@torch.no_grad()
def test_loss_of_texts_is_the_mean_of_each_texts_own_mean() -> None:
    """As VALOR's public code does for answers: an answer of one word counts as much as one of three."""
    head = make(groups=("tva",), average="texts")
    text = head.text.sentences(["more than ten", "two", "acoustic guitar"])
    video = torch.tensor([0, 1, 1])
    memories = head(*tokens())
    torch.manual_seed(3)
    found = head.loss(memories, text, video)["words_tva"]
    torch.manual_seed(3)
    hidden, chosen = hide(text, 0.6, head.text.mask_id, 30_522)
    memory = memories["tva"]
    assert memory is not None
    logits = head.text.logits(head.text.write(hidden, None, memory[video]))
    labels = text.token_ids.masked_fill(~chosen, -1)
    losses = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=-1, reduction="none").view(3, -1)
    expected = (losses.sum(dim=1) / chosen.sum(dim=1)).mean()
    assert float(found) == pytest.approx(float(expected), rel=1e-5)
    assert float(found) != pytest.approx(float(losses.sum() / chosen.sum()), rel=1e-3)


def plainly(
    model: TextModel, memory: Tensor | None, prompt: Sentences | None, beams: int, longest: int
) -> list[tuple[str, float]]:
    """The search for one text, everything computed anew for each word."""
    alive: list[tuple[list[int], float, bool]] = [([model.cls_id], 0.0, False)]
    for _ in range(longest):
        found = []
        for words, score, ended in alive:
            if ended:
                found.append((words, score, True))
                continue
            ids = torch.tensor([[*words, model.mask_id]])
            with torch.no_grad():
                states = model.write(Sentences(ids, torch.ones_like(ids, dtype=torch.bool)), prompt, memory)
                chances = model.logits(states[0, -1]).log_softmax(dim=0)
            best = chances.topk(beams)
            found += [
                ([*words, int(i)], score + float(v), int(i) == model.sep_id)
                for v, i in zip(best.values, best.indices, strict=True)
            ]
        alive = sorted(found, key=lambda one: -one[1])[:beams]
    return [(model.text(words), score) for words, score, _ in alive]


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("asked", [True, False])
@pytest.mark.parametrize("looks", [True, False])
def test_search_equals_one_that_keeps_nothing(beams: int, asked: bool, looks: bool) -> None:
    model = make().text
    # SEP likely enough that some texts end early.
    assert model.words is not None
    model.words.bias.data[model.sep_id] = 6.0
    memory = torch.randn(2, 6, model.dim, generator=torch.Generator().manual_seed(2)) if looks else None
    prompt = model.sentences(["where", "what is heard first"]) if asked else None
    found = beam_search(model, 2, memory, prompt, beams=beams, longest=5)
    for row, written in enumerate(found):
        only = torch.tensor([row])
        expected = plainly(
            model, None if memory is None else memory[only], None if prompt is None else prompt[only], beams, 5
        )
        assert [one.text for one in written] == [text for text, _ in expected]
        assert [one.log_probability for one in written] == pytest.approx([score for _, score in expected], abs=1e-3)


def test_writes_for_each_question_of_a_video() -> None:
    head = make()
    questions = head.text.sentences(["where", "what", "who"])
    found = head.write(head(*tokens()), torch.tensor([0, 0, 1]), questions)
    assert [len(some) for some in found] == [3, 3, 3]
    assert all(some[0].log_probability >= some[1].log_probability for some in found)
