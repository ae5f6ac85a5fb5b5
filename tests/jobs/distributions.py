"""The wheel and the sdist are the same bytes wherever they are built, and hold what they should.

    make dist

Both are built twice, in folders, umasks, time zones and locales that differ, and once more from the unpacked sdist, and
compared by SHA-256. The wheel has the licence, `py.typed` and every file of the package; in the sdist pytest finds as
many tests as here. What was built is left in `dist/`.
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PLACES: dict[str, Mapping[str, str]] = {
    "one": {"umask": "022", "TZ": "UTC", "LC_ALL": "C", "PYTHONHASHSEED": "1"},
    "another one/ä": {"umask": "077", "TZ": "Pacific/Apia", "LC_ALL": "C.UTF-8", "PYTHONHASHSEED": "2"},
}
LEFT_OUT = shutil.ignore_patterns("__pycache__", ".*cache", ".venv", ".git", "dist", "site", "quickstart", "runs")


def run(*command: object, folder: Path = ROOT, settings: Mapping[str, str] | None = None) -> str:
    """Run a command and return what it prints; if it fails, show that and end."""
    settings = dict(settings or {})
    mask = int(settings.pop("umask", "022"), 8)
    words = [str(part) for part in command]
    done = subprocess.run(
        words, cwd=folder, env={**os.environ, **settings}, umask=mask, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        encoding="utf-8", errors="replace",
    )  # fmt: skip
    if done.returncode:
        sys.exit(f"$ {' '.join(words)}\n{done.stdout}\nexit code {done.returncode}")
    return done.stdout


def builder(folder: Path) -> Path:
    """The Python of an environment with the build system alone, in the version of constraints.txt."""
    run(sys.executable, "-m", "venv", folder)
    run(folder / "bin/python", "-m", "pip", "install", "--quiet", "-c", ROOT / "constraints.txt", "hatchling")
    return folder / "bin" / "python"


def build(python: Path, source: Path, out: Path, settings: Mapping[str, str]) -> dict[str, str]:
    """Build both distributions; returns their SHA-256 by name."""
    settings = {"SOURCE_DATE_EPOCH": "1700000000", **settings}
    run(python, "-m", "hatchling", "build", "-d", out, folder=source, settings=settings)
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(out.iterdir())}


def faults_of_wheel(path: Path) -> Iterator[str]:
    """What the wheel lacks, in sentences."""
    with zipfile.ZipFile(path) as archive:
        names = set(archive.namelist())
        about = next(name.partition("/")[0] for name in names if name.endswith(".dist-info/METADATA"))
        metadata = archive.read(f"{about}/METADATA").decode()
    package = {
        one.relative_to(ROOT).as_posix()
        for one in (ROOT / "avpea").rglob("*")
        if one.is_file() and "__pycache__" not in one.parts
    }
    missing = sorted({*package, "avpea/py.typed", f"{about}/licenses/LICENSE", f"{about}/entry_points.txt"} - names)
    if missing:
        yield f"The wheel lacks {', '.join(missing[:5])}."
    more = sorted(name for name in names if not name.startswith(("avpea/", f"{about}/")))
    if more:
        yield f"The wheel holds {', '.join(more[:5])}, which is not of the package."
    for line in ("License-Expression: MIT", "License-File: LICENSE"):
        if line not in metadata.splitlines():
            yield f"The wheel's metadata lack '{line}'."


def tests_in(folder: Path) -> int:
    """The number of tests that pytest finds in a folder, by this environment's packages and the folder's avpea."""
    printed = run(
        *(sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider"),
        folder=folder,
        settings={"PYTHONPATH": str(folder)},
    )
    found = re.search(r"^(\d+) tests? collected", printed, re.MULTILINE)
    return int(found[1]) if found else 0


def faults(folder: Path) -> Iterator[str]:
    """Build in each place and compare; yields what is wrong, in sentences."""
    python = builder(folder / "builder")
    built: dict[str, dict[str, str]] = {}
    for place, settings in PLACES.items():
        source = folder / place / "source"
        shutil.copytree(ROOT, source, ignore=LEFT_OUT)
        built[place] = build(python, source, folder / place / "out", settings)
    first, second = built.values()
    for name in sorted(first.keys() | second.keys()):
        print(f"{first.get(name, '-')}  {name}")
        if first.get(name) != second.get(name):
            yield f"{name} is not the same bytes in both places."
    out = folder / next(iter(PLACES)) / "out"
    (sdist,), (wheel,) = out.glob("*.tar.gz"), out.glob("*.whl")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder / "unpacked", filter="data")
    (source,) = (folder / "unpacked").iterdir()
    again = build(python, source, folder / "again", PLACES["one"])
    yield from (f"The sdist builds another {name}." for name in first if again.get(name) != first[name])
    yield from faults_of_wheel(wheel)
    there, here = tests_in(source), tests_in(ROOT)
    print(f"{there} tests are found in the sdist, and {here} in the repository.")
    if there != here or not there:
        yield "The sdist has other tests than the repository."
    (ROOT / "dist").mkdir(exist_ok=True)
    for path in (sdist, wheel):
        shutil.copy(path, ROOT / "dist")


def main() -> int:
    """Build, check and say what is wrong."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["build-system"]
    print(f"Built by {', '.join(version['requires'])}, pinned in constraints.txt.")
    with tempfile.TemporaryDirectory() as folder:
        found = list(faults(Path(folder)))
    print("\n".join(found) or "Wheel and sdist are reproducible and complete.")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
