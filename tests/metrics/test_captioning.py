"""Caption metrics against pycocoevalcap's own call, and the tokenizer against Penn Treebank's program."""

import json
import os
import time
from pathlib import Path

import pytest

from avpea.errors import AvpeaError
from avpea.metrics import _java, captioning
from avpea.metrics.captioning import _ptb, caption_metrics, has_java, tokenise

pytest.importorskip("pycocoevalcap")

REFERENCES = {
    "a": ["A dog's barking, loudly (very)!", "The dog barks while a train passes."],
    "b": ["Somebody doesn't play the well-known guitar."],
    "c": ["At 3.5 seconds, birds sing; it's 5 o'clock..."],
}
ANSWERS = {"a": "a dog barks loudly", "b": "somebody plays a guitar", "c": "it's about birds that sing"}
METEOR = 0.1795366142065613  # as pycocoevalcap has it
java = pytest.mark.skipif(not has_java(), reason="there is no Java on this machine")


def test_figures_without_java() -> None:
    found = caption_metrics(REFERENCES, ANSWERS, java=False)
    assert found["meteor"] is None
    assert found["tokenizer"] == "plain"
    assert 0 < found["bleu_1"] < 1
    assert found["cider"] > 0


def test_a_caption_that_is_the_reference() -> None:
    same = {name: captions[0] for name, captions in REFERENCES.items()}
    found = caption_metrics({name: [caption] for name, caption in same.items()}, same, java=False)
    assert found["bleu_4"] == pytest.approx(1, abs=1e-6)
    assert found["rouge_l"] == pytest.approx(1)


def own_tokens() -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """References and answers by pycocoevalcap's own tokenizer."""
    from pycocoevalcap.tokenizer import ptbtokenizer

    folder = Path(ptbtokenizer.__file__).parent
    if not os.access(folder, os.W_OK):
        pytest.skip(f"pycocoevalcap's own tokenizer writes into {folder}, which is read only here")
    tokens = ptbtokenizer.PTBTokenizer()
    given = tokens.tokenize({k: [{"caption": c} for c in v] for k, v in REFERENCES.items()})
    return given, tokens.tokenize({k: [{"caption": v}] for k, v in ANSWERS.items()})


@java
@pytest.mark.slow
def test_equal_to_pycocoevalcaps_own_evaluation(monkeypatch: pytest.MonkeyPatch) -> None:
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge

    given, made = own_tokens()
    monkeypatch.setattr(captioning, "has_java", has_java)
    found = caption_metrics(REFERENCES, ANSWERS)
    assert [found[f"bleu_{n}"] for n in (1, 2, 3, 4)] == Bleu(4).compute_score(given, made, verbose=0)[0]
    assert found["rouge_l"] == Rouge().compute_score(given, made)[0]
    assert found["cider"] == Cider().compute_score(given, made)[0]
    assert found["meteor"] == METEOR


@java
@pytest.mark.slow
def test_meteor_is_pycocoevalcaps_own() -> None:
    from pycocoevalcap.meteor.meteor import Meteor

    meteor = Meteor()
    assert meteor.compute_score(*own_tokens())[0] == METEOR
    meteor.meteor_p.kill()
    meteor.meteor_p.communicate()


@java
def test_our_tokens_are_penn_treebanks() -> None:
    assert {name: [tokenise(c) for c in some] for name, some in REFERENCES.items()} == _ptb(REFERENCES)


@java
def test_our_tokens_are_penn_treebanks_on_every_test_caption_of_valor32k(shared_data: Path) -> None:
    path = shared_data / "annotations" / "VALOR-32K" / "descs_cap_test.json"
    captions = {row["video_id"]: [row["desc"]] for row in json.loads(path.read_text(encoding="utf-8"))}
    assert len(captions) == 3491
    assert {name: [tokenise(some[0])] for name, some in captions.items()} == _ptb(captions)


@java
def test_a_caption_of_several_lines_is_one_caption() -> None:
    captions = {"a": ["a\rdog\u2028barks\x85", "one\ntwo"], "b": ["", "three ||| four"]}
    # METEOR separates texts by three bars in a row, which are three tokens.
    assert _ptb(captions) == {"a": ["a dog barks", "one two"], "b": ["", "three | | | four"]}


def fake_java(folder: Path, monkeypatch: pytest.MonkeyPatch, does: str) -> Path:
    """A program by the name of Java that first writes its process number into a file, which is returned."""
    (folder / "java").write_text(f"#!/bin/sh\necho $$ > {folder}/number\n{does}\n")
    (folder / "java").chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
    return folder / "number"


@pytest.mark.parametrize("does", ["exec sleep 1000", "cat > /dev/null; exec sleep 1000"])
def test_a_java_that_gives_no_answer_is_ended(
    does: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    number = fake_java(tmp_path, monkeypatch, does)
    with monkeypatch.context() as patch:
        patch.setattr(_java, "PATIENCE_SECONDS", 0.5)
        with pytest.raises(AvpeaError, match=r"gave no answer for 0\.5 s and was ended"):
            caption_metrics({"a": ["x" * 10_000] * 100}, {"a": "x"}, java=True)
    with pytest.raises(ProcessLookupError):
        os.kill(int(number.read_text()), 0)
    assert capsys.readouterr().err == ""


def test_a_meteor_that_fails_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    does = 'case "$*" in *meteor*) echo "no memory" >&2; exit 3;; esac; exec cat'
    fake_java(tmp_path, monkeypatch, does)
    found = caption_metrics(REFERENCES, ANSWERS, java=True)
    assert (found["meteor"], found["tokenizer"]) == (None, "ptb")
    assert found["cider"] > 0
    said = capsys.readouterr().err
    assert said.startswith("avpea: METEOR is left out: METEOR's Java program ended with exit code 3 (no memory); try")


def test_an_interrupted_meteor_leaves_no_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    number = fake_java(tmp_path, monkeypatch, "exec sleep 1000")

    def interrupted(*_: object) -> None:
        until = time.monotonic() + 60
        while not (number.exists() and number.read_text().strip()) and time.monotonic() < until:
            time.sleep(0.01)
        raise KeyboardInterrupt

    monkeypatch.setattr(_java._Program, "line", interrupted)
    with pytest.raises(KeyboardInterrupt):
        _java.meteor({"a": ["x"]}, {"a": "x"})
    with pytest.raises(ProcessLookupError):
        os.kill(int(number.read_text()), 0)


def test_names_must_agree() -> None:
    with pytest.raises(AvpeaError, match="1 caption to score against those of 3 videos; expected one of each"):
        caption_metrics(REFERENCES, {"a": "x"})
    with pytest.raises(AvpeaError, match="0 captions"):
        caption_metrics({}, {})
