"""Options: whatever the extensions of a recipe do not have is refused when the recipe is read, over every section."""

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from avpea import registry
from avpea.adapters.av_pea import AVPEA
from avpea.adapters.ladder import Ladders
from avpea.adapters.lavish import LAVISH
from avpea.device import choose_precision
from avpea.errors import ExperimentError
from avpea.experiment import RECIPES, load_recipe, parse_section, recipe_names
from avpea.options import Options, declared, option_names, parse, plain
from avpea.preconditions import require_schedule
from avpea.sections import (
    AdapterOptions,
    ContinuousOptions,
    LogMelOptions,
    PrecomputedOptions,
    RowsOptions,
    StepTrainOptions,
    TrainOptions,
    VGGishOptions,
)
from avpea.tasks.avel.heads.linear import LinearHead
from avpea.tasks.avvp.heads.lane_readout import LaneReadout
from avpea.tasks.avvp.task import AVVP

# A network that each kind of backbone serves.
NETWORKS = {"vit": "test_vit", "swin": "swinv2_tiny_window8_256", "cnn": "test_resnet", "features": "features"}
NAMED = {"task": "task", "data": "reader", "encoder": "encoder", "adapter": "adapter", "head": "head"}
SECTIONS = [*NAMED, "backbone", "audio", "train"]


@cache
def choices() -> dict[str, dict[str, tuple[dict[str, Any], type[Options]]]]:
    """By section and choice: the values that choose it, and its options class."""
    found: dict[str, dict[str, Any]] = {
        section: {name: ({"name": name}, options_class(kind, name)) for name in registry.names(kind)}
        for section, kind in NAMED.items()
    }
    found["backbone"] = {
        kind: ({"name": NETWORKS[kind]}, options_class("backbone", kind)) for kind in registry.names("backbone")
    }
    found["audio"] = {
        "vggish": ({"features": "vggish"}, VGGishOptions),
        "image": ({}, LogMelOptions),
        "native": ({"layout": "native"}, RowsOptions),
        "slices": ({"layout": "slices"}, RowsOptions),
        "continuous": ({"layout": "continuous"}, ContinuousOptions),
        "precomputed": ({"features": "precomputed"}, PrecomputedOptions),
    }
    found["train"] = {
        name: ({"schedule": name}, StepTrainOptions if name == "step" else TrainOptions)
        for name in ("constant", "cosine", "linear", "step")
    }
    return found


def options_class(kind: str, name: str) -> type[Options]:
    return declared(registry.load(kind, name), AdapterOptions, ("has_cls",))


@cache
def defaults() -> dict[str, Any]:
    """The default of every option that any extension of any kind has."""
    found: dict[str, Any] = {}
    for section, some in choices().items():
        for values, cls in some.values():
            made = parse_section(section, **values)
            found |= {field.name: plain(getattr(made, field.name)) for field in dataclasses.fields(cls)}
    return found


def foreign(section: str) -> Iterator[tuple[dict[str, Any], str, Any]]:
    """For each choice in a section every option of anything that it does not have."""
    for values, cls in choices()[section].values():
        known = {field.name for field in dataclasses.fields(cls)}
        for name, default in defaults().items():
            if name not in known:
                yield values, name, default


def test_there_are_many_cases_in_every_section() -> None:
    counts = {section: len(list(foreign(section))) for section in SECTIONS}
    assert all(count >= 60 for count in counts.values())
    assert sum(counts.values()) > 1500


@pytest.mark.parametrize("section", SECTIONS)
def test_no_option_of_another_extension_is_accepted(section: str) -> None:
    """Not even with its default: each is refused in one sentence that names it."""
    accepted = []
    for values, name, default in foreign(section):
        try:
            parse_section(section, **values, **{name: default})
        except ExperimentError as error:
            said = str(error)
        else:
            accepted.append((values, name))
            continue
        assert f"{section}.{name}" in said
        assert "\n" not in said
    assert accepted == []


