"""Who may import whom: only downwards. Imports inside functions count."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "avpea"

# From the bottom up. Parts of one line do not know each other; within a part imports are free.
LAYERS = [
    ("errors", "version", "escapes", "stopping", "schemas"),
    ("parsing", "progress", "threads", "shortage"),
    ("locks",),
    ("client", "registry", "measure", "files", "options", "tables", "page", "drawings", "draws", "distributed"),
    ("trust", "trackers", "batch_norm"),
    ("sections", "labels", "embeddings", "tensors", "formats"),
    ("media", "device", "metrics", "adapters", "backbones"),
    ("text",),
    ("experiment", "plot"),
    ("history", "data"),
    ("tasks", "encoders"),
    ("accounting", "model", "description", "fit"),
    ("checkpoint", "attention", "activations"),
    ("records",),
    ("sharing", "official", "exported"),
    ("run", "evaluate", "predict", "augment", "cluster", "export"),
    ("calibrate", "feeding", "optimizer", "preconditions"),
    ("train", "launch", "silence"),
    ("compare", "search", "report"),
    ("batch", "plan", "serve"),
    ("bulk",),
    ("command",),
    ("quickstart", "commands"),
    ("cli",),
    ("__main__",),
]
RANK = {part: rank for rank, layer in enumerate(LAYERS) for part in layer}
# What a part may not know although it lies lower.
FORBIDDEN = {
    "tasks": {"media", "data", "backbones", "adapters", "device"},
    "data": {"backbones", "adapters", "metrics", "device"},
    "plot": {"data", "encoders", "tasks", "backbones", "adapters"},
}
FILES = sorted(path for path in ROOT.rglob("*.py") if path != ROOT / "__init__.py")


def part_of(path: Path) -> str:
    """A task's command belongs to the commands, which are at the top."""
    parts = path.relative_to(ROOT).parts
    return "commands" if parts[0] == "tasks" and parts[-1] == "command.py" else parts[0].removesuffix(".py")


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


def imported_modules(tree: ast.AST) -> Iterator[str]:
    """Modules of avpea that a module imports, wherever in it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def private_to_another(path: Path) -> list[str]:
    """Modules with an underscore that belong to another part than the file."""
    found = []
    for name in imported_modules(ast.parse(path.read_text("utf-8"))):
        package, *parts = name.split(".")
        own = path.relative_to(ROOT).parts[0].removesuffix(".py")
        private = any(part.startswith("_") and not part.startswith("__") for part in parts)
        if package == "avpea" and private and parts[0] != own:
            found.append(name)
    return found


def complaint(part: str, other: str) -> str:
    if part == other:
        return ""
    if RANK[other] >= RANK[part]:
        return f"{part} imports {other}, which is not below it"
    if other in FORBIDDEN.get(part, ()):
        return f"{part} may not know {other}"
    return ""


def test_every_part_has_its_place() -> None:
    assert {part_of(path) for path in FILES} == RANK.keys()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_imports_go_downwards(path: Path) -> None:
    part = part_of(path)
    complaints = {complaint(part, other) for other in imported_parts(ast.parse(path.read_text("utf-8")))}
    assert complaints <= {""}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_what_another_part_needs_has_a_public_name(path: Path) -> None:
    assert private_to_another(path) == []


def names_of_tasks() -> set[str]:
    """Classes of tasks, heads and their answers; and names of metrics."""
    from avpea import registry

    tasks = [registry.load("task", name) for name in registry.names("task")]
    heads = [registry.load("head", name) for name in registry.names("head")]
    metrics = {name for task in tasks for name in (task.figure.metric, *task.figure.beside)}
    return {one.__name__ for one in (*tasks, *heads)} | {task.heads.__name__ for task in tasks} | metrics


@pytest.mark.parametrize(
    "path", [path for path in FILES if "tasks" not in path.parts], ids=lambda path: path.relative_to(ROOT).as_posix()
)
def test_only_tasks_name_tasks_heads_and_their_metrics(path: Path) -> None:
    """Names in code and strings; sentences that give an example are exempt, as are the functions of metrics."""
    if path.is_relative_to(ROOT / "metrics"):
        pytest.skip("the metrics themselves")
    tree = ast.parse(path.read_text("utf-8"))
    words = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    words |= {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    words |= {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    found = words & (names_of_tasks() - {"Head"})
    assert found == set()


@pytest.mark.parametrize(
    ("part", "source"),
    [
        ("adapters", "from avpea.backbones import Backbone"),
        ("backbones", "def f():\n    from avpea.adapters import Adapter"),
        ("tasks", "from avpea import data"),
        ("tasks", "import avpea.media.decode"),
        ("data", "from avpea.model import AVModel"),
        ("checkpoint", "from avpea.train import train"),
    ],
)
def test_what_would_be_upwards_is_seen(part: str, source: str) -> None:
    assert [other for other in imported_parts(ast.parse(source)) if complaint(part, other)]


# Before one of its commands runs, the command line knows these parts only.
@pytest.mark.parametrize(
    "path", [ROOT / "cli.py", *sorted((ROOT / "commands").glob("*.py"))], ids=lambda path: path.name
)
def test_the_command_line_imports_nothing_heavy(path: Path) -> None:
    tree = ast.parse(path.read_text("utf-8"))
    tree.body = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    light = {
        "command",
        "commands",
        "errors",
        "escapes",
        "progress",
        "registry",
        "shortage",
        "stopping",
        "tables",
        "threads",
    }
    assert set(imported_parts(tree)) <= light | {"version"}
