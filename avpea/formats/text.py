"""Text of annotation files in the encodings that spreadsheets write."""

import codecs
from pathlib import Path

from avpea.errors import DataError
from avpea.parsing import require_regular

__all__ = ["decoded", "read_text"]

_MOST_BYTES = 1 << 30  # ten million rows
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16's mark, which begins like it
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def read_text(path: Path) -> str:
    r"""The text of a file in UTF-8, or in UTF-16 or UTF-32 with a byte order mark; line ends become "\n".

    Raises:
        DataError: The file cannot be read, is too big, has another encoding or holds a null character; names the
            remedy.
    """
    try:
        if require_regular(path, DataError).st_size > _MOST_BYTES:
            raise DataError(f"{path} is bigger than {_MOST_BYTES >> 30} GiB, which no table is; divide it.")
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); check the path and its permissions.") from None
    return decoded(data, str(path))


def decoded(data: bytes, source: str) -> str:
    r"""The text in bytes, as `read_text` has it.

    Args:
        data: The content of a file.
        source: Its name, with which an error begins.

    Raises:
        DataError: They have another encoding or hold a null character; names the remedy.
    """
    encoding = next((name for mark, name in _MARKS if data.startswith(mark)), _unmarked(data))
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        raise DataError(
            f"{source} is not UTF-8 text ({error.reason} at byte {error.start}); save it as UTF-8, which spreadsheets "
            "call 'CSV UTF-8'."
        ) from None
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if "\0" in text:  # no file can have such a name, and no checkpoint keeps such a label
        line = text.count("\n", 0, text.index("\0")) + 1
        raise DataError(
            f"{source}, line {line}: found a null character, which no text has; save the file anew as UTF-8."
        )
    return text


def _unmarked(data: bytes) -> str:
    """UTF-16 without a mark has a zero byte in nearly every pair; text in UTF-8 has none."""
    head = data[:4096]
    pairs = len(head) // 2
    if pairs and head[1::2].count(0) > pairs / 2:
        return "utf-16-le"
    if pairs and head[0::2].count(0) > pairs / 2:
        return "utf-16-be"
    return "utf-8"
