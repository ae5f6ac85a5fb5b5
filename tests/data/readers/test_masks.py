"""Masks: tables of one's own and AVSBench as published, exact pixels, and every fault told."""

import json
import shutil
import wave
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from avpea import data
from avpea.data._masks import read_masks
from avpea.data.cache import SampleCache
from avpea.data.colours import colour_of
from avpea.data.identity import changes, identify
from avpea.data.pack import pack
from avpea.data.readers._divide import by_hash
from avpea.data.verify import verify
from avpea.errors import DataError, MediaError
from avpea.labels import AVSS_CLASSES, SILENT, MaskLabels, MaskSample
from tests.media_factory import make_video
from tests.tiny import section

SIDE = 8


def picture(path: Path, pixels: Any, mode: str = "", palette: list[int] | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    made = Image.fromarray(np.asarray(pixels))
    if palette is not None:
        made = made.convert("L")
        made = Image.frombytes("P", made.size, made.tobytes())
        made.putpalette(palette + [0] * (768 - len(palette)))
    (made.convert(mode) if mode else made).save(path)
    return path


def upper(size: int = SIDE, value: int = 255) -> np.ndarray:
    pixels = np.zeros((size, size), np.uint8)
    pixels[: size // 2] = value
    return pixels


def sample(tmp_path: Path, mask: Path, **options: Any) -> MaskSample:
    frame = picture(tmp_path / "frame.png", np.zeros((SIDE, SIDE, 3), np.uint8))
    return MaskSample(
        "a", "a", tmp_path / "a.wav", 0.0, 1, "train", masks=(str(mask),), pictures=(str(frame),), side=SIDE, **options
    )


WAYS: dict[str, Callable[[Path], Path]] = {
    "bits": lambda path: picture(path, upper() > 0),
    "grey": lambda path: picture(path, upper()),
    "grey of 1": lambda path: picture(path, upper(value=1)),
    "white in RGB": lambda path: picture(path, upper(), "RGB"),
    "RGBA": lambda path: picture(path, upper(), "RGBA"),
    "white on a transparent layer that is black": lambda path: picture(path, np.dstack([upper()] * 4)),
    "16 bits of 1": lambda path: picture(path, upper().astype(np.uint16) // 255),
    "white in 16 bits": lambda path: picture(path, upper().astype(np.uint16) * 257),
    "TIFF of 1 in 16 bits": lambda path: picture(path.with_suffix(".tiff"), upper().astype(np.uint16) // 255),
    "TIFF": lambda path: picture(path.with_suffix(".tiff"), upper()),
    "a palette of 0 and 1": lambda path: picture(path, upper(value=1), palette=[0, 0, 0, 1, 1, 1]),
    "red of a palette": lambda path: picture(path, upper(value=1), palette=[0, 0, 0, 128, 0, 0]),
}


@pytest.mark.parametrize("way", WAYS)
def test_whatever_is_not_black_sounds_however_it_is_stored(way: str, tmp_path: Path) -> None:
    found, remarks = read_masks(sample(tmp_path, WAYS[way](tmp_path / "mask.png")))
    assert torch.equal(found[0], torch.from_numpy(upper(value=1)))
    plain = way not in ("grey of 1", "a palette of 0 and 1", "red of a palette") and "of 1" not in way
    assert bool(remarks) != plain
    assert plain or "whatever is not black sounds" in remarks[0]


def test_masks_are_resized_by_their_nearest_pixels(tmp_path: Path) -> None:
    frame = picture(tmp_path / "large.png", np.zeros((32, 64, 3), np.uint8))
    pixels = np.zeros((32, 64), np.uint8)
    pixels[3, 5] = pixels[2, 4] = 255  # the centres of two of 8 x 8 fields are at rows 2, 6, ... and columns 4, 12, ...
    mask = picture(tmp_path / "mask.png", pixels)
    one = MaskSample("a", "a", tmp_path / "a.wav", 0.0, 1, "train", masks=(str(mask),), pictures=(str(frame),), side=8)
    assert read_masks(one)[0][0].nonzero().tolist() == [[0, 0]]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda path: picture(path, upper(6)), "is a mask of 6 x 6 pixels, but its frame has 8 x 8"),
        (lambda path: picture(path, 255 - upper(), palette=[9, 9, 9] + [0] * 756 + [5] * 9), "of which none is black"),
        (lambda path: path.write_bytes(b"no picture"), "mask.png"),
        (lambda path: path.write_bytes(b""), r"mask.png: the file is empty \(0 bytes\); get it anew"),
        (lambda path: Image.fromarray(upper()).save(path, "JPEG"), "is a mask saved with loss, as in JPEG, which"),
        (lambda path: path.mkdir(), r"mask.png: this is a folder; expected a file"),
        (lambda path: picture(path, np.dstack([255 + 0 * upper()] * 3 + [upper()])), "with pixels that shine through"),
        (lambda path: picture(path, np.dstack([0 * upper()] * 3 + [upper()])), "with pixels that shine through"),
        (
            lambda path: Image.fromarray(upper()).save(
                path, "GIF", save_all=True, append_images=[Image.fromarray(255 - upper())]
            ),
            "shows several pictures, one after another; expected a single one",
        ),
    ],
)
def test_masks_that_tell_nothing_are_refused(make: Any, said: str, tmp_path: Path) -> None:
    make(tmp_path / "mask.png")
    with pytest.raises(MediaError, match=said):
        read_masks(sample(tmp_path, tmp_path / "mask.png"))


def test_colours_of_16_bits_are_told_as_such(tmp_path: Path) -> None:
    mask = picture(tmp_path / "mask.png", np.arange(SIDE * SIDE, dtype=np.uint16).reshape(SIDE, SIDE))
    _, (remark,) = read_masks(sample(tmp_path, mask))
    assert "a mask with the colours (0, 0, 0), (1, 1, 1), (2, 2, 2)" in remark
    assert remark.endswith("in 16 bits; whatever is not black sounds.")
    with pytest.raises(MediaError, match=r"in 16 bits, which stands for no class"):
        read_masks(sample(tmp_path, mask, colours=True))


def test_masks_of_pixels_that_are_not_square_are_as_displayed_or_as_stored(tmp_path: Path) -> None:
    make_video(tmp_path / "wide.mp4", seconds=1, fps=5, size=(16, 16), audio_hz=16_000, pixel_aspect=Fraction(2))
    one = MaskSample("a", "a", tmp_path / "wide.mp4", 0.0, 1, "train", masks=(str(tmp_path / "mask.png"),), side=8)
    for pixels in (upper(16), np.hstack([upper(16)] * 2)):
        picture(tmp_path / "mask.png", pixels)
        assert torch.equal(read_masks(one)[0][0], torch.from_numpy(upper(value=1)))
    picture(tmp_path / "mask.png", upper(8))
    with pytest.raises(MediaError, match=r"its frame has 32 x 16 \(16 x 16 as it is stored\); make it of the frame as"):
        read_masks(one)


def test_colours_of_classes_are_vocs_and_others_are_refused(tmp_path: Path) -> None:
    known = {1: (128, 0, 0), 2: (0, 128, 0), 7: (128, 128, 128), 8: (64, 0, 0), 70: (32, 128, 128)}
    assert {number: tuple(colour_of(number).to_bytes(3, "big")) for number in known} == known
    assert len(AVSS_CLASSES) == 70
    assert (AVSS_CLASSES[0], AVSS_CLASSES[-1]) == ("accordion", "woman")
    assert list(AVSS_CLASSES) == sorted(AVSS_CLASSES)
    pixels = np.zeros((SIDE, SIDE, 3), np.uint8)
    pixels[0], pixels[1] = known[1], known[70]
    found, _ = read_masks(sample(tmp_path, picture(tmp_path / "mask.png", pixels), colours=True))
    assert found[0, :3, 0].tolist() == [1, 70, 0]
    pixels[2] = (1, 2, 3)
    with pytest.raises(MediaError, match=r"with the colour \(1, 2, 3\), which stands for no class"):
        read_masks(sample(tmp_path, picture(tmp_path / "mask.png", pixels), colours=True))


# --- a table of one's own


@pytest.fixture
def own(tmp_path: Path) -> Path:
    make_video(tmp_path / "long.mp4", seconds=5, fps=5, size=(16, 16), audio_hz=16_000)
    picture(tmp_path / "up.png", upper(16))
    picture(tmp_path / "down.png", 255 - upper(16))
    return tmp_path


def read(path: Path, segments: int = 3, **options: Any) -> Any:
    return data.read(section("data", "masks", root=str(path), segments=segments, mask_size=SIDE, **options))


def table(folder: Path, rows: str, header: str = "video,second,mask,split") -> Path:
    path = folder / "masks.csv"
    path.write_text(f"{header}\n{rows}\n", encoding="utf-8")
    return path


def test_windows_hold_each_annotated_second_once(own: Path) -> None:
    rows = "".join(f"long.mp4,{second},{'up.png' if second % 2 else ''},train\n" for second in (0, 2, 3, 4))
    found = read(table(own, rows))
    first, second = found.splits["train"]
    assert first.masks == ("", None, "")
    assert (second.start_seconds, second.masks) == (2.0, (None, str(own / "up.png"), ""))
    assert found.labels == MaskLabels(side=SIDE)
    assert found.labels.count(found.splits["train"], 2).line() == (
        "2 samples (2 that open), 4 annotated seconds, in 3 of which nothing sounds."
    )
    assert read(own) == found  # the folder stands for its table
    lines = [
        {"video": "long.mp4", "second": s, "mask": "up.png" if s % 2 else None, "split": "train"} for s in (0, 2, 3, 4)
    ]
    (own / "same.jsonl").write_text("\n".join(map(json.dumps, lines)))
    assert read(own / "same.jsonl").splits == found.splits


def test_a_second_after_the_end_of_its_video_is_not_annotated(own: Path) -> None:
    found = read(table(own, "long.mp4,1,up.png,train\nlong.mp4,4,,train\nlong.mp4,5,up.png,train\nlong.mp4,90,,train"))
    assert [sample.masks for sample in found.splits["train"]] == [(None, str(own / "up.png"), None), (None, None, "")]
    assert found.lost == tuple(f"long.mp4: second {late} begins after the end of the video (5.0 s)" for late in (5, 90))


def test_a_mask_that_is_missing_hides_no_broken_one(own: Path) -> None:
    picture(own / "small.png", upper(8))
    found = read(table(own, "long.mp4,0,gone.png,train\nlong.mp4,1,small.png,train"))
    report = verify(found, workers=0, progress=False)
    assert report.missing == (str(own / "gone.png"),)
    assert [*report.broken] == [str(own / "small.png")]


def test_two_paths_to_a_file_are_one_video_in_one_split(own: Path) -> None:
    """Whatever their hashes would say."""
    names = [f"link{number}.mp4" for number in (0, 1, 3, 4)]
    assert {by_hash(name) for name in names} == {"train", "val", "test"}
    for name in names:
        (own / name).symlink_to(own / "long.mp4")
    rows = "\n".join(f"{name},{second},up.png" for second, name in enumerate(names))
    found = read(table(own, rows, "video,second,mask"), segments=5)
    assert [len(found.splits[split]) for split in ("train", "val", "test")] == [1, 0, 0]


def test_what_is_silent_is_kept_beside_what_sounds(own: Path) -> None:
    found = read(
        table(own, "long.mp4,0,up.png,down.png,test\nlong.mp4,1,,down.png,test", "video,second,mask,other,split")
    )
    masks, _ = read_masks(found.splits["test"][0])
    assert masks[0, 0].unique().tolist() == [1]
    assert masks[0, -1].unique().tolist() == [SILENT]
    assert masks[1, 0].unique().tolist() == [0]
    assert not masks[2].any()


def test_the_cache_holds_masks_and_changed_ones_are_other_data(own: Path) -> None:
    path = table(own, "long.mp4,0,up.png,train\nlong.mp4,1,,val\n".replace(",1,,val", ",1,,train"))
    options = section("data", "masks", root=str(path), segments=3, mask_size=SIDE, cache=str(own / "cache"), workers=0)
    found = data.read(options)
    cache = SampleCache(options, section("audio"), 16)
    assert not cache.fill(found.samples, progress=False).broken
    batch = cache.batch(found.splits["train"])
    (loaded,) = batch.samples
    assert isinstance(loaded, MaskSample)
    assert torch.equal(loaded.pixels[0], torch.from_numpy(upper(value=1)))
    assert loaded == found.splits["train"][0]
    before = identify(options, found)
    picture(own / "up.png", 255 - upper(16))
    after = data.read(options)
    assert "with other labels" in changes(before, identify(options, after))[0]
    (again,) = cache.batch(after.splits["train"]).samples
    assert isinstance(again, MaskSample)
    assert torch.equal(again.pixels[0], 1 - loaded.pixels[0])
    with pytest.raises(DataError, match=r"pictures of its own, masks or frames \(.*only videos and their sound are"):
        pack(found, options, own / "shards")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("long.mp4,0,up.png,,train\nlong.mp4,1,,,train", "long.mp4,0,,,train\nlong.mp4,1,up.png,,train"),
        ("long.mp4,0,up.png,,train", "long.mp4,0,,up.png,train"),
        ("long.mp4,0,,up.png,train\nlong.mp4,1,,,train", "long.mp4,0,,,train\nlong.mp4,1,,up.png,train"),
        ("long.mp4,0,up.png,down.png,train", "long.mp4,0,down.png,up.png,train"),
        ("long.mp4,0,,,train", "long.mp4,1,,,train"),
    ],
)
def test_a_corrected_table_of_the_same_masks_has_entries_of_its_own(before: str, after: str, own: Path) -> None:
    options = section("data", "masks", root=str(own), segments=3, mask_size=SIDE, cache=str(own / "cache"), workers=0)
    cache = SampleCache(options, section("audio"), 16)
    paths = set()
    for rows in (before, after):
        (one,) = read(table(own, rows, "video,second,mask,other,split")).splits["train"]
        assert not cache.fill([one], progress=False).broken
        (loaded,) = cache.batch([one]).samples
        assert isinstance(loaded, MaskSample)
        assert torch.equal(loaded.pixels, read_masks(one)[0])
        paths.add(cache.path(one))
    assert len(paths) == 2


