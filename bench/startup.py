"""How long a command takes before it does anything, over Python's own start.

python -m bench startup [--quick]

`help` imports nothing heavy. `recipe` reads one recipe, and with it the classes that own its options.
"""

import subprocess
import sys
from typing import Any

from avpea import measure

COMMANDS = {"python": [], "help": ["--help"], "recipe": ["recipes", "mini/avel"]}


def run(quick: bool) -> dict[str, Any]:
    def start(arguments: list[str]) -> None:
        code = "import sys; from avpea.cli import main; sys.exit(main())" if arguments else "pass"
        subprocess.run([sys.executable, "-c", code, *arguments], check=True, stdout=subprocess.DEVNULL)

    commands = {name: lambda arguments=arguments: start(arguments) for name, arguments in COMMANDS.items()}
    times = measure.interleaved(commands, 2 if quick else 15)
    return {
        "what": __doc__,
        "command": "python -m bench startup",
        "machine": measure.machine(),
        "ms": {name: round(1e3 * min(each)) for name, each in times.items()},
        "help_over_python": measure.ratio(times["help"], times["python"]),
        "recipe_over_python": measure.ratio(times["recipe"], times["python"]),
    }
