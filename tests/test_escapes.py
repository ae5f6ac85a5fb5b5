"""A stranger's text is shown, and read as nothing but text."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from avpea.cli import main
from avpea.escapes import code_for_markdown, for_markdown, for_terminal
from avpea.evaluate import evaluate
from avpea.sharing import save_pretrained
from avpea.tables import Table, show
from avpea.train import train
from tests.tiny import coloured_video

HOSTILE = "[/bold][link=file:///x]\x1b]0;owned\x07\x1b[31m|<b>`_*\u202egpj :smile: =1+1"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain [text] é 日本", "plain [text] é 日本"),
        ("\x1b[31m", r"\x1b[31m"),
        ("a\rb\x9bc\x7f", r"a\rb\x9bc\x7f"),
        ("a\nb", r"a\nb"),
        ("\u202egpj.exe", r"\u202egpj.exe"),
        ("\udcff", r"\udcff"),
    ],
)
def test_characters_that_steer_a_terminal_are_shown_as_escapes(text: str, shown: str) -> None:
    assert for_terminal(text) == shown


def test_a_message_may_have_several_lines() -> None:
    assert for_terminal("one\ntwo\r", lines=True) == "one\ntwo\\r"


def test_markdown_reads_nothing_in_it() -> None:
    assert for_markdown("[a](b) <i>|`x`\n# y") == r"\[a\](b) \<i\>\|\`x\` \# y"


@pytest.mark.parametrize(("text", "code"), [("a_b <i>", "`a_b <i>`"), ("a`b|", "`` a`b\\| ``"), ("\x1b", r"`\x1b`")])
def test_a_code_span_ends_where_the_text_does(text: str, code: str) -> None:
    assert code_for_markdown(text) == code


def test_tables_and_sentences_show_text_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    show([HOSTILE, Table([HOSTILE, "n"], [(HOSTILE, "1")], HOSTILE)])
    printed = capsys.readouterr().out
    assert not {"\x1b", "\x07", "\u202e"} & set(printed)
    assert printed.count("[/bold][link=file:///x]") == 4
    assert ":smile:" in printed


def test_every_command_on_a_run_with_a_hostile_class_and_file_name(
    tiny_experiment: Callable[..., Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    videos = {split: tmp_path / f"{split} {HOSTILE.replace('/', '∕')}.mp4" for split in ("train", "val", "test")}
    rows = []
    for split, path in videos.items():
        coloured_video(path, "red", 0, 3)
        rows.append({"video": path.name, "start_seconds": 0, "end_seconds": 2, "label": HOSTILE, "split": split})
    manifest, run = tmp_path / "rows.jsonl", tmp_path / "run \x1b[31m[bold]"
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    data = {"data": {"name": "manifest", "root": str(manifest), "segments": 3, "cache": str(tmp_path / "cache")}}
    train(tiny_experiment(**data, **{"train.epochs": 1}), run, progress=False)
    evaluate(run, "test", progress=False)
    test = str(videos["test"])
    for command in (
        ["data", "verify", "manifest", "--data.root", str(manifest), "--data.segments", "3"],
        ["evaluate", str(run), "--details", "--quiet"],
        ["predict", str(run), test, "--quiet"],
        ["predict", str(run), str(tmp_path), "--quiet"],
        ["predict", str(run), str(tmp_path / "\x1b[31m.mp4"), "--quiet"],
        ["ask", str(run), test, "\x1b[31m"],
        ["report", str(run), "--split", "test", "--quiet"],
    ):
        main(command)
        printed = "".join(capsys.readouterr())
        assert not {"\x1b", "\x07", "\u202e"} & set(printed), command
        assert "Traceback" not in printed
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "<b>" not in page
    assert "&lt;b&gt;" in page
    save_pretrained(run, tmp_path / "shared")
    card = (tmp_path / "shared" / "README.md").read_text(encoding="utf-8").split("---\n", 2)[2]
    assert "\x1b" not in card
    assert "`` [/bold]" in card
