"""The CMBS head against its published steps in plain loops; its losses, its rule and its counts."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from avpea.tasks.avel.heads.cmbs import CMBS, CMBSOutput

DIM, CLASSES = 12, 5


def head(segments: int = 6, seed: int = 0) -> tuple[CMBS, Tensor, Tensor]:
    """A head in float64 with every weight random, and tokens for it."""
    torch.manual_seed(seed)
    made = CMBS(DIM, CLASSES).double().eval()
    with torch.no_grad():
        for name, p in made.named_parameters():
            if "norm" in name:
                p.copy_(torch.randn_like(p) * 0.3 + (1 if name.endswith("weight") else 0))
            elif p.dim() == 1:
                p.copy_(torch.randn_like(p) * 0.3)
    return made, torch.randn(2, segments, 4, DIM).double(), torch.randn(2, segments, DIM).double()


# Plain pieces: rows of numbers, one at a time.


def sigmoid(x: Tensor) -> Tensor:
    return 1 / (1 + torch.exp(-x))


def relu(x: Tensor) -> Tensor:
    return torch.where(x > 0, x, torch.zeros_like(x))


def softmax(scores: list[Tensor]) -> list[Tensor]:
    powers = [torch.exp(score) for score in scores]
    total = sum(powers, torch.zeros(()).double())
    return [power / total for power in powers]


def linear(layer: nn.Linear, x: Tensor) -> Tensor:
    return layer.weight @ x + layer.bias


def mean(rows: list[Tensor]) -> Tensor:
    return sum(rows[1:], rows[0]) / len(rows)


def weighted(scores: list[Tensor], rows: list[Tensor]) -> Tensor:
    parts = [weight * row for weight, row in zip(softmax(scores), rows, strict=True)]
    return sum(parts[1:], parts[0])


def norm(layer: nn.LayerNorm, x: Tensor) -> Tensor:
    centre = x.sum() / len(x)
    variance = ((x - centre) ** 2).sum() / len(x)
    return (x - centre) / torch.sqrt(variance + 1e-5) * layer.weight + layer.bias


def attend(layer: nn.MultiheadAttention, queries: list[Tensor], memory: list[Tensor]) -> list[Tensor]:
    """Four heads of width 64; keys and values are the memory."""
    weight, bias = layer.in_proj_weight, layer.in_proj_bias
    answers = []
    for query in queries:
        q = weight[:256] @ query + bias[:256]
        heads = []
        for part in (slice(64 * h, 64 * h + 64) for h in range(4)):
            keys = [(weight[256:512] @ m + bias[256:512])[part] for m in memory]
            values = [(weight[512:] @ m + bias[512:])[part] for m in memory]
            heads.append(weighted([(q[part] * key).sum() / 8 for key in keys], values))
        answers.append(layer.out_proj.weight @ torch.cat(heads) + layer.out_proj.bias)
    return answers


def lstm_direction(layer: nn.LSTM, suffix: str, rows: list[Tensor]) -> list[Tensor]:
    w_in, w_state = getattr(layer, f"weight_ih_l0{suffix}"), getattr(layer, f"weight_hh_l0{suffix}")
    bias = getattr(layer, f"bias_ih_l0{suffix}") + getattr(layer, f"bias_hh_l0{suffix}")
    state = cell = torch.zeros(w_state.shape[1]).double()
    states = []
    for row in rows:
        gates = w_in @ row + w_state @ state + bias
        n = len(state)
        enter, forget, new, leave = (gates[i * n : (i + 1) * n] for i in range(4))
        cell = sigmoid(forget) * cell + sigmoid(enter) * torch.tanh(new)
        state = sigmoid(leave) * torch.tanh(cell)
        states.append(state)
    return states


def bilstm(layer: nn.LSTM, rows: list[Tensor]) -> list[Tensor]:
    forwards = lstm_direction(layer, "", rows)
    backwards = lstm_direction(layer, "_reverse", rows[::-1])[::-1]
    return [torch.cat(pair) for pair in zip(forwards, backwards, strict=True)]


# The steps of the head, for one video.


def spatial(model: CMBS, places: list[Tensor], sound: Tensor) -> Tensor:
    """Step 2: audio-guided attention of one second."""
    part = model.spatial
    # a. self-attention over locations, not scaled
    keys, values = ([linear(w, p) for p in places] for w in (part.key, part.value))
    own = []
    for place in places:
        scores = [(linear(part.query, place) * key).sum() for key in keys]
        own.append(norm(part.norm, place + weighted(scores, values)))
    # b. self spatial map
    m = relu(linear(part.self_mean, mean(own)))
    scores = [torch.tanh(linear(part.self_score, relu(linear(part.self_each, s)) * m))[0] for s in own]
    s = weighted(scores, own)
    # c. channel attention, applied to the raw map
    a = relu(linear(part.audio_channel, sound))
    u = mean([a * relu(linear(part.visual_channel, place)) for place in own])
    channels = sigmoid(linear(part.excite, relu(linear(part.squeeze, u))))
    places = [place * (channels + 1) for place in places]
    # d. audio spatial attention
    a = relu(linear(part.audio_spatial, sound))
    scores = [torch.tanh(linear(part.audio_score, relu(linear(part.visual_spatial, p)) * a))[0] for p in places]
    c = weighted(scores, places)
    # e.
    return c + 0.4 * sigmoid(s) * c


def encode(part: Any, rows: list[Tensor]) -> list[Tensor]:
    """Step 4: a linear map and two post-norm layers."""
    rows = [linear(part.project, row) for row in rows]
    for layer in part.layers:
        answers = attend(layer.self_attn, rows, rows)
        rows = [norm(layer.norm1, row + answer) for row, answer in zip(rows, answers, strict=True)]
        rows = [norm(layer.norm2, row + linear(layer.linear2, relu(linear(layer.linear1, row)))) for row in rows]
    return rows


def decode(part: Any, rows: list[Tensor], other: list[Tensor]) -> list[Tensor]:
    """Step 5: one post-norm layer that asks the other stream's encoding and its own query."""
    queries = [linear(part.project, row) for row in rows]
    answers = attend(part.attention, queries, [*other, *queries])
    rows = [norm(part.norm_attention, q + answer) for q, answer in zip(queries, answers, strict=True)]
    return [norm(part.norm_feed, row + linear(part.narrow, relu(linear(part.widen, row)))) for row in rows]


