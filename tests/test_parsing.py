"""YAML and JSON of other people: nothing is lost in them, and no bomb, depth or number in them costs anything."""

import json
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from avpea.data._places import Unreachable, read_whole
from avpea.errors import AvpeaError, CheckpointError, DataError, ExperimentError
from avpea.experiment import RECIPES, load_recipe, parse_overrides
from avpea.files import write_text
from avpea.formats.text import read_text as read_table_text
from avpea.labels import MaskLabels, MaskSample
from avpea.parsing import json_lines, parse_json, parse_yaml, read_json, read_yaml
from avpea.run import RunFolder

BOMB = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"a{i}: &a{i} [{','.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 9)
)
MERGED = "a0: &a0 {k0: 1}\n" + "".join(
    f"a{i}: &a{i} {{<<: [{','.join([f'*a{i - 1}'] * 10)}], k{i}: 1}}\n" for i in range(1, 9)
)
REFUSED = {
    "aliases of aliases": (BOMB, "aliases written out"),
    "merges of merges": (MERGED, "aliases written out"),
    "a chain of aliases": ("k0: &a0 [1]\n" + "".join(f"k{i}: &a{i} [*a{i - 1}]\n" for i in range(1, 999)), "50 levels"),
    "a list in itself": ("a: &a [*a]", "in line 1 contains itself"),
    "a mapping in itself": ("a: 1\nb: &b {c: {d: *b}}", "in line 2 contains itself"),
    "a key that is its mapping": ("&a {*a : 1}", "contains itself"),
    "a merge of itself": ("&a\n<<: *a\nb: 1", "contains itself"),
    "brackets": ("[" * 100_000, "more than 50 levels"),
    "braces": ("{a: " * 100_000, "more than 50 levels"),
    "dashes": ("- " * 100_000, "more than 50 levels"),
    "questions": ("? " * 100_000, "more than 50 levels"),
    "indentation": ("".join(" " * i + "a:\n" for i in range(900)), "more than 50 levels"),
    "many values": (f"a: [{'x,' * 400_000}]", "more than 20,000 values"),
    "many aliases": (f"a: &a x\nb: [{'*a,' * 300_000}]", "more than 20,000 values"),
    "a long text": (f"a: '{'x' * 900_000}'", "a text of 900,000 characters in line 1"),
    "10^23": ("a: 1\nb: 100000000000000000000000", r"number 10{23} in line 2; expected less than 2\*\*63"),
    "5,000 digits": ("a: " + "1" * 5000, "a number of 5,000 characters"),
    "sixtieths": ("a: " + ":".join(["59"] * 3000), "a number of 8,999 characters"),
    "hexadecimal": ("a: 0x" + "f" * 60, r"2\*\*63"),
    "ten, or eight": ("a: 1\nb: -010", "the number -010 in line 2, which YAML reads as -8; write that"),
    "a minute and a half": ("a: 1:30", "the number 1:30 in line 1, which YAML reads as 90; write that"),
    "a 99th month": ("a: 2001-99-99", "cannot be read"),
    "a tag that lies": ("a: !!int abc", "cannot be read"),
    "a tag of nothing": ('a: !!int ""', "cannot be read"),
    "a truth that is none": ("a: !!bool x", "cannot be read"),
    "a time that is none": ("a: !!timestamp x", "cannot be read"),
    "an object of Python": ('a: !!python/object/apply:os.system ["true"]', "not YAML"),
    "half a character": ('a: "\\ud800"', "surrogate pair"),
    "a list as a key": ("{[a]: 1}", "not YAML"),
    "a key twice": ("rows:\n  a: {x: 1}\n  b: {x: 1}\n  a: {x: 2}\n", "'a' stands twice .* again in line 4"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_yaml_that_no_recipe_holds_is_refused_at_once(name: str, tmp_path: Path) -> None:
    text, reason = REFUSED[name]
    path = tmp_path / "file.yaml"
    path.write_text(text)
    started = time.process_time()
    with pytest.raises(ExperimentError, match=reason) as error:
        read_yaml(path)
    assert time.process_time() - started < 5
    assert str(error.value).startswith(f"{path}: ")
    assert str(error.value).endswith(".")
    assert len(str(error.value)) < 600


@pytest.mark.parametrize(
    "name", ["aliases of aliases", "a list in itself", "brackets", "10^23", "a 99th month", "ten, or eight"]
)
def test_a_recipe_and_a_run_and_an_option_refuse_it(name: str, tmp_path: Path) -> None:
    text = REFUSED[name][0]
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(f"{text}\nbase: mini/avel\n" if name == "aliases of aliases" else text)
    with pytest.raises(ExperimentError):
        load_recipe(recipe)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "experiment.yaml").write_text(text)
    with pytest.raises(CheckpointError, match=r"experiment\.yaml"):
        RunFolder(tmp_path / "run", load_recipe("mini/avel"))
    with pytest.raises(ExperimentError):
        load_recipe("mini/avel").override(parse_overrides(["--adapter.blocks", text[:5000]]))


def test_what_a_recipe_may_hold_is_read_as_always(tmp_path: Path) -> None:
    text = "a: &a {x: 1}\nb: {<<: *a, y: 2.5e+3}\nc: [*a, *a]\nd: [1e3, .inf, 0x1F, 1_000, 00, 07, yes, ~]"
    text += "\ne: 9223372036854775807"
    assert parse_yaml(text) == yaml.safe_load(text)
    assert parse_yaml("") is None
    for path in [*RECIPES.rglob("*.yaml"), *(RECIPES.parent / "sweeps").rglob("*.yaml")]:
        assert read_yaml(path) == yaml.safe_load(path.read_text())
    (tmp_path / "big.yaml").write_text("#" * (2 << 20))
    with pytest.raises(ExperimentError, match="bigger than 1 MiB"):
        read_yaml(tmp_path / "big.yaml")


@settings(max_examples=60, deadline=None)
@given(st.text(alphabet="ab:-?[]{},&*!|>'\"# \n019.e%\\<", max_size=60))
def test_any_text_is_read_as_pyyaml_does_or_refused(text: str) -> None:
    with suppress(ExperimentError):
        found = parse_yaml(text)
        assert repr(found) == repr(yaml.safe_load(text))


@pytest.mark.parametrize(
    ("option", "value"),
    [("train.epochs", 10**23), ("train.epochs", 1e23), ("adapter.blocks", [10**23]), ("data.segments", 2**63)],
)
def test_a_number_of_any_source_is_bounded(option: str, value: Any) -> None:
    with pytest.raises(ExperimentError, match=f"{option} is .*; expected"):
        load_recipe("mini/avel").override({option: value})


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[" * 100_000, "more than 50 levels"), ("[" * 60 + "]" * 60, "more than 50 levels"),
        ('{"a": NaN}', "NaN"), ("-Infinity", "-Infinity"), ("1e999", "1e999"), ("1" * 30, r"less than 2\*\*63"),
        ("1" * 100_000, r"less than 2\*\*63"), ('{"\\udfff": 1}', "surrogate"),
        ('{"a": ', "line 1, column 7: not JSON"), ("", "not JSON"), ("\0", "not JSON"),
    ],
)  # fmt: skip
def test_json_that_is_none_of_avpeas_is_refused(text: str, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    path.write_text(text)
    with pytest.raises(DataError, match=reason) as error:
        read_json(path, DataError)
    assert str(error.value).startswith(str(path))
    assert len(str(error.value)) < 300
    path.write_text(f'{{"a": 1}}\n\n{text or "x"}\n')
    lines = json_lines(path)
    assert next(lines) == (1, {"a": 1})
    with pytest.raises(CheckpointError, match=r"file\.json, line 3"):
        next(lines)


TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)


