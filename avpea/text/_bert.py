"""BERT (Devlin et al., NAACL 2019), with cross-attention for decoders, under the names of its published weights.

A layer is self-attention, then cross-attention where there is something to look at, then two linear layers; each adds
its input and is normalised after that. Names of tensors and options are those of the weights on the hub, and all
numbers equal those of the transformers library, which takes seconds to be imported, in values, gradients and dropout.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

__all__ = ["ACTIVATIONS", "Bert", "BertShape", "KeptWords", "initialise"]

_TANH = functools.partial(F.gelu, approximate="tanh")
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "gelu_python": F.gelu,
    "gelu_new": _TANH,
    "gelu_fast": _TANH,
    "gelu_pytorch_tanh": _TANH,
    "relu": F.relu,
    "silu": F.silu,
    "swish": F.silu,
}
_Pair = tuple[Tensor, Tensor]  # keys and values: each "texts heads tokens dim"


@dataclass(frozen=True)
class BertShape:
    """Sizes and constants of a BERT, by the names that `config.json` gives them; the defaults are BERT base."""

    vocab_size: int = 30522
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    max_position_embeddings: int = 512
    type_vocab_size: int = 2
    pad_token_id: int = 0
    hidden_act: str = "gelu"
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.1
    layer_norm_eps: float = 1e-12
    initializer_range: float = 0.02


class KeptWords:
    """Keys and values of each layer: of words that have been read, and of the tokens that cross-attention looks at."""

    def __init__(self) -> None:
        self.words: dict[int, _Pair] = {}
        self.memory: dict[int, _Pair] = {}

    def with_words(self, layer: int, keys: Tensor, values: Tensor) -> _Pair:
        """A layer's keys and values of earlier words and these, which are kept."""
        if layer in self.words:
            earlier = self.words[layer]
            keys, values = torch.cat((earlier[0], keys), dim=2), torch.cat((earlier[1], values), dim=2)
        self.words[layer] = keys, values
        return keys, values

    def drop_last(self) -> None:
        """Forget the last word."""
        self.words = {layer: (keys[:, :, :-1], values[:, :, :-1]) for layer, (keys, values) in self.words.items()}

    def select(self, rows: Int[Tensor, " rows"]) -> None:
        """Take the words of other rows; what they look at stays, so a row must take one that looks at the same."""
        self.words = {layer: (keys[rows], values[rows]) for layer, (keys, values) in self.words.items()}

    def repeat(self, times: int) -> None:
        """Repeat each row so many times."""
        for kept in (self.words, self.memory):
            for layer, pair in kept.items():
                kept[layer] = pair[0].repeat_interleave(times, dim=0), pair[1].repeat_interleave(times, dim=0)


