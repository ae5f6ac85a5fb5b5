"""A real browser for tests and pictures, where there is one: Chromium, node, and the packages that drive them."""

import os
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Browser:
    """What drives a browser: the programs, and a folder `node_modules` with playwright-core and axe-core."""

    node: str
    chromium: str
    modules: Path

    def run(self, script: Path, *words: str) -> "subprocess.CompletedProcess[str]":
        """Run a script with an address and further words, the browser and the modules after them."""
        command = [self.node, str(script), *words, self.chromium, str(self.modules)]
        return subprocess.run(command, capture_output=True, text=True, timeout=240)


def find_browser() -> Browser | str:
    """The browser, or a sentence that says what is missing. `.ci/run` installs all of it."""
    names = ("chromium", "chromium-browser", "google-chrome")
    chromium = next((found for name in names if (found := shutil.which(name))), None)
    if chromium is None:
        return "no Chromium is installed (apt-get install chromium)"
    node = shutil.which("node")
    if node is None:
        return "node is not installed (apt-get install nodejs)"
    modules = Path(os.environ.get("AVPEA_NODE_MODULES", ROOT / ".browser" / "node_modules"))
    if not all((modules / name).is_dir() for name in ("playwright-core", "axe-core")):
        return "playwright-core and axe-core are missing (npm install --prefix .browser playwright-core axe-core)"
    return Browser(node, chromium, modules)


@contextmanager
def served(folder: Path, *words: str) -> Iterator[str]:
    """`avpea serve` with these words, as a process; gives its address."""
    log = (folder / "serve.log").open("w+")
    command = [sys.executable, "-m", "avpea", "serve", *words, "--port", "0"]
    with subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, cwd=folder) as process:
        try:
            yield _address(process, folder / "serve.log")
        except BaseException:
            print((folder / "serve.log").read_text()[-4000:], file=sys.stderr)
            raise
        finally:
            process.terminate()
            process.wait(60)
            log.close()


def _address(process: "subprocess.Popen[bytes]", log: Path) -> str:
    end = time.monotonic() + 120
    while time.monotonic() < end and process.poll() is None:
        words = log.read_text().split()
        address = next((word for word in words if word.startswith("http://127.0.0.1")), None)
        if address:
            with urllib.request.urlopen(f"{address}/readyz", timeout=60):
                return address
        time.sleep(0.1)
    raise AssertionError(f"the server does not start: {log.read_text()}")
