"""The documentation stays true to the checkout: names, links, commands, options, numbers, pictures, and the site."""

import ast
import csv
import io
import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))]


def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def python(*words: str, timeout: float = 240) -> "subprocess.CompletedProcess[str]":
    """Python in the checkout, which goes before whatever is installed."""
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = os.environ | {"PYTHONPATH": path, "NO_MKDOCS_2_WARNING": "1"}
    return subprocess.run(
        [sys.executable, *words],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout,
    )


def test_what_is_documented_is_the_checkout() -> None:
    done = python("-c", "import avpea; print(avpea.__file__)")
    assert Path(done.stdout.strip()) == ROOT / "avpea" / "__init__.py", done.stderr
    import avpea

    assert Path(str(avpea.__file__)) == ROOT / "avpea" / "__init__.py"


def symbols(path: Path) -> set[str]:
    tree = ast.parse(text_of(path))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef | ast.FunctionDef)}


def named_in_paper() -> list[str]:
    return sorted(set(re.findall(r"`((?:avpea|tests)/[\w/]+\.py(?:::\w+)?)`", text_of(DOCS / "paper.md"))))


@pytest.mark.parametrize("reference", named_in_paper())
def test_what_the_paper_page_names_exists(reference: str) -> None:
    file, _, symbol = reference.partition("::")
    assert (ROOT / file).is_file()
    assert not symbol or symbol in symbols(ROOT / file)


def test_every_equation_in_the_code_is_on_the_paper_page() -> None:
    page = text_of(DOCS / "paper.md")
    assert all(f"({number})" in page for number in range(1, 9))
    for path in (ROOT / "avpea").rglob("*.py"):
        if re.search(r"# Eq\. \(", text_of(path)):
            assert name_of(path) in page


def test_generated_pages_are_current() -> None:
    done = python("docs/build.py", "--check")
    assert done.returncode == 0, done.stderr


def test_the_command_page_has_the_commands_that_tasks_bring() -> None:
    from avpea import registry

    brought = [command.name for module in registry.command_modules() for command in module.COMMANDS]
    page = text_of(DOCS / "cli.md")
    assert {"predict", "ask", "caption"} <= set(brought)
    assert all(f"## avpea {name}\n" in page for name in brought)


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", re.sub(r"```.*?```", "", text_of(page), flags=re.DOTALL), re.MULTILINE)
    return {re.sub(r"\s+", "-", re.sub(r"[^\w\s-]", "", heading.lower()).strip()) for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"```.*?```", "", text_of(page), flags=re.DOTALL)):
        if target.startswith("http"):
            continue
        file, _, anchor = target.partition("#")
        found = (page.parent / file).resolve() if file else page
        assert found.exists(), target
        assert not anchor or anchor in anchors(found), target


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_tables_are_whole(page: Path) -> None:
    """A blank line in a table, or a cell too many, and the rest of it is no table any more."""
    blocks = re.split(r"\n(?!\|)", re.sub(r"```.*?```", "", text_of(page), flags=re.DOTALL))
    for block in blocks:
        rows = [line for line in block.splitlines() if line.startswith("|")]
        if rows:
            assert len(rows) >= 2, rows[0]
            assert re.fullmatch(r"[|:\- ]+", rows[1]), f"{name_of(page)}: a table without a heading: {rows[0]}"
            widths = {len(re.findall(r"(?<!\\)\|", re.sub(r"`[^`]*`", "", row))) for row in rows}
            assert len(widths) == 1, f"{name_of(page)}: {rows[0]}"


def test_contributing_lists_the_layers() -> None:
    from tests.test_layers import LAYERS

    page = text_of(ROOT / "CONTRIBUTING.md")
    listed = re.search(r"exactly which way\.\n\n(.*?)\n\nTests mirror", page, re.DOTALL)
    assert listed
    words = set(re.findall(r"[\w]+", " ".join(line.strip().split("  ")[0] for line in listed[1].splitlines())))
    assert {part for layer in LAYERS for part in layer} <= words


def test_the_readme_fits_on_a_few_screens() -> None:
    lines = text_of(ROOT / "README.md").splitlines()
    assert len(lines) <= 150
    assert [line for line in lines if len(line) > 120] == []


