"""`avpea recipes` and `avpea params`."""

import argparse
from collections.abc import Iterator
from typing import Any

from avpea.command import (
    Command,
    experiment_of,
    print_json,
)
from avpea.errors import ExperimentError
from avpea.tables import Table, show

__all__ = ["COMMANDS"]


def _recipes_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", help="recipe to print; without it, list all recipes")


def _recipes(options: argparse.Namespace) -> None:
    from avpea.experiment import load_recipe, recipe_titles

    if options.name is None:
        titles = recipe_titles()
        width = max(map(len, titles))
        print_json(titles) if options.json else show(f"{name:{width}}  {title}" for name, title in titles.items())
        return
    recipe = load_recipe(options.name)
    print_json(recipe.to_dict()) if options.json else print(recipe.to_yaml(), end="")


def _params_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("recipe", nargs="?", help="recipe name or YAML file; without it, compare with the paper's rows")


def _params(options: argparse.Namespace) -> None:
    from avpea import accounting

    if options.recipe is None:
        if options.overrides:
            raise ExperimentError("The table of the paper's rows takes no options; they need a recipe.")
        rows = accounting.paper_rows()
        print_json([row.to_dict() for row in rows]) if options.json else show(_paper_report(rows))
        return
    counts = accounting.count(experiment_of(options))
    print_json(counts.to_dict()) if options.json else show(_parameter_report(options.recipe, counts))


def _parameter_report(name: str, counts: Any) -> Iterator[str | Table]:
    chosen = f" ({counts.num_classes} {counts.outputs})" if counts.outputs else ""
    lines = [
        ("frozen backbone", counts.frozen),
        ("  with its classifier, which nothing uses", counts.frozen_with_classifier),
        ("adapters", counts.adapters),
        (f"head{chosen}, as used", counts.head),
        ("  as its public code registers it", counts.head_registered),
        ("trained: adapters + head, as used", counts.trainable),
        ("  with the head as registered (the paper's total)", counts.trainable_registered),
    ]
    yield Table(["", "parameters", "M"], [(text, f"{n:,}", f"{n / 1e6:.1f}") for text, n in lines], name)
    yield (
        f"Adapters are {100 * counts.adapter_share:.2f} % of what runs, "
        f"{100 * counts.paper_share:.2f} % as the paper counts."
    )
    if counts.head_registered > counts.head:
        yield (
            f"The head's public code registers {counts.head_registered - counts.head:,} parameters that its forward "
            "pass never reads; the paper counts them."
        )


def _paper_report(rows: Any) -> Iterator[str | Table]:
    from avpea.metrics.figures import headline

    def pair(row: Any, key: str) -> str:
        printed = row.published.get(key)
        return f"{'-' if printed is None else printed} / {row.in_paper_form[key]}"

    cells = [
        [
            f"{row.title}\n{row.recipe}",
            *(pair(row, f"{part}_millions") for part in ("adapter", "trainable", "frozen")),
            headline(row.published),
        ]
        for row in rows
    ]
    title = "Paper / avpea, in millions of parameters; the result is the paper's"
    yield Table(["row", "adapters", "trained", "frozen", "result"], cells, title)
    yield (
        "As in the paper, trained counts the head as its code registers it, and frozen counts the backbone's "
        "classifier. Table 2's accuracy is the mean of the three modalities. Why some rows differ is in docs/paper.md."
    )
    yield "`avpea params RECIPE` gives every part, used and registered."


COMMANDS = [
    Command(
        "recipes", "List the recipes, or print one whole.", "avpea recipes paper/avel-vit-b16",
        _recipes_arguments, _recipes, json=True, media=False,
    ),
    Command(
        "params", "Count parameters as in the paper's tables, without loading weights.",
        "avpea params paper/avel-vit-b16 --json", _params_arguments, _params, overrides=True, json=True, media=False,
    ),
]  # fmt: skip
