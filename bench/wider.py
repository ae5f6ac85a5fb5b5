"""Differences of a comparison with intervals over test clips, and over classes and source recordings, too.

    python -m bench.wider SWEEP [--results FOLDER] --sources JSONL > JSON

The stored results of `avpea compare` are read; nothing is trained. `over_clips` is the interval of its report: clips
and seeds are drawn anew. For `over_classes_and_sources` so are the classes, and the recordings that the clips were made
of: it is about other recordings of other classes, and not only about other clips of these. In percent points, seeds
that both rows have.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from avpea.compare import Sweep, load_sweep
from avpea.compare.results import load
from avpea.compare.statistics import mean_and_std, paired_bootstrap


def measured(sweep: Sweep, results: Path, groups_of: dict[str, tuple[str, str]]) -> list[dict[str, Any]]:
    """A row for each of the sweep that has results, against the reference row; `groups_of` has class and source."""
    scores: dict[str, dict[int, dict[str, float]]] = {}
    for cell, result in load(sweep, results)[0].items():
        scores.setdefault(cell.row.label, {})[cell.seed] = result["test_videos"]
    against, rows = scores[sweep.reference], []
    clips = sorted(set.intersection(*({*one} for seeds in scores.values() for one in seeds.values())))
    groups = list(zip(*(groups_of[clip.split("-", 2)[-1]] for clip in clips), strict=True))
    for label, by_seed in scores.items():
        seeds = sorted(by_seed.keys() & against.keys())
        ours, theirs = (np.array([[of[seed][clip] for clip in clips] for seed in seeds]) for of in (by_seed, against))
        mean, deviation = mean_and_std([100 * one.mean() for one in ours])
        row: dict[str, Any] = {
            "row": label,
            "seeds": len(seeds),
            "test": round(mean, 2),
            "test_std": round(deviation, 2),
        }
        if label != sweep.reference:
            row["difference"] = round(100 * float(ours.mean() - theirs.mean()), 2)
            row["over_clips"] = [round(100 * one, 2) for one in paired_bootstrap(ours, theirs)]
            wider = paired_bootstrap(ours, theirs, groups=groups)
            row["over_classes_and_sources"] = [round(100 * one, 2) for one in wider]
        rows.append(row)
    return rows


def groups_in(file: Path) -> dict[str, tuple[str, str]]:
    """Class and first recording of each clip, from a JSONL file with `video_id`, `category` and `audio_sources`."""
    lines = map(json.loads, file.read_text(encoding="utf-8").splitlines())
    return {
        one["video_id"]: (one["category"], min(map(str, one["audio_sources"].values()), default="")) for one in lines
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m bench.wider", description=__doc__.splitlines()[0])
    parser.add_argument("sweep", help="name or file of a sweep whose results are stored")
    parser.add_argument("--results", type=Path, default=Path("results/mini"), help="folder of the results")
    parser.add_argument("--sources", type=Path, required=True, help="JSONL with video_id, category and audio_sources")
    options = parser.parse_args()
    found = measured(load_sweep(options.sweep), options.results, groups_in(options.sources))
    command = f"python -m bench.wider {options.sweep} --sources DIR/{options.sources.name}"
    json.dump({"what": __doc__, "command": command, "rows": found}, sys.stdout, indent=1)
    print()