@pytest.mark.parametrize("name", ["mini/avel", "mini/avqa", "mini/avr", "paper/avel-cmbs", "paper/avel-mbt"])
def test_nor_by_an_override_of_a_recipe(name: str) -> None:
    recipe = load_recipe(name)
    sections = {section: values for section, values in recipe.to_dict().items() if isinstance(values, dict)}
    own = {f"{section}.{key}" for section, values in sections.items() for key in values}
    own |= {f"adapter.{field.name}" for field in dataclasses.fields(AdapterOptions)}
    others = {f"{section}.{option}" for section in SECTIONS for option in defaults()} - own
    assert len(others) > 300
    for dotted in sorted(others):
        option = dotted.rpartition(".")[2]
        with pytest.raises(ExperimentError, match=f"{option}|has no place for it"):
            recipe.override({dotted: defaults()[dotted.partition(".")[2]]})


@pytest.mark.parametrize("gamma", [-0.5, 0.0, float("nan")])
def test_a_step_never_turns_the_learning_rate_round(gamma: float) -> None:
    recipe = load_recipe("mini/avel").override({"train.schedule": "step"})
    require_schedule(recipe.train)
    with pytest.raises(ExperimentError, match=r"train\.gamma is .*; expected a factor above 0"):
        require_schedule(replace(recipe.train, gamma=gamma))  # type: ignore[call-arg]


def test_what_is_meant_is_suggested() -> None:
    recipe = load_recipe("mini/avel")
    for dotted, said in (
        (
            "adapter.rank",
            "adapter.rank is an option of the adapter 'lora', but adapter.name is 'av_pea'; leave it out.",
        ),
        ("adapter.reductoin", "Did you mean 'adapter.reduction'?"),
        ("audio.positions", "Did you mean 'encoder.positions'?"),
        ("train.gamma", "an option of the schedule 'step', but train.schedule is 'cosine'"),
        ("audio.rows", "an option of the layouts 'native', 'slices' and 'continuous', but audio.layout is 'image'"),
        ("backbone.output_stride", "an option of the kind 'cnn' of backbone, but backbone.name is 'starter'"),
        ("trian.epochs", "Did you mean 'train.epochs'?"),
        ("epochs", "Did you mean 'train.epochs'?"),
        ("seed", "Did you mean 'train.seed'?"),
    ):
        with pytest.raises(ExperimentError) as caught:
            recipe.override({dotted: 3})
        assert said in str(caught.value), dotted
    with pytest.raises(ExperimentError, match=r"no option is called 'head\.text\.lenght'\. Did you mean 'head\.text"):
        load_recipe("mini/avr").override({"head.text.lenght": 3})


def test_naming_another_extension_starts_its_own_options_and_keeps_what_both_share() -> None:
    recipe = load_recipe("mini/avel").override(
        {"adapter.name": "bottleneck", "adapter.reduction": 16, "adapter.streams": "audio"}
    )
    lavish: Any = recipe.override({"adapter.name": "lavish"}).adapter
    assert (lavish.reduction, lavish.streams, lavish.latents) == (16, "audio", 2)
    lora: Any = recipe.override({"adapter.name": "lora"}).adapter
    assert (lora.streams, lora.rank) == ("audio", 8)
    step: Any = recipe.override({"train.schedule": "step", "train.gamma": 0.1}).train
    assert (step.gamma, step.epochs) == (0.1, 5)
    assert not hasattr(recipe.override({"train.schedule": "linear"}).train, "gamma")
    assert recipe.override({"encoder.name": "mbt", "encoder.fusion_from": 7}).adapter is None


def test_an_adapter_goes_with_its_encoder_unless_it_is_asked_for() -> None:
    recipe = load_recipe("mini/avel")
    with pytest.raises(ExperimentError, match=r"adapter\.name is 'lora', but the encoder 'mbt' has no place for it"):
        recipe.override({"encoder.name": "mbt", "adapter.name": "lora"})
    with pytest.raises(ExperimentError, match="no weights of the backbone are trained"):
        recipe.override({"train.backbone_learning_rate": 1e-6})
    rate = {"train.gate_learning_rate": 0.01}
    assert recipe.override(rate).train.gate_learning_rate == 0.01
    for without in (
        {"adapter.name": "lora"},
        {"adapter.cross_modal": False},
        {"adapter.streams": "none"},
        {"encoder.name": "mbt"},
    ):
        with pytest.raises(ExperimentError, match=r"gate_learning_rate is 0\.01, but no adapter has a gate of what it"):
            recipe.override({**rate, **without})
    with pytest.raises(ExperimentError, match=r"train\.gate_learning_rate is -0\.01; expected 0 or more"):
        recipe.override({"train.gate_learning_rate": -0.01})
    assert recipe.override({"adapter.name": "full", "train.backbone_learning_rate": 1e-6}).adapter is not None