def test_faults_of_masks_are_told_by_verify_and_left_out_of_training(own: Path) -> None:
    picture(own / "small.png", upper(8))
    picture(own / "red.png", upper(16, 1), palette=[0, 0, 0, 200, 0, 0])
    for name in ("a", "b", "c"):
        make_video(own / f"{name}.mp4", seconds=3, fps=5, size=(16, 16), audio_hz=16_000)
    path = table(own, "a.mp4,0,small.png,train\nb.mp4,0,gone.png,train\nc.mp4,0,red.png,train\nlong.mp4,9,up.png,val")
    found = read(path, cache=str(own / "cache"), workers=0)
    report = verify(found, workers=0, progress=False)
    assert not report.ok
    assert report.missing == (str(own / "gone.png"),)
    assert "is a mask of 8 x 8 pixels, but its frame has 16 x 16" in next(iter(report.broken.values()))
    assert "colours (0, 0, 0), (200, 0, 0); whatever is not black sounds" in next(iter(report.repaired.values()))
    assert report.lost == ("long.mp4: second 9 begins after the end of the video (5.0 s)",)
    assert "Remark: 1 annotation labels no second, and is lost to training:" in report.lines()
    assert report.splits["train"].available == 1
    options = section("data", "masks", root=str(path), segments=3, mask_size=SIDE, cache=str(own / "cache"), workers=0)
    filled = SampleCache(options, section("audio"), 16).fill(found.splits["train"], progress=False)
    assert len(filled.broken) == 2
    assert len(filled.repaired) == 1


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("long.mp4,x,up.png,train", "found second = 'x'; expected a whole number from 0"),
        ("long.mp4,-1,up.png,train", "found second = '-1'"),
        ("long.mp4,1.5,up.png,train", "found second = '1.5'"),
        (",1,up.png,train", "the video is empty"),
        ("long.mp4,0,down.png,train", "second 0 of 'long.mp4' has a mask in an earlier row"),
        ("./long.mp4,1,up.png,val", "is in val, but an earlier row has it in train"),
        ("long.mp4,1,up.png,dev", "found the split 'dev'"),
    ],
)
def test_malformed_rows_name_file_and_line(row: str, said: str, own: Path) -> None:
    path = table(own, f"long.mp4,0,up.png,train\n{row}")
    with pytest.raises(DataError) as error:
        read(path)
    assert f"{path}, line 3: " in str(error.value)
    assert said in str(error.value)


