"""Texts as BERT's word pieces, and back."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from avpea.errors import WeightsError
from avpea.parsing import read_text

__all__ = ["Words", "read_object", "read_words"]

_SPECIAL = {"pad": "[PAD]", "unknown": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}
_BYTES = 2**26


class Words:
    """A vocabulary of word pieces: WordPiece, with the splitting of words that BERT was trained with.

    Args:
        vocabulary: Index of each piece; later pieces of a word begin with `##`.
        length: Maximum number of pieces in a text, CLS and SEP included.
        settings: `do_lower_case`, `strip_accents` and `tokenize_chinese_chars` of a `tokenizer_config.json`.
        added: Index of each piece that was added to the vocabulary later, which is found before words are split.

    Attributes:
        special: Index of each special piece: `pad`, `unknown`, `cls`, `sep`, `mask`.
        unknown: What stands for a piece that is not in the vocabulary.
        size: Number of indices that there are at least in a model of these words.

    Raises:
        ImportError: The tokenizers library is not installed.
    """

    def __init__(
        self, vocabulary: dict[str, int], length: int, settings: dict[str, Any], added: dict[str, int] | None = None
    ) -> None:
        from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

        self._tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token=_SPECIAL["unknown"]))
        self._tokenizer.normalizer = normalizers.BertNormalizer(
            clean_text=True,
            handle_chinese_chars=settings.get("tokenize_chinese_chars", True),
            strip_accents=settings.get("strip_accents"),
            lowercase=settings.get("do_lower_case", True),
        )
        self._tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        self._tokenizer.add_special_tokens(list(_SPECIAL.values()))
        for piece, index in sorted((added or {}).items(), key=lambda one: one[1]):
            self._tokenizer.add_tokens([piece])  # the library numbers them itself
            if self._tokenizer.token_to_id(piece) != index:
                raise ValueError(f"the added piece '{piece:.40}' has the index {index}")
        cls, sep = ((_SPECIAL[name], vocabulary[_SPECIAL[name]]) for name in ("cls", "sep"))
        self._tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{cls[0]} $A {sep[0]}", special_tokens=[cls, sep]
        )
        self._tokenizer.enable_truncation(length)
        self._tokenizer.enable_padding(pad_id=vocabulary[_SPECIAL["pad"]], pad_token=_SPECIAL["pad"])
        self.unknown = _SPECIAL["unknown"]
        self.size = max([*vocabulary.values(), *(added or {}).values()]) + 1
        self.special = {name: vocabulary[piece] for name, piece in _SPECIAL.items()}

    def read(self, texts: Sequence[str]) -> tuple[list[list[int]], list[list[int]]]:
        """Indices of the texts' pieces, between CLS and SEP and padded to the longest, and 1 where there is a piece."""
        found = self._tokenizer.encode_batch(list(texts))
        return [one.ids for one in found], [one.attention_mask for one in found]

    def pieces(self, word: str) -> list[str]:
        """The pieces of a word, without CLS and SEP."""
        found: list[str] = self._tokenizer.encode(word, add_special_tokens=False).tokens
        return found

    def piece(self, index: int) -> str:
        """A piece by its index; models may have room for more than there are, which are unknown."""
        found: str | None = self._tokenizer.id_to_token(index)
        return self.unknown if found is None else found


def read_words(file: Path, settings: Path | None, added: Path | None, length: int) -> Words:
    """The words of a BERT.

    Args:
        file: `tokenizer.json`, or `vocab.txt`, which has a piece a line.
        settings: `tokenizer_config.json`; None if there is none.
        added: `added_tokens.json`, which goes with `vocab.txt`; None if there is none.
        length: Maximum number of pieces in a text.

    Raises:
        WeightsError: A file is not what it should be.
        ImportError: The tokenizers library is not installed.
    """
    try:
        if file.suffix == ".json":
            vocabulary, later = _of_json(file)
        else:
            lines = read_text(file, _BYTES, WeightsError).removesuffix("\n").split("\n")
            vocabulary = {piece.rstrip("\r"): index for index, piece in enumerate(lines)}
            later = {} if added is None else _indices(added)
        if lacking := [piece for piece in _SPECIAL.values() if piece not in vocabulary]:
            raise WeightsError(f"{file} is no vocabulary of a BERT: it lacks {', '.join(lacking)}.")
        later = {piece: index for piece, index in later.items() if piece not in vocabulary}
        return Words(vocabulary, length, {} if settings is None else _settings(settings), later)
    except (ImportError, WeightsError):
        raise
    except Exception as error:  # the library raises plain exceptions of its own for what it cannot use
        raise WeightsError(f"{file} cannot be used as a vocabulary ({error!s:.120}).") from None


def _of_json(file: Path) -> tuple[dict[str, int], dict[str, int]]:
    """The vocabulary in a `tokenizer.json`, and what was added to it."""
    from tokenizers import Tokenizer, models

    known = Tokenizer.from_str(read_text(file, _BYTES, WeightsError))
    if not isinstance(known.model, models.WordPiece):
        raise WeightsError(f"{file} has no word pieces, as a BERT's has.")
    vocabulary: dict[str, int] = known.get_vocab(with_added_tokens=False)
    return vocabulary, known.get_vocab(with_added_tokens=True)


def _indices(file: Path) -> dict[str, int]:
    found = read_object(file)
    if not all(type(index) is int and 0 <= index < 2**31 for index in found.values()):
        raise WeightsError(f"{file} has no index for each piece.")
    return found


def _settings(file: Path) -> dict[str, Any]:
    found = read_object(file)
    kinds = {"do_lower_case": (bool,), "tokenize_chinese_chars": (bool,), "strip_accents": (bool, type(None))}
    for name, kind in kinds.items():
        if name in found and not isinstance(found[name], kind):
            raise WeightsError(f"{file} is no configuration of a BERT's words: '{name}' should be true or false.")
    return found


def read_object(file: Path) -> dict[str, Any]:
    """An object in a JSON file of another program, with whatever numbers it has (`model_max_length` is 1e30).

    Raises:
        WeightsError: It is none, or cannot be read.
    """
    try:
        found = json.loads(read_text(file, _BYTES, WeightsError))
    except (OSError, ValueError, RecursionError) as error:
        raise WeightsError(f"{file} cannot be read ({error!s:.120}).") from None
    if not isinstance(found, dict):
        raise WeightsError(f"{file} holds {type(found).__name__}; expected an object.")
    return found
