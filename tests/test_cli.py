"""The command line: what it prints, its exit codes, and that no user error shows a traceback."""

import argparse
import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from avpea import commands, registry
from avpea.cli import main
from avpea.version import __version__
from tests.jobs import without_extras


def run(*words: str) -> int:
    try:
        return main(list(words))
    except SystemExit as exit_:
        return int(exit_.code or 0)


def test_help_lists_all_commands_and_imports_nothing_heavy() -> None:
    """Nor does the help of any command; how long it takes is measured by bench/, where time is not a matter of luck."""
    heavy = "{'torch', 'timm', 'numpy', 'av', 'rich', 'yaml', 'pydantic', 'huggingface_hub'}"
    code = f"import sys; from avpea.cli import main; main([]); print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert all(name in done.stdout for name in ("predict", "ask", "caption", "train", "compare"))
    assert done.stdout.splitlines()[-1] == "[]"


def test_the_wheel_alone_is_tried_with_every_command() -> None:
    tried = {" ".join(line.split()[1:3]) for line, _, _ in without_extras.COMMANDS if line.startswith("avpea ")}
    named = [command for module in registry.command_modules() for command in module.COMMANDS]
    wanted = {f"{one.group} {one.name}".strip() for one in [*commands.COMMANDS, *named]}
    assert not {name for name in wanted if not any(f"{line} ".startswith(f"{name} ") for line in tried)}


def test_the_package_runs_as_a_module() -> None:
    done = subprocess.run([sys.executable, "-m", "avpea", "--version"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"avpea {__version__}\n", "")


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (
            KeyboardInterrupt(),
            130,
            "stopped; what was finished is kept, and the same command goes on from there or begins anew.",
        ),
        (KeyboardInterrupt("stopped after 3."), 130, "stopped after 3."),
        (OSError(errno.ENOSPC, "No space left on device"), 1, "No space left on device; make room or give permission"),
        (PermissionError(errno.EACCES, "Permission denied", "a.json"), 1, "a.json: Permission denied; make room or"),
    ],
)
def test_what_ends_a_command_is_a_sentence(
    error: BaseException, code: int, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        raise error

    monkeypatch.setattr("avpea.experiment.recipe_titles", fail)
    assert run("recipes") == code
    assert capsys.readouterr().err.startswith(f"avpea: {said}")


@pytest.mark.parametrize(
    ("redirected", "words", "code", "said"),
    [
        (">&-", "recipes", 0, ""),
        (">&-", "--help", 0, ""),
        (">&- 2>&- <&-", "nonsense", 2, ""),
        ("2>&-", "recipes none", 1, ""),
        ("2>/dev/full", "recipes none", 1, ""),
        (">/dev/full", "--help", 1, "avpea: The output cannot be written (No space left on device); "),
        (">/dev/full", "", 1, "avpea: The output cannot be written (No space left on device); "),
        (">/dev/full", "recipes", 1, "avpea: No space left on device; "),
    ],
)
def test_streams_that_are_closed_or_full(redirected: str, words: str, code: int, said: str, tmp_path: Path) -> None:
    """A stream that is closed leads nowhere, and takes no file's place; one that is full is told."""
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    command = f"{sys.executable} -m avpea {words} {redirected}"
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    done = subprocess.run(
        ["sh", "-c", command], capture_output=True, text=True, check=False, cwd=tmp_path, env=buffered
    )
    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr.startswith(said)
    assert len(done.stderr.splitlines()) == bool(said)


def test_a_file_is_not_opened_in_the_place_of_a_closed_stream(tmp_path: Path) -> None:
    """What a library prints to the descriptor would end in it."""
    code = (
        "from avpea.cli import main; main(['recipes', 'nonsense']); open('said', 'x').write(str(open('said').fileno()))"
    )
    subprocess.run(["sh", "-c", '"$0" -c "$1" <&- >&- 2>&-', sys.executable, code], check=True, cwd=tmp_path)
    assert int((tmp_path / "said").read_text()) > 2


def test_a_folder_that_was_removed(tmp_path: Path) -> None:
    (tmp_path / "gone").mkdir()
    script = f'cd gone; rmdir ../gone; "{sys.executable}" -m avpea data verify ave --data.root /'
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=False, cwd=tmp_path)
    told = "avpea: The folder in which the command runs has been removed; run it in another one.\n"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", told)


