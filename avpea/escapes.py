"""What stands between a stranger's text (file names, labels, captions) and a place that would read more into it.

CSV and the formats of other programs have `avpea.formats`, LaTeX has `avpea.page`.
"""

import html
import re

__all__ = ["STEERING", "code_for_markdown", "for_html", "for_markdown", "for_terminal"]

# What steers a terminal, but for the first 32 characters, which JSON escapes itself; what reverses or isolates the
# direction of writing, so that a name looks like another one; and what nobody sees, so that two names look the same or
# a text hides another: the soft hyphen, spaces and operators without width, marks of annotations, tags. Not what joins
# letters or parts them: scripts need it.
_STEERING = (
    r"\x7f-\x9f\u2028\u2029" r"\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"
    r"\xad\u200b\u2060-\u2064\ufeff\ufff9-\ufffb\U000e0001\U000e0020-\U000e007f"
)  # fmt: skip
STEERING = re.compile(f"[{_STEERING}]")
_HIDDEN = re.compile(rf"[\x00-\x1f\ud800-\udfff{_STEERING}]")
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
    return _HIDDEN.sub(lambda found: "\n" if lines and found[0] == "\n" else _shown(found[0]), text)


def _shown(letter: str) -> str:
    return letter.encode("unicode_escape", "surrogatepass").decode("ascii")


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
