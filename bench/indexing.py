"""How many videos a minute are indexed, and where the time goes.

    python -m bench indexing

Sixty clips of ten seconds from `avpea data make av-digits`, the offline starter backbone with AV-PEA and MiniLM, not
trained: what is indexed does not matter to the time.
"""

import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from avpea.checkpoint import MODEL_FILE, save_model
from avpea.data import samples
from avpea.experiment import load_recipe
from avpea.labels import CaptionLabels
from avpea.measure import machine
from avpea.media import media_below, read
from avpea.model import build
from avpea.search import index


def run(quick: bool) -> dict[str, Any]:
    count = 6 if quick else 60
    with tempfile.TemporaryDirectory(prefix="avpea-bench-") as name:
        folder = Path(name)
        samples.make("av-digits", folder / "videos", train=count - 2, val=1, test=1, seed=0)
        recipe = load_recipe("mini/avr")
        torch.manual_seed(0)
        (folder / "run").mkdir()
        labels = CaptionLabels()
        model = build(recipe, labels)
        save_model(folder / "run" / MODEL_FILE, model, recipe, labels, {"epoch": 0, "selected_on": None})
        videos = media_below(folder / "videos").files
        started = time.perf_counter()
        for video in videos:
            read(video, frame_size=(84, 84))
        decoding = time.perf_counter() - started
        first = index(folder / "run", folder / "videos", str(folder / "library"), progress=False)
        again = index(folder / "run", folder / "videos", str(folder / "library"), progress=False)
    assert (first.indexed, again.indexed) == (len(videos), 0)
    return {
        "what": __doc__,
        "command": "python -m bench indexing",
        "machine": machine(),
        "videos": len(videos),
        "seconds_with_loading": round(first.seconds, 1),
        "videos_a_minute": round(60 * first.indexed / first.seconds),
        "decoding_alone_seconds": round(decoding, 1),
        "again_with_nothing_new_seconds": round(again.seconds, 1),
    }
