"""How much faster a sample is read from the cache than decoded, on self-made videos.

python -m bench cache [--quick]
"""

import tempfile
from pathlib import Path
from typing import Any

from avpea import data, measure
from avpea.data import samples
from avpea.data.cache import SampleCache
from avpea.experiment import load_recipe


def run(quick: bool) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        samples.make("av-digits", Path(folder) / "digits", train=4, val=2, test=2, progress=False)
        recipe = load_recipe("mini/av-digits").override(
            {"data.root": f"{folder}/digits", "data.cache": f"{folder}/cache", "data.workers": 0}
        )
        some = data.read(recipe.data).splits["train"]
        cache = SampleCache(recipe.data, recipe.audio, recipe.backbone.image_size)
        cache.fill(some, progress=False)

        def decode() -> None:
            for sample in some:
                cache.path(sample).unlink()
                cache.read(sample)

        def read() -> None:
            for sample in some:
                cache.read(sample)

        times = measure.interleaved({"decode": decode, "read": read}, 2 if quick else 15)
    return {
        "what": __doc__,
        "command": "python -m bench cache",
        "machine": measure.machine(),
        "clips": len(some),
        "decode_ms_per_clip": round(1e3 * min(times["decode"]) / len(some), 2),
        "read_ms_per_clip": round(1e3 * min(times["read"]) / len(some), 2),
        "decode_over_read": measure.ratio(times["decode"], times["read"]),
    }
