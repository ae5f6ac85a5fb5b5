"""What comes with the wheel: a list of its run-time dependencies (an SBOM), and known vulnerabilities in them.

    python tests/jobs/supply.py sbom      # or: make sbom; writes dist/avpea.cdx.json
    python tests/jobs/supply.py audit     # or: make audit

Both install the wheel with the versions of constraints.txt into an environment of its own, which needs about 6 GB and a
package index; `audit` adds the extras, and needs a database of advisories.
"""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.jobs.environments import ROOT, RUNTIME_EXTRAS, environment, install, main, run

SBOM_TOOL = "cyclonedx-bom==7.5.0"
AUDIT_TOOL = "pip-audit==2.10.1"
# A release with advisories of 2018 (PYSEC-2018-28): a database that does not know it is none.
KNOWN_BAD = "requests==2.19.0"
NOT_REACHABLE = 3


def closure(folder: Path, extras: Sequence[str] = ()) -> Path:
    """The Python of an environment with the wheel and what it needs."""
    if run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", folder / "wheels", ROOT):
        sys.exit(1)
    python = environment(folder)
    wanted = f"avpea[{','.join(extras)}]" if extras else "avpea"
    # By name and not by path, which would be written down.
    install(python, "--find-links", str(folder / "wheels"), wanted, constraints=ROOT / "constraints.txt")
    if run(python, "-m", "pip", "check"):
        sys.exit("The versions contradict each other.")
    return python


def tool(folder: Path, package: str) -> Path:
    """The folder of programs of an environment with one tool."""
    run(sys.executable, "-m", "venv", folder / "tool")
    install(folder / "tool/bin/python", package)
    return folder / "tool" / "bin"


def sbom(folder: Path) -> int:
    """Write the SBOM, in CycloneDX 1.6, without time, random numbers or anything of this machine."""
    python, out = closure(folder), ROOT / "dist" / "avpea.cdx.json"
    program = tool(folder, SBOM_TOOL) / "cyclonedx-py"
    run(python, "-m", "pip", "uninstall", "--quiet", "--yes", "pip")  # of the environment, not of the wheel
    options = ("--output-reproducible", "--mc-type", "library", "--pyproject", ROOT / "pyproject.toml")
    out.parent.mkdir(exist_ok=True)
    if run(program, "environment", *options, "-o", out, python):
        return 1
    text = out.read_text(encoding="utf-8")
    components = json.loads(text)["components"]
    found = [place for place in (str(folder), str(ROOT), str(Path.home()), "file://") if place in text]
    print(f"{out}: {len(components)} components.")
    if found or not {"torch", "timm", "av"} <= {one["name"] for one in components}:
        print(f"It names places of this machine ({', '.join(found)}) or lacks required packages.", file=sys.stderr)
        return 1
    return 0


def audited(program: Path, requirements: Path) -> list[dict[str, Any]]:
    """What pip-audit says of each of some pinned packages; empty if it says nothing."""
    words = [program, "-r", requirements, "--no-deps", "--disable-pip", "--progress-spinner", "off", "-f", "json"]
    done = subprocess.run([str(one) for one in words], capture_output=True, text=True, timeout=600)
    try:
        found: list[dict[str, Any]] = json.loads(done.stdout)["dependencies"]
    except (json.JSONDecodeError, KeyError):
        print("\n".join(done.stderr.strip().splitlines()[-1:]))
        return []
    return found


def reachable(folder: Path, program: Path) -> bool:
    """Whether there is a database: pip-audit finds no fault in a package that its index has no advisories for."""
    known = folder / "known.txt"
    known.write_text(f"{KNOWN_BAD}\n", encoding="utf-8")
    return any(one.get("vulns") for one in audited(program, known))


def audit(folder: Path) -> int:
    """Look up all versions; `NOT_REACHABLE` if there is no database, and 1 if one has an advisory or is not known."""
    program = tool(folder, AUDIT_TOOL) / "pip-audit"
    if not reachable(folder, program):
        print(
            f"The database of advisories is not reachable: it does not know {KNOWN_BAD}, which has some. Nothing was "
            "audited; run this where pypi.org answers.",
            file=sys.stderr,
        )
        return NOT_REACHABLE
    python, listed = closure(folder, RUNTIME_EXTRAS), folder / "closure.txt"
    printed = subprocess.run(
        [str(python), "-m", "pip", "list", "--format=freeze", "--exclude", "avpea"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    listed.write_text(printed, encoding="utf-8")
    bad = 0
    answers = audited(program, listed)
    for one in answers:
        for advisory in one.get("vulns") or ():
            bad += 1
            print(f"{one['name']} {one['version']}: {advisory['id']}, mended in {advisory['fix_versions'] or 'none'}")
        if "skip_reason" in one:
            bad += 1
            print(f"{one['name']} was not audited: {one['skip_reason']}")
    print(f"{len(answers)} packages, {bad} with advisories or unknown.")
    return 1 if bad or not answers else 0


if __name__ == "__main__":
    sys.exit(main({"sbom": sbom, "audit": audit}))
