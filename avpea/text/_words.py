"""Texts as BERT's word pieces, and back."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from avpea.errors import WeightsError
from avpea.parsing import read_json, read_text

__all__ = ["Words", "read_words"]

_SPECIAL = {"pad": "[PAD]", "unknown": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}
_BYTES = 2**25


class Words:
    """A vocabulary of word pieces: WordPiece, with the splitting of words that BERT was trained with.

    Args:
        vocabulary: Index of each piece; later pieces of a word begin with `##`.
        length: Maximum number of pieces in a text, CLS and SEP included.
        settings: `do_lower_case`, `strip_accents` and `tokenize_chinese_chars` of a `tokenizer_config.json`.

    Attributes:
        special: Index of each special piece: `pad`, `unknown`, `cls`, `sep`, `mask`.
        unknown: What stands for a piece that is not in the vocabulary.
        size: Number of indices that there are at least in a model of these words.

    Raises:
        ImportError: The tokenizers library is not installed.
    """

    def __init__(self, vocabulary: dict[str, int], length: int, settings: dict[str, Any]) -> None:
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
        cls, sep = ((_SPECIAL[name], vocabulary[_SPECIAL[name]]) for name in ("cls", "sep"))
        self._tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{cls[0]} $A {sep[0]}", special_tokens=[cls, sep]
        )
        self._tokenizer.enable_truncation(length)
        self._tokenizer.enable_padding(pad_id=vocabulary[_SPECIAL["pad"]], pad_token=_SPECIAL["pad"])
        self.unknown = _SPECIAL["unknown"]
        self.size = max(vocabulary.values()) + 1
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


def read_words(folder: Path, length: int) -> Words:
    """The words of a BERT in a folder: `vocab.txt` or `tokenizer.json`, and `tokenizer_config.json` if there is one.

    Raises:
        WeightsError: A file is missing or is not what it should be.
        ImportError: The tokenizers library is not installed.
    """
    lists, whole, settings = (folder / name for name in ("vocab.txt", "tokenizer.json", "tokenizer_config.json"))
    if lists.is_file():
        source, pieces = lists, read_text(lists, _BYTES, WeightsError).split("\n")
        vocabulary = {
            piece.rstrip("\r"): index for index, piece in enumerate(pieces[: -1 if pieces[-1] == "" else None])
        }
    else:
        source, vocabulary = whole, _of_json(whole)
    if lacking := [piece for piece in _SPECIAL.values() if piece not in vocabulary]:
        raise WeightsError(f"{source} is no vocabulary of a BERT: it lacks {', '.join(lacking)}.")
    known = read_json(settings, WeightsError) if settings.is_file() else {}
    wanted = {"do_lower_case": (bool,), "tokenize_chinese_chars": (bool,), "strip_accents": (bool, type(None))}
    for name, kinds in wanted.items():
        if not isinstance(known, dict) or (name in known and not isinstance(known[name], kinds)):
            raise WeightsError(f"{settings} is no configuration of a BERT's words: '{name}' should be true or false.")
    try:
        return Words(vocabulary, length, known)
    except ImportError:
        raise
    except Exception as error:  # the library raises plain exceptions of its own for what it cannot use
        raise WeightsError(f"{source} cannot be used as a vocabulary ({error!s:.120}).") from None


def _of_json(file: Path) -> dict[str, int]:
    """The vocabulary in a `tokenizer.json`."""
    if not file.is_file():
        raise WeightsError(f"{file.parent} has no vocab.txt and no tokenizer.json.")
    whole = read_json(file, WeightsError)
    model = whole.get("model") if isinstance(whole, dict) else None
    pieces = model.get("vocab") if isinstance(model, dict) else None
    if not isinstance(pieces, dict) or not all(type(one) is int and 0 <= one < 2**31 for one in pieces.values()):
        raise WeightsError(f"{file} has no vocabulary of word pieces.")
    return pieces
