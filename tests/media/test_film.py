"""A film gives, part by part, what `read` gives of the whole file, and keeps no more than some parts."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from avpea.errors import MediaError, NoAudioTrack
from avpea.media import Clip, Film, Limits, boxed, film, probe, read
from avpea.media._process import Worker
from avpea.media.belt import Belt
from avpea.media.box import current
from avpea.media.found import Found
from tests.media_factory import make_video

SIZE = (8, 16)
SILENT = {"missing_audio": "silence", "missing_video": "black"}
FILES: dict[str, dict[str, Any]] = {
    "plain.mp4": {"seconds": 9.4},
    "plain.mkv": {"seconds": 9.4},
    "plain.ts": {"seconds": 9.4},
    "plain.avi": {"seconds": 9.4, "video_codec": "mpeg4", "audio_codec": "mp3"},
    "b-frames.mp4": {"seconds": 9, "fps": 25, "key_every": 20, "video_options": {"bf": "3"}},
    "mute.mp4": {"seconds": 9, "audio_hz": None},
    "sound-only.mp4": {"seconds": 9, "fps": None},
    "sound-only.mkv": {"seconds": 9, "fps": None},
    "short-sound.mp4": {"seconds": 12, "audio_seconds": 2.3},
    "short-sound.mkv": {"seconds": 12, "audio_seconds": 2.3},
    "short-picture.mp4": {"seconds": 2.3, "audio_seconds": 12},
    "short-picture.ts": {"seconds": 2.3, "audio_seconds": 12},
    "late-sound.mp4": {"seconds": 9, "audio_start": 4.5},
    "apart.mp4": {"seconds": 9, "interleaved": False},
    "truncated.mkv": {"seconds": 12, "keep": 0.6},
    "stills.mp4": {"seconds": 12, "frame_times": [0.0, 4.2, 11.0], "audio_seconds": 12},
}  # fmt: skip


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("films")
    return {name: make_video(folder / name, **options) for name, options in FILES.items()}


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(film, "PART_SECONDS", 2)


@pytest.fixture(params=["worker", "in-process"])
def decoding(request: pytest.FixtureRequest) -> Iterator[None]:
    with boxed() if request.param == "worker" else boxed(None):
        yield


def same(parts: list[Clip], whole: Clip) -> None:
    starts = np.cumsum([0, *(len(part.frames) for part in parts)])
    assert [part.start_seconds for part in parts] == starts[:-1].tolist()
    assert torch.equal(torch.cat([part.frames for part in parts]), whole.frames)
    assert torch.equal(torch.cat([part.waveform for part in parts]), whole.waveform)
    assert parts[-1].duration_seconds == whole.duration_seconds
    assert parts[-1].repairs == whole.repairs
    assert torch.equal(parts[-1].frame_seconds, whole.frame_seconds[int(starts[-2]) :])


def test_parts_are_the_whole(files: dict[str, Path], decoding: None) -> None:
    for name, path in files.items():
        whole = read(path, frame_size=SIZE, **SILENT)  # type: ignore[arg-type]
        found = Film(path, frame_size=SIZE, **SILENT)
        parts = list(found.parts(1))
        assert len(parts) > 1, name
        same(parts, whole)
        assert found.duration_seconds == whole.duration_seconds, name
        assert found.declared_seconds == whole.declared_seconds, name
        assert found.remarks() == whole.remarks(), name
        assert torch.equal(found.frames, whole.frames), name  # decoded again
        assert found.starts == whole.starts, name


def test_the_last_part_has_a_whole_window(files: dict[str, Path]) -> None:
    lengths = [len(part.frames) for part in Film(files["plain.mp4"], frame_size=SIZE).parts(3)]
    assert lengths == [3, 3, 4]
    assert [len(part.frames) for part in Film(files["plain.mp4"], frame_size=SIZE).parts(10)] == [10]


def test_a_short_one_is_kept(files: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(film, "PART_SECONDS", 60)
    found = Film(files["plain.mp4"], frame_size=SIZE)
    (part,) = found.parts(2)
    monkeypatch.setattr(film, "read", None)
    assert found.frames is part.frames
    assert found.clip is part


def test_what_cannot_be_read_is_refused_as_by_read(files: dict[str, Path], tmp_path: Path, decoding: None) -> None:
    with pytest.raises(NoAudioTrack):
        list(Film(files["mute.mp4"], frame_size=SIZE).parts(1))
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(MediaError, match="not a video"):
        list(Film(tmp_path / "text.mp4", frame_size=SIZE).parts(1))


def test_damage_in_the_middle_is_read_as_by_read(files: dict[str, Path], tmp_path: Path, decoding: None) -> None:
    for name in ("plain.mkv", "plain.ts", "b-frames.mp4"):
        content = bytearray(files[name].read_bytes())
        middle = len(content) // 2
        content[middle : middle + 700] = bytes(700)
        path = tmp_path / name
        path.write_bytes(content)
        whole = read(path, frame_size=SIZE, **SILENT)  # type: ignore[arg-type]
        same(list(Film(path, frame_size=SIZE, **SILENT).parts(1)), whole)


def test_decoding_waits_for_who_uses_it() -> None:
    """Rows are laid down until some wait, and further ones when these are taken."""
    belt, laid = Belt(3), []

    def lay() -> None:
        for number in range(9):
            belt.frames.append(np.full((1, 2, 2, 3), number, np.uint8))
            belt.samples.append(np.full(16_000, number, np.float32))
            laid.append(number)
        belt.end(Found(9, (0.0,) * 9, 1.0, False, 0, 9.0, 9.0, ()))

    thread = threading.Thread(target=lay, daemon=True)
    thread.start()
    assert belt.wait_for(3)
    time.sleep(0.1)
    assert len(laid) <= 4
    taken = []
    while belt.wait_for(2):
        frames, samples = belt.take(2)
        assert samples[0] == frames[0, 0, 0, 0]
        taken += frames[:, 0, 0, 0].tolist()
    taken += belt.rest()[0][:, 0, 0, 0].tolist()
    assert taken == list(range(9))
    thread.join(120)


def test_a_film_that_is_left_early_ends_its_worker_and_not_that_of_others(files: dict[str, Path]) -> None:
    before = threading.active_count()
    with boxed():
        probe(files["plain.mp4"])
        parts = Film(files["b-frames.mp4"], frame_size=SIZE).parts(1)
        next(parts)
        assert probe(files["plain.mp4"]).has_video  # another file meanwhile
        parts.close()
        assert probe(files["plain.mp4"]).has_video
    deadline = time.monotonic() + 120
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.1)
    assert threading.active_count() <= before


def test_the_worker_is_used_again(files: dict[str, Path]) -> None:
    with boxed():
        list(Film(files["plain.mp4"], frame_size=SIZE).parts(1))
        box = current()
        assert box is not None
        first = box.process_id
        list(Film(files["plain.mp4"], frame_size=SIZE).parts(1))
        assert first == box.process_id is not None


def test_a_killed_worker_is_a_sentence(files: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    workers: list[Worker] = []

    class Known(Worker):
        def __init__(self, limits: Limits) -> None:
            super().__init__(limits)
            workers.append(self)

    monkeypatch.setattr("avpea.media.box.Worker", Known)
    with boxed():
        parts = Film(files["b-frames.mp4"], frame_size=(512, 512)).parts(1)
        next(parts)
        os.kill(workers[-1].process_id, signal.SIGKILL)  # it waits, as most of the video does not fit the belt
        with pytest.raises(MediaError, match="ended from outside"):
            list(parts)
