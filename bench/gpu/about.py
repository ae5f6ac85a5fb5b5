"""What machine this is."""

from collections.abc import Iterator
from typing import Any

import torch

from avpea import measure


def rows(device: torch.device, quick: bool) -> Iterator[dict[str, Any]]:
    found: dict[str, Any] = {"what": "machine", **measure.machine()}
    found |= {"device": str(device), "quick": quick}
    if device.type == "cuda":
        card = torch.cuda.get_device_properties(device)
        found |= {
            "card": card.name,
            "card_gib": round(card.total_memory / 2**30, 1),
            "capability": f"{card.major}.{card.minor}",
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),  # type: ignore[no-untyped-call]
        }
    yield found
