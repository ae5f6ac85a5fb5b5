"""Pages of headings, texts, tables and pictures, written as HTML in one file, as Markdown, or as LaTeX."""

import base64
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from avpea.escapes import code_for_markdown, for_html, for_markdown, for_terminal

__all__ = [
    "Card",
    "Cards",
    "Code",
    "Drawing",
    "Figures",
    "Heading",
    "Part",
    "Picture",
    "Text",
    "as_html",
    "as_latex",
    "as_markdown",
]


@dataclass(frozen=True)
class Heading:
    """A section's title."""

    text: str


@dataclass(frozen=True)
class Text:
    """A paragraph; what stands between two backquotes is set as code."""

    text: str


@dataclass(frozen=True)
class Code:
    """Lines that are shown as they are."""

    text: str


@dataclass(frozen=True)
class Figures:
    """A table of texts; the first columns are left-aligned, the others, with numbers, are right-aligned."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    strong: int | None = None  # index of the reference row, in bold
    left: int = 1


@dataclass(frozen=True)
class Picture:
    """A picture, as a file beside the page or as the bytes of one."""

    source: Path | bytes
    says: str


@dataclass(frozen=True)
class Drawing:
    """A drawing as SVG, whose texts are escaped already, for HTML only."""

    svg: str
    says: str


@dataclass(frozen=True)
class Card:
    """Pictures above lines of text."""

    pictures: Sequence[Picture]
    lines: Sequence[str]


@dataclass(frozen=True)
class Cards:
    """Cards side by side, for HTML only."""

    cards: Sequence[Card]


Part = Heading | Text | Code | Figures | Picture | Drawing | Cards


def as_markdown(title: str, parts: Sequence[Part]) -> str:
    """The page as Markdown, which names the files of its pictures."""
    lines = [f"# {for_markdown(title)}", ""]
    for part in parts:
        match part:
            case Heading(text):
                lines += [f"## {for_markdown(text)}", ""]
            case Text(text):
                lines += [_paragraph(text), ""]
            case Code(text):
                lines += [*(f"    {line}" for line in for_terminal(text, lines=True).split("\n")), ""]
            case Picture(Path() as path, says):
                lines += [f"![{for_markdown(says)}]({path.name})", ""]
            case Figures(columns, rows, strong):
                lines += [_line(columns), _line(["---", *["---:"] * (len(columns) - 1)])]
                for index, row in enumerate(rows):
                    lines.append(_line(row, "**" if index == strong else ""))
                lines.append("")
    return "\n".join(lines)


def _paragraph(text: str) -> str:
    pieces = text.split("`")
    return "".join(code_for_markdown(piece) if i % 2 else _within(piece) for i, piece in enumerate(pieces))


def _within(text: str) -> str:
    """Text for Markdown with the spaces at its ends, which part it from its neighbours."""
    return " " * text[:1].isspace() + for_markdown(text) + " " * text[-1:].isspace()


def _line(cells: Sequence[str], around: str = "") -> str:
    shown = [for_markdown(cell) for cell in cells]
    return "| " + " | ".join(f"{around}{cell}{around}" if cell else "" for cell in shown) + " |"


def as_latex(title: str, parts: Sequence[Part]) -> str:
    """The tables of the page for LaTeX with the package booktabs, each under its section's title."""
    lines, heading, number = ["% needs \\usepackage{booktabs}", f"% {for_terminal(' '.join(title.split()))}"], "", 0
    for part in parts:
        match part:
            case Heading(text):
                heading = text
            case Figures(columns, rows, strong, left):
                number += 1
                caption = _tex(": ".join(filter(None, (title, heading))))
                lines += [
                    "",
                    r"\begin{table}",
                    r"  \centering",
                    f"  \\caption{{{caption}}}",
                    f"  \\label{{tab:avpea-{number}}}",
                    f"  \\begin{{tabular}}{{{'l' * left}{'r' * (len(columns) - left)}}}",
                    r"    \toprule",
                    _tex_row(columns, str),
                    r"    \midrule",
                    *(_tex_row(row, _bold if index == strong else str) for index, row in enumerate(rows)),
                    r"    \bottomrule",
                    r"  \end{tabular}",
                    r"\end{table}",
                ]
    return "\n".join(lines) + "\n"


def _bold(cell: str) -> str:
    return f"\\textbf{{{cell}}}" if cell else ""


def _tex_row(cells: Sequence[str], style: Callable[[str], str]) -> str:
    return "    " + " & ".join(style(_tex(cell)) for cell in cells) + r" \\"


