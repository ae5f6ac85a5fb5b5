"""The report of a comparison, as HTML and as Markdown, from a summary of the stored results."""

import base64
import html
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from avpea.compare.summary import RowSummary, Summary
from avpea.errors import AvpeaError
from avpea.files import write_json, write_text
from avpea.metrics.figures import headline

__all__ = ["write_report"]


@dataclass(frozen=True)
class Heading:
    """A section's title."""

    text: str


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    text: str


@dataclass(frozen=True)
class Figures:
    """A table of texts; the first column is left-aligned, the others, with numbers, are right-aligned."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    strong: int | None = None  # index of the reference row, in bold


@dataclass(frozen=True)
class Picture:
    """A PNG beside the report."""

    path: Path
    says: str


Part = Heading | Text | Figures | Picture


def write_report(summary: Summary, folder: Path) -> Path:
    """Write `index.html` (in a single file), `report.md` with its figures, and `summary.json`.

    Returns:
        The path of `index.html`.

    Raises:
        AvpeaError: matplotlib is not installed.
    """
    try:
        from avpea.compare.figures import draw
    except ImportError:
        raise AvpeaError('The report needs matplotlib: `pip install "avpea[plot]"`.') from None
    folder.mkdir(parents=True, exist_ok=True)
    parts = list(_parts(summary, draw(summary, folder)))
    write_text(folder / "report.md", _markdown(summary.title, parts))
    page = folder / "index.html"
    write_text(page, _html(summary.title, parts))
    write_json(folder / "summary.json", summary.to_dict(), indent=1)
    return page


def _parts(summary: Summary, pictures: Mapping[str, tuple[Path, str]]) -> Iterator[Part]:
    metric, seeds = summary.figure, sorted({seed for row in summary.rows for seed in row.seeds})
    yield Text(
        f"Sweep `{summary.sweep}`, seeds {', '.join(map(str, seeds))}, {summary.videos} test videos; the epoch was "
        f"chosen on {summary.selected_on}. {metric.heading()}, mean ± sample standard deviation over seeds."
    )
    for remark in summary.remarks:
        yield Text(f"Note: {remark}")
    yield Heading("Result")
    columns = ["", "test", f"less {summary.reference}, 95 % interval", summary.selected_on, "seeds"]
    beside = [key for key in metric.beside if any(row.beside.get(key) is not None for row in summary.rows)]
    columns += [metric.beside[key] for key in beside]
    published = any(row.published for row in summary.rows) or bool(summary.quoted)
    columns += ["published"] * published
    rows = [
        [
            *_accuracy_cells(row),
            *(_percent(row.beside[key]) for key in beside),
            *([headline(row.published)] * published),
        ]
        for row in summary.rows
    ]
    for label, figures in summary.quoted.items():
        rows.append([f"{label} (quoted)", *[""] * (len(columns) - 2), headline(figures)])
    yield Figures(columns, rows, strong=_index(summary))
    for name, share in summary.references.items():
        yield Text(f"For comparison, {name}: {_percent(share)}.")
    yield Text(
        "The interval is a paired bootstrap of the difference (10,000 draws of the test videos, the same for both "
        "rows, and of each row's seeds). One that holds 0 shows no difference at this size."
    )
    if published and summary.published_where:
        yield Text(
            f"Published: {summary.published_where}. To be compared with these figures only as far as data, weights and "
            "protocol are the same."
        )
    for label, figures in summary.quoted.items():
        if "why" in figures:
            yield Text(f"{label} is only quoted: {figures['why']}.")
    yield from _picture(pictures, "parameters")
    yield from _cost_parts(summary)
    yield Heading("Learning curves")
    yield from _picture(pictures, "curves")
    if "gates" in pictures:
        yield Heading("Gates over training")
        yield from _picture(pictures, "gates")
    yield Heading(metric.parts)
    yield from _picture(pictures, "classes")
    names = dict.fromkeys(name for row in summary.rows for name in row.per_class)  # a row may lack some
    yield Figures(
        [metric.part, *(row.label for row in summary.rows)],
        [[name, *(_percent(row.per_class.get(name), 1) for row in summary.rows)] for name in names],
    )
    yield Heading("Where it ran")
    for entry in summary.environments:
        yield Text(", ".join(f"{key} {value}" for key, value in entry.items() if value is not None))


def _accuracy_cells(row: RowSummary) -> list[str]:
    test = f"{100 * row.test_mean:.2f}" + ("" if row.test_std is None else f" ± {100 * row.test_std:.2f}")
    difference = ""
    if row.difference is not None and row.interval is not None:
        low, high = row.interval
        difference = f"{100 * row.difference:+.2f} [{100 * low:+.2f}, {100 * high:+.2f}]"
    return [row.label, test, difference, _percent(row.selection_mean), str(len(row.seeds))]


def _cost_parts(summary: Summary) -> Iterator[Part]:
    yield Heading("Cost")
    columns = ["", "adapters", "trained with head", "minutes of training"]
    if summary.cost_machine is not None:
        columns += ["step, s", f"step over {summary.reference}", "peak MB"]
    rows = []
    for row in summary.rows:
        cells = [row.label, f"{row.adapters:,}", f"{row.trained:,}", f"{row.train_minutes:.1f}"]
        if row.step is not None:
            low, high = row.step["over_reference"]["quartiles"]
            over = f"{row.step['over_reference']['median']:.2f} ({low:.2f} to {high:.2f})"
            cells += [f"{row.step['step_seconds']:.2f}", over, f"{row.step['peak_mb']:,}"]
        rows.append(cells + [""] * (len(columns) - len(cells)))
    yield Figures(columns, rows, strong=_index(summary))
    yield Text("Minutes of training are wall time on a machine that may have been busy with other runs.")
    if summary.cost_machine is not None:
        m = summary.cost_machine
        yield Text(
            f"Steps: forward, loss, backward and optimiser over one batch, in turns with {summary.reference}; median, "
            f"and quartiles of the ratio. Memory: above that of the built model, in a process of its own. Measured on "
            f"{m['processor']} with {m['threads']} threads, load {m['load']}, torch {m['torch']}, {m['date']}."
        )


def _index(summary: Summary) -> int | None:
    return next((i for i, row in enumerate(summary.rows) if row.label == summary.reference), None)


def _percent(share: float | None, digits: int = 2) -> str:
    return "–" if share is None else f"{100 * share:.{digits}f}"


def _picture(pictures: Mapping[str, tuple[Path, str]], name: str) -> Iterator[Part]:
    if name in pictures:
        yield Picture(*pictures[name])


def _markdown(title: str, parts: Sequence[Part]) -> str:
    lines = [f"# {title}", ""]
    for part in parts:
        match part:
            case Heading(text):
                lines += [f"## {text}", ""]
            case Text(text):
                lines += [text, ""]
            case Picture(path, says):
                lines += [f"![{says}]({path.name})", ""]
            case Figures(columns, rows, strong):
                lines += [_line(columns), _line(["---", *["---:"] * (len(columns) - 1)])]
                for index, row in enumerate(rows):
                    lines.append(_line([f"**{c}**" if index == strong and c else c for c in row]))
                lines.append("")
    return "\n".join(lines)


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1f2328; max-width: 62rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.5rem } h2 { font-size: 1.15rem; margin-top: 2rem }
.wide { overflow-x: auto }
table { border-collapse: collapse; font-variant-numeric: tabular-nums }
th, td { padding: .3rem .7rem; border-bottom: 1px solid #e4e7eb; text-align: right; white-space: nowrap }
th:first-child, td:first-child { text-align: left }
th { color: #59636e; font-weight: 600 } tr.strong td { font-weight: 600; background: #f3f6f9 }
img { max-width: 100%; height: auto } code { background: #f3f6f9; padding: .1rem .3rem }
"""


