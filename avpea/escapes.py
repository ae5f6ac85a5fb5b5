"""What stands between a stranger's text (file names, labels, captions) and a place that would read more into it.

CSV and the formats of other programs have `avpea.formats`, LaTeX has `avpea.page`.
"""

import html
import re
import unicodedata

__all__ = ["code_for_markdown", "for_html", "for_markdown", "for_terminal"]

# Characters that reverse or isolate the direction of writing can make a name look like another one.
_DIRECTIONS = {*range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x200E, 0x200F, 0x061C}
# Characters that nobody sees, so that two names look the same or a text hides another: the soft hyphen, spaces and
# operators without width, marks of annotations, tags. Not those that join letters or part them: scripts need them.
_UNSEEN = {0xAD, 0x200B, *range(0x2060, 0x2065), 0xFEFF, *range(0xFFF9, 0xFFFC), 0xE0001, *range(0xE0020, 0xE0080)}
_HIDDEN = _DIRECTIONS | _UNSEEN
# Brackets alone are none of its signs; before these three characters the second one makes a link.
_MARKDOWN = re.compile(r"([\\`*_<>#|~$&]|\](?=[(\[:]))")


def for_terminal(text: str, *, lines: bool = False) -> str:
    r"""Text with escapes such as `\x1b` for what steers a terminal, turns the direction of writing, or is not seen.

    Args:
        text: Text that may hold a stranger's words.
        lines: Whether to keep line breaks, as in a message of several lines.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(_shown(letter) if not (lines and letter == "\n") else letter for letter in text)


def _shown(letter: str) -> str:
    hidden = unicodedata.category(letter) in ("Cc", "Cs", "Zl", "Zp") or ord(letter) in _HIDDEN
    return letter.encode("unicode_escape", "surrogatepass").decode("ascii") if hidden else letter


def for_html(text: str) -> str:
    """Text that HTML shows as it is, within an element or between the quotes of an attribute; lines stay lines."""
    return html.escape(for_terminal(text, lines=True), quote=True)


def for_markdown(text: str) -> str:
    """Text in one line that Markdown, and HTML in it, show as it is: no link, no tag, no cell, no heading."""
    return _MARKDOWN.sub(r"\\\1", for_terminal(" ".join(text.split())))


def code_for_markdown(text: str) -> str:
    """Text in one line as a code span of Markdown, whatever backquotes and bars are in it."""
    plain = for_terminal(" ".join(text.split())).replace("|", r"\|")
    fence = "`" * (1 + max(map(len, re.findall("`+", plain)), default=0))
    space = " " * (len(fence) > 1)
    return f"{fence}{space}{plain}{space}{fence}"
