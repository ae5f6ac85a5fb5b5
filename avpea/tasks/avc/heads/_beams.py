"""Beam search: write a text word by word, keeping several candidates; one beam is greedy search."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from avpea.text import KeptWords, Sentences, TextModel

__all__ = ["Written", "beam_search"]


@dataclass(frozen=True)
class Written:
    """A written text.

    Attributes:
        text: The text, in lower case.
        log_probability: Natural logarithm of its probability, which includes that of its end.
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

    As in VALOR's public code, MASK follows CLS and the words so far, and its logits give the next word; beams are
    ranked by the sum of log-probabilities, without length normalisation. Keys and values of earlier words, of the
    prompt and of the memory are cached; those of MASK are dropped.

    Args:
        model: A text model that writes.
        number: Number of texts to write.
        memory: Tokens for cross-attention, for each text; None for none.
        prompt: Prompt of each text; None for none.
        beams: Number of beams for each text.
        longest: Maximum number of word pieces in a text; unfinished texts are cut there.

    Returns:
        For each text its `beams` candidates, the likeliest first.
    """
    device = model.bert.embeddings.word_embeddings.weight.device
    kept = KeptWords()
    mask = torch.zeros(number, 0, dtype=torch.bool, device=device)
    if prompt is not None:
        mask = prompt.mask
        model.run(None, prompt, mask[:, None].expand(-1, mask.shape[1], -1), memory, kept=kept)
    token_ids = torch.full((number, 1), model.cls_id, device=device)  # one row per beam, in the order of the texts
    scores = torch.zeros(number, 1, device=device)
    ended = torch.zeros(number, 1, dtype=torch.bool, device=device)
    for step in range(longest):
        pair = torch.stack((token_ids[:, -1], torch.full_like(token_ids[:, -1], model.mask_id)), dim=1)
        written = torch.ones(len(token_ids), step + 1, dtype=torch.bool, device=device)
        before = torch.cat((mask, written), dim=1)
        last = torch.tensor([[[False], [True]]], device=device).expand(len(token_ids), -1, -1)
        sees = torch.cat((before[:, None].expand(-1, 2, -1), last), dim=2)
        states = model.run(Sentences(pair, torch.ones_like(pair, dtype=torch.bool)), None, sees, memory, start=step,
                           kept=kept)  # fmt: skip
        kept.drop_last()
        log_probabilities = model.logits(states[:, 1]).float().log_softmax(dim=-1).view(number, scores.shape[1], -1)
        only_sep = torch.full_like(log_probabilities[:1, :1], -torch.inf)
        only_sep[..., model.sep_id] = 0.0  # a text that has ended stays as it is
        totals = scores[..., None] + torch.where(ended[..., None], only_sep, log_probabilities)
        scores, best = totals.flatten(1).topk(beams, dim=1)
        parent, word = best // log_probabilities.shape[-1], best % log_probabilities.shape[-1]
        rows = (torch.arange(number, device=device)[:, None] * ended.shape[1] + parent).flatten()
        token_ids = torch.cat((token_ids[rows], word.view(-1, 1)), dim=1)
        ended = ended.gather(1, parent) | (word == model.sep_id)
        if ended.all():
            break
        if len(rows) != len(mask):  # after the first step each text has several beams
            mask = mask.repeat_interleave(beams, dim=0)
            memory = None if memory is None else memory.repeat_interleave(beams, dim=0)
            kept.repeat(beams)
        else:
            kept.select(rows)  # the beams of a text share their memory
    found = [
        Written(model.text(row), float(score)) for row, score in zip(token_ids.tolist(), scores.flatten(), strict=True)
    ]
    return [found[start : start + beams] for start in range(0, len(found), beams)]
