"""Every command, and every page, card, table, picture and file that it writes, with hostile names, labels and words."""

import csv
import html
import io
import json
import re
import unicodedata
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import jaxtyping
import pytest
import torch
import yaml
from PIL import Image

from avpea import commands, registry
from avpea.cli import main
from avpea.experiment import Experiment
from avpea.sharing import save_pretrained
from avpea.train import train
from tests.tiny import coloured_video

Make = Callable[..., Any]
HOSTILE = (
    "[/bold][link=file:///x]\x1b]0;owned\x07\x1b[31m|<script>alert(1)</script><b>`_*[a](b)$x_1$^{ \\frac "
    "\u202egpj\u2069\x9b ../ :smile: 🎵 --> {\\an8}\n# =1+1"
)
FORMULA, LONG = "=cmd|'/C calc'!A0", "_$" + "x" * 400
FILE = HOSTILE.replace("/", "∕").replace("\\", "")
PLACE = "run \x1b[31m[bold]$x$ <i>🎵\u202e"

ALL = [*commands.COMMANDS, *(command for module in registry.command_modules() for command in module.COMMANDS)]
NAMES = sorted({f"{command.group} {command.name}".strip() for command in ALL})


@dataclass(frozen=True)
class World:
    """Data and runs whose every name is hostile.

    Attributes:
        folder: Where everything lies.
        events: A run of events.
        questions: A run of questions.
        manifest: The table of events.
        recipe: A recipe of the events.
        video: A video.
    """

    folder: Path
    events: Path
    questions: Path
    manifest: Path
    recipe: Path
    video: Path


@pytest.fixture(scope="module")
def world(tiny_experiment: Make, tiny_asking: Make, tmp_path_factory: pytest.TempPathFactory) -> World:
    folder = tmp_path_factory.mktemp("hostile") / PLACE
    videos = folder / "videos"
    videos.mkdir(parents=True)
    rows, questions = [], []
    for number, (split, label) in enumerate([("train", HOSTILE), ("train", FORMULA), ("val", LONG), ("test", HOSTILE)]):
        path = coloured_video(videos / f"{number} {FILE}.mp4", "red", 0, 3)
        rows.append(
            {"video": f"videos/{path.name}", "start_seconds": 0, "end_seconds": 2, "label": label, "split": split}
        )
        asked = {"type": [HOSTILE, "Counting"], "question_content": "Is <Object> | `it`?", "templ_values": [HOSTILE]}
        questions.append({"video_id": path.stem, "question_id": number, "anser": label, **asked})
    manifest, recipe = folder / f"rows{FILE}.jsonl", folder / f"{FILE}.yaml"
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    for split in ("train", "val", "test"):
        (folder / f"avqa-{split}.json").write_text(json.dumps(questions[-2:] if split == "test" else questions))
    about = {"cache": str(folder / "cache"), "segments": 3, "workers": 0}
    events = tiny_experiment(
        title=HOSTILE, data={"name": "manifest", "root": str(manifest), **about}, **{"train.epochs": 1}
    )
    recipe.write_text(events.to_yaml(), encoding="utf-8")
    train(events, folder / "events", progress=False)
    asking = tiny_asking(data={"name": "music_avqa", "root": str(folder), **about}, **{"train.epochs": 1})
    train(asking, folder / "questions", progress=False)
    return World(folder, folder / "events", folder / "questions", manifest, recipe, videos / f"3 {FILE}.mp4")


@pytest.fixture(scope="module")
def captioned(world: World, tiny_captioned: Make) -> Path:
    """A run of captions about the same videos."""
    captions = [{"video_id": path.stem, "desc": HOSTILE} for path in sorted(world.video.parent.iterdir())]
    for split in ("train", "val", "test"):
        (world.folder / f"desc_{split}.json").write_text(json.dumps(captions), encoding="utf-8")
    data = {"name": "valor32k", "root": str(world.folder), "cache": str(world.folder / "cache"), "segments": 3}
    made = tiny_captioned("avc", data={**data, "workers": 0}, **{"train.epochs": 1})
    return train(made, world.folder / "captioned", progress=False).run


