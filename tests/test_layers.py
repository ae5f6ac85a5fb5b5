"""Who may import whom: only downwards. Imports inside functions count."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "avpea"

# From the bottom up. Parts of one line do not know each other; within a part imports are free.
LAYERS = [
    ("errors",),
    ("registry", "progress", "measure"),
    ("configs", "questions"),
    ("dataset",),
    ("experiment", "text"),
    ("media", "device", "metrics", "adapters", "backbones"),
    ("heads", "data"),
    ("tasks", "encoders"),
    ("accounting", "model", "plot"),
    ("checkpoint",),
    ("sharing", "official"),
    ("run", "evaluate", "predict"),
    ("train",),
    ("compare", "search", "serve"),
    ("tables",),
    ("quickstart", "commands"),
    ("cli",),
]
RANK = {part: rank for rank, layer in enumerate(LAYERS) for part in layer}
# What a part may not know although it lies lower.
FORBIDDEN = {
    "heads": {"media", "backbones", "adapters", "device"},
    "tasks": {"media", "data", "backbones", "adapters", "device"},
    "data": {"backbones", "adapters", "metrics", "device"},
    "plot": {"data", "encoders", "tasks", "heads", "backbones", "adapters"},
}
FILES = sorted(path for path in ROOT.rglob("*.py") if path != ROOT / "__init__.py")


def part_of(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imported_parts(tree: ast.AST) -> Iterator[str]:
    """Parts of avpea that a module imports, wherever in it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            # `from avpea import model` names a part only in what it imports.
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            package, _, rest = name.partition(".")
            if package == "avpea" and rest and not rest.startswith("__"):
                yield rest.partition(".")[0]


def complaint(part: str, other: str) -> str:
    if part == other:
        return ""
    if RANK[other] >= RANK[part]:
        return f"{part} imports {other}, which is not below it"
    if other in FORBIDDEN.get(part, ()):
        return f"{part} may not know {other}"
    return ""


def test_every_part_has_its_place() -> None:
    assert {part_of(path) for path in FILES} <= RANK.keys()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_imports_go_downwards(path: Path) -> None:
    part = part_of(path)
    complaints = {complaint(part, other) for other in imported_parts(ast.parse(path.read_text("utf-8")))}
    assert complaints <= {""}


@pytest.mark.parametrize(
    ("part", "source"),
    [
        ("adapters", "from avpea.backbones import Backbone"),
        ("backbones", "def f():\n    from avpea.adapters._base import Adapter"),
        ("tasks", "from avpea import data"),
        ("heads", "import avpea.media.decode"),
        ("data", "from avpea.model import AVModel"),
        ("checkpoint", "from avpea.train import train"),
    ],
)
def test_what_would_be_upwards_is_seen(part: str, source: str) -> None:
    assert [other for other in imported_parts(ast.parse(source)) if complaint(part, other)]


# Before one of its commands runs, the command line knows these parts only.
@pytest.mark.parametrize("name", ["cli.py", "commands.py"])
def test_the_command_line_imports_nothing_heavy(name: str) -> None:
    tree = ast.parse((ROOT / name).read_text("utf-8"))
    tree.body = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    assert set(imported_parts(tree)) <= {"commands", "configs", "errors", "experiment", "registry"}
