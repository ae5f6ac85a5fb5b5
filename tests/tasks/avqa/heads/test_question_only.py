"""The blind baseline: it equals AVST's question side and reads nothing of the video."""

import pytest
import torch

from avpea.tasks.avqa.heads.question_only import QuestionOnly
from tests.tasks.avqa.heads.test_avst import ANSWERS, AUDIO, VISUAL, WORDS, inputs, linear, randomise, read


def blind() -> QuestionOnly:
    torch.manual_seed(0)
    made = QuestionOnly(VISUAL, AUDIO, WORDS, ANSWERS).double().eval()
    randomise(made)
    return made


def test_equals_the_steps_written_out() -> None:
    head, (visual, audio, words, video, _) = blind(), inputs()
    answers = head(visual, audio, words, video).answers
    with torch.no_grad():
        for row, sentence in zip(answers, words, strict=True):
            assert (row - linear(head.answer, torch.tanh(read(head.question, sentence)))).abs().max() < 1e-12


def test_ignores_the_video() -> None:
    head, (visual, audio, words, video, negatives) = blind(), inputs()
    assert not QuestionOnly.reads_video
    output = head(None, None, words, video)
    assert output.match is output.matching is output.spatial is output.seen is output.heard is None
    assert torch.equal(output.answers, head(visual, audio, words, video, negatives).answers)
    assert torch.equal(output.answers, head(visual * torch.nan, audio * torch.nan, words, video * 0).answers)
    assert (output.answers[0] - output.answers[2]).abs().max() < 1e-12  # the same words about two videos


def test_counts() -> None:
    with torch.device("meta"):
        head = QuestionOnly(768, 768, 93, 42)
    lstm = 4 * (512 * 512 * 2 + 512 * 2)
    assert sum(p.numel() for p in head.parameters()) == 93 * 512 + lstm + 1025 * 512 + 513 * 42
    assert head.registered_but_unused() == {}


def test_every_weight_gets_a_gradient_and_unknown_answers_none() -> None:
    head, (_, _, words, video, _) = blind(), inputs()
    terms = head.loss(head(None, None, words, video), torch.full((5,), -1))
    assert {name: term.item() for name, term in terms.items()} == {"answer": 0}
    terms["answer"].backward()
    assert not any(p.grad is None or p.grad.any() for p in head.parameters())
    head.loss(head(None, None, words, video), torch.tensor([0, 1, -1, 3, 4]))["answer"].backward()
    assert not [name for name, p in head.named_parameters() if p.grad is None or not p.grad.any()]


def test_a_question_with_an_unknown_answer_does_not_count() -> None:
    head, (_, _, words, video, _) = blind(), inputs()
    known = torch.tensor([True, True, False, True, True])
    answers = torch.tensor([0, 1, -1, 3, 4])
    some = head.loss(head(None, None, words, video), answers)["answer"]
    rest = head.loss(head(None, None, words[known], video[known]), answers[known])["answer"]
    assert some.item() == pytest.approx(rest.item(), abs=1e-12)


def test_state_dict_round_trip() -> None:
    head, other, (_, _, words, video, _) = blind(), QuestionOnly(1, 1, WORDS, ANSWERS).double().eval(), inputs()
    other.load_state_dict(head.state_dict())
    assert torch.equal(head(None, None, words, video).answers, other(None, None, words, video).answers)
