"""Segmentation from a table of masks to masks of a video: learned, measured, selected on val, written, refused."""

import errno
import json
import os
import shutil
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from PIL import Image

import avpea
from avpea import batch
from avpea.cli import main
from avpea.data.samples import names
from avpea.errors import ExperimentError
from avpea.experiment import Experiment, load_recipe
from avpea.labels import AVSS_CLASSES, SILENT, MaskLabels, MaskSample
from avpea.tasks import Encoded
from avpea.tasks.avs.heads import MaskOutput
from avpea.tasks.avs.heads.mask_readout import MaskReadout
from avpea.tasks.avs.task import AVS, AVSOptions, MaskTargets
from tests.media_factory import make_video

SIDE = 8


def task(channels: int = 1, **options: Any) -> AVS:
    labels = MaskLabels(side=SIDE) if channels == 1 else MaskLabels(AVSS_CLASSES, SIDE, 4)
    return AVS(MaskReadout(4, labels.channels, SIDE, 1), labels, AVSOptions(**options))


def sample(masks: tuple[str | None, ...], pixels: torch.Tensor, category: str = "") -> MaskSample:
    return MaskSample(
        "a", "a", Path("a.mp4"), 0.0, len(masks), "val", masks=masks, side=SIDE, pixels=pixels, category=category
    )