def interact(part: Any, x: list[Tensor], y: list[Tensor]) -> list[Tensor]:
    """Step 8."""
    products = [a * b for a, b in zip(x, y, strict=True)]
    answers = attend(part.attention, products, [*y, *x])
    return [norm(part.norm, p + answer) for p, answer in zip(products, answers, strict=True)]


def top_four(rows: list[Tensor]) -> Tensor:
    """Step 7: for each class the mean of its four highest seconds."""
    best = [sorted((float(row[k]) for row in rows), reverse=True)[:4] for k in range(CLASSES)]
    return torch.tensor([sum(values) / len(values) for values in best], dtype=torch.float64)


@torch.no_grad()
def plain(model: CMBS, visual: Tensor, sound: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """All steps for one video: relevance, category, gate and event-level score."""
    seconds = range(len(visual))
    places = [[relu(linear(model.v_fc, place)) for place in visual[t]] for t in seconds]  # step 1
    audio = [linear(model.a_fc, sound[t]) for t in seconds]
    video = [spatial(model, places[t], audio[t]) for t in seconds]  # step 2
    audio, video = bilstm(model.audio_lstm, audio), bilstm(model.video_lstm, video)  # step 3
    audio_key, video_key = encode(model.audio_encoder, audio), encode(model.video_encoder, video)  # step 4
    audio, video = (
        decode(model.audio_decoder, audio, video_key),
        decode(model.video_decoder, video, audio_key),
    )  # step 5
    g_a = [sigmoid(linear(model.audio_gate, row)) for row in audio_key]  # step 6
    g_v = [sigmoid(linear(model.video_gate, row)) for row in video_key]
    video = [row + 0.1 * g_a[t] * row for t, row in enumerate(video)]
    audio = [row + 0.1 * g_v[t] * row for t, row in enumerate(audio)]
    by_sound = top_four([linear(model.audio_classes, row) for row in audio])  # step 7
    by_sight = top_four([linear(model.video_classes, row) for row in video])
    av_score = (by_sound + by_sight) / 2
    video = interact(model.join_video, video, audio)  # step 8
    audio = interact(model.join_audio, audio, video)
    both = [(v + a) / 2 for v, a in zip(video, audio, strict=True)]  # step 9
    highest = torch.tensor([max(float(row[i]) for row in both) for i in range(256)], dtype=torch.float64)
    relevance = torch.cat([linear(model.relevance, row) for row in both])
    category = linear(model.category, highest) + 0.3 * av_score
    return relevance, category, torch.cat([a * v for a, v in zip(g_a, g_v, strict=True)]), av_score


@pytest.mark.parametrize("segments", [1, 3, 6])
def test_equals_the_steps_written_out(segments: int) -> None:
    model, visual, sound = head(segments)
    output = model(visual, torch.full_like(sound, torch.nan), sound)  # the frames' CLS tokens are not read
    for video in range(2):
        relevance, category, gate, av_score = plain(model, visual[video], sound[video])
        assert (output.relevance[video] - relevance).abs().max() < 1e-10
        assert (output.category[video] - category).abs().max() < 1e-10
        assert (output.gate[video] - gate).abs().max() < 1e-10
        assert (output.av_score[video] - av_score).abs().max() < 1e-10


def test_dropout_is_where_and_as_strong_as_published() -> None:
    model, _, _ = head()
    rates = {name: m.p for name, m in model.named_modules() if isinstance(m, nn.Dropout)}
    rates |= {name: m.dropout for name, m in model.named_modules() if isinstance(m, nn.MultiheadAttention)}
    strong = {name for name, rate in rates.items() if rate == 0.2}
    assert strong == {"dropout", "spatial.dropout", "join_video.attention", "join_audio.attention"}
    assert {rate for name, rate in rates.items() if name not in strong} == {0.1}
    assert model.audio_lstm.dropout == model.video_lstm.dropout == 0


def test_every_dropout_is_in_use() -> None:
    model, visual, sound = head()
    unused = {name for name, m in model.named_modules() if isinstance(m, nn.Dropout)}
    for name in tuple(unused):
        model.get_submodule(name).register_forward_hook(lambda *_, name=name: unused.discard(name))
    model.train()(visual, sound, sound)
    assert not unused


def output(seed: int = 3, batch: int = 3) -> CMBSOutput:
    generator = torch.Generator().manual_seed(seed)

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    return CMBSOutput(random(batch, 4), random(batch, CLASSES), sigmoid(random(batch, 4)), random(batch, CLASSES))


def test_losses_equal_plain_formulas() -> None:
    answer = output()
    labels = torch.tensor([[2, 2, 5, 5], [5, 4, 5, 5], [5, 5, 5, 5]])  # the last has no event
    here = (labels < 5).double()

    def binary(logits: Tensor) -> float:
        p = sigmoid(logits)
        return float(-(here * p.log() + (1 - here) * (1 - p).log()).mean())

    def category(logits: Tensor) -> float:
        rows = [(logits[0], 2), (logits[1], 4)]
        return sum(-math.log(softmax(list(row))[event]) for row, event in rows) / 2

    terms = {name: float(value) for name, value in CMBS(DIM, CLASSES).loss(answer, labels).items()}
    assert terms == pytest.approx(
        {
            "relevance": binary(answer.relevance),
            "gate": binary(answer.gate),  # a sigmoid over the product of sigmoids
            "category": category(answer.category),
            "av_score": category(answer.av_score),
        },
        abs=1e-12,
    )


def test_event_of_a_window_is_the_class_that_covers_most_seconds() -> None:
    answer, model = output(batch=1), CMBS(DIM, CLASSES)
    mixed = model.loss(answer, torch.tensor([[3, 1, 1, 5]]))["category"]
    assert mixed == model.loss(answer, torch.tensor([[1, 1, 1, 1]]))["category"]
    assert mixed != model.loss(answer, torch.tensor([[3, 3, 3, 3]]))["category"]


def test_background_alone_gives_no_category_loss_and_no_category_gradient() -> None:
    model, visual, sound = head()
    terms = model.loss(model(visual, sound, sound), torch.full((2, 6), CLASSES))
    assert terms["category"].item() == terms["av_score"].item() == 0
    assert terms["relevance"].item() > 0
    torch.stack(list(terms.values())).sum().backward()
    assert model.category.weight.grad is not None
    assert not model.category.weight.grad.any()


def test_published_rule() -> None:
    relevance = torch.tensor([[0.1, -0.1, 0.0, 3.0]])
    category = torch.tensor([[0.0, 0.0, 1.0, 0.0, 0.5]])
    answer = CMBSOutput(relevance, category, relevance.sigmoid(), category)
    model = CMBS(DIM, CLASSES)
    assert model.decide(answer).tolist() == [[2, 5, 5, 2]]  # exactly 1/2 is background
    probabilities = model.probabilities(answer)[0]
    assert probabilities[3, 2].item() == pytest.approx(
        float(sigmoid(relevance[0, 3]) * math.e / (math.e + math.sqrt(math.e) + 3)), rel=1e-5
    )
    torch.testing.assert_close(probabilities[:, 5], 1 - sigmoid(relevance[0]))


@pytest.mark.parametrize(("dim", "used", "registered"), [(768, 9_757_785, 14_101_849), (1024, 9_954_393, 14_298_457)])
def test_counts(dim: int, used: int, registered: int) -> None:
    with torch.device("meta"):
        model = CMBS(dim, 28)
    assert sum(p.numel() for p in model.parameters()) == used
    assert used + sum(model.registered_but_unused().values()) == registered


def test_unused_layers_are_counted_as_real_layers_are() -> None:
    def size(*modules: nn.Module) -> int:
        return sum(p.numel() for module in modules for p in module.parameters())

    with torch.device("meta"):
        layer = nn.TransformerEncoderLayer(256, 4, 1024)
        attention, norm_layer = nn.MultiheadAttention(256, 4), nn.LayerNorm(256)
        bottleneck, head = nn.Linear(512, 256), CMBS(DIM, CLASSES)
    assert list(head.registered_but_unused().values()) == [
        2 * size(layer),
        2 * size(layer, attention),
        2 * size(attention),
        size(bottleneck),
        2 * size(norm_layer),
    ]
    assert sum(head.registered_but_unused().values()) == 4_344_064
