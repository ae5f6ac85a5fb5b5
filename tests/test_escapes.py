"""A stranger's text is shown, and read as nothing but text."""

import pytest

from avpea.escapes import code_for_markdown, for_html, for_markdown, for_terminal
from avpea.tables import Table, show

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
    assert for_markdown("[a](b) <i>|`x`\n# y") == r"[a\](b) \<i\>\|\`x\` \# y"


@pytest.mark.parametrize(("text", "code"), [("a_b <i>", "`a_b <i>`"), ("a`b|", "`` a`b\\| ``"), ("\x1b", r"`\x1b`")])
def test_a_code_span_ends_where_the_text_does(text: str, code: str) -> None:
    assert code_for_markdown(text) == code


def test_html_shows_it_and_keeps_lines() -> None:
    assert for_html("<a href='x'>\n\x1b&\u202e") == "&lt;a href=&#x27;x&#x27;&gt;\n\\x1b&amp;\\u202e"


def test_tables_and_sentences_show_text_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    show([HOSTILE, Table([HOSTILE, "n"], [(HOSTILE, "1")], HOSTILE)])
    printed = capsys.readouterr().out
    assert not {"\x1b", "\x07", "\u202e"} & set(printed)
    assert printed.count("[/bold][link=file:///x]") == 4
    assert ":smile:" in printed


def test_a_file_name_of_two_lines_is_one_in_its_error() -> None:
    from avpea.errors import MediaError

    assert str(MediaError("a\nb.mp4", "is empty.")) == "a\\nb.mp4: is empty."
