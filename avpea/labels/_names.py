"""Names of classes: which one is reserved, and which look the same to a person but are different classes."""

import unicodedata
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping

from avpea.errors import DataError
from avpea.labels._base import shortened

__all__ = ["look_alikes", "refuse_reserved"]

_RESERVED = "background"

# Letters of other alphabets that look like Latin ones, after case folding (from Unicode's confusables).
_LATIN = str.maketrans("аеорсухіјѕһԁԛԝвкмнтαορνικτυχ" + "ı", "aeopcyxijshdqwbkmhtaopviktux" + "i")
_TELLING = "#%&@*/"  # punctuation that tells names apart, as in C and C#


def refuse_reserved(labels: Mapping[str, str]) -> None:
    """Refuse classes with the name of the model's own category for seconds without an event.

    Args:
        labels: Where each label is first used (file and line), by label.

    Raises:
        DataError: A label is `background`, in any spelling.
    """
    for label, where in labels.items():
        if _folded(label) == _RESERVED:
            raise DataError(
                f"{where}: the label '{label}' is reserved: every model has the category '{_RESERVED}' for seconds "
                "without an event; leave such rows out (or label, start and end empty), or give the class another name."
            )


def look_alikes(labels: Iterable[str], what: str = "classes") -> list[str]:
    """Sentences about labels that differ only in case, spaces, punctuation, Unicode form or alphabet."""
    groups: dict[str, list[str]] = defaultdict(list)
    for label in labels:
        groups[_folded(label)].append(label)
    alike = [group for group in groups.values() if len(group) > 1]
    if not alike:
        return []
    shown = shortened([" and ".join(_shown(label, group) for label in group) for group in alike])
    return [f"Different {what} with names that look alike: {shown}. If each is one, spell it in one way."]


def _folded(label: str) -> str:
    """What is left of a label without case, accents' form, invisible characters, spaces and punctuation."""
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", label).casefold()).translate(_LATIN)
    kept = "".join(one for one in text if unicodedata.category(one)[0] not in "ZCP" or one in _TELLING)
    return kept or text


def _shown(label: str, group: Collection[str]) -> str:
    """A label in quotes; with its characters' codes where another one of the group prints the same."""
    plain = unicodedata.normalize("NFC", label)
    same = [one for one in group if unicodedata.normalize("NFC", one) == plain or one.isascii() != label.isascii()]
    if len(same) > 1 or not label.isprintable():
        return f"'{label}' ({label.encode('unicode_escape').decode()})"
    return f"'{label}'"
