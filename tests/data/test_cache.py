"""The sample cache: resumable, safe with several processes, rebuilt when what made an entry changes."""

import dataclasses
import errno
import os
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from avpea.data import _work
from avpea.data import cache as cache_module
from avpea.data.cache import SampleCache
from avpea.data.inputs import middles, sample_from_clip
from avpea.errors import DataError, MediaError, WriteError
from avpea.files import replacing
from avpea.labels import CaptionSample, EventSample, Sample
from avpea.media import log_mel, read_sound, vggish_log_mel
from avpea.media import read as read_media
from avpea.sections import AudioOptions
from avpea.tensors import write_tensors
from tests.data.crash_factory import die_on_three
from tests.media_factory import make_video, numbered
from tests.tiny import exit_code, processes, section

AUDIO = section("audio", mel_bins=16, frame_shift_ms=20.0)
SIDE = 24


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten two-second videos and one that is no video."""
    folder = tmp_path_factory.mktemp("videos")
    for number in range(10):
        options: dict[str, Any] = {
            "size": (48, 32),
            "audio_hz": 16_000,
            "audio_layout": "mono",
            "tone_hz": 200.0 + 50 * number,
        }
        make_video(folder / f"v{number}.mp4", seconds=2, fps=5, **options)
    (folder / "broken.mp4").write_bytes(b"this is no video at all")
    return folder


def sample(video: Path, key: str | None = None, **changes: Any) -> Sample:
    values = {"start_seconds": 0.0, "segments": 2, "split": "train", **changes}
    return Sample(key=key or video.stem, video_id=video.stem, video=video, **values)


def samples(videos: Path, count: int = 10) -> list[Sample]:
    return [sample(videos / f"v{number}.mp4") for number in range(count)]


def make_cache(folder: Path, audio: AudioOptions = AUDIO, side: int = SIDE, **changes: Any) -> SampleCache:
    return SampleCache(section("data", "ave", cache=str(folder), segments=2, **{"workers": 0, **changes}), audio, side)


def entries(cache: SampleCache) -> list[Path]:
    return sorted(cache.folder.rglob("*.safetensors"))


# --- what an entry holds


def test_entry_equals_the_clip(videos: Path, tmp_path: Path) -> None:
    cache, first = make_cache(tmp_path), samples(videos)[3]
    entry = cache.read(first)
    clip = read_media(first.video, segments=2, frame_size=(SIDE, SIDE))
    assert entry["frames"].dtype == torch.uint8
    assert torch.equal(entry["frames"], clip.frames)
    assert entry["log_mel"].dtype == torch.float32
    assert entry["log_mel"].shape == (2, 1 + (16_000 - 400) // 320, 16)
    centred = clip.waveform - clip.waveform.mean()
    for second in range(2):
        expected = log_mel(centred[16_000 * second : 16_000 * (second + 1)], mel_bins=16, frame_shift_ms=20.0)
        torch.testing.assert_close(entry["log_mel"][second], expected)
    (path,) = entries(cache)
    assert path == cache.path(first)
    assert path.parent.name == path.name[:2]


def test_a_constant_offset_of_the_waveform_changes_nothing(videos: Path) -> None:
    clip = read_media(videos / "v1.mp4", frame_size=(SIDE, SIDE))
    shifted = dataclasses.replace(clip, waveform=clip.waveform + 0.25)
    (_, plain), (_, other) = (sample_from_clip(c, AUDIO) for c in (clip, shifted))
    torch.testing.assert_close(plain, other, atol=0.05, rtol=0)


@pytest.mark.parametrize("layout", ["image", "native", "continuous"])
def test_threads_change_no_bit_of_a_log_mel(layout: str, tmp_path: Path) -> None:
    """Torch sums more than 32,768 numbers in as many parts as there are threads."""
    video = make_video(tmp_path / "a.mkv", seconds=3, fps=5, size=(48, 32), audio_codec="pcm_s16le", tone_hz=331.7)
    clip, audio = read_media(video, frame_size=(SIDE, SIDE)), section("audio", layout=layout, mel_bins=128)
    clip = dataclasses.replace(clip, waveform=clip.waveform + torch.linspace(-1, 1, len(clip.waveform)) ** 3 / 7)
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3, 4):
            torch.set_num_threads(threads)
            found.append(sample_from_clip(clip, audio)[1])
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(one, found[0]) for one in found)


def test_a_window_later_in_the_file(videos: Path, tmp_path: Path) -> None:
    cache, late = make_cache(tmp_path), sample(videos / "v0.mp4", start_seconds=1.0, segments=1)
    whole, part = cache.read(samples(videos)[0]), cache.read(late)
    assert torch.equal(part["frames"][0], whole["frames"][1])
    assert len(entries(cache)) == 2


def test_batch(videos: Path, tmp_path: Path) -> None:
    cache = make_cache(tmp_path)
    batch = cache.batch(samples(videos)[:3])
    assert len(batch) == 3
    assert [sample.key for sample in batch.samples] == ["v0", "v1", "v2"]
    assert batch.frames.shape == (3, 2, SIDE, SIDE, 3)
    assert batch.log_mel.shape == (3, 2, 49, 16)
    moved = batch.to("meta")
    assert moved.frames.is_meta
    assert moved.log_mel.is_meta
    assert moved.samples == batch.samples


def test_log_mel_statistics(videos: Path, tmp_path: Path) -> None:
    cache = make_cache(tmp_path)
    mean, std = cache.log_mel_statistics(samples(videos)[:4])
    values = cache.batch(samples(videos)[:4]).log_mel.double()
    assert mean == pytest.approx(values.mean().item(), abs=1e-9)
    assert std == pytest.approx(values.std(correction=0).item(), abs=1e-9)
    with pytest.raises(DataError, match="no samples"):
        cache.log_mel_statistics([])


# --- filling


def test_fill_decodes_once_and_resumes(videos: Path, tmp_path: Path) -> None:
    cache = make_cache(tmp_path)
    assert cache.fill(samples(videos)[:4], progress=False).decoded == 4
    report = cache.fill(samples(videos)[:7], progress=False)
    assert (report.decoded, report.broken) == (3, {})
    assert report.ready == tuple(samples(videos)[:7])
    assert cache.fill(samples(videos)[:7], progress=False).decoded == 0
    assert len(entries(cache)) == 7
    assert not list(tmp_path.rglob("*.tmp"))
    assert (cache.folder / "settings.json").is_file()


def test_rows_of_one_video_share_an_entry(videos: Path, tmp_path: Path) -> None:
    cache = make_cache(tmp_path)
    two = [sample(videos / "v0.mp4", "a"), sample(videos / "v0.mp4", "b")]
    report = cache.fill(two, progress=False)
    assert (report.decoded, len(report.ready)) == (1, 2)


def test_fill_with_processes(videos: Path, tmp_path: Path) -> None:
    cache = make_cache(tmp_path, workers=2)
    asked = [*samples(videos), sample(videos / "broken.mp4")]
    report = cache.fill(asked, progress=False)
    assert report.decoded == 10
    assert list(report.broken) == ["broken"]
    assert torch.equal(cache.read(asked[0])["frames"], make_cache(tmp_path / "b").read(asked[0])["frames"])


def test_broken_and_missing_videos_are_reported_with_reasons(videos: Path, tmp_path: Path) -> None:
    cache = make_cache(tmp_path)
    gone = sample(videos / "gone.mp4")
    twice = [sample(videos / "broken.mp4", "x"), sample(videos / "broken.mp4", "y")]
    asked = [twice[0], gone, samples(videos)[0], twice[1]]
    report = cache.fill(asked, progress=False)
    assert report.ready == (samples(videos)[0],)
    assert list(report.broken) == ["x", "gone", "y"]
    assert "gone.mp4: there is no such file" in report.broken["gone"]
    assert report.broken["x"] == report.broken["y"]
    assert "broken.mp4" in report.broken["x"]
    for bad in (gone, twice[0]):
        with pytest.raises(MediaError, match=bad.video.name):
            cache.read(bad)


def test_strict_refuses_with_the_first_ones_and_the_count(videos: Path, tmp_path: Path) -> None:
    cache = make_cache(tmp_path, strict=True)
    asked = [samples(videos)[0], *(sample(videos / f"gone{number}.mp4") for number in range(7))]
    with pytest.raises(DataError) as error:
        cache.fill(asked, progress=False)
    text = str(error.value)
    assert "7 of 8 samples cannot be used" in text
    assert "gone0.mp4" in text
    assert "gone5.mp4" not in text
    assert "and 2 more" in text


def test_missing_sound_is_an_error_or_silence(videos: Path, tmp_path: Path) -> None:
    make_video(tmp_path / "mute.mp4", seconds=2, fps=5, size=(48, 32), audio_hz=None)
    mute = sample(tmp_path / "mute.mp4")
    strict, lenient = make_cache(tmp_path / "c"), make_cache(tmp_path / "c", missing_audio="silence")
    assert list(lenient.fill([mute], progress=False).broken) == []
    assert list(strict.fill([mute], progress=False).broken) == ["mute"]
    assert lenient.read(mute)["log_mel"].unique().numel() == 1


def test_a_file_that_ends_early_is_padded_and_reported(videos: Path, tmp_path: Path) -> None:
    cache, first = make_cache(tmp_path), samples(videos)[0]
    longer = sample(videos / "v1.mp4", segments=5)
    for _ in range(2):
        report = cache.fill([first, longer], progress=False)
        assert list(report.padded) == ["v1"]
        assert "ends at 2.0 s; 3 of 5 segments are padding" in report.padded["v1"]
    assert torch.equal(cache.read(longer)["frames"][4], cache.read(longer)["frames"][2])


def test_progress_goes_to_stderr(videos: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    make_cache(tmp_path).fill(samples(videos)[:2])
    captured = capfd.readouterr()
    assert captured.out == ""
    assert "Decoding videos" in captured.err
    assert "2/2" in captured.err


# --- what makes an entry old


@pytest.mark.parametrize(
    "change",
    [
        {"side": 32},
        {"audio": section("audio", mel_bins=20, frame_shift_ms=20.0)},
        {"audio": section("audio", mel_bins=16, frame_shift_ms=10.0)},
        {"missing_video": "black"},
        {"audio": section("audio", features="vggish", mel_bins=64)},
    ],
)
def test_other_settings_make_other_entries(videos: Path, tmp_path: Path, change: dict[str, Any]) -> None:
    first = samples(videos)[0]
    assert make_cache(tmp_path).fill([first], progress=False).decoded == 1
    assert make_cache(tmp_path, **change).fill([first], progress=False).decoded == 1
    assert make_cache(tmp_path).fill([first], progress=False).decoded == 0


def test_the_choice_of_features_left_the_old_folders_where_they_were(tmp_path: Path) -> None:
    settings = make_cache(tmp_path).settings
    assert settings.keys() == {
        "format", "decoder", "frame_size", "mel_bins", "frame_shift_ms", "missing_audio", "missing_video",
    }  # fmt: skip
    folder = make_cache(tmp_path, audio=section("audio"), side=224).folder.name
    if settings["decoder"] == "av 18":  # its major version is in the name
        assert folder == "d0f4881bed81f1a6"


def test_vggish_features_of_the_sound_as_it_is(videos: Path) -> None:
    clip = read_media(videos / "v0.mp4", segments=2, frame_size=(SIDE, SIDE))
    clip = dataclasses.replace(clip, waveform=clip.waveform + 0.1)  # Kaldi's lose their mean, these keep it
    _, mel = sample_from_clip(clip, section("audio", features="vggish", mel_bins=64))
    assert torch.equal(mel, torch.stack([vggish_log_mel(second) for second in clip.waveform.reshape(2, -1)]))
    assert mel.shape == (2, 96, 64)


def test_normalisation_does_not_touch_the_cache(tmp_path: Path) -> None:
    other = section("audio", mel_bins=16, frame_shift_ms=20.0, mean=0.0, std=1.0, layout="native")
    assert make_cache(tmp_path).folder == make_cache(tmp_path, audio=other).folder


def test_an_edited_video_is_decoded_again(tmp_path: Path) -> None:
    options: dict[str, Any] = {"seconds": 2, "fps": 5, "size": (48, 32), "audio_hz": 16_000}
    video = make_video(tmp_path / "v.mp4", **options)
    cache = make_cache(tmp_path / "cache")
    before = cache.read(sample(video))["frames"]
    make_video(video, **options, picture=lambda number, size: 255 - numbered(number, size))
    os.utime(video, ns=(1, 1))
    assert cache.fill([sample(video)], progress=False).decoded == 1
    assert not torch.equal(cache.read(sample(video))["frames"], before)


def test_the_sound_of_another_file_is_read_again_when_it_is_another_one(tmp_path: Path) -> None:
    options: dict[str, Any] = {"seconds": 2, "fps": 5, "size": (48, 32), "audio_hz": 16_000}
    video, sound = make_video(tmp_path / "v.mp4", **options), make_video(tmp_path / "s.mp4", **options)
    os.utime(sound, ns=(1, 1))
    cache, one = make_cache(tmp_path / "cache"), sample(video, sound=sound)
    before = cache.read(one)["log_mel"]
    make_video(sound, **options, tone_hz=2000.0, key_every=1)
    os.utime(sound, ns=(1, 1))  # as programs that copy times leave it
    assert cache.fill([one], progress=False).decoded == 1
    assert not torch.equal(cache.read(one)["log_mel"], before)


def test_of_a_video_with_the_sound_of_another_file_only_the_picture_counts(videos: Path, tmp_path: Path) -> None:
    """And of the other file only the sound, whichever tracks are chosen."""
    mute = make_video(tmp_path / "mute.mp4", seconds=2, fps=5, size=(48, 32), audio_hz=None)
    sound = make_video(tmp_path / "sound.wav", seconds=2, fps=None, audio_hz=16_000, audio_codec="pcm_s16le")
    chosen: list[dict[str, Any]] = [{}, {"audio_track": 0, "video_track": 0}]
    for tracks in chosen:
        cache = make_cache(tmp_path / "cache", **tracks)
        both = [sample(mute, "a", sound=videos / "v1.mp4"), sample(videos / "v0.mp4", "b", sound=sound)]
        assert cache.fill(both, progress=False).broken == {}
        assert torch.equal(cache.read(both[0])["log_mel"], cache.read(sample(videos / "v1.mp4"))["log_mel"])
        assert torch.equal(cache.read(both[1])["frames"], cache.read(sample(videos / "v0.mp4"))["frames"])
        wrong = [sample(mute, "a", sound=mute), sample(sound, "b", sound=sound), sample(mute, "c")]
        assert [*cache.fill(wrong, progress=False).broken] == ["a", "b", "c"]


@pytest.mark.parametrize("damage", ["truncated", "empty", "text", "another shape"])
def test_a_damaged_entry_is_rebuilt(videos: Path, tmp_path: Path, damage: str) -> None:
    cache, first = make_cache(tmp_path), samples(videos)[0]
    good = {name: value.clone() for name, value in cache.read(first).items()}
    path = cache.path(first)
    other = make_cache(tmp_path / "other", side=8)
    other.read(first)
    content = {
        "truncated": path.read_bytes()[:-100],
        "empty": b"",
        "text": b"x" * 500,
        "another shape": other.path(first).read_bytes(),
    }[damage]
    path.write_bytes(content)
    assert torch.equal(cache.read(first)["frames"], good["frames"])
    path.write_bytes(content)
    assert cache.fill([first], progress=False).decoded == 1
    assert torch.equal(cache.read(first)["log_mel"], good["log_mel"])


# --- several processes, kills and full disks


def fill(videos: Path, folder: Path, slow: float, decoded: Any) -> None:
    """In another process: fill the cache slowly, and send the number of windows that this one has decoded."""
    store: Any = make_cache(folder)
    make = store._make

    def slowly(*job: Any) -> Any:
        time.sleep(slow)
        return make(*job)

    store._make = slowly
    decoded.put(store.fill(samples(videos), progress=False).decoded)
    decoded.close()
    decoded.join_thread()


def start_filling(videos: Path, folder: Path, slow: float) -> tuple[Any, Any]:
    decoded = processes().Queue()
    process = processes().Process(target=fill, args=(videos, folder, slow, decoded))
    process.start()
    return process, decoded


@pytest.mark.parametrize("part", ["frames", "log_mel", "header"])
def test_random_bytes_in_an_entry_are_found_and_told(
    videos: Path, tmp_path: Path, part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    cache, one = make_cache(tmp_path), sample(videos / "v0.mp4")
    expected = {name: value.clone() for name, value in cache.read(one).items()}
    path = cache.path(one)
    whole = path.read_bytes()
    start = 8 + int.from_bytes(whole[:8], "little")
    place = {"frames": start + 5, "log_mel": len(whole) - 9, "header": whole.index(b"duration_seconds")}[part]
    if whole.index(b'"frames"') > whole.index(b'"log_mel"'):  # safetensors lays larger types out first
        place = {start + 5: len(whole) - 9, len(whole) - 9: start + 5}.get(place, place)
    path.write_bytes(whole[:place] + bytes(b ^ 0x15 for b in whole[place : place + 4]) + whole[place + 4 :])
    report = cache.fill([one], progress=False)
    again = cache.read(one)
    assert (len(report.ready), report.decoded) == (1, part == "header")
    assert all(torch.equal(again[name], value) for name, value in expected.items())
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert said[0].startswith(f"avpea: the cache entry {path} is damaged: ")
    assert said[0].endswith("; it is made anew.")


def test_an_entry_without_checksums_is_made_anew(
    videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cache, one = make_cache(tmp_path), sample(videos / "v0.mp4")
    expected = {name: value.clone() for name, value in cache.read(one).items()}
    wrong = {name: value + 1 for name, value in expected.items()}
    save_file(wrong, cache.path(one), {"duration_seconds": "2.0"})  # as version 0.1.0 wrote it
    assert cache.fill([one], progress=False).decoded == 1
    assert all(torch.equal(cache.read(one)[name], value) for name, value in expected.items())
    assert capsys.readouterr().err == ""


def test_two_processes_fill_one_cache(videos: Path, tmp_path: Path) -> None:
    both = [start_filling(videos, tmp_path, 0.02) for _ in range(2)]
    assert sum(decoded.get(timeout=120) for _, decoded in both) >= 10
    assert [exit_code(process) for process, _ in both] == [0, 0]
    cache = make_cache(tmp_path)
    assert len(entries(cache)) == 10
    assert cache.fill(samples(videos), progress=False).decoded == 0
    assert not list(tmp_path.rglob("*.tmp"))


def test_a_killed_run_goes_on_where_it_stopped(videos: Path, tmp_path: Path) -> None:
    cache = make_cache(tmp_path)
    process, _ = start_filling(videos, tmp_path, 0.3)
    while len(entries(cache)) < 2 and process.is_alive():
        time.sleep(0.02)
    process.kill()
    process.join()
    there = len(entries(cache))
    assert 2 <= there < 10
    assert cache.fill(samples(videos), progress=False).decoded == 10 - there


def test_leftovers_of_killed_runs_are_removed_and_those_of_others_are_not(videos: Path, tmp_path: Path) -> None:
    cache = make_cache(tmp_path)
    left = cache.folder / "ab" / ".killed.tmp"
    left.parent.mkdir(parents=True)
    left.touch()
    with replacing(cache.folder / "ab" / "entry") as alive:
        cache.fill(samples(videos)[:1], progress=False)
        assert alive.exists()
    assert not left.exists()


def test_a_cache_that_can_not_be_written_at_all_is_refused(videos: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"cannot be written \(Not a directory\).*--data\.cache"):
        make_cache(tmp_path / "file").fill(samples(videos)[:1], progress=False)


def test_a_cache_that_gets_full_is_done_without(
    videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    some = samples(videos)[:3]
    whole = make_cache(tmp_path / "whole")
    wanted = whole.fill(some, progress=False)
    cache, kept = make_cache(tmp_path / "cache"), list[Path]()

    def full(path: Path, *arguments: Any) -> None:
        if kept:
            raise WriteError(errno.ENOSPC, str(path))
        kept.append(path)
        write_tensors(path, *arguments)

    monkeypatch.setattr(cache_module, "write_tensors", full)
    found = cache.fill(some, progress=False)
    assert (found.ready, found.broken, found.padded) == (wanted.ready, wanted.broken, wanted.padded)
    for sample in some:
        read = cache.read(sample)
        assert all(torch.equal(read[name], value) for name, value in whole.read(sample).items())
    said = capsys.readouterr().err
    assert said.count("No space left on device") == 1
    assert "decoded each time it is needed" in said
    monkeypatch.undo()
    assert cache.fill(some, progress=False).decoded == 2  # after room was made


def test_a_cache_that_vanishes_is_made_anew(videos: Path, tmp_path: Path) -> None:
    some, cache = samples(videos)[:2], make_cache(tmp_path / "cache")
    cache.fill(some, progress=False)
    before = cache.read(some[0])
    torch.manual_seed(0)
    others = cache.frames_of_others(some[:1], some)
    shutil.rmtree(tmp_path / "cache")
    torch.manual_seed(0)
    assert torch.equal(cache.frames_of_others(some[:1], some), others)
    shutil.rmtree(tmp_path / "cache")
    assert all(torch.equal(value, before[name]) for name, value in cache.read(some[0]).items())
    assert cache.path(some[0]).is_file()


@pytest.mark.slow
def test_a_crash_in_a_worker_costs_one_job() -> None:
    done = dict(
        _work.run(die_on_three, [0, 3, 1], workers=1, crashed=lambda job: -job, title="", progress=False, few=0)
    )
    assert done == {0: 0, 3: -3, 1: 1}


def test_processes_that_cannot_start_are_explained(tmp_path: Path) -> None:
    script = tmp_path / "unguarded.py"
    script.write_text(
        "from avpea.data._work import run\nlist(run(abs, range(9), workers=1, crashed=abs, title='', progress=False))\n"
    )
    result = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False, timeout=60)
    assert "cannot be started; call from a script file that guards its start" in result.stderr


def test_the_layout_continuous_is_valors_public_pipeline(tmp_path: Path) -> None:
    """The whole sound at 22,050 Hz, its mean removed, one log-mel, padded to whole slices, of which the middle ones."""
    kaldi = pytest.importorskip("torchaudio.compliance.kaldi", reason="torchaudio is the oracle")
    video = make_video(tmp_path / "a.mkv", seconds=11, fps=5, size=(48, 32), audio_codec="pcm_s16le")
    audio = section("audio", layout="continuous", mel_bins=64, rows=256, slices=2)
    options = section("data", "valor32k", cache=str(tmp_path / "cache"), segments=4, seconds="linspace", workers=0)
    cache = SampleCache(options, audio, 32)
    sample = CaptionSample("a", "a", video, 0.0, 4, "test", seconds="linspace", captions=("a",))
    assert cache.fill([sample], progress=False).broken == {}
    batch = cache.batch([sample])
    waveform = read_sound(video, 22_050)
    waveform = waveform - waveform.double().mean().float()
    fbank = kaldi.fbank(
        waveform[None], sample_frequency=22_050, htk_compat=True, use_energy=False, window_type="hanning",
        num_mel_bins=64, dither=0.0, frame_shift=10,
    )  # fmt: skip
    assert len(fbank) == 1 + (len(waveform) - 551) // 220
    padded = torch.nn.functional.pad(fbank, (0, 0, 0, 256 - len(fbank) % 256)).view(-1, 256, 64)
    assert len(padded) == 5
    assert torch.equal(batch.log_mel[0], padded[[1, 3]])  # of the parts (0, 1, 2) and (3, 4)
    drawn = batch.drawn(2)
    assert drawn.frames.shape[1] == 2
    assert torch.equal(drawn.log_mel, batch.log_mel)


def test_a_length_that_is_a_multiple_gets_a_slice_of_zeros_as_in_valors_public_code() -> None:
    assert (middles(3, 2), middles(2, 2), middles(1, 2)) == ([0, 2], [0, 1], [0, 0])
    assert middles(12, 8) == [0, 2, 4, 6, 8, 9, 10, 11]


def test_lavishs_moments_have_entries_of_their_own(videos: Path, tmp_path: Path) -> None:
    cache = make_cache(tmp_path, seconds="lavish")
    plain = EventSample("a", "a", videos / "v0.mp4", 0.0, 2, "train", labels=(0, 0))
    lavish = replace(plain, seconds="lavish")
    assert cache.path(plain) != cache.path(lavish)
    assert cache.path(plain) == make_cache(tmp_path).path(plain)
    assert cache.fill([lavish], progress=False).broken == {}
    assert cache.batch([lavish]).log_mel.shape == cache.batch([plain]).log_mel.shape
