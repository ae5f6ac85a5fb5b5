"""Files whose names no table holds as they are: predicted, written to CSV, and read back as the same files."""

import json
import os
from pathlib import Path

import pytest

from avpea.cli import main
from avpea.data.readers._table import read_rows
from avpea.errors import DataError
from tests.media_factory import make_video
from tests.tiny import coloured_video

ODD = (
    b"a\nb.mp4", b"a\rb.mp4", b"tab\tc.mp4", b"latin \xff.mp4", b" around .mp4", b"=1+1.mp4", b"+y.mp4", b"-x.mp4",
    b"@z.mp4", b"'q.mp4", b'"w".mp4', b"file:v.mp4", b"50%25.mp4", b"back\\slash.mp4", "\u2028.mp4".encode(),
    b"a,b;c.mp4", b"'=p.mp4", "do\u200bg\xad.mp4".encode(), "\u202egpj.mp4".encode(),
)  # fmt: skip


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    folder = tmp_path / "videos"
    folder.mkdir()
    content = coloured_video(tmp_path / "green.mp4", "green", 0, 2).read_bytes()
    for name in ODD:
        (folder / os.fsdecode(name)).write_bytes(content)
    return folder


@pytest.mark.parametrize("table", ["events.csv", "tables/events.csv"])
def test_a_table_of_predictions_is_a_manifest_of_the_same_videos(
    tiny_run: Path, videos: Path, table: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also in another folder than the one that the command runs in."""
    monkeypatch.chdir(videos.parent)
    assert main(["predict", str(tiny_run), "videos", "--csv", table, "--threshold", "0", "--quiet"]) == 0
    text = Path(table).read_bytes()
    rows, _ = read_rows(Path(table))
    named = {os.path.realpath(Path(table).parent / row.video) for row in rows}
    assert named == {str(path) for path in videos.iterdir()}
    assert len(text.splitlines()) == len(rows) + 1  # each row is a line
    assert not {"\u200b", "\xad", "\u202e"} & set(text.decode())
    capsys.readouterr()
    assert main(["data", "verify", "manifest", "--data.root", table, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["videos"] == len(ODD)


def test_a_name_that_no_file_can_have(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("video,start_seconds,end_seconds,label\nfile:a%00b.mp4,0,1,dog\n")
    with pytest.raises(DataError, match=r"line 2: found the video 'file:a%00b\.mp4'; no file has a null character"):
        read_rows(tmp_path / "a.csv")


def test_reasons_name_the_options_of_the_command(
    tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import avpea
    from avpea.errors import NoAudioTrack

    monkeypatch.chdir(tmp_path)
    (tmp_path / "videos").mkdir()
    for name in ("a.mp4", "b.mp4"):
        make_video(tmp_path / "videos" / name, seconds=2, fps=2, size=(32, 32), audio_hz=None)
    words, remedy = ["predict", str(tiny_run), "videos", "--quiet"], "or --missing-audio silence."
    assert main([*words, "--csv", "t.csv"]) == 1
    assert (tmp_path / "t.csv").read_text().count(remedy) == 2
    assert main([*words, "--out", "t.jsonl", "--json"]) == 1
    assert (tmp_path / "t.jsonl").read_text().count(remedy) == 2
    assert capsys.readouterr().out.count(remedy) == 2
    (tmp_path / "m.csv").write_text("video,start_seconds,end_seconds,label\nvideos/a.mp4,0,1,dog\n")
    assert main(["data", "verify", "manifest", "--data.root", "m.csv", "--decode"]) == 1
    printed = capsys.readouterr().out
    assert "missing_audio=" not in printed
    assert "--missing-audio" not in printed
    with pytest.raises(NoAudioTrack, match='or missing_audio="silence"'):
        avpea.load(tiny_run, device="cpu").predict(tmp_path / "videos" / "a.mp4")


def test_a_command_without_such_an_option_does_not_name_one() -> None:
    from argparse import Namespace

    from avpea.command import as_options

    start = "a.mp4: nothing in the audio track decodes. Use a file with sound"
    for options, remedy in (
        (Namespace(takes_overrides=False), ""),
        (Namespace(takes_overrides=True), ", or --data.missing_audio silence"),
        (Namespace(takes_overrides=False, missing_audio="error"), ", or --missing-audio silence"),
    ):
        assert as_options(f'{start}, or missing_audio="silence".', options) == f"{start}{remedy}."


def test_a_path_in_a_message_is_left_as_it_is() -> None:
    from argparse import Namespace

    from avpea.command import as_options

    for text in ("runs/mini-avel--train.batch_size=2-seed0 is gone.", "a trust=True.csv", 'x--device="cpu"'):
        told = as_options(text, Namespace(takes_overrides=False))
        assert told == text or "trust" in text
    assert as_options("give batch_size=2 or trust=True.", Namespace(takes_overrides=False)) == (
        "give --batch-size 2 or --trust."
    )


def test_a_name_that_is_no_text_is_packed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("red", "green"):
        (tmp_path / "videos" / folder).mkdir(parents=True)
        for number in range(3):
            coloured_video(tmp_path / "videos" / folder / f"{number}.mp4", folder, 0, 2)
    odd = tmp_path / "videos" / "red" / "0.mp4"
    odd.rename(odd.with_name(os.fsdecode(b"latin \xff.mp4")))
    for _ in range(2):
        assert main(["data", "pack", "own", "shards", "--data.root", "videos", "--quiet"]) == 0
    capsys.readouterr()
    assert main(["data", "verify", "own", "--data.name", "shards", "--data.root", "shards", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["videos"] == 6
    assert r"red/latin \\udcff.mp4" in "".join(path.read_text() for path in Path("shards").glob("*.jsonl"))
