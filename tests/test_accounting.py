"""The paper's parameter columns, from the recipes, to the last digit."""

import dataclasses
from typing import Any

import pytest

from avpea import registry
from avpea.accounting import PaperRow, ParameterCount, count, paper_rows
from avpea.errors import ExperimentError
from avpea.experiment import Experiment, load_recipe, recipe_names
from avpea.options import countable
from tests.tiny import event_labels

NAMES = sorted(name for name in recipe_names() if name.startswith("paper/") and load_recipe(name).published)


@pytest.fixture(scope="module")
def rows() -> dict[str, PaperRow]:
    return {row.recipe: row for row in paper_rows()}


@pytest.mark.parametrize(
    ("recipe", "expected"),
    [
        ("paper/avel-vit-b16", ParameterCount(85_798_656, 16_797_267, 3_654_192, 9_757_785, 14_101_849, 28)),
        (
            "paper/avel-vit-l16",
            ParameterCount(303_301_632, 22_389_075, 12_890_208, 9_954_393, 14_298_457, 28),
        ),
    ],
)
def test_parts_of_table_1(recipe: str, expected: ParameterCount, rows: dict[str, PaperRow]) -> None:
    assert rows[recipe].counts == expected


def test_lavish_rows_have_the_heads_and_counts_of_its_code(rows: dict[str, PaperRow]) -> None:
    base, large = (rows[f"paper/avel-lavish-vit-{size}16"].counts for size in "bl")
    assert (base.adapters, base.head) == (3_843_168, 801_821)
    assert (large.adapters, large.head) == (13_394_112, 1_063_965)


@pytest.mark.parametrize(
    ("recipe", "trainable", "frozen"),
    [("paper/avel-vit-b16", 17_756_041, 102_595_923), ("paper/avel-vit-l16", 27_188_665, 325_690_707)],
)
def test_totals_of_table_1_as_the_paper_counts_them(
    recipe: str, trainable: int, frozen: int, rows: dict[str, PaperRow]
) -> None:
    counts = rows[recipe].counts
    assert counts.trainable_registered == trainable
    assert counts.frozen_with_classifier == frozen
    assert counts.trainable_registered - counts.trainable == 4_344_064


# Printed figures that the row's own parts do not add up to, and what they add up to (docs/paper.md).
# LAVISH: 2 latents, which give ViT-L's printed counts; 4 would give ViT-B's 3.9 and 4.7, and 13.6 for ViT-L.
NOT_MET = {
    "paper/avel-cmbs": {"trainable_millions": 14.6, "frozen_millions": 132.3},
    "paper/avel-lavish-vit-b16": {"adapter_millions": 3.8, "trainable_millions": 4.6},
    "paper/avqa-lavish-vit-l16": {"trainable_millions": 23.7},  # 14,770,368 + 8,966,316
    # With Swin-V2-L's classifier of 21,841 classes, which nothing uses, 240.2 of 312.3.
    "paper/avqa-avst-swinv2-l": {"trainable_millions": 207.0, "total_millions": 312.3},
}


@pytest.mark.parametrize("recipe", NAMES)
def test_every_published_count_is_met_in_the_papers_own_form(recipe: str, rows: dict[str, PaperRow]) -> None:
    row = rows[recipe]
    assert row.published["accuracy"] > 0
    for name, value in row.published.items():
        if not name.endswith("accuracy"):
            ours = NOT_MET.get(recipe, {}).get(name, value)
            assert row.in_paper_form[name] == ours
            assert (ours != value) == (name in NOT_MET.get(recipe, {}))


def test_mbt_counts_in_closed_form(rows: dict[str, PaperRow]) -> None:
    # Two ViT-B/16, four bottleneck tokens, Linear(1536 -> 512) and Linear(512 -> 29); nothing is frozen.
    row = rows["paper/avel-mbt"]
    adapters, head = 2 * 85_798_656 + 4 * 768, (1536 * 512 + 512) + (512 * 29 + 29)
    assert row.counts == ParameterCount(0, 0, adapters, head, head, 28)
    assert (row.counts.trainable, row.in_paper_form["trainable_millions"]) == (172_402_205, 172.0)
    late = count(load_recipe("paper/avel-mbt").override({"encoder.fusion_from": 12}))
    assert late.adapters == 2 * 85_798_656  # no fusion layer, no bottleneck tokens


