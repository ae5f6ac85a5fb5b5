"""A data set in AVE's layout that the tests make themselves."""

from collections.abc import Mapping, Sequence
from pathlib import Path

HEADER = "Category&VideoID&Quality&StartTime&EndTime"
ROWS = {
    "train": [
        "Frying (food)&-a.b&good&0&3",
        "Male speech, man speaking&twice&good&1&2",
        "Bark&twice&good&1&2",
    ],
    "val": ["Bark&valid&good&2&2"],
    "test": ["Male speech, man speaking&--t&good&0&2"],
}


def write_ave(
    root: Path,
    rows: Mapping[str, Sequence[str]] = ROWS,
    *,
    header: bool = True,
    categories: Sequence[str] | None = None,
) -> Path:
    """Annotation files only; `rows` are lines by split."""
    root.mkdir(parents=True, exist_ok=True)
    everything = [line for split in ("train", "val", "test") for line in rows[split]]
    lines = [HEADER, *everything] if header else everything
    (root / "Annotations.txt").write_text("\n".join(lines) + "\n")
    for split in ("train", "val", "test"):
        (root / f"{split}Set.txt").write_text("\n".join(rows[split]) + "\n")
    if categories is not None:
        (root / "categories.txt").write_text("\n".join(categories) + "\n")
    return root