# --- AVSBench


def write_wav(path: Path, seconds: int) -> None:
    path.parent.mkdir(parents=True)
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        file.writeframes((np.sin(np.arange(seconds * 16_000) / 9) * 9000).astype("<i2").tobytes())


def write_avsbench(root: Path) -> Path:
    """A video or two of each part, as published."""
    frame, mask = np.zeros((SIDE, SIDE, 3), np.uint8), upper()
    single, multi, semantic = root / "Single-source", root / "Multi-sources", root / "avs_released"
    for folder in (single, multi, semantic):
        folder.mkdir(parents=True)
    (single / "s4_meta_data.csv").write_text(
        "name,start,category,split\nabcdefghijk_1,0,dog_barking,train\nshort,3,cat_meowing,test\n"
    )
    for name, category, split, masks in (
        ("abcdefghijk_1", "dog_barking", "train", 1),
        ("short", "cat_meowing", "test", 5),
    ):
        write_wav(single / "s4_data" / "audio_wav" / split / category / f"{name}.wav", seconds=5)
        for k in range(1, 6):
            picture(single / "s4_data" / "visual_frames" / split / category / name / f"{name}_{k}.png", frame + k)
            if k <= masks:
                picture(single / "s4_data" / "gt_masks" / split / category / name / f"{name}_{k}.png", mask, "1")
    (multi / "ms3_meta_data.csv").write_text("video_id,split\nABCDEFGHIJK,val\n")
    write_wav(multi / "ms3_data" / "audio_wav" / "val" / "ABCDEFGHIJK.wav", seconds=5)
    for k in range(1, 6):
        picture(multi / "ms3_data" / "visual_frames" / "ABCDEFGHIJK" / f"ABCDEFGHIJK.mp4_{k}.png", frame + k)
        picture(multi / "ms3_data" / "gt_masks" / "val" / "ABCDEFGHIJK" / f"ABCDEFGHIJK_{k}.png", mask)
    (semantic / "metadata.csv").write_text("uid,label,split,extra\nvideo-00001,v1s,train,x\nvideo-00002,v2,test,x\n")
    for name, label, frames, masks in (("video-00001", "v1s", 5, 1), ("video-00002", "v2", 10, 10)):
        write_wav(semantic / label / name / "audio.wav", seconds=frames)
        for k in range(frames):
            picture(semantic / label / name / "frames" / f"{k}.jpg", frame + 9 * k)
            if k < masks:
                coloured = np.where(mask[..., None] > 0, np.array((128, 0, 0), np.uint8), frame)
                picture(semantic / label / name / "labels_rgb" / f"{k}.png", coloured)
    return root


