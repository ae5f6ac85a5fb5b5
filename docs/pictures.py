"""Draw the pictures of the README again, from clips and models that the project makes itself.

    make quickstart
    .venv/bin/python docs/pictures.py quickstart

The timeline is the quickstart's adapted model on one of its test clips. For the search, a retrieval model is trained
on captions that are written here from the annotations of the training clips, starting from the quickstart's adapters;
it then searches the test clips, which it has never seen. All of it takes about five minutes of one core. Accuracy over
seconds is drawn from `bench/results/time_to_accuracy-ave-mini.json`.
"""

import csv
import json
import shutil
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent / "pictures"
CLIP = "w0N-Yscr_OU"  # of the test split
SENTENCE = "a handwritten {0} is seen while a voice says {0}"
SOUGHT = "eight"
TOP = 5


def main() -> int:
    if len(sys.argv) != 2 or not (Path(sys.argv[1]) / "runs" / "av-digits").is_dir():
        print(__doc__, file=sys.stderr)
        return 2
    folder = Path(sys.argv[1]).resolve()
    timeline(folder)
    search(folder)
    speed()
    return 0


def timeline(folder: Path) -> None:
    import avpea

    prediction = avpea.load(folder / "runs" / "av-digits").predict(folder / "av-digits" / "AVE" / f"{CLIP}.mp4")
    prediction.plot(HERE / "timeline.png")
    small(HERE / "timeline.png")


def search(folder: Path) -> None:
    from avpea.search import Query, index

    clips = [json.loads(line) for line in (folder / "av-digits" / "timelines.jsonl").read_text("utf-8").splitlines()]
    work = folder / "search"
    run = trained(folder, clips, work)
    videos = work / "videos"
    videos.mkdir(exist_ok=True)
    for clip in clips:
        if clip["split"] == "test":
            shutil.copyfile(
                folder / "av-digits" / "AVE" / f"{clip['video_id']}.mp4", videos / f"{clip['video_id']}.mp4"
            )
    index(run, videos, str(work / "library"))
    query, by_name = Query(str(work / "library")), {clip["video_id"]: clip for clip in clips}
    found = {
        name: query.text(SENTENCE.format(name), top=TOP) for name in dict.fromkeys(clip["category"] for clip in clips)
    }
    correct = sum(by_name[Path(one.file).stem]["category"] == name for name, ones in found.items() for one in ones)
    print(f"Of the first {TOP} for each of the {len(found)} digits, {correct} of {TOP * len(found)} are right.")
    draw(found[SOUGHT], by_name)


def trained(folder: Path, clips: list[dict[str, Any]], work: Path) -> Path:
    """The run of retrieval; one that is there already is finished or taken as it is."""
    import avpea
    from avpea.train import train

    work.mkdir(exist_ok=True)
    with (work / "captions.csv").open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["video", "caption", "split"])
        for clip in clips:
            caption = SENTENCE.format(clip["category"])
            rows.writerow([f"../av-digits/AVE/{clip['video_id']}.mp4", caption, clip["split"]])
    recipe = avpea.load_recipe("mini/avr").override(
        {
            "data.name": "captions",
            "data.root": str(work / "captions.csv"),
            "data.cache": str(folder / "cache"),
            "audio.mean": -4.35,  # those of mini/av-digits
            "audio.std": 3.01,
            "train.start_from": str(folder / "runs" / "av-digits"),
            "train.threads": 1,
        }
    )
    train(recipe, work / "run")
    return work / "run"


def draw(found: list[Any], clips: dict[str, dict[str, Any]]) -> None:
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(found), figsize=(2 * len(found), 3.1))
    for place, (one, axis) in enumerate(zip(found, axes, strict=True), start=1):
        clip = clips[Path(one.file).stem]
        axis.imshow(pyplot.imread(one.thumbnail))
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_visible(False)
        axis.set_title(f"{place}   score {one.score:.3f}", fontsize=11)
        axis.set_xlabel(
            f"{Path(one.file).name}\nseconds {one.start_seconds:.0f} to {one.end_seconds:.0f}\n"
            f"in truth: {clip['category']}, second {clip['start']} to {clip['end']}",
            fontsize=8.5,
        )
    figure.suptitle(
        f'avpea search library "{SENTENCE.format(SOUGHT)}" --top {len(found)}', fontsize=11, family="monospace"
    )
    figure.subplots_adjust(left=0.01, right=0.99, top=0.82, bottom=0.19, wspace=0.08)
    figure.savefig(HERE / "search.png", dpi=110)
    small(HERE / "search.png")


def speed() -> None:
    root = HERE.parent.parent
    sys.path.insert(0, str(root))  # where `bench` lies
    from bench import time_to_accuracy

    measured = json.loads((root / "bench" / "results" / "time_to_accuracy-ave-mini.json").read_text(encoding="utf-8"))
    time_to_accuracy.draw(measured, HERE / "time-to-accuracy.png")


def small(path: Path, width: int = 1200) -> None:
    """At most `width` pixels wide, in 128 colours: what a page needs to load stays below 150 KB."""
    from PIL import Image

    with Image.open(path) as file:
        picture = file.convert("RGB")
    picture.thumbnail((width, width))
    picture.quantize(128, dither=Image.Dither.NONE).save(path, optimize=True)


if __name__ == "__main__":
    sys.exit(main())
