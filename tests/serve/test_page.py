"""The page in a real browser: upload, look, correct, ask, search, cancel, reload; accessible, and on its own host.

And with a server that fails, or is slow, or changes in between, which a stub is.
"""

from pathlib import Path

import pytest

from tests.media_factory import make_video
from tests.serve.browser import ROOT, find_browser, served
from tests.tiny import coloured_video

pytest.importorskip("fastapi", reason="the extra `serve` is not installed")
BROWSER = find_browser()


@pytest.mark.parametrize("how", ["once", pytest.param("thoroughly", marks=pytest.mark.slow)])
@pytest.mark.timeout(600)  # with the runs that it sets up
@pytest.mark.skipif(isinstance(BROWSER, str), reason=str(BROWSER))
def test_a_person_uses_the_page(
    how: str,
    tmp_path: Path,
    tiny_run: Path,
    tiny_asked_run: Path,
    tiny_matched_run: Path,
    tiny_masked_run: Path,
    tiny_parsed_run: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from avpea.search import index

    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    videos = tmp_path / "videos"
    videos.mkdir()
    for number, colour in enumerate(("green", "red")):
        coloured_video(videos / f"{colour}.mp4", colour, number, 3)
    coloured_video(tmp_path / "mine.mp4", "green", 1, 2, seconds=3.4)
    index(tiny_matched_run, videos, str(tmp_path / "library"), device="cpu", progress=False)
    make_video(videos / "long.mp4", seconds=70, fps=2, size=(32, 32), audio_hz=8000)
    runs = [str(run) for run in (tiny_run, tiny_asked_run, tiny_matched_run, tiny_masked_run, tiny_parsed_run)]
    more = ["--library", str(tmp_path / "library"), "--folder", str(videos), "--device", "cpu"]
    with served(tmp_path, *runs, *more) as address:
        assert not isinstance(BROWSER, str)
        done = BROWSER.run(Path(__file__).with_name("page.mjs"), address, str(tmp_path / "mine.mp4"), how)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("ok ") >= 20


@pytest.mark.timeout(300)
@pytest.mark.skipif(isinstance(BROWSER, str), reason=str(BROWSER))
def test_nothing_is_lost_when_the_server_fails() -> None:
    assert not isinstance(BROWSER, str)
    done = BROWSER.run(Path(__file__).with_name("stubbed.mjs"), str(ROOT / "avpea" / "serve" / "static"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("ok ") >= 14
