"""AVST and its grounding stage against the published steps in plain loops; counts, losses, negatives."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from avpea.draws import drawing
from avpea.tasks.avqa.heads import QuestionHead, QuestionOutput, shuffled_frames
from avpea.tasks.avqa.heads.avst import AVST
from avpea.tasks.avqa_grounding.heads.grounding import Grounding

VISUAL, AUDIO, WORDS, ANSWERS = 10, 7, 9, 5
VIDEOS, SEGMENTS = 3, 4
Inputs = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]


def randomise(head: nn.Module) -> None:
    """Give weights that start as 0 or 1 random values too."""
    with torch.no_grad():
        for name, p in head.named_parameters():
            if p.dim() == 1:
                p.copy_(torch.randn_like(p) * 0.3 + ("norm.weight" in name))


def avst(visual_dim: int = VISUAL, audio_dim: int = AUDIO, seed: int = 0) -> AVST:
    torch.manual_seed(seed)
    made = AVST(visual_dim, audio_dim, WORDS, ANSWERS).double().eval()
    randomise(made)
    return made


def inputs(visual_dim: int = VISUAL, audio_dim: int = AUDIO, audio_tokens: int = 3, segments: int = SEGMENTS) -> Inputs:
    """Visual and audio tokens, words, videos, negatives; five questions, none about the second video."""
    generator = torch.Generator().manual_seed(1)

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    words = torch.tensor([[1, 2, 3, 0], [4, 0, 0, 0], [1, 2, 3, 0], [8, 7, 6, 5], [5, 5, 0, 0]])
    visual = random(VIDEOS, segments, 6, visual_dim)
    audio = random(VIDEOS, segments, audio_tokens, audio_dim)
    return visual, audio, words, torch.tensor([2, 0, 0, 2, 0]), random(VIDEOS, segments, 6, visual_dim)


def total(terms: dict[str, Tensor]) -> Tensor:
    return torch.stack(list(terms.values())).sum()


# Plain pieces: vectors, one at a time.


def linear(layer: nn.Linear, x: Tensor) -> Tensor:
    return layer.weight @ x + layer.bias


def sigmoid(x: Tensor) -> Tensor:
    return 1 / (1 + torch.exp(-x))


def relu(x: Tensor) -> Tensor:
    return torch.where(x > 0, x, torch.zeros_like(x))


def unit(x: Tensor) -> Tensor:
    return x / torch.sqrt((x**2).sum())


def mean(rows: list[Tensor]) -> Tensor:
    return sum(rows[1:], rows[0]) / len(rows)


def softmax(scores: list[Tensor]) -> list[Tensor]:
    powers = [torch.exp(score) for score in scores]
    return [power / sum(powers) for power in powers]


def weighted(shares: list[Tensor], rows: list[Tensor]) -> Tensor:
    parts = [share * row for share, row in zip(shares, rows, strict=True)]
    return sum(parts[1:], parts[0])


def norm(layer: nn.LayerNorm, x: Tensor) -> Tensor:
    centre = x.sum() / 512
    variance = ((x - centre) ** 2).sum() / 512
    return (x - centre) / torch.sqrt(variance + 1e-5) * layer.weight + layer.bias


def lstm(layer: Any, rows: list[Tensor]) -> tuple[Tensor, Tensor]:
    state = cell = torch.zeros(512, dtype=torch.float64)
    for row in rows:
        gates = layer.weight_ih_l0 @ row + layer.bias_ih_l0 + layer.weight_hh_l0 @ state + layer.bias_hh_l0
        enter, forget, new, leave = gates[:512], gates[512:1024], gates[1024:1536], gates[1536:]
        cell = sigmoid(forget) * cell + sigmoid(enter) * torch.tanh(new)
        state = sigmoid(leave) * torch.tanh(cell)
    return state, cell


def attend(layer: nn.MultiheadAttention, query: Tensor, memory: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
    """Four heads of width 128, and the mean share of each row of the memory."""
    weight, bias = layer.in_proj_weight, layer.in_proj_bias
    q = weight[:512] @ query + bias[:512]
    heads, shares = [], [torch.zeros((), dtype=torch.float64) for _ in memory]
    for part in (slice(128 * h, 128 * h + 128) for h in range(4)):
        keys = [(weight[512:1024] @ m + bias[512:1024])[part] for m in memory]
        values = [(weight[1024:] @ m + bias[1024:])[part] for m in memory]
        own = softmax([(q[part] * key).sum() / math.sqrt(128) for key in keys])
        heads.append(weighted(own, values))
        shares = [share + mine / 4 for share, mine in zip(shares, own, strict=True)]
    return linear(layer.out_proj, torch.cat(heads)), shares


# The steps of the network, for one segment, one video or one question.


def hear(part: Any, tokens: Tensor) -> Tensor:
    return linear(part.audio_out, relu(mean([linear(part.audio_in, token) for token in tokens])))


def locate(part: Any, tokens: Tensor, sound: Tensor) -> tuple[Tensor, list[Tensor]]:
    places = [token if isinstance(part.visual_in, nn.Identity) else linear(part.visual_in, token) for token in tokens]
    units = [unit(place) for place in places]
    shares = softmax([(place * unit(sound)).sum() for place in units])
    return linear(part.join, torch.tanh(torch.cat([mean(places), weighted(shares, units)]))), shares


def fits(part: Any, sound: Tensor, sight: Tensor) -> Tensor:
    x = torch.cat([sound, sight])
    for index in (0, 2, 4):
        x = relu(linear(part.match[index], x))
    return linear(part.match[6], x)


def read(part: Any, words: Tensor) -> Tensor:
    state, cell = lstm(part.lstm, [torch.tanh(part.words.weight[word]) for word in words])
    return linear(part.join, torch.tanh(torch.cat([state, cell])))


def ask(part: Any, question: Tensor, stream: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
    x, shares = attend(part.attention, question, stream)
    x = norm(part.norm, x + linear(part.second, relu(linear(part.first, x))))
    return x + mean(stream), shares


@torch.no_grad()
def plain(
    model: AVST, visual: Tensor, audio: Tensor, words: Tensor, video: Tensor, negatives: Tensor
) -> QuestionOutput:
    part = model.grounding
    sounds, sights, where, match = [], [], [], []
    for v in range(len(visual)):
        sounds.append([hear(part, tokens) for tokens in audio[v]])
        found = [locate(part, frame, sound) for frame, sound in zip(visual[v], sounds[v], strict=True)]
        sights.append([vector for vector, _ in found])
        where.append([torch.stack(shares) for _, shares in found])
        for t, sound in enumerate(sounds[v]):
            match.append(fits(part, sound, sights[v][t]))
            match.append(fits(part, sound, locate(part, negatives[v, t], sound)[0]))
    answers, seen, heard = [], [], []
    for sentence, v in zip(words, video.tolist(), strict=True):
        question = read(model.question, sentence)
        sight, seen_shares = ask(model.seen, question, sights[v])
        sound, heard_shares = ask(model.heard, question, sounds[v])
        fused = linear(model.fusion, torch.tanh(torch.cat([sound, sight])))
        answers.append(linear(model.answer, torch.tanh(fused * question)))
        seen.append(torch.stack(seen_shares))
        heard.append(torch.stack(heard_shares))
    return QuestionOutput(
        torch.stack(answers),
        torch.stack(match),
        torch.tensor([1, 0] * (len(match) // 2)),
        torch.stack([torch.stack(rows) for rows in where]),
        torch.stack(seen),
        torch.stack(heard),
    )


@pytest.mark.parametrize(
    ("visual_dim", "audio_dim", "audio_tokens", "segments"),
    [(VISUAL, AUDIO, 3, 4), (VISUAL, AUDIO, 3, 1), (512, 128, 1, 2)],
    ids=["transformer", "one-segment", "official"],
)
def test_equals_the_steps_written_out(visual_dim: int, audio_dim: int, audio_tokens: int, segments: int) -> None:
    model, given = avst(visual_dim, audio_dim), inputs(visual_dim, audio_dim, audio_tokens, segments)
    ours, expected = model(*given), plain(model, *given)
    for name in ("answers", "match", "matching", "spatial", "seen", "heard"):
        assert getattr(ours, name).shape == getattr(expected, name).shape
        assert (getattr(ours, name) - getattr(expected, name)).abs().max() < 1e-12, name


@torch.no_grad()
def test_losses_equal_plain_formulas() -> None:
    model, given = avst(), inputs()
    answers, output = torch.tensor([4, 0, -1, 2, -1]), model(*given)
    assert output.answers is not None
    assert output.match is not None

    def surprise(logits: Tensor, right: int) -> float:
        return -math.log(softmax(list(logits))[right])

    known = [surprise(output.answers[i], k) for i, k in enumerate(answers.tolist()) if k >= 0]
    rows = [surprise(row, 1 - i % 2) for i, row in enumerate(output.match)]  # own frame, negative, own frame, ...
    assert len(rows) == 2 * VIDEOS * SEGMENTS
    terms = {name: float(term) for name, term in model.loss(output, answers).items()}
    expected = {"answer": sum(known) / 3, "match": 0.5 * sum(rows) / len(rows)}
    assert terms == pytest.approx(expected, abs=1e-12)
    stage = Grounding(VISUAL, AUDIO, WORDS, ANSWERS).loss(output, answers)
    assert {name: float(term) for name, term in stage.items()} == pytest.approx({"match": 2 * expected["match"]})


def test_without_negatives_there_is_no_match_term() -> None:
    model, (visual, audio, words, video, negatives) = avst(), inputs()
    output = model(visual, audio, words, video)
    assert output.match is None
    assert output.matching is None
    assert set(model.loss(output, torch.zeros(5, dtype=torch.int64))) == {"answer"}
    assert torch.equal(output.answers, model(visual, audio, words, video, negatives).answers)


def test_questions_without_a_known_answer_give_no_loss_and_no_gradient() -> None:
    model, given = avst(), inputs()
    term = model.loss(model(*given), torch.full((5,), -1))["answer"]
    assert term.item() == 0
    term.backward()
    assert model.answer.weight.grad is not None
    assert not model.answer.weight.grad.any()


def test_dropout_is_in_temporal_grounding_alone_and_in_use() -> None:
    model, given = avst(), inputs()
    rates = {name: m.p for name, m in model.named_modules() if isinstance(m, nn.Dropout)}
    rates |= {name: m.dropout for name, m in model.named_modules() if isinstance(m, nn.MultiheadAttention)}
    kinds = ("attention", "dropout_inner", "dropout_outer")
    assert rates == {f"{stream}.{kind}": 0.1 for stream in ("seen", "heard") for kind in kinds}
    unused = set(rates)
    for name in rates:
        model.get_submodule(name).register_forward_hook(lambda *_, name=name: unused.discard(name))
    model.train()(*given)
    assert not unused


@pytest.mark.parametrize(
    ("visual_dim", "audio_dim", "used", "registered"),
    [
        (768, 768, 7_916_716 - 66_048 + 787_456, 8_704_172),
        (1024, 1024, 8_900_268, 8_966_316),
        (512, 128, 7_916_716, 10_608_300),
    ],
    ids=["ViT-B", "ViT-L", "official"],
)
def test_counts_with_93_words_and_42_answers(visual_dim: int, audio_dim: int, used: int, registered: int) -> None:
    with torch.device("meta"):
        model = AVST(visual_dim, audio_dim, 93, 42)
    assert sum(p.numel() for p in model.parameters()) == used
    assert used + sum(model.registered_but_unused().values()) == registered


@pytest.mark.parametrize(("visual_dim", "audio_dim"), [(768, 768), (512, 128), (512, 320), (1536, 128)])
def test_counts_in_closed_form(visual_dim: int, audio_dim: int) -> None:
    words, answers = 20, 6
    with torch.device("meta"):
        model = AVST(visual_dim, audio_dim, words, answers)
    ins = (audio_dim + 1) * 512 + (0 if visual_dim == 512 else (visual_dim + 1) * 512)
    matching = 1025 * 512 + 513 * 256 + 257 * 128 + 129 * 2
    grounding = ins + 513 * 512 + 1025 * 512 + matching
    question = words * 512 + 4 * (512 * 512 * 2 + 512 * 2) + 1025 * 512
    one_stream = 4 * 513 * 512 + 2 * 513 * 512 + 2 * 512
    expected = grounding + question + 2 * one_stream + 1025 * 512 + 513 * answers
    assert sum(p.numel() for p in model.parameters()) == expected


@pytest.mark.parametrize(("visual_dim", "audio_dim"), [(512, 128), (768, 768)])
def test_unused_layers_are_counted_as_real_layers_are(visual_dim: int, audio_dim: int) -> None:
    with torch.device("meta"):
        listed = AVST(visual_dim, audio_dim, 2, 2).registered_but_unused()
        for name, count in listed.items():
            kind, _, widths = name.partition(", ")[2].removesuffix(")").partition("(")
            layer = getattr(nn, kind)(*map(int, widths.split(", ")))
            assert sum(p.numel() for p in layer.parameters()) == count
    assert [*listed.values()].count(1_049_088) == (audio_dim == 128)
    assert sum(listed.values()) == (2_691_584 if audio_dim == 128 else 66_048)


@pytest.mark.parametrize("kind", [AVST, Grounding])
def test_every_weight_gets_a_gradient(kind: type[QuestionHead]) -> None:
    torch.manual_seed(0)
    head = kind(VISUAL, AUDIO, WORDS, ANSWERS).double()
    total(head.loss(head(*inputs()), torch.tensor([0, 1, 2, 3, 4]))).backward()
    assert not [name for name, p in head.named_parameters() if p.grad is None or not p.grad.any()]


def test_a_question_about_one_video_does_not_depend_on_the_rest_of_the_batch() -> None:
    model, (visual, audio, words, video, negatives) = avst(), inputs()
    together = model(visual, audio, words, video, negatives)
    for index, v in enumerate(video.tolist()):
        own = slice(v, v + 1)
        alone = model(visual[own], audio[own], words[index : index + 1], torch.tensor([0]), negatives[own])
        for name in ("answers", "seen", "heard"):
            assert (getattr(alone, name)[0] - getattr(together, name)[index]).abs().max() < 1e-12
        assert (alone.spatial[0] - together.spatial[v]).abs().max() < 1e-12
        rows = slice(2 * SEGMENTS * v, 2 * SEGMENTS * (v + 1))
        assert (alone.match - together.match[rows]).abs().max() < 1e-12


def test_questions_and_videos_may_come_in_any_order() -> None:
    model, (visual, audio, words, video, _) = avst(), inputs()
    answers, order = model(visual, audio, words, video).answers, torch.tensor([3, 0, 4, 2, 1])
    other = model(visual, audio, words[order], video[order]).answers
    assert (other - answers[order]).abs().max() < 1e-12
    turned = model(visual.flip(0), audio.flip(0), words, VIDEOS - 1 - video).answers
    assert (turned - answers).abs().max() < 1e-12


def test_answers_depend_on_question_picture_and_sound() -> None:
    model, (visual, audio, words, video, _) = avst(), inputs()
    answers = model(visual, audio, words, video).answers
    changed = [
        model(visual + 1, audio, words, video).answers,
        model(visual, audio + 1, words, video).answers,
        model(visual, audio, words.flip(1), video).answers,
        model(visual, audio, words, 2 - video).answers,
    ]
    assert all(bool(((other - answers).abs().amax(dim=1) > 1e-6).all()) for other in changed)


def test_shares_sum_to_one() -> None:
    model, (visual, audio, words, video, _) = avst(), inputs()
    output = model(visual, audio, words, video)
    for shares in (output.spatial, output.seen, output.heard):
        assert shares.min() > 0
        assert (shares.sum(dim=-1) - 1).abs().max() < 1e-12


def test_negatives_come_from_all_segments_of_all_other_videos() -> None:
    videos, segments = 3, 4
    names = torch.arange(videos * segments).double().reshape(videos, segments, 1, 1).expand(-1, -1, 5, 2)
    generator = torch.Generator().manual_seed(0)
    met: list[set[int]] = [set() for _ in range(videos)]
    for _ in range(100):
        found = shuffled_frames(names, generator)
        assert found is not None
        assert found.shape == names.shape
        assert bool((found == found[:, :, :1, :1]).all())  # whole frames
        for video in range(videos):
            met[video] |= set(found[video, :, 0, 0].int().tolist())
    for video in range(videos):
        assert met[video] == {n for n in range(videos * segments) if n // segments != video}


def test_negatives_depend_on_seed_epoch_and_batch_alone() -> None:
    visual = inputs()[0]

    def drawn(*place: int) -> Tensor:
        with drawing(*place):
            found = shuffled_frames(visual)
        assert found is not None
        return found

    first = drawn(5, 0, 3)
    torch.rand(7)  # what else draws does not matter
    assert torch.equal(first, drawn(5, 0, 3))
    assert not any(torch.equal(first, drawn(*place)) for place in ((4, 0, 3), (5, 1, 3), (5, 0, 4)))


def test_one_video_has_no_negatives_and_still_trains() -> None:
    visual, audio, words, _, _ = inputs()
    assert shuffled_frames(visual[:1]) is None
    torch.manual_seed(0)
    head = Grounding(VISUAL, AUDIO, WORDS, ANSWERS).double()
    output = head(visual[:1], audio[:1], words[:2], torch.tensor([0, 0]))
    assert output.match is None
    terms = head.loss(output, torch.tensor([0, 1]))
    assert terms["match"].item() == 0
    total(terms).backward()


@pytest.mark.parametrize(("visual_dim", "audio_dim"), [(VISUAL, AUDIO), (512, 128)])
def test_avst_starts_from_the_grounding_stage(visual_dim: int, audio_dim: int) -> None:
    torch.manual_seed(3)
    stage, model = Grounding(visual_dim, audio_dim, WORDS, ANSWERS).double().eval(), avst(visual_dim, audio_dim)
    given = inputs(visual_dim, audio_dim)
    learned, before = stage(*given), model(*given)
    assert learned.answers is None
    assert not torch.equal(before.spatial, learned.spatial)
    missing = model.load_state_dict(stage.state_dict(), strict=False)
    assert not missing.unexpected_keys
    assert {key.partition(".")[0] for key in missing.missing_keys} == {"question", "seen", "heard", "fusion", "answer"}
    after = model(*given)
    assert torch.equal(after.spatial, learned.spatial)
    assert torch.equal(after.match, learned.match)
    assert torch.equal(after.matching, learned.matching)


@pytest.mark.parametrize("kind", [AVST, Grounding])
def test_state_dict_round_trip(kind: type[QuestionHead]) -> None:
    torch.manual_seed(0)
    one, other = (kind(VISUAL, AUDIO, WORDS, ANSWERS).double().eval() for _ in range(2))
    assert not torch.equal(one(*inputs()).match, other(*inputs()).match)
    other.load_state_dict(one.state_dict())
    assert torch.equal(one(*inputs()).match, other(*inputs()).match)
    if kind is AVST:
        assert torch.equal(one(*inputs()).answers, other(*inputs()).answers)


def test_runs_in_bfloat16_autocast() -> None:
    model, (visual, audio, words, video, negatives) = avst().float(), inputs()
    given = visual.float(), audio.float(), words, video, negatives.float()
    exact = model(*given)
    with torch.autocast("cpu", torch.bfloat16):
        rough = model(*given)
        terms = model.train().loss(model(*given), torch.tensor([0, 1, 2, 3, 4]))
    total(terms).backward()
    assert all(bool(p.grad.isfinite().all()) for p in model.parameters() if p.grad is not None)
    torch.testing.assert_close(rough.answers.float(), exact.answers, rtol=0, atol=0.05)
    torch.testing.assert_close(rough.spatial.float(), exact.spatial, rtol=0, atol=0.02)


def test_learns_answers_that_need_the_video_and_what_fits() -> None:
    torch.manual_seed(0)
    model, (visual, audio, words, video, negatives) = AVST(VISUAL, AUDIO, WORDS, ANSWERS), inputs()
    given = visual.float(), audio.float(), words, video, negatives.float()
    answers = torch.tensor([4, 0, 3, 2, 1])  # questions 0 and 2 have the same words
    optimizer = torch.optim.Adam(model.parameters(), 5e-4)
    for _ in range(30):
        optimizer.zero_grad()
        total(model.loss(model(*given), answers)).backward()
        optimizer.step()
    output = model.eval()(*given)
    assert torch.equal(output.answers.argmax(dim=-1), answers)
    assert torch.equal(output.match.argmax(dim=-1), output.matching)