_TEX = {
    **{letter: f"\\{letter}" for letter in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': "''",
    # After the end of a row these would be read as its options.
    "[": "{[}",
    "*": "{*}",
    "±": r"$\pm$",
    "–": "--",
    "−": "$-$",
    "…": r"\ldots{}",
    "×": r"$\times$",
}


def _tex(text: str) -> str:
    """Text with everything escaped that LaTeX would read, and minus signs in front of numbers."""
    text = "".join(_TEX.get(letter, letter) for letter in for_terminal(" ".join(text.split())))
    return re.sub(r"(?<![\w.)-])-(?=\d)", "$-$", text)


# No request is made and no script runs, whatever a file name or a class name may say.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"

_STYLE = """
:root { color-scheme: light dark; --ink: #1f2328; --soft: #59636e; --line: #d9dee4; --back: #ffffff; --pale: #f3f6f9;
  --one: #0969da; --two: #bc4c00; --heat: 9, 105, 218 }
@media (prefers-color-scheme: dark) { :root { --ink: #e6edf3; --soft: #9aa4af; --line: #343b44; --back: #0f1318;
  --pale: #1a2028; --one: #6cb2ff; --two: #ffa657; --heat: 88, 166, 255 } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--back); max-width: 62rem;
  margin: 2rem auto; padding: 0 1rem; overflow-wrap: anywhere }
h1 { font-size: 1.5rem } h2 { font-size: 1.15rem; margin-top: 2.2rem }
.wide { overflow-x: auto; margin: .8rem 0 }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; overflow-wrap: normal }
th, td { padding: .3rem .7rem; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap }
th.left, td.left { text-align: left }
th { color: var(--soft); font-weight: 600 } tr.strong td { font-weight: 600; background: var(--pale) }
img { max-width: 100%; height: auto; border-radius: 4px } code, pre { background: var(--pale); border-radius: 4px }
code { padding: .1rem .3rem } pre { padding: .7rem 1rem; overflow-x: auto; font-size: 13px; line-height: 1.4 }
svg { max-width: 100%; height: auto; display: block } svg.large { max-width: none }
svg text { fill: var(--soft); font: 12px system-ui, sans-serif }
svg .ink { fill: var(--ink) } svg .grid { stroke: var(--line) } svg .axis { stroke: var(--soft) }
svg .one, svg .two { fill: none; stroke-width: 2; stroke: var(--one) } svg .two { stroke: var(--two) }
svg .fill-one { fill: var(--one) } svg .fill-two { fill: var(--two) }
svg .even { stroke: var(--soft); stroke-dasharray: 4 4 }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(290px, 1fr)); gap: .8rem }
.card { background: var(--pale); border-radius: 6px; padding: .6rem } .card p { margin: .5rem 0 0; font-size: 13px }
.card div { display: flex; gap: .4rem; align-items: stretch } .card img { height: 120px; width: auto; max-width: 60% }
figure.beside { display: inline-block; vertical-align: top; margin-right: 1.2rem; max-width: min(100%, 472px) }
figure.beside:has(svg.large) { max-width: 100% }
figcaption { color: var(--soft); font-size: 13px }
"""


def as_html(title: str, parts: Sequence[Part]) -> str:
    """The page as HTML in one file: pictures are in it, nothing is fetched, and no script is needed or allowed."""
    body = "".join(map(_html, parts))
    head = (
        f'<meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><title>{for_html(title)}</title>'
    )
    whole = f"<head>{head}<style>{_STYLE}</style></head><body><h1>{for_html(title)}</h1>{body}</body>"
    return f'<!doctype html><html lang="en">{whole}</html>\n'


def _html(part: Part) -> str:
    match part:
        case Heading(text):
            return f"<h2>{for_html(text)}</h2>"
        case Text(text):
            pieces = [for_html(piece) for piece in text.split("`")]
            marked = "".join(f"<code>{p}</code>" if i % 2 else p for i, p in enumerate(pieces))
            return f"<p>{marked}</p>"
        case Code(text):
            return f"<pre>{for_html(text)}</pre>"
        case Picture(source, says):
            data = source if isinstance(source, bytes) else source.read_bytes()
            kind = "jpeg" if data.startswith(b"\xff\xd8") else "png"
            coded = base64.b64encode(data).decode()
            return f'<img alt="{for_html(says)}" src="data:image/{kind};base64,{coded}">'
        case Drawing(svg, says):
            return f'<figure class="wide beside">{svg}<figcaption>{for_html(says)}</figcaption></figure>'
        case Cards(cards):
            return f'<div class="cards">{"".join(map(_html_card, cards))}</div>'
        case Figures():
            return _html_table(part)


def _html_card(card: Card) -> str:
    lines = "<br>".join(map(for_html, card.lines))
    return f'<div class="card"><div>{"".join(map(_html, card.pictures))}</div><p>{lines}</p></div>'


def _html_table(part: Figures) -> str:
    def row(cells: Sequence[str], tag: str) -> str:
        kinds = [' class="left"' if index < part.left else "" for index in range(len(cells))]
        return "".join(f"<{tag}{k}>{for_html(c)}</{tag}>" for k, c in zip(kinds, cells, strict=True))

    lines = [
        f'<tr class="strong">{row(cells, "td")}</tr>' if index == part.strong else f"<tr>{row(cells, 'td')}</tr>"
        for index, cells in enumerate(part.rows)
    ]
    head = f"<thead><tr>{row(part.columns, 'th')}</tr></thead>"
    return f'<div class="wide"><table>{head}<tbody>{"".join(lines)}</tbody></table></div>'
