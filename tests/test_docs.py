"""The documentation stays true: what docs/paper.md names exists, docs/cli.md is what the commands print."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def symbols(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef | ast.FunctionDef)}


def named_in_paper() -> list[str]:
    text = (ROOT / "docs" / "paper.md").read_text(encoding="utf-8")
    return sorted(set(re.findall(r"`((?:avpea|tests)/[\w/]+\.py(?:::\w+)?)`", text)))


@pytest.mark.parametrize("reference", named_in_paper())
def test_what_the_paper_page_names_exists(reference: str) -> None:
    file, _, symbol = reference.partition("::")
    assert (ROOT / file).is_file()
    assert not symbol or symbol in symbols(ROOT / file)


def test_every_equation_in_the_code_is_on_the_paper_page() -> None:
    page = (ROOT / "docs" / "paper.md").read_text(encoding="utf-8")
    assert all(f"({number})" in page for number in range(1, 9))
    for path in (ROOT / "avpea").rglob("*.py"):
        if re.search(r"# Eq\. \(", path.read_text(encoding="utf-8")):
            assert path.relative_to(ROOT).as_posix() in page


def test_command_reference_is_current() -> None:
    command = [sys.executable, "docs/build.py", "--check"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"docs/cli.md is old; run `make docs`. {done.stderr}"


def test_links_lead_somewhere() -> None:
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        for target in re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8")):
            assert target.startswith("http") or (page.parent / target).exists(), f"{page.name}: {target}"


def test_readme_shows_the_loop_as_it_is() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    loop = (ROOT / "avpea" / "encoders" / "dual_stream.py").read_text(encoding="utf-8")
    shown = re.search(r"```python\n(for see.*?)```", readme, re.DOTALL)
    assert shown
    assert all(line.strip() in loop for line in shown[1].splitlines())
