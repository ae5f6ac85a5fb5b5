"""For the site: formulas become MathML while it is built, so that a page needs no script to show them."""

import html
import re
from typing import Any

from latex2mathml.converter import convert
from markdown import Markdown
from markdown.extensions import Extension
from markdown.postprocessors import Postprocessor

_FORMULA = re.compile(r'<(span|div) class="arithmatex">(.*?)</\1>', re.DOTALL)


class MathML(Extension):  # type: ignore[misc]
    """What `pymdownx.arithmatex` found to be a formula."""

    def extendMarkdown(self, md: Markdown) -> None:  # noqa: N802 (the name that Python-Markdown calls)
        md.postprocessors.register(_ToMathML(md), "mathml", 1)


class _ToMathML(Postprocessor):  # type: ignore[misc]
    def run(self, text: str) -> str:
        return _FORMULA.sub(_mathml, text)


def _mathml(found: re.Match[str]) -> str:
    tex = html.unescape(found[2]).strip()
    block = tex.startswith(r"\[")
    return convert(tex[2:-2].strip(), display="block" if block else "inline")


def makeExtension(**options: Any) -> MathML:  # noqa: N802
    return MathML(**options)