@pytest.mark.parametrize(
    ("name", "segments", "known", "counts"),
    [
        ("avs_s4", 5, {"train": [1], "test": [5]}, (2, 6)),
        ("avs_ms3", 5, {"val": [5]}, (1, 5)),
        ("avss", 10, {"train": [1], "test": [10]}, (2, 11)),
    ],
)
def test_avsbench_as_published(name: str, segments: int, known: Any, counts: Any, tmp_path: Path) -> None:
    root = write_avsbench(tmp_path / "avsbench")
    options = section("data", name, root=str(root), mask_size=SIDE, cache=str(tmp_path / "cache"), workers=0)
    found: Any = data.read(options)
    assert options.segments == segments
    assert {split: [s.weight for s in some] for split, some in found.splits.items() if some} == known
    report = verify(found, decode=True, workers=0, progress=False)
    assert report.ok, report.lines()
    assert report.padded == ()  # AVSS's videos of five seconds are as published
    assert sum(len(some) for some in found.splits.values()) == counts[0]
    cache = SampleCache(options, section("audio"), 16)
    filled = cache.fill(found.samples, progress=False)
    assert not filled.broken
    for sample in found.samples:
        loaded: Any = cache.batch([sample]).samples[0]
        tensors = cache.read(sample)
        assert tensors["frames"].shape == (segments, 16, 16, 3)
        assert int(loaded.pixels.sum()) == sample.weight * SIDE * SIDE // 2
        shown = tensors["frames"].float().mean(dim=(1, 2, 3))
        assert (shown[: len(sample.pictures)].diff() > 0).all()
        assert not shown[len(sample.pictures) :].any()