def test_cmbs_counts_in_closed_form(rows: dict[str, PaperRow]) -> None:
    # VGGish: six convolutions, three linear layers.
    convolutions = [(1, 64), (64, 128), (128, 256), (256, 256), (256, 512), (512, 512)]
    linears = [(512 * 4 * 6, 4096), (4096, 4096), (4096, 128)]
    vggish = sum(9 * a * b + b for a, b in convolutions) + sum(a * b + b for a, b in linears)
    assert vggish == 72_141_184
    counts = rows["paper/avel-cmbs"].counts
    assert counts.frozen + counts.frozen_classifier == 60_192_808 + vggish  # ResNet-152 with its 1,000 classes
    assert (counts.frozen_classifier, counts.adapters) == (2_049_000, 0)
    # The public head on widths 2048 and 128 registers 14,330,969; here a_fc makes 256 of the 128 first.
    a_fc, attention, lstm = 128 * 256 + 256, 128 * 512 + 128 * 256, 2 * 4 * 128 * 128
    assert counts.head_registered == 14_330_969 + a_fc + attention + lstm == 14_593_369


@pytest.mark.parametrize(
    ("recipe", "adapters", "head", "registered"),
    [
        ("paper/avqa-vit-b16", 3_654_192, 8_638_124, 8_704_172),
        ("paper/avqa-vit-l16", 12_890_208, 8_900_268, 8_966_316),
        ("paper/avqa-lavish-vit-b16", 4_359_264, 8_638_124, 8_704_172),
        ("paper/avqa-lavish-vit-l16", 14_770_368, 8_900_268, 8_966_316),
        ("paper/avqa-avst", 0, 7_916_716, 10_608_300),
    ],
)
def test_parts_of_table_2(recipe: str, adapters: int, head: int, registered: int, rows: dict[str, PaperRow]) -> None:
    counts = rows[recipe].counts
    assert (counts.adapters, counts.head, counts.head_registered) == (adapters, head, registered)
    assert counts.num_classes == 42


def test_a_trained_swin_is_counted_once(rows: dict[str, PaperRow]) -> None:
    counts = rows["paper/avqa-avst-swinv2-l"].counts
    assert counts.frozen == 72_141_184  # VGGish alone
    classifier = 1536 * 21_841 + 21_841
    assert counts.frozen_classifier == classifier
    assert round((counts.trainable_registered + classifier) / 1e6) == 240


def test_rows_stand_as_in_the_paper(rows: dict[str, PaperRow]) -> None:
    assert list(rows) == [
        "paper/avel-lavish-vit-b16",
        "paper/avel-vit-b16",
        "paper/avel-mbt",
        "paper/avel-lavish-vit-l16",
        "paper/avel-cmbs",
        "paper/avel-vit-l16",
        "paper/avqa-lavish-vit-b16",
        "paper/avqa-avst",
        "paper/avqa-avst-swinv2-l",
        "paper/avqa-vit-b16",
        "paper/avqa-lavish-vit-l16",
        "paper/avqa-vit-l16",
        "paper/table4-none",
        "paper/table4-audio",
        "paper/table4-visual",
        "paper/table4-both",
    ]


def test_shares_of_the_text_come_from_the_rounded_columns(rows: dict[str, PaperRow]) -> None:
    base, large = rows["paper/avel-vit-b16"], rows["paper/avel-vit-l16"]
    assert base.published_share is not None
    assert large.published_share is not None
    assert round(100 * base.published_share, 1) == 3.1
    assert round(100 * large.published_share, 1) == 3.7
    assert round(100 * base.counts.paper_share, 2) == 3.04  # exact figures give less
    assert round(100 * large.counts.paper_share, 2) == 3.65
    assert rows["paper/table4-none"].published_share is None


