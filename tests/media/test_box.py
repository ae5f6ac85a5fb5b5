"""Media in a box: the same frames and sound, and whatever ends the worker is one file's reason."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from avpea.errors import AvpeaError, MediaError, MissingFile, NoAudioTrack, NoVideoTrack
from avpea.media import Limits, MediaInfo, _process, boxed, probe, read, read_sound, watched, wire
from avpea.media import box as box_module
from avpea.media.box import Box, Pool, current
from avpea.media.found import Found, Stored
from avpea.media.growing import Growing
from avpea.media.receiving import Refused, received
from tests.media_factory import make_video

SILENT: dict[str, Any] = {"missing_audio": "silence", "missing_video": "black"}


@pytest.fixture
def box() -> Iterator[Box]:
    with boxed(Limits(seconds=1)):
        opened = current()
        assert opened is not None
        yield opened


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_video(tmp_path_factory.mktemp("box") / "a.mp4", seconds=3)


def everything(path: Path, **options: Any) -> list[Any]:
    clip = read(path, **SILENT, **options)
    sound = read_sound(path, 22_050, missing_audio="silence")
    values = {name: value for name, value in vars(clip).items() if not isinstance(value, torch.Tensor)}
    return [probe(path), values, clip.frames, clip.frame_seconds, clip.waveform, sound]


def assert_same(one: list[Any], other: list[Any]) -> None:
    for a, b in zip(one, other, strict=True):
        assert torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.mp4", {}),
        ("rotated.mp4", {"rotation": 90}),
        ("late.mkv", {"audio_start": 1.5, "audio_codec": "flac"}),
        ("mute.mp4", {"audio_hz": None}),
        ("blind.mp4", {"fps": None}),
        ("cut.ts", {"keep": 0.6}),
    ],
)
def test_a_box_changes_nothing(tmp_path: Path, box: Box, name: str, options: dict[str, Any]) -> None:
    path = make_video(tmp_path / name, seconds=3, **options)
    inside = everything(path), everything(path, frame_size=(20, 30), segments=5)
    with boxed(None):
        assert current() is None
        outside = everything(path), everything(path, frame_size=(20, 30), segments=5)
    assert current() is box
    for one, other in zip(inside, outside, strict=True):
        assert_same(one, other)


def test_a_far_window_of_a_long_file(tmp_path: Path, box: Box) -> None:
    path = make_video(tmp_path / "long.mp4", seconds=40, key_every=20)
    inside = read(path, start_seconds=30, segments=2)
    with boxed(None):
        outside = read(path, start_seconds=30, segments=2)
    assert torch.equal(inside.frames, outside.frames)
    assert torch.equal(inside.waveform, outside.waveform)


def test_errors_are_of_the_same_class(tmp_path: Path, box: Box) -> None:
    mute = make_video(tmp_path / "mute.mp4", seconds=1, audio_hz=None)
    blind = make_video(tmp_path / "blind.mp4", seconds=1, fps=None)
    text = tmp_path / "text.mp4"
    text.write_text("no video")
    cases: list[tuple[Path, type[MediaError]]] = [
        (mute, NoAudioTrack), (blind, NoVideoTrack), (text, MediaError), (tmp_path / "none.mp4", MissingFile),
    ]  # fmt: skip
    for path, kind in cases:
        with pytest.raises(kind) as inside:
            read(path)
        with boxed(None), pytest.raises(kind) as outside:
            read(path)
        assert (type(inside.value), str(inside.value)) == (type(outside.value), str(outside.value))
    assert current() is box


def test_paths_of_all_kinds(tmp_path: Path, video: Path, box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    name = os.fsdecode(b"caf\xe9 \n\xff.mp4")
    (tmp_path / name).write_bytes(video.read_bytes())
    monkeypatch.chdir(tmp_path)
    clip = read(name)
    assert (len(clip.frames), clip.path) == (3, Path(name))


def worker_of(box: Box) -> int:
    number = box.process_id
    assert number is not None
    return number


def gone(number: int) -> bool:
    """Whether a process ends within a while, and is no zombie."""
    for _ in range(1200):
        try:
            os.kill(number, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.1)
    return False


# What a file may do to its worker, in its first packet, and what is said of the file.
SABOTAGE = {
    "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)": r"the decoder crashed on it \(SIGSEGV\)",
    "import os, signal; os.kill(os.getpid(), signal.SIGKILL)": r"was ended from outside \(SIGKILL\)",
    "import os; os._exit(7)": r"the decoder crashed on it \(exit code 7\)",
    "while True: pass": r"makes no progress in 1 s.*--media-seconds 2 .*waits longer",
    "bytearray(10**10)": r"takes more than 960 MB.*--media-memory-mb 1920 .*allows it",
    "raise RecursionError('of another library')": r"cannot be decoded \(RecursionError: of another library\)",
    "import os; os.write(3, b'x' * 1000); os._exit(0)": "nothing that avpea sends",
}


def sabotaged(folder: Path, code: str, name: str = "bad") -> str:
    """Code that starts a worker which runs some code when it reads a file of this name."""
    folder.mkdir(exist_ok=True)
    (folder / "sabotaged.py").write_text(
        "import avpea.media._worker as worker\n"
        "from avpea.media.limits import decoding\n"
        "do = worker._do\n"
        "def sabotaged(asked, out, progress):\n"
        f"    if {name!r} in asked['path']:\n"
        "        def progressed(packet):\n"
        f"            {code}\n"
        "        decoding.progressed = progressed\n"
        "    else:\n"
        "        decoding.progressed = progress.packet\n"
        "    do(asked, out, progress)\n"
        "worker._do = sabotaged\n"
        "main = worker.main\n"
    )
    start = _process.START.replace("avpea.media._worker", "sabotaged")
    return start.replace("from sabotaged", f"sys.path.append({str(folder)!r}); from sabotaged")


@pytest.mark.skipif(sys.platform != "linux", reason="signals and bounds of Linux")
@pytest.mark.parametrize("code", SABOTAGE)
def test_what_ends_a_worker_is_the_files_reason(
    tmp_path: Path, video: Path, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    monkeypatch.setattr(_process, "START", sabotaged(tmp_path / "code", code))
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(video.read_bytes())
    with boxed(Limits(seconds=1)):
        box = current()
        assert box is not None
        before = read(video)
        number = worker_of(box)
        with pytest.raises(MediaError, match=SABOTAGE[code]) as error:
            read(bad)
        assert error.value.path == bad
        assert torch.equal(read(video).frames, before.frames)
        if "Recursion" not in code:
            assert gone(number)
        last = worker_of(box)
    assert gone(last)


def test_a_picture_that_is_too_large(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", seconds=1, size=(1280, 800))
    with boxed(Limits(megapixels=1)):
        with pytest.raises(MediaError, match=r"picture has 1280 x 800 pixels; expected at most 1 million.*--media-me"):
            read(path)
        with pytest.raises(MediaError, match="its picture has 1280 x 800"):
            probe(path)
    with boxed(Limits(megapixels=2)):
        assert read(path).frames.shape == (1, 800, 1280, 3)


def test_a_result_that_is_too_large(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", seconds=4, size=(320, 320))
    with boxed(Limits(result_mb=1)):
        with pytest.raises(MediaError, match=r"frames and sound take more than 1 MB.*--media-result-mb 2 "):
            read(path)
        assert len(read(path, segments=2).frames) == 2


@pytest.mark.skipif(sys.platform != "linux", reason="address space is bounded on Linux only")
def test_less_memory_gives_a_reason_or_the_same(tmp_path: Path) -> None:
    """FFmpeg takes a packet that there is no memory for as damaged, unless told apart."""
    path = make_video(tmp_path / "a.mp4", seconds=2, size=(1280, 720))
    expected, outcomes = everything(path), []
    for megabytes in (16, 24, 48, 200):
        with boxed(Limits(memory_mb=megabytes)):
            try:
                assert_same(everything(path), expected)
                outcomes.append("")
            except MediaError as error:
                outcomes.append(error.reason)
    refused = [reason for reason in outcomes if reason]
    assert 1 < len(refused) < len(outcomes)
    assert all("decoding it takes more than" in reason for reason in refused)


def test_limits_are_positive() -> None:
    with pytest.raises(AvpeaError, match=r"--media-seconds \(Limits\(seconds\)\) is 0; expected 1 or more"):
        Limits(seconds=0)


def test_what_watched_a_file_does_not_end_the_reading_of_the_next(tmp_path: Path, video: Path) -> None:
    (tmp_path / "bad.mp4").write_bytes(b"nothing")
    with boxed():
        probe(video)
        for path in (tmp_path / "bad.mp4", video):
            unwanted = False

            def watch(seconds: float) -> bool:
                return unwanted  # noqa: B023

            with watched(watch), nullcontext() if path == video else pytest.raises(MediaError, match="not a video"):
                probe(path)
            unwanted = True
            end = time.monotonic() + 0.5
            while time.monotonic() < end:
                assert probe(video).has_video


def test_a_reading_that_ends_as_it_is_stopped_leaves_a_box_that_works(video: Path) -> None:
    called = threading.Event()

    def watch(seconds: float) -> bool:
        called.set()
        time.sleep(0.5)  # the reading is done meanwhile
        return True

    with boxed():
        probe(video)
        time.sleep(0.5)
        with watched(watch):
            assert probe(video).has_video
        assert called.is_set()
        assert probe(video).has_video


def test_several_threads_read_in_several_boxes_and_one_can_be_stopped(video: Path) -> None:
    with boxed(workers=2):
        pool = current()
        assert isinstance(pool, Pool)
        pool.start()
        first, second = pool.process_ids
        os.kill(first, signal.SIGSTOP)
        os.kill(second, signal.SIGSTOP)
        with watched(lambda seconds: True), pytest.raises(MediaError, match="reading it was stopped"):
            read(video)
        assert len(set(pool.process_ids) & {first, second}) == 1
        os.kill(next(iter(set(pool.process_ids) & {first, second})), signal.SIGCONT)
        assert len(read(video).frames) > 0
    assert not pool.process_ids


def test_threads_that_start_together_start_one_worker(video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []

    class Slow(_process.Worker):
        def __init__(self, limits: Limits) -> None:
            time.sleep(0.1)  # so that all threads find none
            super().__init__(limits)
            made.append(self)

    monkeypatch.setattr(box_module, "Worker", Slow)
    together = threading.Barrier(4)

    def work() -> None:
        together.wait()
        read(video)

    with boxed():
        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(made) == 1
    assert not made[0].alive


def test_blocks_of_two_threads_that_overlap_keep_their_own_box(video: Path) -> None:
    first_open, second_open, first_ended = (threading.Event() for _ in range(3))
    found: list[Any] = []

    def first() -> None:
        with boxed():
            found.append(current())
            first_open.set()
            second_open.wait(30)
            found.append(current())
        first_ended.set()

    thread = threading.Thread(target=first)
    thread.start()
    first_open.wait(30)
    with boxed():
        own = current()
        second_open.set()
        first_ended.wait(30)
        assert current() is own
    thread.join()
    assert current() is None
    assert found[0] is found[1] is not own
    with pytest.raises(MediaError, match=r"boxed in which it is read has ended"):
        found[0].run("probe", MediaInfo, video, Growing(np.uint8), Growing(np.float32), {})
    assert found[0].process_id is None


def test_a_worker_that_cannot_start_says_why(video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("avpea.media._process.START", "raise ImportError('no av here')")
    with boxed(), pytest.raises(AvpeaError, match=r"does not start \(ImportError: no av here\); --in-process"):
        probe(video)


def test_one_that_ended_before_anything_was_said_to_it_says_why(video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    say = _process.Worker._say

    def late(self: Any, value: dict[str, Any]) -> None:
        self._process.wait(timeout=120)
        say(self, value)

    monkeypatch.setattr("avpea.media._process.START", "raise ImportError('no av here')")
    monkeypatch.setattr(_process.Worker, "_say", late)
    with boxed(), pytest.raises(AvpeaError, match=r"does not start \(ImportError: no av here\); --in-process"):
        probe(video)


class Saying(_process.Worker):
    """Says these bytes instead of a worker."""

    def __init__(self, *messages: tuple[bytes, int, int, bytes]) -> None:
        self.left = b"".join(wire.HEADER.pack(*head) + body for *head, body in messages)

    def header(self) -> tuple[bytes, int, int]:
        head, self.left = self.left[: wire.HEADER.size], self.left[wire.HEADER.size :]
        kind, sink, count = wire.HEADER.unpack(head)
        return kind, sink, count

    def fill(self, place: memoryview) -> None:
        place[:] = self.left[: len(place)]
        self.left = self.left[len(place) :]


FOUND = (
    b'{"segments": 1, "frame_seconds": [0.5], "frame_aspect": 1.0, "black": true, "skip": %b, "duration_seconds": %b, '
    b'"declared_seconds": 1.0, "repairs": []}'
)
FRAME = [(wire.SHAPE, 0, 9, b"[1, 2, 3]"), (wire.ROWS, 0, 1, bytes(6))]


def answer(body: bytes) -> tuple[bytes, int, int, bytes]:
    return wire.ANSWER, 0, len(body), body


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        ([(b"?", 0, 0, b"")], "nothing that avpea sends"),
        ([(wire.SHAPE, 0, 2, b"[]")], "nothing that avpea sends"),
        ([(wire.SHAPE, 0, 19, b"[99999999, 99999, 3]")], "nothing that avpea sends"),
        ([(wire.SHAPE, 0, 10, b"[-1, 2, 3]")], "nothing that avpea sends"),
        ([(wire.ROWS, 0, 1, bytes(6))], "nothing that avpea sends"),
        ([(wire.ROWS, 9, 1, bytes(6))], "nothing that avpea sends"),
        ([(wire.REPEAT, 1, 1, b"")], "nothing that avpea sends"),
        ([*FRAME, (wire.SHAPE, 0, 9, b"[3, 2, 3]")], "nothing that avpea sends"),
        ([(wire.ROWS, 1, 2**62, b"")], "take more than 2 MB"),
        ([(wire.ANSWER, 0, 2**62, b"")], "take more than 2 MB"),
        ([*FRAME, (wire.REPEAT, 0, 2**40, b"")], "take more than 2 MB"),
        ([*FRAME, answer(FOUND % (b"-1", b"1.0"))], "nothing that avpea sends"),
        ([*FRAME, answer(FOUND % (b"0", b"NaN"))], "nothing that avpea sends"),
        ([*FRAME, answer(FOUND % (b"0", b'"1"'))], "nothing that avpea sends"),
        ([answer(FOUND % (b"0", b"1.0"))], "nothing that avpea sends"),
        ([answer(b"{}")], "nothing that avpea sends"),
        ([answer(b"[" * 100_000)], "nothing that avpea sends"),
        ([(wire.ERROR, 0, 16, b'["OSError", "x"]')], "nothing that avpea sends"),
        ([(wire.ERROR, 0, 20, b'["NoAudioTrack", ""]')], ""),
    ],
)
def test_what_a_worker_says_is_checked(messages: list[Any], reason: str) -> None:
    worker = Saying(*messages)
    with pytest.raises(Refused) as refused:
        received(worker, Found, Limits(result_mb=2), Path("a.mp4"), Growing(np.uint8), Growing(np.float32))
    assert reason in str(refused.value.reason)
    assert refused.value.ends == bool(reason)


def test_a_stored_picture_has_three_rows() -> None:
    worker = Saying(*FRAME, answer(b'{"bits": 8}'))
    with pytest.raises(Refused, match="nothing that avpea sends"):
        received(worker, Stored, Limits(), Path("a.png"), Growing(np.uint8), Growing(np.float32))


def in_another_process(code: str, *arguments: str) -> "subprocess.Popen[str]":
    words = [sys.executable, "-c", code, *arguments]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


# Without torch, whose import takes seconds.
DECODING = """
import os, sys, time
import numpy as np
from pathlib import Path
from avpea.media import Limits, MediaInfo, _process
from avpea.media.box import Box
from avpea.media.growing import Growing
_process.START = sys.argv[3]
box = Box(Limits(seconds=600))
def probe(path):
    options = {"audio_track": None, "video_track": None}
    box.run("probe", MediaInfo, Path(path), Growing(np.uint8), Growing(np.float32), options)
    return box.process_id
