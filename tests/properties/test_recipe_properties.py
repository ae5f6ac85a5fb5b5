"""Recipes, options on the command line, sweeps and labels: read as they are written, or refused in a sentence."""

import functools
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from avpea.compare.sweep import load_sweep
from avpea.errors import AvpeaError
from avpea.experiment import Experiment, load_recipe, parse_overrides, recipe_names
from avpea.history import read_experiment
from avpea.labels import CaptionLabels, EventLabels, QuestionLabels
from avpea.run._settings import read_settings
from tests.properties.kinds import ODD, TEXTS, outcome, spoiled_bytes, spoiled_value

NAMES = [name for name in recipe_names() if "vit" in name or "mini" in name][:12]
OPTIONS = sorted(
    {f"{section}.{key}" for name in NAMES for section, values in load_recipe(name).to_dict().items()
     if isinstance(values, dict) for key in values}
)  # fmt: skip
WORDS = st.one_of(
    TEXTS.filter(lambda text: "\0" not in text), st.integers().map(str), st.floats().map(str), st.booleans().map(str),
    st.sampled_from([*map(json.dumps, ODD), "[1,", "{a: 1}", "!!python/object:os.system x", "*a", "&a [*a]"]),
)  # fmt: skip


def kept(experiment: Experiment) -> None:
    """What is accepted can be written, as a run does, and read again."""
    try:
        assert Experiment.from_dict(yaml.safe_load(experiment.to_yaml())) == experiment
        assert read_experiment(json.loads(json.dumps(experiment.to_dict()))) == experiment
    except AvpeaError as error:
        raise AssertionError(f"what is accepted cannot be kept: {error}") from None


@given(st.sampled_from(NAMES), st.data())
def test_a_spoiled_recipe_is_read_or_refused(name: str, drawn: Any) -> None:
    values = drawn.draw(spoiled_value(load_recipe(name).to_dict()))
    if isinstance(values, dict):
        found = outcome(functools.partial(Experiment.from_dict, values))
        if found is not None:
            kept(found)


@given(st.lists(st.tuples(st.sampled_from(OPTIONS), WORDS), min_size=1, max_size=3), st.booleans())
def test_an_option_is_taken_as_it_is_typed_or_refused(given_options: list[tuple[str, str]], equals: bool) -> None:
    words = [w for name, value in given_options for w in ([f"--{name}={value}"] if equals else [f"--{name}", value])]
    recipe = load_recipe("mini/avel")
    found = outcome(lambda: recipe.override(parse_overrides(words)))
    if found is None:
        return
    kept(found)
    for name, value in dict(given_options).items():
        section, key = name.split(".")
        made = getattr(getattr(found, section), key)
        if isinstance(made, str):
            assert made == value
        elif isinstance(made, int | float):
            assert made == type(made)(yaml.safe_load(value))


@given(st.lists(st.one_of(WORDS, st.sampled_from(OPTIONS).map("--{}".format)), max_size=4))
def test_any_words_after_a_command_are_options_or_refused(words: list[str]) -> None:
    outcome(lambda: load_recipe("mini/avel").override(parse_overrides(words)))


@given(spoiled_bytes(b'base: mini/avel\ntitle: "a \\u00e9"\ndata: {root: x, segments: 3}\ntrain:\n  epochs: 2\n'))
def test_a_damaged_file_is_a_recipe_or_refused(tmp_path: Path, found: bytes) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_bytes(found)
    recipe = outcome(functools.partial(load_recipe, path))
    if recipe is not None:
        kept(recipe)
    outcome(functools.partial(read_settings, path))


SWEEP = {
    "title": "é", "seeds": [0, 1], "reference": "a",
    "rows": {"a": "mini/avel", "b": {"recipe": "mini/avel", "adapter": {"reduction": 4}, "published": {"x": 7.5}}},
    "backbones": {"": {}}, "published_where": "x", "quoted": {"c": {"accuracy": 1.0, "why": "y"}},
}  # fmt: skip


@given(spoiled_value(SWEEP))
def test_a_spoiled_sweep_is_read_or_refused(tmp_path: Path, values: Any) -> None:
    path = tmp_path / "sweep.yaml"
    path.write_text(yaml.safe_dump(values, allow_unicode=True), encoding="utf-8", errors="backslashreplace")
    found = outcome(functools.partial(load_sweep, path))
    if found is None:
        return
    names = [cell.name for cell in found.cells()]
    assert len(set(names)) == len(names)
    assert all(name and "/" not in name and len(name.encode()) < 240 for name in names)
    assert "/" not in found.folder
    assert found.folder.strip(".")


@pytest.mark.parametrize("labels", [EventLabels(("cat", "é")), QuestionLabels.typical(), CaptionLabels()])
@given(drawn=st.data())
def test_labels_are_read_as_written_or_refused(labels: Any, drawn: Any) -> None:
    values = json.loads(json.dumps(drawn.draw(spoiled_value(labels.to_dict()))))  # as a checkpoint stores them
    if isinstance(values, dict):
        try:
            found = type(labels).from_dict(values)
        except ValueError:  # `avpea.description` makes a sentence of it
            return
        assert type(labels).from_dict(found.to_dict()) == found