@pytest.mark.parametrize(("streams", "adapters"), [("none", 0), ("audio", 12), ("visual", 12), ("both", 24)])
def test_table_4_counts_an_adapter_for_each_stream_and_block(
    streams: str, adapters: int, rows: dict[str, PaperRow]
) -> None:
    # 2 + 6 D + 2 d + 2 D d with D = 768 and d = 96
    assert rows[f"paper/table4-{streams}"].counts.adapters == adapters * (2 + 4608 + 192 + 147_456)


def test_totals_and_shares_of_a_small_case() -> None:
    counts = ParameterCount(900, 50, 10, 90, 100, 3)
    assert counts.to_dict() == {
        "frozen": 900, "frozen_classifier": 50, "adapters": 10, "head": 90, "head_registered": 100,
        "num_classes": 3, "trainable": 100, "trainable_registered": 110, "frozen_with_classifier": 950,
        "total": 1000, "adapter_share": 0.01, "trainable_share": 0.1, "paper_share": 10 / 1060, "outputs": "classes",
    }  # fmt: skip


def test_classes_move_the_last_layers_only() -> None:
    recipe, classes = load_recipe("paper/avel-vit-b16"), event_labels(*map(str, range(27)))
    # Three linear maps of CMBS from width 256 end in the classes.
    assert count(recipe).head - count(recipe, classes).head == 3 * 257
    linear = recipe.override({"head.name": "linear"})
    assert count(linear).head == count(linear).head_registered == 801_821
    assert count(linear).head - count(linear, classes).head == 513


def test_depth_and_blocks_are_counted_as_used() -> None:
    recipe = load_recipe("paper/avel-vit-b16")
    block = 2 * 2 * 768 + 4 * 768 * 768 + 4 * 768 + 2 * 768 * 3072 + 3072 + 768
    whole, cut = count(recipe), count(recipe.override({"backbone.depth": 11}))
    assert whole.frozen - cut.frozen == block
    assert whole.adapters - cut.adapters == 2 * 152_258
    assert count(recipe.override({"adapter.blocks": [3]})).adapters == 2 * 152_258


def test_rows_are_plain_values(rows: dict[str, PaperRow]) -> None:
    row = rows["paper/avel-vit-b16"].to_dict()
    assert set(row) == {"recipe", "title", "published", "published_share", "in_paper_form", "counts"}
    assert row["counts"]["adapters"] == 3_654_192


def test_a_typo_is_answered() -> None:
    with pytest.raises(ExperimentError, match=r"No head is called 'cmsb'\. Did you mean 'cmbs'\?"):
        count(Experiment.from_dict({"task": "avel", "data": {"name": "ave"}, "head": {"name": "cmsb"}}))


@pytest.mark.parametrize(
    ("recipe", "option"),
    [
        ("mini/avel-lora", "adapter.rank"),
        ("mini/avel-lavish", "adapter.latents"),
        ("mini/avel-mbt", "encoder.bottleneck_tokens"),
        ("own", "head.hidden"),
        ("paper/avel-cmbs-features", "backbone.visual_dim"),
        ("paper/avel-cmbs-features", "backbone.audio_dim"),
    ],
)
@pytest.mark.parametrize("size", [10**18, 2**62])
def test_a_tensor_that_cannot_be_is_told_with_its_option(recipe: str, option: str, size: int) -> None:
    experiment = load_recipe(recipe).override({option: size, "train.seed": 2**63 - 1})
    with pytest.raises(ExperimentError, match=rf"^{option} is [\d.]+e\+18, which makes a tensor of more bytes"):
        count(experiment)


@pytest.mark.parametrize("name", registry.names("adapter"))
def test_no_size_of_an_adapter_is_a_foreign_error(name: str) -> None:
    experiment = load_recipe("mini/avel").override({"adapter.name": name})
    options: Any = experiment.adapter
    sizes = [field.name for field in dataclasses.fields(options) if field.type is int]
    for option in sizes:
        with pytest.raises(ExperimentError, match=rf"adapter\.{option} is "):
            count(experiment.override({f"adapter.{option}": 10**18}))


def test_other_errors_of_a_build_stay_as_they_are() -> None:
    experiment = load_recipe("own")
    for error in (RuntimeError("overflow"), TypeError("wrong"), ExperimentError("overflow")):
        with pytest.raises(type(error), match=str(error)), countable(experiment):
            raise error