def test_the_loop_is_shown_as_it_is() -> None:
    loop = text_of(ROOT / "avpea" / "encoders" / "dual_stream.py")
    shown = re.search(r"```python\n(branch = x.each.*?)```", text_of(DOCS / "index.md"), re.DOTALL)
    assert shown
    assert all(line.strip() in loop for line in shown[1].splitlines())


def test_the_field_names_what_avpea_has() -> None:
    from avpea import registry

    named = re.findall(r"`(adapter|head)\.name: (\w+)`", text_of(DOCS / "field.md"))
    assert len(named) >= 5
    assert all(name in registry.names(kind) for kind, name in named)


@pytest.mark.parametrize("page", ["README.md", "docs/results.md"])
def test_figures_are_those_of_the_committed_reports(page: str) -> None:
    reports = " ".join(text_of(path) for path in sorted((ROOT / "results" / "mini").glob("*/report.md")))
    figures = re.findall(r"\d+\.\d\d ± \d+\.\d\d", text_of(ROOT / page))
    assert len(figures) >= 12
    assert [figure for figure in figures if figure not in reports] == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_are_the_commands_that_exist(page: Path) -> None:
    """Every `avpea …` line is one that the command line takes, and every recipe and sweep that it names exists."""
    from avpea.cli import make_parser
    from avpea.compare import sweep_titles
    from avpea.experiment import load_recipe, parse_overrides, recipe_names

    text = text_of(page)
    if page.name == "log.md":
        return
    lines = re.findall(r"^(?:    |\$ )(avpea [a-z].*)$", text, re.MULTILINE)
    for line in lines:
        words = [word.strip("\"'") for word in re.findall(r'"[^"]*"|\S+', re.sub(r"\s+#.*", "", line))]
        if words[1] == "tag" or {"tagging", "mean_exchange", "split_folders"} & set(words):
            continue  # of the examples, which have tests of their own
        options, rest = make_parser().parse_known_args(words[1:])
        assert not rest or options.takes_overrides, line
        recipe = getattr(options, "recipe", None) or (words[1] == "recipes" and options.name) or None
        if recipe and recipe in recipe_names():
            load_recipe(recipe).override(parse_overrides(rest))
        elif recipe:
            assert recipe.endswith(".yaml"), line
        if getattr(options, "sweep", None):
            assert options.sweep.endswith(".yaml") or options.sweep in sweep_titles(), line


def blocks(page: str, kind: str) -> list[str]:
    return re.findall(rf"```{kind}\n(.*?)```", text_of(DOCS / page), re.DOTALL)


def test_tables_of_ones_own_are_read_as_they_are_shown(tmp_path: Path) -> None:
    from avpea.data.readers import _question_rows, captions, lanes, manifest, masks
    from avpea.experiment import parse_section

    shown = [*blocks("own-videos.md", "csv"), *blocks("data.md", "csv")]
    shown += re.findall(r"((?:^    [\w.]+(?:,[\w.]*)+\n)+)", text_of(DOCS / "data.md"), re.MULTILINE)
    assert len(shown) == 6
    for number, block in enumerate(shown):
        lines = "\n".join(line.strip() for line in block.splitlines())
        (file := tmp_path / f"{number}.csv").write_text(lines, encoding="utf-8")
        kinds = {"caption": captions, "lane": lanes, "mask": masks}
        reader = next((one for word, one in kinds.items() if word in lines), manifest)
        found = reader.read(parse_section("data", name=reader.__name__.rpartition(".")[2], root=str(file)))
        assert {sample.video_id for sample in found.samples} == {
            row["video"] for row in csv.DictReader(io.StringIO(lines))
        }
    (question,) = blocks("data.md", "json")
    (tmp_path / "questions.json").write_text(json.dumps([json.loads(question)]), encoding="utf-8")
    assert len(_question_rows.read_rows(tmp_path / "questions.json")) == 1


