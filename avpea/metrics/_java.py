"""The Java programs inside of pycocoevalcap, as its own wrappers run them, but for what these wait for without end.

A program that is silent for `PATIENCE_SECONDS` is ended, and none outlives the call, however it ends.
"""

import subprocess
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import IO

from avpea.errors import AvpeaError

__all__ = ["PATIENCE_SECONDS", "meteor", "penn_treebank"]

PATIENCE_SECONDS = 600.0
_TOKENIZER = ("-cp", "tokenizer/stanford-corenlp-3.4.1.jar", "edu.stanford.nlp.process.PTBTokenizer")
_METEOR = ("-jar", "-Xmx2G", "meteor/meteor-1.5.jar", "-", "-", "-stdio", "-l", "en", "-norm")


class _Program:
    """A Java program that answers lines with lines."""

    def __init__(self, name: str, process: subprocess.Popen[bytes], words: IO[bytes]) -> None:
        self.name, self._process, self._words = name, process, words
        self._silent = False

    def send(self, lines: Sequence[str]) -> None:
        """Send lines; a program that has ended is noticed where its answer is missing."""
        assert self._process.stdin is not None
        with suppress(OSError):
            self._process.stdin.write("".join(f"{line}\n" for line in lines).encode())
            self._process.stdin.flush()

    def end(self) -> None:
        """Say that no more lines come."""
        assert self._process.stdin is not None
        with suppress(OSError):
            self._process.stdin.close()

    def line(self) -> str:
        """The next line of its answer.

        Raises:
            AvpeaError: There is none.
        """
        assert self._process.stdout is not None
        patience = threading.Timer(PATIENCE_SECONDS, self._give_up)
        patience.daemon = True
        patience.start()
        try:
            line = self._process.stdout.readline()
        finally:
            patience.cancel()
        if not line:
            raise AvpeaError(f"{self.name} {self._why()}; try again when the machine has time and memory for it.")
        return line.decode("utf-8", "replace").rstrip("\n")

    def kill(self) -> None:
        """End the program."""
        self._process.kill()

    def _give_up(self) -> None:
        self._silent = True
        self.kill()

    def _why(self) -> str:
        if self._silent:
            return f"gave no answer for {PATIENCE_SECONDS:g} s and was ended"
        code = self._process.wait()
        self._words.seek(0)
        said = self._words.read().decode("utf-8", "replace").strip().splitlines()
        return f"ended with exit code {code}" + (f" ({said[0][:200]})" if said else "")


@contextmanager
def _started(name: str, arguments: Sequence[str]) -> Iterator[_Program]:
    """The program, which is ended with the block.

    Raises:
        AvpeaError: It cannot be started.
    """
    spec = find_spec("pycocoevalcap")
    assert spec is not None, "require_scorers is called first"
    assert spec.submodule_search_locations
    with tempfile.TemporaryFile() as words:
        command = ["java", "-Dfile.encoding=UTF-8", "-Duser.language=en", *arguments]
        folder = Path(next(iter(spec.submodule_search_locations)))
        try:
            process = subprocess.Popen(command, cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=words)
        except OSError as error:
            raise AvpeaError(f"{name} cannot be started ({error.strerror}); see whether `java` runs.") from None
        program = _Program(name, process, words)
        try:
            yield program
        finally:
            program.kill()
            process.wait()
            program.end()
            assert process.stdout is not None
            process.stdout.close()


def penn_treebank(captions: Sequence[str]) -> list[str]:
    """Lower-case tokens of each caption, punctuation included, separated by blanks.

    Raises:
        AvpeaError: The program cannot be started, gives no answer, or too few.
    """
    with _started("The Java program of Penn Treebank's tokens", (*_TOKENIZER, "-preserveLines", "-lowerCase")) as java:
        # It answers while it is told, and would wait for a reader who still tells.
        telling = threading.Thread(target=_tell, args=(java, [" ".join(one.splitlines()) for one in captions]))
        telling.start()
        try:
            return [java.line().rstrip() for _ in captions]
        finally:
            java.kill()  # so that what tells it ends too
            telling.join()


def _tell(java: _Program, lines: Sequence[str]) -> None:
    java.send(lines)
    java.end()


def meteor(references: Mapping[str, Sequence[str]], answers: Mapping[str, str]) -> float:
    """METEOR of answers, in [0, 1].

    Args:
        references: Tokens of the reference captions by video, separated by blanks; no token is `|||`.
        answers: Tokens of the answer by video.

    Raises:
        AvpeaError: The program cannot be started, or gives no answer.
    """
    with _started("METEOR's Java program", _METEOR) as java:
        found = []
        for name, answer in answers.items():
            java.send([" ||| ".join(["SCORE", *references[name], answer])])
            found.append(java.line())
        java.send([" ||| ".join(["EVAL", *found])])
        scores = [java.line() for _ in range(len(found) + 1)]
    return float(scores[-1])
