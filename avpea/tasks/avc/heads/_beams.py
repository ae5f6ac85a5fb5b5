"""Writing a text word by word, with several in sight (beam search); one beam is greedy."""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from avpea.text import Sentences, TextModel

__all__ = ["Written", "beam_search"]


@dataclass(frozen=True)
class Written:
    """A text that was written.

    Attributes:
        text: In lower case.
        log_probability: Natural logarithm, the end of the text included.
    """

    text: str
    log_probability: float


@torch.no_grad()
def beam_search(
    model: TextModel,
    number: int,
    memory: Float[Tensor, "texts tokens dim"] | None,
    prompt: Sentences | None,
    *,
    beams: int,
    longest: int,
) -> list[list[Written]]:
    """Write texts, each for its own memory and prompt.

    As VALOR's public code writes: after CLS and the words so far comes MASK, whose logits say the next word; texts are
    compared by the sum of their log-probabilities, without regard to length. Keys and values of earlier words, of the
    prompt and of the memory are kept, and MASK's dropped.

    Args:
        model: Writes.
        number: How many texts.
        memory: What each looks at.
        prompt: What each is asked.
        beams: How many texts are kept in sight for each.
        longest: Word pieces of a text at most; what has not ended by then is taken as it is.

    Returns:
        For each, `beams` texts, the likeliest first.
    """
    device = model.bert.embeddings.word_embeddings.weight.device
    cache = _new_cache(model)
    mask = torch.zeros(number, 0, dtype=torch.bool, device=device)
    if prompt is not None:
        mask = prompt.mask
        model.run(None, prompt, mask[:, None].expand(-1, mask.shape[1], -1), memory, cache=cache)
    token_ids = torch.full((number, 1), model.cls_id, device=device)  # beams of one text after another's
    scores = torch.zeros(number, 1, device=device)
    ended = torch.zeros(number, 1, dtype=torch.bool, device=device)
    for step in range(longest):
        pair = torch.stack((token_ids[:, -1], torch.full_like(token_ids[:, -1], model.mask_id)), dim=1)
        written = torch.ones(len(token_ids), step + 1, dtype=torch.bool, device=device)
        before = torch.cat((mask, written), dim=1)
        last = torch.tensor([[[False], [True]]], device=device).expand(len(token_ids), -1, -1)
        sees = torch.cat((before[:, None].expand(-1, 2, -1), last), dim=2)
        states = model.run(Sentences(pair, torch.ones_like(pair, dtype=torch.bool)), None, sees, memory, start=step,
                           cache=cache)  # fmt: skip
        cache.self_attention_cache.crop(-1)
        chances = model.logits(states[:, 1]).float().log_softmax(dim=-1).view(number, scores.shape[1], -1)
        over = torch.full_like(chances[:1, :1], -torch.inf)
        over[..., model.sep_id] = 0.0  # a text that has ended stays as it is
        totals = scores[..., None] + torch.where(ended[..., None], over, chances)
        scores, best = totals.flatten(1).topk(beams, dim=1)
        parent, word = best // chances.shape[-1], best % chances.shape[-1]
        rows = (torch.arange(number, device=device)[:, None] * ended.shape[1] + parent).flatten()
        token_ids = torch.cat((token_ids[rows], word.view(-1, 1)), dim=1)
        ended = ended.gather(1, parent) | (word == model.sep_id)
        if ended.all():
            break
        if len(rows) != len(mask):  # the first step: one text becomes as many as there are beams
            mask = mask.repeat_interleave(beams, dim=0)
            memory = None if memory is None else memory.repeat_interleave(beams, dim=0)
            cache.batch_repeat_interleave(beams)
        else:
            cache.self_attention_cache.reorder_cache(rows)  # a text's beams all look at the same memory
    found = [
        Written(model.text(row), float(score)) for row, score in zip(token_ids.tolist(), scores.flatten(), strict=True)
    ]
    return [found[start : start + beams] for start in range(0, len(found), beams)]


def _new_cache(model: TextModel) -> Any:
    from transformers import DynamicCache, EncoderDecoderCache

    return EncoderDecoderCache(DynamicCache(config=model.bert.config), DynamicCache(config=model.bert.config))
