"""What checksums add to reading: an adapter of 15 MB, and an entry of the sample cache of 2 MB, both in the page cache.

python -m bench checksums [--quick]
"""

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from avpea import measure
from avpea.tensors import read_tensors, write_tensors

SHAPES: dict[str, dict[str, tuple[torch.dtype, tuple[int, ...]]]] = {
    "adapter": {f"adapters.{index}.weight": (torch.float32, (64, 1000)) for index in range(60)},
    "entry": {"frames": (torch.uint8, (10, 224, 224, 3)), "log_mel": (torch.float32, (10, 98, 128))},
}


def run(quick: bool) -> dict[str, Any]:
    found: dict[str, Any] = {"what": __doc__, "command": "python -m bench checksums", "machine": measure.machine()}
    with tempfile.TemporaryDirectory() as folder:
        for name, shapes in SHAPES.items():
            path = Path(folder) / f"{name}.safetensors"
            write_tensors(path, {key: torch.ones(size, dtype=kind) for key, (kind, size) in shapes.items()}, {})
            actions: dict[str, Callable[[], object]] = {
                "with": partial(read_tensors, path),
                "without": partial(plain, path),
            }
            times = measure.interleaved(actions, 2 if quick else 50)
            found[name] = {
                "megabytes": round(path.stat().st_size / 1e6, 1),
                "ms": {how: round(1e3 * min(each), 2) for how, each in times.items()},
                "ratio": measure.ratio(times["with"], times["without"]),
            }
    return found


def plain(path: Path) -> dict[str, Tensor]:
    """All values in memory, without a checksum."""
    return {name: value.clone() for name, value in load_file(path).items()}