class _Heads(nn.Module):
    """Attention with several heads."""

    def __init__(self, shape: BertShape) -> None:
        super().__init__()
        dim = shape.hidden_size
        self.dim_of_head = dim // shape.num_attention_heads
        self.query, self.key, self.value = nn.Linear(dim, dim), nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.dropout = nn.Dropout(shape.attention_probs_dropout_prob)

    def split(self, tokens: Tensor) -> Tensor:
        """Texts tokens (heads dim) -> texts heads tokens dim."""
        return tokens.view(*tokens.shape[:-1], -1, self.dim_of_head).transpose(1, 2)

    def pair(self, tokens: Tensor) -> _Pair:
        """Keys and values of tokens."""
        return self.split(self.key(tokens)), self.split(self.value(tokens))

    def attend(self, query: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
        """Softmax attention; the mask is added to its logits."""
        logits = query @ keys.transpose(2, 3) * self.dim_of_head**-0.5
        shares = self.dropout(F.softmax(logits if mask is None else logits + mask, dim=-1))
        seen: Tensor = (shares @ values).transpose(1, 2).flatten(2)
        return seen


class _Added(nn.Module):
    """A linear layer whose output is added to a residual, and normalised."""

    def __init__(self, dim_in: int, shape: BertShape) -> None:
        super().__init__()
        self.dense = nn.Linear(dim_in, shape.hidden_size)
        self.LayerNorm = nn.LayerNorm(shape.hidden_size, eps=shape.layer_norm_eps)
        self.dropout = nn.Dropout(shape.hidden_dropout_prob)

    def forward(self, tokens: Tensor, residual: Tensor) -> Tensor:
        """Normalised sum of the residual and what the layer makes of the tokens."""
        added: Tensor = self.LayerNorm(self.dropout(self.dense(tokens)) + residual)
        return added


class _Attention(nn.Module):
    """Attention of words, to themselves or to something else, with its residual connection."""

    def __init__(self, shape: BertShape) -> None:
        super().__init__()
        self.self = _Heads(shape)  # the published name, in cross-attention, too
        self.output = _Added(shape.hidden_size, shape)

    def to_words(self, words: Tensor, mask: Tensor, kept: KeptWords | None, layer: int) -> Tensor:
        """Attention to earlier words and these."""
        heads = self.self
        # Query first: gradients are added up in the order of the forward pass.
        query, (keys, values) = heads.split(heads.query(words)), heads.pair(words)
        if kept is not None:
            keys, values = kept.with_words(layer, keys, values)
        added: Tensor = self.output(heads.attend(query, keys, values, mask), words)
        return added

    def to_memory(self, words: Tensor, memory: Tensor, kept: KeptWords | None, layer: int) -> Tensor:
        """Attention to other tokens, whose keys and values are computed once."""
        heads = self.self
        query = heads.split(heads.query(words))
        pair = None if kept is None else kept.memory.get(layer)
        if pair is None:
            pair = heads.pair(memory)
            if kept is not None:
                kept.memory[layer] = pair
        added: Tensor = self.output(heads.attend(query, *pair, None), words)
        return added


class _Intermediate(nn.Module):
    def __init__(self, shape: BertShape) -> None:
        super().__init__()
        self.dense = nn.Linear(shape.hidden_size, shape.intermediate_size)
        self.activation = ACTIVATIONS[shape.hidden_act]

    def forward(self, tokens: Tensor) -> Tensor:
        """The wider layer of a feed-forward network, activated."""
        return self.activation(self.dense(tokens))


class _Layer(nn.Module):
    def __init__(self, shape: BertShape, looks: bool) -> None:
        super().__init__()
        self.attention = _Attention(shape)
        if looks:
            self.crossattention = _Attention(shape)
        self.intermediate = _Intermediate(shape)
        self.output = _Added(shape.intermediate_size, shape)

    def forward(self, words: Tensor, mask: Tensor, memory: Tensor | None, kept: KeptWords | None, layer: int) -> Tensor:
        """One layer of hidden states."""
        words = self.attention.to_words(words, mask, kept, layer)
        if memory is not None:
            words = self.crossattention.to_memory(words, memory, kept, layer)
        done: Tensor = self.output(self.intermediate(words), words)
        return done


class _Embeddings(nn.Module):
    def __init__(self, shape: BertShape) -> None:
        super().__init__()
        dim = shape.hidden_size
        self.word_embeddings = nn.Embedding(shape.vocab_size, dim, padding_idx=shape.pad_token_id)
        self.position_embeddings = nn.Embedding(shape.max_position_embeddings, dim)
        self.token_type_embeddings = nn.Embedding(shape.type_vocab_size, dim)
        self.LayerNorm = nn.LayerNorm(dim, eps=shape.layer_norm_eps)
        self.dropout = nn.Dropout(shape.hidden_dropout_prob)

    def forward(self, words: Tensor, positions: Tensor) -> Tensor:
        """Embedded words, with the first token type's embedding and those of their positions, normalised."""
        types = self.token_type_embeddings(torch.zeros_like(positions))
        embedded: Tensor = self.dropout(self.LayerNorm(words + types + self.position_embeddings(positions)))
        return embedded


class _Encoder(nn.Module):
    def __init__(self, shape: BertShape, looks: bool) -> None:
        super().__init__()
        self.layer = nn.ModuleList(_Layer(shape, looks) for _ in range(shape.num_hidden_layers))


class Bert(nn.Module):
    """A BERT with random weights.

    Args:
        shape: Its sizes and constants.
        looks: Whether each layer has cross-attention.

    Attributes:
        shape: Its sizes and constants.
    """

    def __init__(self, shape: BertShape, *, looks: bool) -> None:
        super().__init__()
        self.shape = shape
        self.embeddings = _Embeddings(shape)
        self.encoder = _Encoder(shape, looks)
        initialise(self, shape)

    @property
    def layers(self) -> list[Any]:
        """The layers, from the first."""
        return list(self.encoder.layer)

    def forward(
        self,
        words: Float[Tensor, "texts rows dim"],
        positions: Int[Tensor, "texts rows"],
        mask: Float[Tensor, "texts 1 rows columns"],
        memory: Float[Tensor, "texts tokens dim"] | None = None,
        kept: KeptWords | None = None,
    ) -> Float[Tensor, "texts rows dim"]:
        """Hidden states of the last layer.

        Args:
            words: Embeddings of the words.
            positions: Their positions in the text.
            mask: Added to the logits of self-attention: 0, or a large negative number where a word (row) does not
                see another (column; those in `kept` first).
            memory: Tokens for cross-attention, which is left out without.
            kept: Keys and values of earlier words, to which those of these words are added.
        """
        states: Tensor = self.embeddings(words, positions)
        for number, layer in enumerate(self.layers):
            states = layer(states, mask, memory, kept, number)
        return states


@torch.no_grad()
def initialise(module: nn.Module, shape: BertShape) -> None:
    """Draw new weights for all linear layers and embeddings of a module, as BERT's were.

    Normally distributed, and zero for padding and biases; what is normalised starts with a gain of one.
    """
    if next(module.parameters()).is_meta:
        return
    for part in module.modules():
        if isinstance(part, nn.Linear | nn.Embedding):
            part.weight.normal_(0.0, shape.initializer_range)
        if isinstance(part, nn.Linear):
            part.bias.zero_()
        if isinstance(part, nn.Embedding) and part.padding_idx is not None:
            part.weight[part.padding_idx].zero_()
        if isinstance(part, nn.LayerNorm):
            part.reset_parameters()