@pytest.mark.parametrize("name", recipe_names())
def test_no_recipe_starts_from_one_of_another_task(name: str) -> None:
    base = yaml.safe_load((RECIPES / f"{name}.yaml").read_text(encoding="utf-8")).get("base", "")
    if base and not base.rpartition("/")[2].startswith("_"):
        assert load_recipe(base).task.name == load_recipe(name).task.name


def test_numbers_and_words_are_not_taken_for_each_other() -> None:
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"epochs": True}, "train.epochs is True; expected a whole number."),
        ({"learning_rate": "fast"}, "train.learning_rate is 'fast'; expected a number."),
        ({"learning_rate": float("inf")}, "train.learning_rate is inf; expected a finite number."),
        ({"epochs": 1.5, "seed": "x"}, "train.epochs is 1.5; expected a whole number. train.seed is 'x'; expected a"),
        ({"schedule": "slow"}, "train.schedule is 'slow'; expected one of 'constant', 'cosine', 'linear' or 'step'."),
    ]
    for values, said in wrong:
        with pytest.raises(ExperimentError) as caught:
            parse_section("train", **values)
        assert said in str(caught.value)


def test_options_are_frozen_and_nested_names_are_dotted() -> None:
    made = parse_section("adapter", name="lora")
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.rank = 3
    assert "text.length" in option_names(options_class("head", "writer"))


class NeedsWidth:
    """An extension whose constructor has an argument without a default, and a type that only type checkers know."""

    def __init__(self, dim: int, *, width: int, rate: float = 0.5) -> None:
        pass


class Unresolved:
    def __init__(self, dim: int, *, width: "OnlyForTypeCheckers" = 3) -> None:  # type: ignore[name-defined]  # noqa: F821
        pass


def test_an_argument_without_a_default_can_be_set_and_has_to_be() -> None:
    cls = declared(NeedsWidth, AdapterOptions)
    assert {"width", "rate"} <= set(option_names(cls))
    made: Any = parse(cls, {"width": 4}, "adapter")
    assert (made.width, made.rate, made.streams) == (4, 0.5, "both")
    with pytest.raises(ExperimentError, match=r"adapter\.width is missing, and has no default; give it a value"):
        parse(cls, {}, "adapter")
    unresolved: Any = parse(declared(Unresolved, AdapterOptions), {"width": 7}, "adapter")
    assert unresolved.width == 7


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: AVPEA(32, queries=wrong("token")), "queries is 'token'; expected 'cls' or 'all'."),
        (lambda: LAVISH(32, latent_init=wrong("normal")), "latent_init is 'normal'; expected 'uniform' or 'zeros'."),
        (lambda: Ladders(32, 2, wrong("sound")), "streams is 'sound'; expected 'both', 'audio' or 'visual'."),
        (lambda: LinearHead(32, 3, reads=wrong("all")), "reads is 'all'; expected 'both' or 'visual'."),
        (lambda: LaneReadout(32, 3, reads=wrong(None)), "reads is None; expected 'both' or 'visual'."),
        (lambda: AVVP(None, None, wrong("strong")), "supervision is 'strong'; expected 'dense' or 'weak'."),
        (
            lambda: choose_precision(wrong("bfloat16"), torch.device("cpu")),
            "precision is 'bfloat16'; expected 'auto', 'fp32' or 'bf16'.",
        ),
    ],
)
def test_a_misspelt_choice_is_refused_in_python(call: Callable[[], Any], sentence: str) -> None:
    with pytest.raises(ExperimentError) as caught:
        call()
    assert str(caught.value) == sentence


def test_paths_are_text() -> None:
    assert load_recipe("own").override({"data.root": Path("x.csv")}).data.root == "x.csv"
    with pytest.raises(ExperimentError, match=r"^train\.epochs is 'x'; expected a whole number"):
        load_recipe("own").override({"train.epochs": Path("x")})


def wrong(value: Any) -> Any:
    """A value that type checkers would refuse."""
    return value