@pytest.fixture(scope="module")
def masking(world: World, tiny_values: dict[str, Any]) -> Path:
    """A run of masks about the same videos."""
    rows = [["video", "second", "mask", "split"]]
    for number, path in enumerate(sorted(world.video.parent.iterdir())):
        name, split = f"mask {number} {FILE}.png", ("train", "train", "val", "test")[number]
        Image.new("L", (48, 48), 255).save(world.folder / name)
        rows += [[f"videos/{path.name}", "1", name, split], [f"videos/{path.name}", "2", "", split]]
    with (world.folder / "masks.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    data = {"name": "masks", "root": str(world.folder / "masks.csv"), "cache": str(world.folder / "cache")}
    values = {**tiny_values, "task": "avs", "head": {"name": "mask_readout"}, "title": HOSTILE}
    values["data"] = {**data, "segments": 3, "workers": 0, "mask_size": 16}
    values["train"] = {**values["train"], "epochs": 1}
    return train(Experiment.from_dict(values), world.folder / "masking", progress=False).run


def sweep(world: World) -> Path:
    rows = {HOSTILE: str(world.recipe), LONG: {"recipe": str(world.recipe), "adapter": {"streams": "audio"}}}
    values = {"title": HOSTILE, "seeds": [0], "rows": rows, "published_where": HOSTILE}
    file = world.folder / f"sweep {FILE}.yaml"
    file.write_text(
        yaml.safe_dump({**values, "quoted": {HOSTILE: {"accuracy": 1.0, "why": HOSTILE}}}), encoding="utf-8"
    )
    return file


def lines_of(name: str, world: World, fixture: Callable[[str], Any]) -> Iterator[list[str]]:
    """Uses of a command, some of which fail."""
    run, video, out = str(world.events), str(world.video), str(world.folder / name)
    files = [word for one in ("vtt", "srt", "audacity", "elan", "csv") for word in ("--format", one)]
    files += ["--out", out, "--csv", f"{out}.csv", "--overwrite"]
    data = ["--data.root", str(world.manifest), "--data.segments", "3"]
    if name in ("recipes", "params"):
        yield [name, str(world.recipe)]
        yield [name, HOSTILE]
    elif name == "plan":
        yield [name, str(world.recipe), "--no-measure"]
        yield [name, str(world.recipe), "--no-measure", "--json"]
        yield [name, str(world.recipe), "--data.root", HOSTILE, "--samples", HOSTILE, "--figures", HOSTILE]
        yield [name, str(world.recipe), "--data.root", HOSTILE]
    elif name == "train":
        yield [name, str(world.recipe), "--run", out, "--quiet"]
        yield [name, str(world.recipe), "--run", out, "--train.epochs", HOSTILE]
    elif name == "compare":
        out = str(world.folder / "out")
        yield [name, str(sweep(world)), "--runs", f"{out}-runs", "--out", out, "--no-cost", "--quiet"]
        yield [name, HOSTILE]
    elif name == "data make":
        pytest.importorskip("sklearn")
        yield [
            "data",
            "make",
            "av-digits",
            str(world.folder / f"digits {FILE}"),
            "--train",
            "2",
            "--val",
            "1",
            "--test",
            "1",
        ]
        yield ["data", "make", HOSTILE, out]
    elif name == "data verify":
        yield ["data", "verify", "manifest", *data]
        yield ["data", "verify", "manifest", *data, "--decode", "--json"]
        yield ["data", "verify", HOSTILE, "--data.root", HOSTILE]
        yield ["data", "verify", "music_avqa", "--data.root", str(world.folder)]
    elif name == "data pack":
        yield ["data", "pack", "manifest", out, *data, "--quiet"]
        yield ["data", "pack", "manifest", f"{out} decoded", "--decoded", str(world.recipe), *data, "--json", "--quiet"]
        yield [
            "data",
            "verify",
            "shards",
            "--data.root",
            out,
            "--data.segments",
            "3",
            "--data.workers",
            "0",
            "--decode",
        ]
        yield ["data", "pack", "music_avqa", out, "--data.root", str(world.folder)]
        yield ["data", "pack", HOSTILE, out]
    elif name == "data stats":
        yield ["data", "stats", str(world.recipe)]
        yield ["data", "stats", str(world.recipe), "--data.root", HOSTILE]
    elif name in ("evaluate", "report"):
        more = ["--details"] if name == "evaluate" else []
        for some in (run, str(world.questions)):
            yield [name, some, *more, "--quiet"]
        yield [name, HOSTILE]
        if name == "evaluate":
            yield [name, run, "--json", "--quiet"]
    elif name == "calibrate":
        yield [name, run, "--quiet"]
        yield [name, HOSTILE]
    elif name == "import":
        file = world.folder / f"{FILE}.pt"
        torch.save({HOSTILE: torch.zeros(2)}, file)
        for kind in registry.names("official"):
            yield [name, kind, str(file), "--run", f"{out} {kind}"]
    elif name in ("index", "search"):
        pytest.importorskip("lancedb")
        matched, library = str(fixture("tiny_matched_run")), str(world.folder.parent / "library [x] $ 🎵")
        yield ["index", matched, str(world.video.parent), "--library", library, "--quiet"]
        yield ["search", library, HOSTILE]
        yield ["search", library, "--video", video, "--json"]
        yield ["search", HOSTILE, HOSTILE]
        yield ["index", matched, str(world.video.parent), "--library", str(world.folder / HOSTILE), "--quiet"]
    elif name == "predict":
        pictures = ["--plot", f"{out}.png", "--attention", f"{out}-attention.svg"]
        yield [name, run, video, *pictures, *files, "--threshold", "0", "--quiet"]
        yield [name, run, str(world.video.parent), video + "\x1b[31m", "--quiet"]
        yield [name, run, video, "--json", "--threshold", "0"]
        yield [name, run, str(world.video.parent), video + "\x1b[31m", "--out", f"{out}.jsonl", "--quiet"]
        yield [name, run, video, "--out", f"{out}.jsonl", "--threshold", "0"]
    elif name == "ask":
        yield [name, str(world.questions), video, f"Is {HOSTILE}?", "--plot", f"{out}.png", "--csv", f"{out}.csv"]
        yield [name, str(world.questions), video, f"Is {HOSTILE}?", "--json"]
        yield [name, str(world.questions), video, HOSTILE]
    elif name == "caption":
        written = str(fixture("captioned"))
        yield [name, written, video, *files]
        yield [name, written, video, "--json"]
        yield ["evaluate", written, "--details", "--quiet"]
        yield ["report", written, "--quiet"]
    elif name == "export":
        for needed in ("onnx", "onnxscript", "onnxruntime"):
            pytest.importorskip(needed, reason=f"{needed} is not installed (avpea[onnx])")
        jaxtyping.config.update("jaxtyping_disable", True)  # its checks take the symbols of sizes for no numbers
        try:
            yield [name, run, "--to", "onnx", "--out", out]
            yield [name, run, "--to", "onnx", "--out", out]  # which exists
            yield ["predict", out, video]
            yield [name, HOSTILE, "--to", "onnx", "--out", f"{out} {FILE}"]
        finally:
            jaxtyping.config.update("jaxtyping_disable", False)
    elif name == "segment":
        masked = str(fixture("masking"))
        pictures = ["--plot", f"{out}.png", "--film", f"{out}.mp4", "--csv", f"{out}.csv"]
        yield [name, masked, video, *pictures, "--out", f"{out} masks", "--quiet"]
        yield [name, masked, video, "--json"]
        yield [name, masked, video + "\x1b[31m", "--quiet"]
        yield [name, HOSTILE, video]
        yield ["evaluate", masked, "--details", "--quiet"]
        yield ["report", masked, "--quiet"]
        yield ["data", "verify", "masks", "--data.root", f"{world.folder}/masks.csv", "--data.segments", "3"]
    elif name == "serve":
        # What it answers is what the other commands print with --json (tests/serve); here it does not start.
        yield [name, HOSTILE]
        yield [name, run, "--folder", f"{HOSTILE} gone"]
        yield [name, run, "--library", f"{HOSTILE} gone"]
        yield [name, run, "--host", HOSTILE]
    else:
        raise AssertionError(f"`avpea {name}` is not fed hostile text here; add a line for it")


def steering(text: str, but: str = "\n") -> set[str]:
    """Characters that steer a terminal or turn the direction of writing."""
    turns = {chr(code) for code in (*range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x200E, 0x200F, 0x061C)}
    return {
        one for one in set(text) - set(but) if unicodedata.category(one) in ("Cc", "Cs", "Zl", "Zp") or one in turns
    }


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if name == "export" else []) for name in NAMES]
)
def test_a_command_shows_a_strangers_text_as_text(
    name: str,
    world: World,
    request: pytest.FixtureRequest,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(world.folder)
    before, codes = {path: path.stat().st_mtime_ns for path in world.folder.rglob("*")}, []
    for words in lines_of(name, world, request.getfixturevalue):
        codes.append(main(words))
        printed = capsys.readouterr()
        assert codes[0] == (1 if name in ("import", "serve") else 0), printed.err
        assert not steering("".join(printed)), words
        assert codes[-1] in (0, 1), words
        if "--json" in words:
            for line in printed.out.splitlines():
                json.loads(line)
        elif codes[-1]:
            assert printed.err.strip().endswith((".", "?")), words
    for path in world.folder.rglob("*"):
        if path.is_file() and path.stat().st_mtime_ns != before.get(path) and path.suffix in CHECKS:
            CHECKS[path.suffix](path.read_bytes())


class Tags(HTMLParser):
    """The elements of a page, none of which does anything."""

    def __init__(self) -> None:
        super().__init__()
        self.found: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.add(tag)
        assert not any(name.startswith("on") or name in ("href", "srcset") for name, _ in attrs)


def elements(page: str) -> set[str]:
    reader = Tags()
    reader.feed(page)
    return reader.found


def check_html(data: bytes) -> None:
    page = data.decode("utf-8")
    assert not elements(page) & {"script", "b", "a", "i", "iframe", "link", "object"}
    assert not steering(page)


def check_markdown(data: bytes) -> None:
    text = data.decode("utf-8")
    assert not steering(text)
    text = text.split("---\n", 2)[2] if text.startswith("---\n") else text
    markdown = pytest.importorskip("markdown")
    page = markdown.markdown(text, extensions=["tables", "fenced_code"])
    assert not elements(page) & {"script", "b", "a", "i"}
    tables = re.findall(r"<table>.*?</table>", page, re.DOTALL)
    for table in tables:
        widths = {row.count("<td") + row.count("<th") for row in re.findall(r"<tr>.*?</tr>", table, re.DOTALL)}
        assert len(widths) == 1


def check_csv(data: bytes) -> None:
    rows = list(csv.reader(io.StringIO(data.decode("utf-8"), newline=""), strict=True))
    assert len({len(row) for row in rows}) == 1
    for cell in (cell for row in rows for cell in row):
        assert not cell.startswith(("=", "+", "@", "\t")), cell
        assert not cell.startswith("-") or re.fullmatch(r"-\d+(\.\d+)?(e-?\d+)?", cell), cell


def check_tex(data: bytes) -> None:
    text = "\n".join(line for line in data.decode("utf-8").splitlines() if not line.startswith("%"))
    assert not steering(text)
    assert "$x" not in text.replace(r"\$x", "")
    assert r"\frac" not in text


def check_subtitles(data: bytes) -> None:
    text = data.decode("utf-8")
    blocks = [block for block in text.split("\n\n") if "-->" in block]
    assert blocks
    for block in blocks:
        assert len(re.findall(r"\d --> \d", block)) == 1
        assert len(block.strip().split("\n")) in (2, 3)
    assert "<script>" not in text or "<\u2060script" in text
    assert not steering(text) - {"\u202e", "\u2069"}


def check_elan(data: bytes) -> None:
    assert {one.tag for one in ET.fromstring(data).iter("ANNOTATION")} <= {"ANNOTATION"}


def check_svg(data: bytes) -> None:
    root = ET.fromstring(data)
    assert not [one for one in root.iter() if one.tag.rpartition("}")[2] in ("script", "a", "b")]


CHECKS: dict[str, Callable[[bytes], None]] = {
    ".html": check_html, ".md": check_markdown, ".csv": check_csv, ".tex": check_tex, ".vtt": check_subtitles,
    ".srt": check_subtitles, ".eaf": check_elan, ".svg": check_svg,
}  # fmt: skip


def test_a_card_and_a_page_show_what_a_class_is_called(world: World) -> None:
    save_pretrained(world.events, world.folder / "shared")
    check_markdown((world.folder / "shared" / "README.md").read_bytes())
    main(["report", str(world.events), "--quiet"])
    page = (world.events / "report.html").read_text(encoding="utf-8")
    for label in (FORMULA, "[/bold][link=file:///x]\\x1b]0;owned\\x07\\x1b[31m|<script>alert(1)</script>"):
        assert html.escape(label) in page


@dataclass(frozen=True)
class Event:
    label: str
    start_seconds: float = 0.0
    end_seconds: float = 2.0
    confidence: float = 0.5


@pytest.mark.parametrize("text", [HOSTILE, FORMULA, LONG, "$\\frac{", "_", "", " ", "日本 🎵", "\ud800", "\0"])
def test_a_picture_of_any_text_is_drawn(text: str, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from avpea.plot import timeline

    timeline(
        tmp_path / "a.svg",
        title=text,
        frames=torch.zeros(3, 8, 8, 3, dtype=torch.uint8),
        waveform=torch.zeros(48_000),
        events=[Event(text)],
        probabilities=torch.full((3, 2), 0.5),
        class_names=[text],
    )
    check_svg((tmp_path / "a.svg").read_bytes())


def test_a_name_with_a_line_break_begins_no_line(capsys: pytest.CaptureFixture[str]) -> None:
    """As a file called `a.mp4\\navpea: 99 of 99 videos done.mp4` would; our own further lines are indented."""
    from avpea.progress import say
    from avpea.tables import show

    show(["a.mp4\navpea: done.mp4: 0:03.0, 1 event"])
    say("avpea: a.mp4\navpea: done.mp4 is empty.\n  one: reason")
    printed = capsys.readouterr()
    assert printed.out == "a.mp4\\navpea: done.mp4: 0:03.0, 1 event\n"
    assert printed.err == "avpea: a.mp4\\navpea: done.mp4 is empty.\n  one: reason\n"
