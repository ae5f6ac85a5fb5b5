"""A stranger's text is shown, and read as nothing but text."""

import json

import pytest

from avpea.escapes import code_for_markdown, for_html, for_markdown, for_terminal
from avpea.files import json_line
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
        ("do\u200bg\ufeff\u2060\xad", r"do\u200bg\ufeff\u2060\xad"),
        ("dog\U000e0041", r"dog\U000e0041"),
        (
            "\u0645\u06cc\u200c\u062e, \U0001f468\u200d\U0001f373",
            "\u0645\u06cc\u200c\u062e, \U0001f468\u200d\U0001f373",
        ),
    ],
)
def test_characters_that_steer_a_terminal_or_are_not_seen_are_shown_as_escapes(text: str, shown: str) -> None:
    assert for_terminal(text) == shown


def test_json_escapes_what_the_terminal_is_not_shown_and_keeps_it() -> None:
    """Of what neither shows, JSON itself escapes the first 32."""
    every = [chr(code) for code in (*range(0x3100), *range(0xF000, 0x10000), *range(0xE0000, 0xE0200))]
    escaped = {letter for letter in every if json_line(letter) != json.dumps(letter, ensure_ascii=False)}
    hidden = {letter for letter in every if for_terminal(letter) != letter}
    assert hidden - escaped == {letter for letter in hidden if ord(letter) < 32}  # escapes of JSON itself
    assert escaped <= hidden
    assert all(json.loads(json_line(letter)) == letter for letter in escaped)


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