@settings(max_examples=40, deadline=None)
@given(st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63) + 1, 2**63 - 1) | TEXT
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner), max_leaves=10,
))  # fmt: skip
def test_json_is_read_as_it_was_written(value: Any) -> None:
    assert parse_json(json.dumps(value), "file.json") == value


def test_what_is_too_long_or_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "file.jsonl"
    path.write_text("[" + "1," * (3 << 20) + "1]")
    with pytest.raises(AvpeaError, match="line 1: longer than 4 MiB"):
        list(json_lines(path))
    path.write_bytes(b'{"a": "\xff"}')
    for read in (read_json, lambda file: list(json_lines(file)), read_yaml):
        with pytest.raises(AvpeaError, match="not UTF-8"):
            read(path)


def test_a_pipe_or_a_device_is_not_waited_for(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.json"
    os.mkfifo(pipe)
    for path in (pipe, Path("/dev/zero")):
        for read in (read_json, read_yaml, read_table_text, lambda path: list(json_lines(path))):
            with pytest.raises(AvpeaError, match=f"{path} is no regular file, but a pipe, a socket or a device; expe"):
                read(path)
        with pytest.raises(Unreachable, match="no regular file"):
            read_whole(str(path), 100)
    assert MaskLabels().told(MaskSample("a", "a", tmp_path, 0.0, 1, "train", masks=(str(pipe),))) == "0 missing"


def test_a_name_of_bytes_that_are_no_text_is_read_where_files_are_named(tmp_path: Path) -> None:
    name = os.fsdecode(b"latin \xff.mp4")
    write_text(tmp_path / "a.json", json.dumps({"video": name}))
    assert read_json(tmp_path / "a.json", paths=True) == {"video": name}
    for text, paths in ((name, False), ("\ud800", True), (f"{name}\0", True)):
        with pytest.raises(CheckpointError, match="no character"):
            parse_json(json.dumps([text]), "a.json", paths=paths)