def test_faults_of_avsbench_are_told(tmp_path: Path) -> None:
    root = write_avsbench(tmp_path / "avsbench")
    masks = root / "Single-source" / "s4_data" / "gt_masks" / "test" / "cat_meowing" / "short"
    picture(masks / "short_1.png", upper(6))
    (masks / "short_3.png").write_bytes(b"no picture")
    wav = root / "Single-source" / "s4_data" / "audio_wav" / "train" / "dog_barking" / "abcdefghijk_1.wav"
    wav.unlink()
    found = data.read(section("data", "avs_s4", root=str(root / "Single-source"), mask_size=SIDE))
    assert any("1 id has fewer than the 11 characters" in note and "short" in note for note in found.notes)
    report = verify(found, workers=0, progress=False)
    assert not report.ok
    assert report.missing == (str(wav),)
    assert list(report.broken) == [str(masks / "short_1.png"), str(masks / "short_3.png")]
    with pytest.raises(DataError, match=r"has no ms3_meta_data\.csv, nor has"):
        data.read(section("data", "avs_ms3", root=str(root / "Single-source")))
    with pytest.raises(DataError, match=r"data.segments is 6, but a video has 5 seconds"):
        data.read(section("data", "avs_s4", root=str(root), segments=6))
    table = root / "Multi-sources" / "ms3_meta_data.csv"
    table.write_text("ABCDEFGHIJK,val\nBBCDEFGHIJK,train\n")  # without a header
    bare = data.read(section("data", "avs_ms3", root=str(root), mask_size=SIDE))
    assert {split: [s.video_id for s in some] for split, some in bare.splits.items() if some} == {
        "train": ["BBCDEFGHIJK"], "val": ["ABCDEFGHIJK"],
    }  # fmt: skip
    shutil.rmtree(root / "Multi-sources" / "ms3_data" / "audio_wav")
    write_wav(root / "Multi-sources" / "ms3_data" / "audio_wav" / "val" / "ABCDEFGHIJK.wav", seconds=3)
    assert len(verify(bare, workers=0, progress=False).padded) == 1  # its five pictures have three seconds of sound
    for row, said in (
        ("../x,val", "expected a file name"),
        ("x", "found 1 fields"),
        ("x,dev", "found the split 'dev'"),
    ):
        table.write_text(f"video_id,split\n{row}\n")
        with pytest.raises(DataError, match=rf"line 2: {said}|line 2: found the video_id .*{said}"):
            data.read(section("data", "avs_ms3", root=str(root)))
