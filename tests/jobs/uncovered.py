"""After the tests ran with coverage: what none of them reaches, as docs/coverage.md, and the gate.

    python -m pytest -m "not slow" --cov --cov-report= && python tests/jobs/uncovered.py

It fails if fewer statements and branches are covered than pyproject.toml asks for (`tool.coverage.report.fail_under`).
"""

import io
import re
import subprocess
import sys
import time
from pathlib import Path

import coverage

ROOT = Path(__file__).parents[2]
PAGE = """# What no test reaches

{total:.1f} % of the statements and branches of avpea are reached by the tests of `make test`; {least:.0f} % are asked
for. Processes that tests start are counted, except those that they kill. The slow tests are not: among what only they
reach is indexing with Ray. Below are the files that are not covered whole, with their lines, and with branches as
`from->to`; {others} others are.

    make coverage

This measured commit {commit} on {date} with Python {python}, and wrote this page.

{table}
"""


def main() -> int:
    """Write the page, and return 1 if too little is covered."""
    measured = coverage.Coverage(config_file=str(ROOT / "pyproject.toml"))
    measured.load()
    found = io.StringIO()
    total = measured.report(
        file=found, output_format="markdown", show_missing=True, skip_covered=True, sort="cover", precision=1
    )
    least = float(str(measured.get_option("report:fail_under")))
    table, _, rest = found.getvalue().strip().partition("\n\n")
    table = re.sub(
        r"^\| *(avpea/\S+) +\|", r"| `\1` |", table.replace("\\_", "_").replace("**", ""), flags=re.MULTILINE
    )
    page = PAGE.format(
        total=total, least=least, others=rest.split(" ")[0] or "no", commit=commit(), date=time.strftime("%Y-%m-%d"),
        python=sys.version.split()[0], table=table,
    )  # fmt: skip
    (ROOT / "docs" / "coverage.md").write_text(page, encoding="utf-8")
    print(f"{total:.1f} % of statements and branches are reached; docs/coverage.md has what is not.")
    return int(total < least)


def commit() -> str:
    """The commit of the checkout, with `-dirty` if it has changes."""
    words = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--exclude", "*", "--abbrev=12"]
    return subprocess.run(words, capture_output=True, text=True, check=False).stdout.strip() or "unknown"


if __name__ == "__main__":
    sys.exit(main())
