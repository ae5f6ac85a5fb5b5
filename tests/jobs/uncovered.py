"""After a run of the tests with coverage: what no test reaches, as docs/coverage.md, and the gate.

    python -m pytest --cov --cov-report= && python tests/jobs/uncovered.py

It fails if fewer statements and branches are covered than pyproject.toml asks for (`tool.coverage.report.fail_under`).
"""

import io
import subprocess
import sys
import time
from pathlib import Path

import coverage

ROOT = Path(__file__).parents[2]
PAGE = """# What no test reaches

{total:.1f} % of the statements and branches of avpea are covered by its tests, slow ones included; at least {least:.0f} %
are asked for. Processes that the tests start are counted, except those that they kill. The files that are not covered
whole follow, with their lines, and branches as `from->to`; all {others} others are.

    make coverage

This measured commit {commit} on {date} with Python {python}, and wrote this page.

{table}
"""


def main() -> int:
    """Write the page, and return 1 if too little is covered."""
    measured = coverage.Coverage(config_file=str(ROOT / "pyproject.toml"))
    measured.load()
    table = io.StringIO()
    total = measured.report(
        file=table, output_format="markdown", show_missing=True, skip_covered=True, sort="cover", ignore_errors=False
    )
    least = float(measured.get_option("report:fail_under"))  # type: ignore[arg-type]
    rows, rest = (
        table.getvalue().strip().split("\n\n", 1) if "\n\n" in table.getvalue().strip() else (table.getvalue(), "")
    )
    page = PAGE.format(
        total=total, least=least, others=rest.strip().split(" ")[0] or 0, commit=commit(), date=time.strftime("%Y-%m-%d"),
        python=sys.version.split()[0], table=rows.strip().replace("**TOTAL**", "total"),
    )  # fmt: skip
    (ROOT / "docs" / "coverage.md").write_text(page, encoding="utf-8")
    print(f"{total:.1f} % of statements and branches are covered; docs/coverage.md has what is not.")
    return int(total < least)


def commit() -> str:
    """The commit of the checkout, with `-dirty` if it has changes."""
    words = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--exclude", "*", "--abbrev=12"]
    return subprocess.run(words, capture_output=True, text=True, check=False).stdout.strip() or "unknown"


if __name__ == "__main__":
    sys.exit(main())