def test_recipes(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("recipes") == 0
    assert "paper/avel-vit-b16" in capsys.readouterr().out
    assert run("recipes", "paper/avel-vit-l16") == 0
    assert "vit_large_patch16_224.augreg_in21k" in capsys.readouterr().out
    assert run("recipes", "mini/avel", "--json") == 0
    assert json.loads(capsys.readouterr().out)["backbone"]["name"] == "starter"


def test_params_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("params", "paper/avel-vit-b16", "--json") == 0
    counts = json.loads(capsys.readouterr().out)
    assert counts["adapters"] == 3_654_192
    assert counts["trainable_registered"] == 17_756_041
    assert counts["frozen_with_classifier"] == 102_595_923
    assert run("params", "paper/avel-vit-b16", "--adapter.streams", "audio", "--json") == 0
    assert json.loads(capsys.readouterr().out)["adapters"] == 3_654_192 // 2


@pytest.mark.slow
def test_params_table_of_the_paper(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("params") == 0
    printed = capsys.readouterr().out
    assert "17.8 / 17.8" in printed
    assert "325.6 / 325.6" in printed
    assert run("params", "--json") == 0
    rows = json.loads(capsys.readouterr().out)
    assert {row["title"].partition(":")[0] for row in rows} == {"Table 1", "Table 2", "Table 4"}


ERRORS = [
    (["recipes", "mini/avell"], "Did you mean 'mini/avel'"),
    (["train", "mini/avel"], "--data.root"),
    (["train", "mini/avel", "--train.epohs", "3"], "Did you mean 'train.epochs'"),
    (["train", "mini/avel", "--train.epochs", "two"], "train.epochs is 'two'; expected a whole number"),
    (["train", "mini/avel", "--train.epochs", "0"], "train.epochs is 0"),
    (["train", "mini/avel", "--train.epochs"], "needs a value"),
    (["train", "nowhere.yaml"], "nowhere.yaml"),
    (["train", "mini/avel", "--data.root", "/nowhere"], "/nowhere"),
    (["train", "mini/avel", "--data.root", "no/where"], "There is no no/where (--data.root) in "),
    (["data", "verify", "own", "--data.root", "no.csv"], "a relative path counts from the folder in which the command"),
    (["train", "mini/avel", "--data.name", "avee", "--data.root", "."], "Did you mean 'ave'"),
    (["evaluate", "runs/none"], "runs/none"),
    (["predict", "runs/none", "video.mp4"], "runs/none"),
    (["predict", "runs/none", "video.mp4", "--plot", "t.gif"], "expected .png"),
    (["predict", "runs/none", "video.mp4", "--attention", "none/t.png"], "the folder none does not exist"),
    (["data", "verify", "manifest", "--data.root", "none.csv"], "none.csv"),
    (["data", "make", "av-digit", "folder"], "Did you mean 'av-digits'"),
    (["params", "mini/avel", "--adapter.reduction", "7"], "reduction is 7"),
    (["params", "mini/avel", "--adapter.blocks", "[0, 99]"], "99"),
    (["params", "mini/avel", "--backbone.name", "resnet50"], "resnet50"),
    (["params", "--adapter.name", "lavish"], "they need a recipe"),
    (["params", "--data.root", "my videos"], "they need a recipe"),
    (["params", "--data.a-b", "3", "mini/avel"], "data.a-b"),
]


@pytest.mark.parametrize(
    "option", [["--adapter.name", "lavish"], ["--adapter.blocks", "last 4"], ["--adapter.blocks", "-1,-2"]]
)
def test_options_of_a_recipe_may_stand_before_it(option: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run("params", "mini/avel", *option) == 0
    expected = capsys.readouterr().out
    assert run("params", *option, "--json", "mini/avel") == 0
    counts = json.loads(capsys.readouterr().out)
    assert run("params", "mini/avel", *option, "--json") == 0
    assert json.loads(capsys.readouterr().out) == counts
    assert run("params", f"{option[0]}={option[1]}", "mini/avel") == 0
    assert capsys.readouterr().out == expected


def test_the_last_of_two_equal_options_counts(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("params", "--adapter.reduction=3", "--adapter.reduction", "8", "mini/avel", "--json") == 0
    twice = capsys.readouterr().out
    assert run("params", "mini/avel", "--adapter.reduction", "8", "--json") == 0
    assert capsys.readouterr().out == twice


@pytest.mark.parametrize(("words", "expected"), ERRORS)
def test_a_user_error_is_one_sentence(
    words: list[str], expected: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(*words) == 1
    printed = capsys.readouterr().err.strip()
    assert printed.startswith("avpea: ")
    assert expected in printed
    assert "Traceback" not in printed
    assert len(printed.splitlines()) == 1
    assert not any(tmp_path.iterdir())  # nothing is left behind


@pytest.mark.parametrize(
    "words", [["nothing"], ["train"], ["predict", "run"], ["recipes", "--nothing"], ["evaluate", "r", "--split", "x"]]
)
def test_wrong_use_exits_with_two(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*words) == 2
    assert "--help" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["predict", "run", "x.mp4", "--treshold", "3"], "--threshold"),
        (["train", "mini/avel", "--extned", "3"], "--extend"),
        (["compare", "mini/table1", "--repot"], "--report"),
        (["compare", "mini/table1", "--seed", "1"], "--seeds"),
        (["serve", "--prot=3"], "--port"),
        (["--verison"], "--version"),
        (["nothing", "--jsn"], ""),
        (["predict", "--", "--treshold"], ""),
    ],
)
def test_an_option_that_is_mistyped(words: list[str], meant: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*words) == 2
    assert ("Did you mean" in (printed := capsys.readouterr().err)) == bool(meant)
    assert f"'{meant}'?" in printed or not meant


@pytest.mark.parametrize(
    "words",
    [["predict", "run", "-x.mp4"], ["verify", "-x.mp4"], ["data", "verify", "own", "-x.mp4"], ["train", "-x.mp4"]],
)
def test_a_file_that_is_called_as_an_option_is(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("-x.mp4", "-x"):  # the first is hinted at by its ending alone, as in a command for another folder
        given, hint = [*words[:-1], name], f"To mean the file and no option, write ./{name}."
        assert run(*given) in (1, 2)
        assert (hint in capsys.readouterr().err) == (name == "-x.mp4")
        (tmp_path / name).touch()
        assert run(*given) in (1, 2)
        printed = capsys.readouterr().err
        assert hint in printed
        assert len(printed.strip().splitlines()) == 1


def test_every_command_has_help_with_an_example() -> None:
    from avpea.cli import make_parser

    def commands(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
        yield parser
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction):
                for child in action.choices.values():
                    yield from commands(child)

    for parser in commands(make_parser()):
        if parser.prog not in ("avpea", "avpea data"):
            assert parser.description
            assert parser.epilog
            assert "Example:" in parser.epilog


def test_ask(tiny_asked_run: Path, tiny_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    video, picture = str(tiny_data / "AVE" / "g0.mp4"), tmp_path / "where.png"
    assert run("ask", str(tiny_asked_run), video, "Which bright colour sounds first?", "--plot", str(picture)) == 0
    printed = capsys.readouterr()
    assert "Left out, because no training question has these words: bright." in printed.out
    assert "It looked most at " in printed.out
    assert f"Picture: {picture}" in printed.err
    assert picture.is_file()
    assert run("ask", str(tiny_asked_run), video, "Is the red ever seen", "--json") == 0
    assert json.loads(capsys.readouterr().out)["answer"] in ("green", "no", "yes", "red")


def test_evaluate_prints_types_of_questions(
    tiny_asked_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copied = shutil.copytree(tiny_asked_run, tmp_path / "run")
    assert run("evaluate", str(copied), "--quiet") == 0
    printed = capsys.readouterr().out
    assert "overall accuracy" in printed
    assert "Annotations: avqa/avqa-test.json, 9 questions about 3 videos" in printed
    assert "mean of the three modalities (the paper's)" in printed
    assert "For comparison, most frequent answer of the wording" in printed


def test_an_adapter_that_the_recipe_has_not_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Before, it was taken and not used, so that two adapters compared as equal."""
    words = ["train", "own", "--data.root", str(tmp_path), "--run", str(tmp_path / "run")]
    assert main([*words, "--adapter.name", "lavish"]) == 1
    assert capsys.readouterr().err == (
        "avpea: --adapter.name lavish is for an adapter, and own has none (adapter.streams is none); add "
        "--adapter.streams both.\n"
    )
    assert not (tmp_path / "run").exists()
    assert main(["params", "own", "--adapter.name", "lavish", "--adapter.streams", "both"]) == 0


ENDING = """
import atexit, sys, tempfile, threading, time
from avpea import cli
class Kept:
    def __del__(self):
        print("taken apart")
kept = Kept()
kept.itself = kept
def main(arguments=None):
    atexit.register(print, "a library has closed what it has")
    threading.Thread(target=lambda: (time.sleep(0.2), print("a thread has ended"))).start()
    sys.stdout.write("the answer ")
    return 3
cli.main = main
sys.exit(cli.script())
"""


def test_a_command_ends_at_once_after_its_threads_and_its_libraries(tmp_path: Path) -> None:
    # A measurement of coverage wants to be called at the end, too.
    plain = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    done = subprocess.run([sys.executable, "-c", ENDING], capture_output=True, text=True, check=False, env=plain)
    assert done.returncode == 3
    assert done.stdout == "the answer a thread has ended\na library has closed what it has\n"
    # What Python's start has registered is called after all that a command could; so then nothing is cut short.
    (tmp_path / "sitecustomize.py").write_text("import atexit; atexit.register(print, 'the last')")
    path = os.pathsep.join([str(tmp_path), *sys.path])
    done = subprocess.run(
        [sys.executable, "-c", ENDING],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": path},
    )
    assert (done.returncode, done.stdout.splitlines()[2:]) == (3, ["the last", "taken apart"])


def test_an_error_of_python_ends_as_it_did() -> None:
    code = ENDING.replace("return 3", "raise ZeroDivisionError('told')")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "ZeroDivisionError: told" in done.stderr
    assert "taken apart" in done.stdout