def _html(title: str, parts: Sequence[Part]) -> str:
    body = [f"<h1>{html.escape(title)}</h1>"]
    for part in parts:
        match part:
            case Heading(text):
                body.append(f"<h2>{html.escape(text)}</h2>")
            case Text(text):
                pieces = [html.escape(piece) for piece in text.split("`")]
                marked = "".join(f"<code>{p}</code>" if i % 2 else p for i, p in enumerate(pieces))
                body.append(f"<p>{marked}</p>")
            case Picture(path, says):
                data = base64.b64encode(path.read_bytes()).decode()
                body.append(f'<img alt="{html.escape(says, quote=True)}" src="data:image/png;base64,{data}">')
            case Figures(columns, rows, strong):
                body.append(_html_table(columns, rows, strong))
    head = (
        f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{html.escape(title)}</title>'
    )
    whole = f"<head>{head}<style>{_STYLE}</style></head><body>{''.join(body)}</body>"
    return f'<!doctype html><html lang="en">{whole}</html>\n'


def _html_table(columns: Sequence[str], rows: Sequence[Sequence[str]], strong: int | None) -> str:
    head = "".join(f"<th>{html.escape(column)}</th>" for column in columns)
    lines = []
    for index, row in enumerate(rows):
        cells = "".join(f"<td>{html.escape(cell)}</td>" for cell in row)
        lines.append(f'<tr class="strong">{cells}</tr>' if index == strong else f"<tr>{cells}</tr>")
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{"".join(lines)}</tbody></table></div>'
