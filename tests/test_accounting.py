"""The paper's parameter columns, from the recipes, to the last digit."""

import pytest

from avpea.accounting import ParameterCount, count, paper_rows
from avpea.errors import ExperimentError
from avpea.experiment import Experiment, load_recipe

NOT_MET = {
    ("paper/avel-lavish-vit-b16", "adapter_millions"): 3.8,
    ("paper/avel-lavish-vit-b16", "trainable_millions"): 4.6,
}
ROWS = {row.recipe: row for row in paper_rows()}


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
def test_parts_of_table_1(recipe: str, expected: ParameterCount) -> None:
    assert ROWS[recipe].counts == expected


def test_lavish_rows_have_the_heads_and_counts_of_its_code() -> None:
    base, large = (ROWS[f"paper/avel-lavish-vit-{size}16"].counts for size in "bl")
    assert (base.adapters, base.head) == (3_843_168, 801_821)
    assert (large.adapters, large.head) == (13_394_112, 1_063_965)


@pytest.mark.parametrize(
    ("recipe", "trainable", "frozen"),
    [("paper/avel-vit-b16", 17_756_041, 102_595_923), ("paper/avel-vit-l16", 27_188_665, 325_690_707)],
)
def test_totals_of_table_1_as_the_paper_counts_them(recipe: str, trainable: int, frozen: int) -> None:
    counts = ROWS[recipe].counts
    assert counts.trainable_registered == trainable
    assert counts.frozen_with_classifier == frozen
    assert counts.trainable_registered - counts.trainable == 4_344_064


@pytest.mark.parametrize("recipe", sorted(ROWS))
def test_every_published_count_is_met_in_the_papers_own_form(recipe: str) -> None:
    row = ROWS[recipe]
    assert row.published["accuracy"] > 0
    for name, value in row.published.items():
        if name != "accuracy":
            # 2 latents, which give the ViT-L row's counts, give 3.8 and 4.6 here; 4 would give 3.9 and 4.7,
            # and 13.6 for ViT-L (docs/paper.md).
            expected = NOT_MET.get((recipe, name), value)
            assert row.in_paper_form[name] == expected


def test_rows_stand_as_in_the_paper() -> None:
    assert list(ROWS) == [
        "paper/avel-lavish-vit-b16",
        "paper/avel-vit-b16",
        "paper/avel-lavish-vit-l16",
        "paper/avel-vit-l16",
        "paper/table4-none",
        "paper/table4-audio",
        "paper/table4-visual",
        "paper/table4-both",
    ]


def test_shares_of_the_text_come_from_the_rounded_columns() -> None:
    base, large = ROWS["paper/avel-vit-b16"], ROWS["paper/avel-vit-l16"]
    assert base.published_share is not None
    assert large.published_share is not None
    assert round(100 * base.published_share, 1) == 3.1
    assert round(100 * large.published_share, 1) == 3.7
    assert round(100 * base.counts.paper_share, 2) == 3.04  # exact figures give less
    assert round(100 * large.counts.paper_share, 2) == 3.65
    assert ROWS["paper/table4-none"].published_share is None


@pytest.mark.parametrize(("streams", "adapters"), [("none", 0), ("audio", 12), ("visual", 12), ("both", 24)])
def test_table_4_counts_an_adapter_for_each_stream_and_block(streams: str, adapters: int) -> None:
    # 2 + 6 D + 2 d + 2 D d with D = 768 and d = 96
    assert ROWS[f"paper/table4-{streams}"].counts.adapters == adapters * (2 + 4608 + 192 + 147_456)


def test_totals_and_shares_of_a_small_case() -> None:
    counts = ParameterCount(900, 50, 10, 90, 100, 3)
    assert counts.to_dict() == {
        "frozen": 900, "frozen_classifier": 50, "adapters": 10, "head": 90, "head_registered": 100,
        "num_classes": 3, "trainable": 100, "trainable_registered": 110, "frozen_with_classifier": 950,
        "total": 1000, "adapter_share": 0.01, "trainable_share": 0.1, "paper_share": 10 / 1060,
    }  # fmt: skip


def test_classes_move_the_last_layers_only() -> None:
    recipe = load_recipe("paper/avel-vit-b16")
    # Three linear maps of CMBS from width 256 end in the classes.
    assert count(recipe).head - count(recipe, num_classes=27).head == 3 * 257
    linear = recipe.override({"head.name": "linear"})
    assert count(linear).head == count(linear).head_registered == 801_821
    assert count(linear).head - count(linear, num_classes=27).head == 513


def test_depth_and_blocks_are_counted_as_used() -> None:
    recipe = load_recipe("paper/avel-vit-b16")
    block = 2 * 2 * 768 + 4 * 768 * 768 + 4 * 768 + 2 * 768 * 3072 + 3072 + 768
    whole, cut = count(recipe), count(recipe.override({"backbone.depth": 11}))
    assert whole.frozen - cut.frozen == block
    assert whole.adapters - cut.adapters == 2 * 152_258
    assert count(recipe.override({"adapter.blocks": [3]})).adapters == 2 * 152_258


def test_rows_are_plain_values() -> None:
    row = ROWS["paper/avel-vit-b16"].to_dict()
    assert set(row) == {"recipe", "title", "published", "published_share", "in_paper_form", "counts"}
    assert row["counts"]["adapters"] == 3_654_192


def test_a_typo_is_answered() -> None:
    with pytest.raises(ExperimentError, match=r"No head is called 'cmsb'\. Did you mean 'cmbs'\?"):
        count(Experiment.from_dict({"head": {"name": "cmsb"}}))
