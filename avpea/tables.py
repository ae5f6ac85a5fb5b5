"""What a person reads on the terminal: tables of parameters, of an evaluation, of a prediction."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from avpea.metrics.figures import figure_of, headline

__all__ = ["comparison", "evaluation", "paper", "parameters", "prediction", "reply", "sweep"]


def _table(title: str, columns: Sequence[str], left: int = 1) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", header_style="bold")
    for index, column in enumerate(columns):
        table.add_column(column, justify="left" if index < left else "right", overflow="fold")
    return table


def _show(table: Table) -> None:
    # A pipe has no width: as wide as the table wants, so that no column is cut.
    console = Console()
    Console(width=None if console.is_terminal else 160).print(table)


def evaluation(result: Any, run: Path, confusion: bool = False) -> None:
    """The metric, what it is measured against, and its parts: classes, or types of questions."""
    metrics = result.metrics
    name = metrics["metric"]
    reached = figure_of(name).reached
    print(f"{run} on {metrics['split']}: {reached(metrics[name])} ({metrics['videos']} videos)")
    if metrics["source"]:
        print(f"Annotations: {metrics['source']}.")
    print(f"Epoch {metrics['epoch']}, selected on {metrics['selected_on']}.")
    if metrics["skipped"]:
        print(f"{len(metrics['skipped'])} videos were skipped:")
        print("\n".join(f"  {key}: {reason}" for key, reason in list(metrics["skipped"].items())[:10]))
    for reference, share in metrics["references"].items():
        print(f"For comparison, {reference}: {reached(share)}.")
    if name == "segment_accuracy":
        _by_class(metrics, confusion)
    elif name == "overall_accuracy":
        _by_type(metrics)
    elif name == "mean_recall":
        _recalls(metrics)
    elif name == "cider":
        _scores(metrics)


def _by_class(metrics: Mapping[str, Any], confusion: bool) -> None:
    table = _table("", ["class", "segment accuracy", "segments"])
    names = list(metrics["per_class_accuracy"])
    for name, row in zip(names, metrics["confusion_matrix"], strict=True):
        accuracy = metrics["per_class_accuracy"][name]
        table.add_row(name, "-" if accuracy is None else f"{100 * accuracy:.1f} %", str(sum(row)))
    _show(table)
    if confusion:
        table = _table("Confusion: rows are annotated, columns answered", ["", *names])
        for name, row in zip(names, metrics["confusion_matrix"], strict=True):
            table.add_row(name, *("·" if count == 0 else str(count) for count in row))
        Console(width=40 + 12 * len(names)).print(table)


def _by_type(metrics: Mapping[str, Any]) -> None:
    """Nine types, three modalities, and both averages; then each wording."""
    table = _table("", ["questions", "accuracy"])
    for part in ("per_type_accuracy", "per_modality_accuracy"):
        for name, share in metrics[part].items():
            table.add_row(name, f"{100 * share:.2f} %")
        table.add_section()
    mean = metrics["mean_of_three"]
    table.add_row(f"all {metrics['questions']} questions (overall)", f"{100 * metrics['overall_accuracy']:.2f} %")
    table.add_row("mean of the three modalities (the paper's)", "-" if mean is None else f"{100 * mean:.2f} %")
    _show(table)
    table = _table("Wordings", ["wording", "accuracy", "questions"])
    for name, figures in metrics["per_template"].items():
        table.add_row(name, f"{100 * figures['accuracy']:.1f} %", str(figures["questions"]))
    _show(table)
    if metrics.get("unanswerable"):
        print(f"{metrics['unanswerable']} questions have answers that no training question has, and count as wrong.")
    if metrics.get("written_but_no_answer"):
        print(f"{metrics['written_but_no_answer']} written answers are none of the training questions'.")


def _recalls(metrics: Mapping[str, Any]) -> None:
    """Recall at 1, 5 and 10, their mean, and the median place, in each direction and for each group."""
    table = _table(
        f"By {metrics['looks_at']}, where nothing else is said", ["", "R@1", "R@5", "R@10", "mean", "median"]
    )
    for name, found in metrics.items():
        if isinstance(found, Mapping) and "median_rank" in found:
            shares = [f"{100 * found[key]:.2f} %" for key in ("r1", "r5", "r10", "mean_recall")]
            table.add_row(name.replace("_", " "), *shares, f"{found['median_rank']:g}")
    _show(table)
    if len(metrics["references"]):
        print("With dual softmax all captions are looked at together, which a search for one cannot do.")


def _scores(metrics: Mapping[str, Any]) -> None:
    """BLEU, METEOR, ROUGE-L and CIDEr, times 100."""
    table = _table(f"Times 100; {metrics['different_captions']} different captions", ["score", ""])
    for name, value in metrics["scores"].items():
        table.add_row(name, f"{100 * value:.2f}")
    for name, why in metrics["not_available"].items():
        table.add_row(name, f"not available: {why}")
    _show(table)


def prediction(found: Any) -> None:
    """The timeline of a video: label, from, to, confidence."""
    print(f"{found.video}: {found.duration_seconds:.1f} s, {len(found.events)} event{'s' * (len(found.events) != 1)}")
    _tell_cut_off(found.clip)
    if not found.events:
        print("Nothing that the model knows was seen and heard together.")
        return
    table = _table("", ["label", "from", "to", "confidence"])
    for event in found.events:
        table.add_row(
            event.label,
            f"{event.start_seconds:.0f} s",
            f"{event.end_seconds:.0f} s",
            f"{event.confidence:.2f}",
        )
    _show(table)


def _tell_cut_off(clip: Any) -> None:
    if clip.cut_off:
        print(
            f"The file declares {clip.declared_seconds:.1f} s, of which {clip.duration_seconds:.1f} s decode; the rest "
            "of it cannot be decoded."
        )


def reply(found: Any) -> None:
    """The answers to a question, and the second that was looked at and listened to most."""
    print(f"{found.video}: {found.question.text}")
    _tell_cut_off(found.clip)
    for remark in found.question.remarks():
        print(remark)
    table = _table("", ["answer", "probability"])
    for answer, chance in found.answers[:5]:
        table.add_row(answer, f"{chance:.2f}")
    _show(table)
    if found.seen is not None and found.heard is not None:
        starts = found.clip.starts
        seen, heard = (starts[int(shares.argmax())] for shares in (found.seen, found.heard))
        print(f"It looked most at second {seen:.0f} and listened most to second {heard:.0f}.")


def captions(described: Any) -> None:
    """A video's sentences, each with its stretch."""
    print(f"{described.video}: {described.duration_seconds:.1f} s")
    _tell_cut_off(described.clip)
    for one in described.captions:
        print(f"{one.start_seconds:7.1f} - {one.end_seconds:.1f} s  {one.text}")
        for text, _ in one.others:
            print(f"{'':19}or: {text}")


