"""Every command in an environment that holds the wheel and its required dependencies alone: it works or names an extra.

    make test-wheel

The make target builds the wheel, installs it into an environment of its own and runs this file with that environment's
Python, in an empty folder. The file needs nothing that avpea does not require itself.
"""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.media_factory import make_video

MANIFEST = """video,start_seconds,end_seconds,label,split
a.mp4,0,2,dog,train
b.mp4,1,3,cat,train
c.mp4,0,2,cat,val
d.mp4,1,3,dog,test
"""
BACKBONE = "--backbone.name vit_tiny_patch16_224 --backbone.weights random --backbone.image_size 32"
OWN = f"--data.name manifest --data.root v.csv --data.segments 3 --head.name linear --train.epochs 1 {BACKBONE}"
LOAD = "import avpea; predictor = avpea.load('run'); answer = predictor.predict('d.mp4');"

# Command, exit code, and what it must print.
COMMANDS: list[tuple[str, int, str]] = [
    ("avpea --help", 0, "predict"),
    ("avpea --version", 0, "avpea"),
    ("python -m avpea --version", 0, "avpea"),
    ("avpea recipes", 0, "mini/avel"),
    ("avpea recipes mini/avel", 0, "task"),
    ("avpea params mini/avel", 0, "adapters"),
    ("avpea plan mini/avel --samples 400,80,80 --no-measure", 0, "sample cache"),
    ("avpea params mini/avc", 1, "avpea[text]"),
    ("avpea data make av-digits digits", 1, "avpea[samples]"),
    ("avpea data verify manifest --data.root v.csv", 0, "opens"),
    (f"avpea data stats mini/avel {OWN}", 0, "--audio.mean"),
    (f"avpea train mini/avel {OWN} --run run", 0, "avpea[train]"),
    ("avpea evaluate run", 0, "segment accuracy"),
    ("avpea evaluate run --json", 0, '"segment_accuracy"'),
    ("avpea predict run d.mp4", 0, "d.mp4"),
    ("avpea predict run d.mp4 --json", 0, '"events"'),
    ("avpea predict run d.mp4 --plot d.png", 1, "avpea[plot]"),
    ("avpea predict run d.mp4 --attention d.png", 1, "avpea[plot]"),
    ("avpea ask run d.mp4 why", 1, "avpea predict run"),
    ("avpea caption run d.mp4", 1, "avpea predict run"),
    ("avpea segment run d.mp4", 1, "avpea predict run"),
    ("avpea export run --to onnx", 1, "avpea[onnx]"),
    ("avpea report run", 0, "run"),
    ("avpea calibrate run", 0, "run"),
    ("avpea data pack manifest shards --data.root v.csv", 0, "shards"),
    ("avpea import avst d.mp4 --run official", 1, ""),
    ("avpea serve run", 1, "avpea[serve]"),
    ("avpea compare", 0, "mini/table1"),
    (f"avpea compare mini/table1 {OWN} --seeds 0 --no-cost", 1, "avpea[plot]"),
    ("avpea index run . --library lib", 1, "mini/avr"),
    ("avpea search lib dog", 1, "avpea[search]"),
    ("avpea serve run", 1, "avpea[serve]"),
    (f"avpea train mini/avc --data.root . {BACKBONE} --run words", 1, ""),
    ("python -m avpea.quickstart sets", 1, "avpea[samples]"),
    (f"python -c \"{LOAD} print(answer.to_dict())\"", 0, "events"),
    ("python -c \"import avpea; avpea.save_pretrained('run', 'shared'); avpea.load('shared')\"", 0, ""),
]  # fmt: skip


def words(line: str) -> list[str]:
    """The command as arguments, with the programs of this environment."""
    import shlex

    program, *rest = shlex.split(line)
    return [sys.executable, *rest] if program == "python" else [str(Path(sys.executable).with_name(program)), *rest]


def complaint(line: str, code: int, mention: str) -> str:
    """What is wrong with a command's end; empty if nothing is."""
    done = subprocess.run(words(line), capture_output=True, text=True, timeout=600)
    printed = done.stdout + done.stderr
    if "Traceback" in printed and not line.startswith("python -c"):
        return f"a traceback: {printed.strip().splitlines()[-1]}"
    if done.returncode != code:
        return f"exit code {done.returncode} instead of {code}: {' '.join(printed.split()[-40:])}"
    return "" if mention in printed else f"'{mention}' is not in: {' '.join(printed.split()[-40:])}"


def main(commands: Sequence[tuple[str, int, str]] = COMMANDS) -> int:
    """Run all commands in the current folder and print a line for each."""
    for name in "abcd":
        make_video(f"{name}.mp4", seconds=3)
    Path("v.csv").write_text(MANIFEST, encoding="utf-8")
    bad = 0
    for line, code, mention in commands:
        wrong = complaint(line, code, mention)
        bad += bool(wrong)
        print(f"{'FAILED' if wrong else 'ok    '} {line[:100]}{'  -- ' + wrong if wrong else ''}", flush=True)
    print(f"{len(commands) - bad} of {len(commands)} commands work or name their extra.")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