def test_the_sweep_of_ones_own_can_run(tmp_path: Path) -> None:
    from avpea.compare import load_sweep

    (block,) = blocks("compare.md", "yaml")
    (tmp_path / "mine.yaml").write_text(block, encoding="utf-8")
    sweep = load_sweep(tmp_path / "mine.yaml")
    chosen = re.findall(r'mine\.yaml .*--only "([^"]+)"', text_of(DOCS / "compare.md"))
    assert [row.label for row in sweep.only(chosen).rows] == [sweep.reference, *chosen]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_python_on_the_pages_names_what_exists(page: Path) -> None:
    """Imports work, and attributes of avpea are there."""
    import importlib

    for block in re.findall(r"```python\n(.*?)```", text_of(page), re.DOTALL):
        for node in ast.walk(ast.parse(block)):  # level by level, so imports come before what is in calls
            if isinstance(node, ast.Import):
                for alias in node.names:
                    assert not alias.name.startswith("avpea") or importlib.import_module(alias.name)
            if isinstance(node, ast.ImportFrom) and str(node.module).startswith("avpea"):
                module = importlib.import_module(str(node.module))
                assert all(hasattr(module, alias.name) for alias in node.names)
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "avpea":
                assert hasattr(importlib.import_module("avpea"), node.attr), node.attr


def test_pictures_are_small_and_of_what_the_project_makes() -> None:
    pictures = sorted((DOCS / "pictures").iterdir())
    assert [path.name for path in pictures] == [
        "page-dark.png",
        "page-light.png",
        "search.png",
        "time-to-accuracy.png",
        "timeline.png",
    ]
    assert all(path.stat().st_size < 150_000 for path in pictures)
    source = text_of(DOCS / "pictures.py") + text_of(ROOT / "tests" / "jobs" / "screenshots.py")
    assert all(f'"{path.name}"' in source or f'"{path.stem}"' in source for path in pictures)


def test_examples_are_on_the_page_that_explains_them() -> None:
    page = text_of(DOCS / "extending.md")
    files = [path for path in (DOCS / "examples" / "avpea_examples").rglob("*.py") if path.name != "__init__.py"]
    assert len(files) >= 9
    assert all(f'--8<-- "{name_of(path)}"' in page for path in files)


class _Fetched(HTMLParser):
    """What a browser fetches by itself when it opens a page."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        values = dict(attributes)
        if tag != "a":
            self.found += [values[key] or "" for key in ("src", "href", "poster", "data") if key in values]
            self.found += re.findall(r"\S+:\S+", values.get("srcset") or "")
            self.found += re.findall(r"url\(([^)]*)\)", values.get("style") or "")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site."""
    folder = tmp_path_factory.mktemp("site")
    done = python("-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder))
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.mark.slow
def test_the_site_fetches_nothing_from_other_hosts(site: Path) -> None:
    pages = sorted(site.rglob("*.html"))
    assert len(pages) >= 15
    for page in pages:
        parser = _Fetched()
        parser.feed(text_of(page))
        outside = [address for address in parser.found if re.match(r"(https?:)?//", address.strip("'\" "))]
        assert parser.found
        assert outside == [], f"{page.relative_to(site)}"
        # What the theme's own script would fetch from elsewhere, if a page had it.
        assert not re.search(r'class="[^"]*\bmermaid\b|data-md-component="source"', text_of(page))
    for style in site.rglob("*.css"):
        assert not re.search(r"(url\(|@import\s*)['\"]?(https?:)?//", text_of(style)), style.name


@pytest.mark.slow
def test_the_site_shows_formulas_examples_and_docstrings(site: Path) -> None:
    parts = text_of(site / "api" / "parts.html")
    assert "<math" in parts
    assert "arithmatex" not in parts
    extending = text_of(site / "extending.html")
    for name in ("MeanExchange", "BridgeEncoder", "TorchvisionViT", "CosineHead", "FolderReader", "Tagging", "Tags"):
        assert re.search(rf'<span class="nc">{name}</span>', extending), name
    # A name from the docstrings of each kind of extension, and none that is private.
    extensions = text_of(site / "api" / "extend.html")
    for name in ("Adapter", "Encoder", "Transformer", "Task", "Head", "Reader", "Labels", "Command", "Options"):
        assert re.search(rf'id="avpea\.[\w.]*\.{name}"', extensions), name
    assert not re.search(r'id="avpea[\w.]*\._[a-z]\w*\.', extensions)
