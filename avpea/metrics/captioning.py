"""BLEU-4, METEOR, ROUGE-L and CIDEr of captions, as pycocoevalcap computes them.

Its tokenizer and METEOR are Java programs inside the package. Without Java, a similar tokenizer in Python is used (the
result says so), and METEOR is None, as it is where its program fails.
"""

import contextlib
import importlib.util
import io
import re
import shutil
from collections.abc import Mapping, Sequence
from typing import Any

from avpea.errors import AvpeaError
from avpea.metrics._java import meteor, penn_treebank
from avpea.progress import note
from avpea.tables import how_many

__all__ = ["caption_metrics", "has_java", "require_scorers", "tokenise"]

# pycocoevalcap drops such tokens only in upper case, so these stay.
_BRACKETS = {"(": "-lrb-", ")": "-rrb-", "[": "-lsb-", "]": "-rsb-", "{": "-lcb-", "}": "-rcb-"}
# Tokens that pycocoevalcap drops, as far as they can occur; the quotation mark stands for its `` and ''.
_DROPPED = {"'", "`", ".", "?", "!", ",", ":", "-", "--", "...", ";", '"'}
_CLITICS = re.compile(r"(?i)(?<=\w)('s|'re|'ve|'ll|'d|'m)\b|(?<=\w)(n't)\b")
_TOKENS = re.compile(
    r"o'clock\b|n't\b|'(?:s|re|ve|ll|d|m)\b|\.\.\.|--|[A-Za-z](?:\.[A-Za-z])+\.?|\w+(?:[-.,/]\w+)*|[^\w\s]"
)


def has_java() -> bool:
    """Whether Java is installed, which METEOR and the tokenizer need."""
    return shutil.which("java") is not None


def require_scorers() -> None:
    """Check that pycocoevalcap is installed.

    Raises:
        AvpeaError: It is not installed.
    """
    if importlib.util.find_spec("pycocoevalcap") is None:
        raise AvpeaError("Caption metrics need pycocoevalcap: pip install 'avpea[text]'")


def tokenise(caption: str) -> str:
    """Lower-case tokens without punctuation, separated by blanks, close to the Penn Treebank's; needs no Java.

    Clitics are separate tokens (`dog 's`, `does n't`), hyphenated words are one.

    >>> tokenise("A dog's bark, doesn't stop (well-known).")
    "a dog 's bark does n't stop -lrb- well-known -rrb-"
    """
    split = _CLITICS.sub(lambda found: f" {found.group()}", caption.replace("’", "'").lower())
    words = [_BRACKETS.get(word, word) for word in _TOKENS.findall(split)]
    return " ".join(word for word in words if word not in _DROPPED)


def caption_metrics(
    references: Mapping[str, Sequence[str]],
    answers: Mapping[str, str],
    *,
    java: bool | None = None,
    with_meteor: bool = True,
) -> dict[str, Any]:
    """Score captions against reference captions, with pycocoevalcap.

    Args:
        references: Reference captions by video.
        answers: Generated caption by video.
        java: Whether to use Java, for tokens and METEOR; None means if it is installed.
        with_meteor: Whether METEOR is computed, which takes longest.

    Returns:
        `bleu_1` to `bleu_4`, `meteor` (None without Java, where it is not wanted, or where it fails) and
        `rouge_l` in [0, 1]; `cider`, which may be above 1; `cider_of_each` by video; and `tokenizer`: `ptb` or `plain`.

    Raises:
        AvpeaError: pycocoevalcap is not installed, the videos differ, or Java's tokenizer fails.
    """
    if references.keys() != answers.keys() or not answers:
        raise AvpeaError(
            f"{how_many(len(answers), 'caption')} to score against those of {how_many(len(references), 'video')}; "
            "expected one of each."
        )
    require_scorers()
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge

    java = has_java() if java is None else java
    given = {name: list(captions) for name, captions in references.items()}
    made = {name: [caption] for name, caption in answers.items()}
    given, made = (_ptb(one) if java else _plain(one) for one in (given, made))
    with contextlib.redirect_stdout(io.StringIO()):  # it prints lengths
        bleu, _ = Bleu(4).compute_score(given, made, verbose=0)
        rouge, _ = Rouge().compute_score(given, made)
        cider, each = Cider().compute_score(given, made)
    return {
        **{f"bleu_{n}": float(value) for n, value in enumerate(bleu, start=1)},
        "meteor": _meteor(given, made) if java and with_meteor else None,
        "rouge_l": float(rouge),
        "cider": float(cider),
        "tokenizer": "ptb" if java else "plain",
        "cider_of_each": dict(zip(given, map(float, each), strict=True)),
    }


def _plain(captions: Mapping[str, list[str]]) -> dict[str, list[str]]:
    return {name: [tokenise(caption) for caption in some] for name, some in captions.items()}


def _ptb(captions: Mapping[str, list[str]]) -> dict[str, list[str]]:
    lines = iter(penn_treebank([caption for some in captions.values() for caption in some]))
    return {name: [_words(next(lines)) for _ in some] for name, some in captions.items()}


def _words(tokens: str) -> str:
    """Tokens without those that pycocoevalcap drops."""
    from pycocoevalcap.tokenizer.ptbtokenizer import PUNCTUATIONS

    return " ".join(word for word in tokens.split(" ") if word not in PUNCTUATIONS)


def _meteor(given: Mapping[str, list[str]], made: Mapping[str, list[str]]) -> float | None:
    """METEOR; None where its program fails, which is said: it is no reason to lose all other figures."""
    try:
        return meteor(given, {name: some[0] for name, some in made.items()})
    except AvpeaError as error:
        note(f"METEOR is left out: {error}")
        return None
