"""Experiments and recipes: what is read, what is refused, and in which words."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from avpea.errors import ExperimentError
from avpea.experiment import Experiment, load_recipe, parse_overrides, recipe_names, recipe_titles
from avpea.options import Word

LEAST = {"task": "avel", "data": {"name": "ave"}}  # what every recipe says


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_loads_and_survives_yaml(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.title
    assert Experiment.from_dict(yaml.safe_load(recipe.to_yaml())) == recipe
    assert Experiment.from_dict(recipe.to_dict()) == recipe


@settings(max_examples=15, deadline=None, derandomize=True)
@given(
    rate=st.floats(1e-30, 1e30), seed=st.integers(0, 2**31), title=st.text(),
    blocks=st.lists(st.integers(0, 40), max_size=4), segments=st.integers(1, 100),
)  # fmt: skip
def test_any_value_survives_yaml(rate: float, seed: int, title: str, blocks: list[int], segments: int) -> None:
    given_values = {
        "title": title, "train": {"learning_rate": rate, "seed": seed}, "adapter": {"blocks": blocks},
        "task": "avel", "data": {"name": "ave", "segments": segments},
    }  # fmt: skip
    experiment = Experiment.from_dict(given_values)
    assert experiment.train.learning_rate == rate
    assert experiment.adapter is not None
    assert experiment.adapter.blocks == tuple(blocks)
    assert Experiment.from_dict(yaml.safe_load(experiment.to_yaml())) == experiment


def write(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)


def test_a_recipe_holds_only_what_is_its_own(tmp_path: Path) -> None:
    bottom = write(
        tmp_path / "a.yaml",
        "task: avel\ndata: {name: ave}\ntrain: {epochs: 7, seed: 1}\npublished: {accuracy: 1.5}\n",
    )
    middle = write(tmp_path / "b.yaml", f"base: {bottom}\ntrain: {{seed: 2}}\n")
    top = write(tmp_path / "c.yaml", f"base: {middle}\nadapter: {{streams: none}}\npublished: {{other: 2.0}}\n")
    found = load_recipe(top)
    assert found.adapter is not None
    assert (found.train.epochs, found.train.seed, found.adapter.streams) == (7, 2, "none")
    assert found.published == {"other": 2.0}  # never inherited piecewise
    assert load_recipe(middle).published == {"accuracy": 1.5}


def test_a_file_can_start_from_a_named_recipe(tmp_path: Path) -> None:
    found = load_recipe(write(tmp_path / "mine.yaml", "base: mini/avel\ntrain: {epochs: 1}\n"))
    expected = load_recipe("mini/avel").override({"train.epochs": 1})
    assert found == expected


def test_a_base_is_looked_for_beside_the_recipe_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sub").mkdir()
    monkeypatch.chdir(tmp_path)
    own = write(tmp_path / "sub" / "own.yaml", "base: b.yaml\n")
    write(tmp_path / "b.yaml", "base: mini/avel\ntrain: {seed: 1}\n")
    assert load_recipe(own).train.seed == 1
    write(tmp_path / "sub" / "b.yaml", "base: mini/avel\ntrain: {seed: 2}\n")
    assert load_recipe(own).train.seed == 2


def test_a_recipe_that_is_its_own_base(tmp_path: Path) -> None:
    one, two = tmp_path / "one.yaml", tmp_path / "two.yaml"
    write(one, f"base: {two}\n")
    write(two, f"base: {one}\n")
    with pytest.raises(ExperimentError, match=r"its own base: .*one\.yaml -> .*two\.yaml -> .*one\.yaml"):
        load_recipe(one)


REFUSED = {
    "unknown key": ("train: {epoch: 3}", r"no option is called 'train\.epoch'\. Did you mean 'train\.epochs'\?"),
    "unknown section": ("trian: {epochs: 3}", r"no option is called 'trian\.epochs'\. Did you mean 'train\.epochs'\?"),
    "a section that is a value": ("train: 3", r"'train' takes names and values, got 3"),
    "text for a number": ("train: {epochs: many}", r"train\.epochs is 'many'; expected a whole number\.$"),
    "a fraction for a count": ("train: {epochs: 2.5}", r"train\.epochs is 2\.5; expected a whole number\.$"),
    "text for a float": ("audio: {std: wide}", r"audio\.std is 'wide'; expected a number\.$"),
    "text for yes or no": ("data: {name: ave, strict: maybe}", r"data\.strict is 'maybe'; expected true or false\.$"),
    "none of the choices": ("adapter: {streams: left}", r"adapter\.streams is 'left'; expected one of .*'both'"),
    "an impossible number": ("train: {epochs: 0}", r"train\.epochs is 0; expected 1 or more"),
    "a negative deviation": ("audio: {std: -1}", r"audio\.std is -1\.0; expected a number above 0"),
    "bands that VGGish does not have": (
        "audio: {features: vggish, mel_bins: 128}", r"audio\.mel_bins is 128; expected one of 64\.$"
    ),
    "a mean that VGGish does not take": (
        "audio: {features: vggish, mean: 0}", r"audio\.mean is an option of .*'kaldi', but audio\.features is 'vggish'"
    ),
    "no tokens to exchange": (
        "encoder: {name: mbt, bottleneck_tokens: 0}", r"bottleneck_tokens is 0; expected 1 or more\.$"
    ),
    "no audio weights": (
        "audio: {features: vggish}\nencoder: {name: separate, audio_weights: ''}", r"audio_weights is empty; expected"
    ),
    "a rate of nan": ("train: {learning_rate: .nan}", r"train\.learning_rate is nan; expected a finite number"),
    "an empty value": ("train: {epochs: }", r"train\.epochs is empty; give it a value or leave it out"),
    "data of another task": ("data: {name: valor32k}", r"needs events, but .* reads captions; expected ave or ave_f"),
    "a head of another task": ("head: {name: avst}", r"which is no head of the task 'avel'; expected cmbs or lin"),
    "features of another encoder": ("audio: {features: vggish}", r"the encoder 'dual_stream' reads the features 'kal"),
    "no names": ("- train", r"expected names and values, got list"),
    "no YAML": ("train: {epochs: 3", r"not YAML"),
    "a section twice": ("adapter: {name: lora}\nadapter: {streams: audio}", r"'adapter' stands twice .* in line \d+"),
    "an option twice": ("train: {epochs: 3, epochs: 4}", r"'epochs' stands twice in one mapping"),
    "a number as a name": ("1: 2", r"1 is not the name of a section or an option"),
    "too deep": ("a: " + "{b: " * 2000 + "1" + "}" * 2000, r"more than 50 levels"),
    "nothing": ("", r"expected names and values, got NoneType"),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_wrong_is_said_in_plain_words(what: str, tmp_path: Path) -> None:
    text, message = REFUSED[what]
    least = "" if text[:1] in ("", "-") else yaml.safe_dump({k: v for k, v in LEAST.items() if f"{k}:" not in text})
    text = f"{least}{text}"
    with pytest.raises(ExperimentError, match=message) as error:
        load_recipe(write(tmp_path / "wrong.yaml", text))
    assert "wrong.yaml: " in str(error.value)
    assert "\n" not in str(error.value)
    assert "<class" not in str(error.value)


def test_names_that_are_no_recipe(tmp_path: Path) -> None:
    with pytest.raises(ExperimentError, match=r"No recipe is called 'mini/avle'\. Did you mean 'mini/avel'"):
        load_recipe("mini/avle")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "experiment.yaml").touch()
    with pytest.raises(ExperimentError, match=r"run' is a run; its recipe is .*run.experiment\.yaml\."):
        load_recipe(str(tmp_path / "run"))
    with pytest.raises(ExperimentError, match=r"There is no recipe file '.*nowhere\.yaml'.*avpea recipes"):
        load_recipe(tmp_path / "nowhere.yaml")


def test_options_on_the_command_line() -> None:
    words = ["--train.epochs", "3", "--data.root=a=b", "--audio.mean", "-4.5", "--data.strict", "true"]
    changes = parse_overrides([*words, "--adapter.blocks", "[0, 2]", "--backbone.weights", "007"])
    assert {type(value) for value in changes.values()} == {Word}
    made = load_recipe("mini/avel").override(changes)
    assert (made.train.epochs, made.data.root, made.data.strict) == (3, "a=b", True)
    assert made.audio.mean == -4.5  # type: ignore[attr-defined]
    assert made.adapter is not None
    assert made.adapter.blocks == (0, 2)
    assert made.backbone.weights == "007"  # text stays text
    assert parse_overrides([]) == {}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train.epochs", "3"], "'train.epochs' is not an option"),
        (["--train.epochs"], "--train.epochs needs a value"),
        (["--train.epochs", "--train.seed", "1"], "--train.epochs needs a value"),
        (["--train.epoch", "3"], r"no option is called 'train\.epoch'\. Did you mean 'train\.epochs'"),
        (["--epochs", "3"], r"no option is called 'epochs'\. Did you mean 'train\.epochs'"),
        (["--train.epochs", "{"], "--train.epochs '{' cannot be read"),
    ],
)
def test_words_that_are_no_options(words: list[str], message: str) -> None:
    with pytest.raises(ExperimentError, match=message):
        load_recipe("mini/avel").override(parse_overrides(words))


def test_overriding() -> None:
    base = Experiment.from_dict(LEAST)
    changed = base.override({"train.seed": 4, "adapter.blocks": [1, 2], "title": "mine", "train.learning_rate": "1e-4"})
    assert changed.adapter is not None
    assert (changed.train.seed, changed.adapter.blocks, changed.title) == (4, (1, 2), "mine")
    assert changed.train.learning_rate == 1e-4
    assert base == Experiment.from_dict(LEAST)
    with pytest.raises(ExperimentError, match=r"no option is called 'train\.sede'"):
        base.override({"train.sede": 4})
    with pytest.raises(ExperimentError, match=r"train\.seed is 'x'; expected a whole number"):
        base.override({"train.seed": "x"})


def test_an_experiment_does_not_change() -> None:
    experiment = Experiment.from_dict(LEAST)
    with pytest.raises(dataclasses.FrozenInstanceError):
        experiment.title = "other"  # type: ignore[misc]
    with pytest.raises(dataclasses.FrozenInstanceError):
        experiment.train.seed = 1  # type: ignore[misc]


def test_what_a_recipe_must_say() -> None:
    with pytest.raises(ExperimentError, match=r"task\.name is missing; expected one of avc, avel, avqa.*avs"):
        Experiment.from_dict({"data": {"name": "ave"}})
    with pytest.raises(
        ExperimentError, match=r"data\.name is missing; expected one of ave, ave_features, avs_ms3.*captions"
    ):
        Experiment.from_dict({"task": "avel"})
    assert Experiment.from_dict({**LEAST, "task": {"name": "avel"}}) == Experiment.from_dict(LEAST)


def test_titles_are_those_of_the_recipes() -> None:
    assert recipe_titles() == {name: load_recipe(name).title for name in recipe_names()}


def test_listing_recipes_imports_no_torch() -> None:
    """Reading one whole imports the extensions that it names; importing avpea, help and lists import nothing heavy."""
    lines = (
        "import sys, avpea, avpea.experiment, avpea.cli",
        "avpea.cli.main(['recipes'])",
        "avpea.cli.main(['compare'])",
        "assert avpea.__file__.startswith(sys.argv[1])",
        "print(sorted({'torch', 'timm', 'av', 'numpy'} & set(sys.modules)))",
    )
    root = str(Path(__file__).parents[1])
    found = subprocess.run(
        [sys.executable, "-c", "; ".join(lines), root],
        capture_output=True, text=True, check=False, env=os.environ | {"PYTHONPATH": root},
    )  # fmt: skip
    assert found.returncode == 0, found.stderr
    assert found.stdout.splitlines()[-1] == "[]"


def test_options_that_are_given_together_are_all_kept() -> None:
    recipe, own = load_recipe("mini/avel"), {"epochs": 2}
    for changes in ({"train": own, "train.seed": 7}, {"train.seed": 7, "train": own}):
        found = recipe.override(changes).train
        assert (found.epochs, found.seed) == (2, 7)
    assert own == {"epochs": 2}  # the caller's
    for wrong, told in (
        ({"train": {"seed": 1}, "train.seed": 7}, "'train.seed' is given twice"),
        ({"train": 5, "train.seed": 1}, "'train.seed' is given beside 'train', which is 5"),
        ({"train.seed": 1, "train": 5}, "'train' is given twice"),
    ):
        with pytest.raises(ExperimentError, match=told):
            recipe.override(wrong)