"""
DECODING_ON = """
print(probe(sys.argv[1]), flush=True)
probe(sys.argv[2]) if sys.argv[2] else time.sleep(600)
"""
FORKING = """
before = probe(sys.argv[1])
if not (child := os.fork()):
    os._exit(0 if probe(sys.argv[1]) != before else 1)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert probe(sys.argv[1]) == before
box.close()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@pytest.mark.parametrize(
    ("number", "busy"),
    [
        (signal.SIGKILL, True),
        (signal.SIGINT, True),
        pytest.param(signal.SIGTERM, True, marks=pytest.mark.slow),
        pytest.param(signal.SIGKILL, False, marks=pytest.mark.slow),
        pytest.param(signal.SIGINT, False, marks=pytest.mark.slow),
    ],
)
def test_a_worker_does_not_outlive_its_parent(tmp_path: Path, video: Path, number: int, busy: bool) -> None:
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(video.read_bytes())
    start = sabotaged(tmp_path / "code", "while True: pass")
    process = in_another_process(DECODING + DECODING_ON, str(video), str(bad) if busy else "", start)
    assert process.stdout is not None
    worker = int(process.stdout.readline())
    time.sleep(0.5)
    process.send_signal(number)
    _, errors = process.communicate(timeout=120)
    assert gone(worker)
    assert "sabotaged" not in errors


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no forks here")
def test_a_fork_gets_a_worker_of_its_own(video: Path) -> None:
    process = in_another_process(DECODING + FORKING, str(video), "", _process.START)
    assert process.communicate(timeout=120) == ("", "")
    assert process.returncode == 0


