"""What a search reads of its results alone, and shows: in one column, since each column more is read by itself."""

import math
import struct
from typing import Any

__all__ = ["APART", "SHOWN", "complaint_about", "shown", "unpacked_shown"]

SHOWN = "shown"
APART = ["source", "start", "end", "thumbnail"]  # what libraries of earlier versions have instead
_HEAD = struct.Struct("<ddI")  # start and end in seconds, bytes of the path


def shown(source: str, start: float, end: float, thumbnail: bytes) -> bytes:
    """What a library keeps in one column: times, path and thumbnail of a window."""
    path = source.encode()
    return _HEAD.pack(start, end, len(path)) + path + thumbnail


def unpacked_shown(kept: Any) -> dict[str, Any]:
    """What `shown` put together; without what cannot be read."""
    if not isinstance(kept, bytes) or len(kept) < _HEAD.size:
        return {}
    start, end, length = _HEAD.unpack_from(kept)
    rest = kept[_HEAD.size :]
    try:
        source = rest[:length].decode() if length <= len(rest) else None
    except UnicodeDecodeError:
        source = None
    return dict(zip(APART, (source, start, end, rest[length:]), strict=True))


def complaint_about(row: dict[str, Any]) -> str:
    """What is wrong with what a library gives of a result; empty if nothing is."""
    if not isinstance(row.get("source"), str):
        return "no file"
    if not all(isinstance(row.get(name), float) and math.isfinite(row[name]) for name in ("start", "end")):
        return f"no time in {row['source']!r:.80}"
    return "" if isinstance(row.get("thumbnail"), bytes) else f"no picture in {row['source']!r:.80}"
