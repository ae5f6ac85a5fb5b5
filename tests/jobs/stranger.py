"""The path of somebody who does not program, timed: `python -m tests.jobs.stranger QUICKSTART`.

From an empty folder: videos of the quickstart's data set in a folder for each class, a model of them, videos that it
has not seen, all corrected on the page in a real browser (as the annotations say), and a model of what was corrected.
"""

import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.serve.browser import Browser, find_browser, served

CLASSES, OF_EACH, NEW = ("one", "two", "three"), 5, 9


def main() -> int:
    """Walk the path, and print how long each step took."""
    browser, data = find_browser(), Path(sys.argv[1]).resolve() / "av-digits"
    if isinstance(browser, str):
        print(f"Nothing was timed: {browser}.", file=sys.stderr)
        return 1
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as made:
        walk(Path(made), data, browser)
    print(f"In all: {time.monotonic() - begun:.0f} s.")
    return 0


def walk(home: Path, data: Path, browser: Browser) -> None:
    """All steps in an empty folder."""
    truth = gathered(home / "all", data)
    (home / "truth.json").write_text(json.dumps(truth), encoding="utf-8")
    timed("train on class folders", home, "train", "own", "--data.root", "all/videos", "--quiet")
    before = time.monotonic()
    with served(home, "runs/own-seed0", "--folder", "all") as address:
        print(f"{time.monotonic() - before:6.1f} s  the server answers")
        before = time.monotonic()
        done = browser.run(Path(__file__).with_suffix(".mjs"), address, str(home / "truth.json"))
        assert done.returncode == 0, done.stdout + done.stderr
        print(f"{time.monotonic() - before:6.1f} s  {len(truth)} videos ranked, and corrected on the page")
    manifest = ["--data.root", "all/avpea-reviewed.csv", "--run", "runs/corrected", "--quiet"]
    timed("train on what was corrected", home, "train", "own", *manifest)
    for run in ("own-seed0", "corrected"):
        timed(f"evaluate {run}", home, "evaluate", f"runs/{run}", "--data.root", "all/avpea-reviewed.csv", "--quiet")


def gathered(home: Path, data: Path) -> dict[str, tuple[str, str, str]]:
    """Copy some videos; returns label, start and end of each by its name there."""
    truth: dict[str, tuple[str, str, str]] = {}
    taken = dict.fromkeys(CLASSES, 0)
    for line in (data / "trainSet.txt").read_text("utf-8").split("\n"):
        label, name, _, start, end = line.split("&") if line.count("&") == 4 else ("", "", "", "", "")
        if label not in CLASSES or taken[label] >= OF_EACH + NEW // len(CLASSES):
            continue
        taken[label] += 1
        place = f"videos/{label}/{name}.mp4" if taken[label] <= OF_EACH else f"new/{name}.mp4"
        (home / place).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(data / "AVE" / f"{name}.mp4", home / place)
        truth[place] = label, start, end
    return truth


def timed(title: str, home: Path, *words: str) -> None:
    """Run a command, and print how long it took and its last line."""
    before = time.monotonic()
    done = subprocess.run([sys.executable, "-m", "avpea", *words], cwd=home, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    line = next((one for one in done.stdout.split("\n") if "ccuracy" in one), "")
    print(f"{time.monotonic() - before:6.1f} s  {title}  {line}")


if __name__ == "__main__":
    sys.exit(main())