def indexed(report: Any) -> None:
    """What indexing did, and which files could not be read."""
    for reason in report.broken.values():
        print(f"Left out: {reason}")
    parts = [f"{report.indexed} indexed", f"{report.unchanged} unchanged", f"{report.removed} removed"]
    parts += [f"{len(report.broken)} left out"] * bool(report.broken)
    rate = f", {60 * report.indexed / report.seconds:.0f} videos a minute" if report.indexed else ""
    print(f"{report.library}: {', '.join(parts)}; {report.windows} windows in all ({report.seconds:.0f} s{rate}).")


def found(windows: Sequence[Any]) -> None:
    """Windows that were found, the most alike first."""
    if not windows:
        print("Nothing found: the library has no window to compare.")
        return
    table = _table("", ["file", "seconds", "score", "thumbnail"])
    for one in windows:
        seconds = f"{one.start_seconds:.0f} - {one.end_seconds:.0f}"
        table.add_row(one.file, seconds, f"{one.score:.3f}", one.thumbnail or "-")
    _show(table)


def comparison(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A plain table of text cells."""
    table = _table(title, columns)
    for row in rows:
        table.add_row(*row)
    _show(table)


def sweep(summary: Any) -> None:
    """A comparison: the metric with its deviation, difference with its interval, parameters, time of a step."""
    metric = figure_of(summary.metric)
    unit = "%" if metric.unit == "%" else f"{metric.name} {metric.unit}"
    columns = ["", f"test {unit}", f"less {summary.reference} [95 %]", "adapters, M", "step s", "published %"]
    rows = []
    for row in summary.rows:
        deviation = "" if row.test_std is None else f" ± {100 * row.test_std:.2f}"
        low, high = row.interval or (0.0, 0.0)
        difference = f"{100 * row.difference:+.2f} [{100 * low:+.2f}, {100 * high:+.2f}]" if row.interval else ""
        step = "" if row.step is None else f"{row.step['step_seconds']:.2f}"
        reported = headline(row.published)
        cells = (f"{100 * row.test_mean:.2f}{deviation}", difference, f"{row.adapters / 1e6:.2f}", step, reported)
        rows.append([row.label, *cells])
    comparison(summary.title, columns, rows)
    for remark in summary.remarks:
        print(remark)
    if summary.published_where and any(row.published for row in summary.rows):
        print(f"Published: {summary.published_where}; to be compared only as far as data and weights are the same.")


def parameters(name: str, counts: Any) -> None:
    """The parameters of one experiment, by part."""
    lines = [
        ("frozen backbone", counts.frozen),
        ("  with its classifier, which nothing uses", counts.frozen_with_classifier),
        ("adapters", counts.adapters),
        (f"head ({counts.num_classes} classes), as used", counts.head),
        ("  as its public code registers it", counts.head_registered),
        ("trained: adapters + head, as used", counts.trainable),
        ("  with the head as registered (the paper's total)", counts.trainable_registered),
    ]
    comparison(name, ["", "parameters", "M"], [(t, f"{n:,}", f"{n / 1e6:.1f}") for t, n in lines])
    print(
        f"Adapters are {100 * counts.adapter_share:.2f} % of what runs, "
        f"{100 * counts.paper_share:.2f} % as the paper counts."
    )
    if counts.head_registered > counts.head:
        print(
            f"The head's public code registers {counts.head_registered - counts.head:,} parameters that its forward "
            "pass never reads; the paper counts them."
        )


def paper(rows: Sequence[Any]) -> None:
    """The paper's rows: its parameter columns beside ours, and its result."""

    def pair(row: Any, key: str) -> str:
        printed = row.published.get(key)
        return f"{'-' if printed is None else printed} / {row.in_paper_form[key]}"

    columns = ["row", "adapters", "trained", "frozen", "result"]
    cells = [
        [
            f"{row.title}\n{row.recipe}",
            *(pair(row, f"{part}_millions") for part in ("adapter", "trainable", "frozen")),
            headline(row.published),
        ]
        for row in rows
    ]
    comparison("Paper / avpea, in millions of parameters; the result is the paper's", columns, cells)
    print(
        "As in the paper, trained counts the head as its code registers it, and frozen counts the backbone's "
        "classifier. Table 2's accuracy is the mean of the three modalities. Why some rows differ is in docs/paper.md."
    )
    print("`avpea params RECIPE` gives every part, used and registered.")