def halves(*values: tuple[int, int]) -> torch.Tensor:
    """Masks with one value above and another below."""
    pixels = torch.zeros(len(values), SIDE, SIDE, dtype=torch.uint8)
    for one, (above, below) in zip(pixels, values, strict=True):
        one[: SIDE // 2], one[SIDE // 2 :] = above, below
    return pixels


def test_a_run_learns_masks_and_selects_on_val(tiny_masked_run: Path) -> None:
    lines = [json.loads(line) for line in (tiny_masked_run / "metrics.jsonl").read_text().splitlines()]
    reached = [line["val/miou"] for line in lines]
    assert max(reached) > reached[0] + 0.1
    assert avpea.load(tiny_masked_run).info.results["selected_on"] == "val"
    assert avpea.load(tiny_masked_run).info.results["miou"] == max(reached)


def test_figures_of_a_split_by_hand() -> None:
    samples = [
        sample(("x", "", None), halves((1, SILENT), (0, SILENT), (0, 0)), "dog"),
        sample(("x",) * 3, halves(*[(1, 0)] * 3), "cat"),
    ]
    logits = torch.full((6, 1, SIDE, SIDE), -9.0)
    logits[0, 0, : SIDE // 2] = 9.0  # right
    logits[3, 0] = 9.0  # everything
    one = task(test_batch=1)
    targets = one.targets(samples)
    assert targets.labelled.tolist() == [True, True, False, True, True, True]
    answers = one.answers(MaskOutput(logits), targets)
    found = one.evaluate(samples, answers)
    assert found["miou"] == pytest.approx((1 + 0.5 / 3) / 2)
    assert found["miou_of_all_seconds"] == pytest.approx((1 + 1 + 0.5) / 5)
    assert found["miou_with_object"] == pytest.approx(1.5 / 4)
    assert found["miou_by"] == pytest.approx({"cat": 0.5 / 3, "dog": 1.0})
    assert found["right_object"] == 1.0  # of the only second with both
    assert found["constant"] == {"nothing anywhere": 0.2, "everything everywhere": 0.4}
    assert (found["annotated_seconds"], found["seconds_without_object"]) == (5, 1)
    assert [one.score(*pair) for pair in zip(samples, answers, strict=True)] == pytest.approx([2.0, 0.5])
    assert [one.weight(sample) for sample in samples] == [2, 3]
    rows = [one.row(*pair) for pair in zip(samples, answers, strict=True)]
    assert rows[0]["seconds"] == [0, 1]
    mistake = one.mistakes(rows, 1)[0]
    assert (mistake.expected, mistake.answered) == ("50.0 %", "0.0 % of the frame, IoU 0.00")
    assert task(test_batch=2).evaluate(samples, answers)["f_score"] != found["f_score"]


@pytest.mark.parametrize(
    ("above", "below", "right"),
    [(9.0, -9.0, 1.0), (-9.0, 9.0, 0.0), (9.0, 9.0, 0.5), (-9.0, -9.0, 0.5), (-1.0, -2.0, 1.0), (-2.0, -1.0, 0.0)],
)
def test_the_right_object_is_the_one_that_is_likelier_masked_or_not(above: float, below: float, right: float) -> None:
    logits = torch.full((1, 1, SIDE, SIDE), below)
    logits[:, :, : SIDE // 2] = above
    one = task()
    some = [sample(("x",), halves((1, SILENT)))]
    answers = one.answers(MaskOutput(logits), one.targets(some))
    assert one.evaluate(some, answers)["right_object"] == right


def test_what_always_the_same_side_would_score() -> None:
    left = torch.zeros(SIDE, SIDE, dtype=torch.uint8)
    left[:, : SIDE // 2], left[:, SIDE // 2 :] = 1, SILENT
    some = [sample(("x",) * 4, torch.stack([left, left, left, left.flip(1)]))]
    one = task()
    found = one.evaluate(some, one.answers(MaskOutput(torch.full((4, 1, SIDE, SIDE), -9.0)), one.targets(some)))
    assert (found["right_object"], found["right_object_left"], found["right_object_right"]) == (0.5, 0.75, 0.25)
    assert "chance is 50, always the left one 75.0, always the right one 25.0" in str(found["conventions"])


def test_semantic_figures_have_both_conventions() -> None:
    one = task(71)
    some = [sample(("x", "x"), halves((1, 0), (2, 0)))]
    logits = torch.zeros(2, 71, SIDE, SIDE)
    logits[:, 0] = 9.0
    logits[0, 1, : SIDE // 2] = 19.0
    answers = one.answers(MaskOutput(logits), one.targets(some))
    found = one.evaluate(some, answers)
    padded = (1 + 0.5 + 1 + 1) / 4  # two frames, padded to four
    assert found["miou"] == pytest.approx((padded + 1) / 71)
    assert found["miou_without_last"] == pytest.approx((padded + 1) / 70)
    assert found["miou_without_background"] == pytest.approx(1 / 70)
    assert found["miou_by"]["accordion"] == 1.0
    assert one.score(some[0], answers[0]) == pytest.approx(1.0 + 0.25)
    loss, _ = one.loss(MaskOutput(logits), one.targets(some))
    assert loss > 0


def test_the_matching_term_is_weighed_and_refused_without_maps(tiny_masking: dict[str, Any]) -> None:
    torch.manual_seed(0)
    one, plain = task(matching=0.5), task()
    output = MaskOutput(torch.randn(3, 1, SIDE, SIDE), (torch.randn(3, 4, 2, 2),), (torch.randn(3, 4),))
    targets: MaskTargets = one.targets([sample(("x",) * 3, halves(*[(1, 0)] * 3))])
    terms = one.loss(output, targets)[1]
    assert terms.keys() == {"cross_entropy", "matching"}
    assert one.loss(output, targets)[0] == pytest.approx(float(sum(terms.values())))
    assert plain.loss(output, targets)[1].keys() == {"cross_entropy"}
    assert task(matching=0.5, matching_form="cosine").loss(output, targets)[1]["matching"] != terms["matching"]
    with pytest.raises(ExperimentError, match="head 'mask_readout' has no maps in which picture and sound have met"):
        Experiment.from_dict({**tiny_masking, "task": {"name": "avs", "matching": 0.5}})


def test_without_an_exchange_the_readout_does_not_know_the_sound(tiny_masking: dict[str, Any]) -> None:
    from avpea.model import build

    model = build(Experiment.from_dict(tiny_masking).override({"adapter.streams": "none"}), MaskLabels(side=24)).eval()
    frames = torch.randint(0, 255, (1, 3, 32, 32, 3), dtype=torch.uint8)
    one, other = (model(frames, torch.randn(1, 3, 100, 32)).logits for _ in range(2))
    assert torch.equal(one, other)


def test_masks_overlay_and_film_of_a_video(
    tiny_masked_run: Path, tiny_data: Path, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    video = tiny_data / "AVE" / "g4.mp4"  # green from 0 to 3 s
    places = {name: tmp_path / name for name in ("masks", "overlay.png", "overlay.mp4", "table.csv")}
    command = [
        "segment",
        str(tiny_masked_run),
        str(video),
        "--out",
        str(places["masks"]),
        "--plot",
        str(places["overlay.png"]),
    ]
    command += ["--film", str(places["overlay.mp4"]), "--csv", str(places["table.csv"])]
    assert main(command) == 0
    assert "something sounds in" in capsys.readouterr().out
    written = sorted(path.name for path in places["masks"].iterdir())
    assert written == ["g4_0.png", "g4_1.png", "g4_2.png"]
    answer = avpea.load(tiny_masked_run).segment(video)
    for second in range(3):
        with Image.open(places["masks"] / f"g4_{second}.png") as picture:
            mask = np.asarray(picture.convert("L")) > 0
        assert mask.shape == (48, 48)
        assert mask.mean() == pytest.approx(float((answer.masks[second] > 0).float().mean()), abs=0.08)
    assert places["overlay.png"].stat().st_size > 1000
    with av.open(str(places["overlay.mp4"])) as film:
        assert [stream.type for stream in film.streams] == ["video", "audio"]
        assert film.duration == pytest.approx(3e6, abs=2e5)
        frames = [frame.to_ndarray(format="rgb24") for frame in film.decode(video=0)]
    assert frames[0].shape[:2] == (360, 360)
    rows = places["table.csv"].read_text().splitlines()
    assert rows[0] == "video,start_seconds,end_seconds,label,share,left,top,right,bottom,confidence,error"
    assert main(command) == 1
    assert "exists; --overwrite replaces" in capsys.readouterr().err
    looked: list[Any] = []
    find = batch.find_jobs

    def counted(videos: Any) -> Any:
        looked.append(videos)
        return find(videos)

    monkeypatch.setattr(batch, "find_jobs", counted)
    assert main([*command, "--overwrite"]) == 0
    assert looked == [[video]]  # once, and not for each output anew
    before, link = video.read_bytes(), tmp_path / "link.mp4"
    link.symlink_to(video)
    for wrong, said in (
        (["--film", str(video), "--overwrite"], "is one of the videos, and would be replaced"),
        (["--film", str(link), "--overwrite"], "is one of the videos, and would be replaced"),
        (["--csv", str(video), "--overwrite"], "is one of the videos, and would be replaced"),
        (["--out", str(places["table.csv"])], "table.csv is a file; --out names the folder"),
        (["--plot", str(tmp_path / "a.mp4")], "for a film of the masks, use --film"),
        (["--film", str(tmp_path / "a.avi")], "expected .mp4: name it a.mp4"),
        (["--film", str(tmp_path / "none" / "a.mp4")], f"The film {tmp_path / 'none' / 'a.mp4'} cannot be written"),
        (["--out", "/proc/masks"], "/proc/masks cannot be written"),
    ):
        assert main(["segment", str(tiny_masked_run), str(video), *wrong]) == 1
        assert said in capsys.readouterr().err
        assert "something sounds" not in capsys.readouterr().out  # refused before the model has run
    assert video.read_bytes() == before

    # Masks of a longer video of that name are not left beside those of a shorter one.
    shutil.copy(make_video(tmp_path / "short.mp4", seconds=2), tmp_path / "g4.mp4")
    other = places["masks"] / "g40_7.png"
    shutil.copy(places["masks"] / "g4_2.png", other)
    assert main(["segment", str(tiny_masked_run), str(tmp_path / "g4.mp4"), *command[3:5], "--overwrite"]) == 0
    assert sorted(path.name for path in places["masks"].iterdir()) == ["g40_7.png", "g4_0.png", "g4_1.png"]


def test_a_mask_or_a_film_for_which_there_is_no_room_leaves_no_half_file(
    tiny_masked_run: Path, tiny_data: Path, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["segment", str(tiny_masked_run), str(tiny_data / "AVE" / "g4.mp4"), "--overwrite"]
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def half(self: Image.Image, path: Path, *_: Any) -> None:
        Path(path).write_bytes(b"half")
        raise full

    masks = tmp_path / "masks"
    with monkeypatch.context() as patch:
        patch.setattr(Image.Image, "save", half)
        assert main([*words, "--out", str(masks)]) == 1
    remedy = "cannot be written (No space left on device); make room there, or choose another place.\n"
    assert capsys.readouterr().err.endswith(f"{masks / 'g4_0.png'} {remedy}")
    assert list(masks.iterdir()) == []

    def none(*_: Any, **__: Any) -> None:
        raise full

    monkeypatch.setattr(av, "open", none)
    assert main([*words, "--film", str(tmp_path / "a.mp4")]) == 1
    assert capsys.readouterr().err.endswith(f"{tmp_path / 'a.mp4'} {remedy}")
    assert [path.name for path in tmp_path.iterdir()] == ["masks"]


def test_boxes_are_shares_of_the_frame(tiny_masked_run: Path, tiny_data: Path) -> None:
    from dataclasses import replace

    answer = avpea.load(tiny_masked_run).segment(tiny_data / "AVE" / "g4.mp4")
    masks = torch.zeros(3, 10, 20, dtype=torch.uint8)[..., :10].contiguous()
    masks[1, 2:4, 5:9] = 1
    found = replace(answer, masks=masks, chances=torch.full((3, 10, 10), 0.75).half()).to_dict()["seconds"]
    assert [len(second["objects"]) for second in found] == [0, 1, 0]
    assert found[1]["objects"] == [
        {"label": "sounding", "share": 0.08, "box": [0.5, 0.2, 0.9, 0.4], "confidence": 0.75}
    ]


def test_recipes_of_digits_fit_and_their_data_can_be_made() -> None:
    assert "avs-digits" in names()
    for name in ("avs-digits", "avs-digits-none", "avs-digits-tpavi"):
        assert load_recipe(f"mini/{name}").task.name == "avs"
    assert Encoded.__dataclass_fields__["stages"].default == ()
