"""Pictures of the page, of media that the project makes: `python -m tests.jobs.screenshots QUICKSTART FOLDER`.

QUICKSTART is what `make quickstart` made; FOLDER gets pictures in both themes, at 1280 and at 390 pixels.
"""

import shutil
import sys
import tempfile
from pathlib import Path

from PIL import Image

from tests.serve.browser import find_browser, served

VIDEOS = 6
NAMES = ("page-light", "page-dark", "phone-light", "phone-dark")


def main() -> int:
    """Serve the quickstart's run with some of its test videos, and take the pictures."""
    quickstart, folder = (Path(word).resolve() for word in sys.argv[1:3])
    browser = find_browser()
    if isinstance(browser, str):
        print(f"There are no pictures: {browser}.", file=sys.stderr)
        return 1
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as made:
        videos = Path(made) / "videos"
        videos.mkdir()
        names = (quickstart / "av-digits" / "testSet.txt").read_text("utf-8").split("\n")
        for name in [line.split("&")[1] for line in names if line.count("&") > 1][:VIDEOS]:
            shutil.copy(quickstart / "av-digits" / "AVE" / f"{name}.mp4", videos)
        with served(Path(made), str(quickstart / "runs" / "av-digits"), "--folder", str(videos)) as address:
            done = browser.run(Path(__file__).with_suffix(".mjs"), address, str(folder))
    for name in NAMES:
        _shrink(folder / f"{name}.png")
    print(done.stdout + done.stderr, end="")
    return done.returncode


def _shrink(path: Path) -> None:
    """Few colours, and at most 1,000 pixels a row, so that the picture is small enough for a README."""
    with Image.open(path) as picture:
        plain = picture.convert("RGB")
    plain.thumbnail((1000, 4000))
    plain.quantize(255, Image.Quantize.MAXCOVERAGE, kmeans=1, dither=Image.Dither.NONE).save(path, optimize=True)


if __name__ == "__main__":
    sys.exit(main())