def test_a_worker_knows_no_torch() -> None:
    """It starts in a moment, and its memory is that of FFmpeg."""
    code = "import sys, avpea.media._worker; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "timm", "PIL", "jaxtyping", "asyncio"} & set(done.stdout.split())


@pytest.fixture
def one_bad_of_three(tmp_path: Path, tiny_data: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Path]:
    """A folder of three videos, of which the second kills its worker."""
    folder = tmp_path / "videos"
    folder.mkdir()
    for name, source in {"a.mp4": "g4", "bad.mp4": "g0", "c.mp4": "r4"}.items():
        (folder / name).write_bytes((tiny_data / "AVE" / f"{source}.mp4").read_bytes())
    crash = "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)"
    monkeypatch.setattr(_process, "START", sabotaged(tmp_path / "code", crash))
    return lambda: folder


def test_predict_answers_about_the_others(
    one_bad_of_three: Callable[[], Path], tiny_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from avpea.cli import main

    assert main(["predict", str(tiny_run), str(one_bad_of_three()), "--json", "--quiet"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert [("crashed on it (SIGSEGV)" in line, '"events"' in line) for line in lines] == [
        (False, True), (True, False), (False, True),
    ]  # fmt: skip


def test_index_keeps_the_others(
    one_bad_of_three: Callable[[], Path], tiny_matched_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("lancedb")
    from avpea.cli import main

    library = str(tmp_path / "library")
    assert main(["index", str(tiny_matched_run), str(one_bad_of_three()), "--library", library, "--quiet"]) == 1
    said = capsys.readouterr().out
    assert "2 indexed" in said
    assert "1 left out" in said
    assert "bad.mp4: the decoder crashed on it (SIGSEGV)" in said


@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_verify_reports_the_others(
    one_bad_of_three: Callable[[], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], workers: int
) -> None:
    from avpea.cli import main

    table = tmp_path / "rows.csv"
    rows = [f"{path},0,1,green,train" for path in sorted(one_bad_of_three().iterdir())] * (8 if workers else 1)
    table.write_text("\n".join(["video,start_seconds,end_seconds,label,split", *rows]) + "\n")
    words = ["data", "verify", "manifest", "--data.root", str(table), "--decode", "--data.workers", str(workers)]
    assert main(words) == 1
    said = capsys.readouterr().out
    assert "Broken: 1 (" in said
    assert "crashed on it (SIGSEGV)" in said
