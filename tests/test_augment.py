"""Augmentation: what each kind does to pictures, sound and labels, what it draws from, and where it is refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from avpea.augment import augmented
from avpea.data.cache import Batch
from avpea.draws import draws
from avpea.errors import ExperimentError
from avpea.experiment import Experiment
from avpea.labels import EventSample
from avpea.model import log_mel_image
from avpea.sections import AugmentOptions, LogMelOptions
from avpea.train import train
from tests.tiny import assert_same_run, exit_code, start_training

Make = Callable[..., Experiment]
SECONDS, CLASSES = 5, 3


def batch(videos: int = 4) -> Batch:
    """Random clips."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, CLASSES, (videos, SECONDS), generator=generator).tolist()
    return Batch(
        torch.randint(0, 256, (videos, SECONDS, 6, 8, 3), generator=generator, dtype=torch.uint8),
        torch.randn(videos, SECONDS, 40, 20, generator=generator),
        tuple(
            EventSample(f"{i}", f"{i}", Path(), 0.0, SECONDS, "train", labels=tuple(row))
            for i, row in enumerate(labels)
        ),
    )


def labels(some: Batch) -> list[tuple[int, ...]]:
    return [sample.labels for sample in some.samples]  # type: ignore[attr-defined]


def test_a_flip_mirrors_all_frames_of_a_clip_alike_and_nothing_else() -> None:
    before = batch(64)
    after = augmented(before, AugmentOptions(flip=0.5), 0.0, draws(0, 0, 0)).batch
    mirrored = [torch.equal(a, b[:, :, range(7, -1, -1)]) for a, b in zip(after.frames, before.frames, strict=True)]
    same = [torch.equal(a, b) for a, b in zip(after.frames, before.frames, strict=True)]
    assert all(a != b for a, b in zip(mirrored, same, strict=True))
    assert 16 <= sum(mirrored) <= 48  # binomial(64, 1/2): beyond 4 sigma otherwise
    assert torch.equal(after.log_mel, before.log_mel)
    assert labels(after) == labels(before)


def test_a_shift_rotates_picture_sound_and_labels_alike() -> None:
    before = batch(32)
    after = augmented(before, AugmentOptions(shift=2), 0.0, draws(0, 0, 0)).batch
    seen = set()
    for i in range(32):
        fitting = [
            by
            for by in range(-2, 3)
            if all(torch.equal(after.frames[i, (s + by) % SECONDS], before.frames[i, s]) for s in range(SECONDS))
        ]
        assert len(fitting) == 1
        by = fitting[0]
        seen.add(by)
        for s in range(SECONDS):
            assert torch.equal(after.log_mel[i, (s + by) % SECONDS], before.log_mel[i, s])
            assert labels(after)[i][(s + by) % SECONDS] == labels(before)[i][s]
    assert seen == {-2, -1, 0, 1, 2}


def test_masks_are_stripes_that_are_zero_after_normalising() -> None:
    before = batch(16)
    options = AugmentOptions(time_masks=1, mel_masks=1, mask_width=0.3)
    mean = -4.858
    after = augmented(before, options, mean, draws(0, 0, 0)).batch
    changed = after.log_mel != before.log_mel
    audio = LogMelOptions(mel_bins=20, mean=mean, std=3.607)
    assert (after.log_mel[changed] == torch.tensor(mean)).all()
    image = log_mel_image(after.log_mel.flatten(0, 1)[:, :20], audio, 20)  # 20 x 20, so it is not resized
    assert (image[:, 0][changed.flatten(0, 1)[:, :20]] == 0).all()
    widths: dict[str, set[int]] = {"rows": set(), "bins": set()}
    for one in changed.flatten(0, 1):
        rows, bins = one.all(dim=1), one.all(dim=0)
        assert torch.equal(one, rows[:, None] | bins[None, :])  # whole stripes and nothing besides
        for name, stripe in (("rows", rows), ("bins", bins)):
            where = stripe.nonzero().flatten()
            assert len(where) == 0 or int(where[-1] - where[0]) == len(where) - 1  # one stripe
            widths[name].add(len(where))
    assert max(widths["rows"]) <= 12
    assert max(widths["bins"]) <= 6
    assert len(widths["rows"]) > 6  # each second has its own
    assert torch.equal(after.frames, before.frames)


def test_mixup_mixes_pictures_sound_and_losses_in_one_share() -> None:
    before = batch(6)
    mixed = augmented(before, AugmentOptions(mixup=0.4), 0.0, draws(0, 0, 3))
    assert mixed.others is not None
    assert 0.5 <= mixed.share <= 1
    order = [before.samples.index(one) for one in mixed.others]
    assert sorted(order) == list(range(6))
    log_mel = before.log_mel * mixed.share + before.log_mel[order] * (1 - mixed.share)
    torch.testing.assert_close(mixed.batch.log_mel, log_mel)
    frames = before.frames.double() * mixed.share + before.frames[order].double() * (1 - mixed.share)
    assert (mixed.batch.frames.double() - frames).abs().max() <= 0.5 + 1e-4  # rounded to whole values
    assert mixed.batch.samples == before.samples
    one = batch(1)
    assert augmented(one, AugmentOptions(mixup=0.4), 0.0, draws(0, 0, 0)).others is None


def test_shares_of_mixup_are_those_of_a_beta_variable() -> None:
    alpha, few = 0.4, batch(2)
    shares = torch.tensor([augmented(few, AugmentOptions(mixup=alpha), 0, draws(0, 0, i)).share for i in range(2000)])
    # Of x ~ Beta(a, a), E[x^2] = (a + 1) / (2 (2 a + 1)); max(x, 1 - x) has the same variance about 1/2.
    square = (shares - 0.5).square().mean().item()
    assert square == pytest.approx((alpha + 1) / (2 * (2 * alpha + 1)) - 0.25, abs=0.008)


def test_draws_depend_on_seed_epoch_and_batch_alone() -> None:
    options = AugmentOptions(flip=0.5, time_masks=1, mel_masks=1, mixup=0.2, shift=1)

    def drawn(*where: int) -> Any:
        made = augmented(batch(), options, 0.0, draws(*where))
        return made.batch.log_mel

    torch.manual_seed(1)
    first, state = drawn(0, 1, 2), torch.get_rng_state()
    torch.manual_seed(2)
    assert torch.equal(drawn(0, 1, 2), first)
    for other in ((1, 1, 2), (0, 2, 2), (0, 1, 3)):
        assert not torch.equal(drawn(*other), first)
    torch.manual_seed(1)
    drawn(0, 1, 2)
    assert torch.equal(torch.get_rng_state(), state)  # torch's own generator is left alone


@pytest.mark.slow
def test_an_interrupted_training_augments_as_if_never_interrupted(tiny_experiment: Make, tmp_path: Path) -> None:
    experiment = tiny_experiment(
        **{f"train.augment.{k}": v for k, v in {"flip": 0.5, "mel_masks": 1, "mixup": 0.4, "shift": 1}.items()},
        **{"train.epochs": 2, "train.accumulate": 2},
    )
    whole = train(experiment, tmp_path / "whole", progress=False).run
    process, _ = start_training(experiment.to_dict(), tmp_path / "run", "avpea.model:AVModel.forward", 5)
    assert exit_code(process) != 0
    train(experiment, tmp_path / "run", progress=False)
    assert_same_run(tmp_path / "run", whole)


def test_mixup_gives_the_loss_of_both_labels(tiny_experiment: Make, tmp_path: Path, monkeypatch: Any) -> None:
    from avpea import feeding
    from avpea import train as training

    seen: dict[str, Any] = {}
    real: Any = vars(feeding)["augmented"]

    def spy(some: Batch, *rest: Any) -> Any:
        seen["mixed"] = real(some, *rest)
        return seen["mixed"]

    monkeypatch.setattr(feeding, "augmented", spy)
    real_loss = training._Training.loss

    def check(self: Any, inputs: Any) -> Any:
        loss, terms = real_loss(self, inputs)
        some = inputs.place.samples
        mixed, task = seen["mixed"], self.model.task
        if mixed.others is not None:
            output = self.model(mixed.batch.frames, mixed.batch.log_mel)
            parts = [task.loss(output, task.targets(of))[0] for of in (some, mixed.others)]
            expected = mixed.share * parts[0] + (1 - mixed.share) * parts[1]
            torch.testing.assert_close(loss, expected, rtol=1e-3, atol=1e-4)
            seen["checked"] = True
        return loss, terms

    monkeypatch.setattr(training._Training, "loss", check)
    changes = {"adapter.streams": "none", "train.augment.mixup": 1.0, "train.epochs": 1, "train.readers": 0}
    train(tiny_experiment(**changes), tmp_path, progress=False)
    assert seen["checked"]


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "a probability": ({"flip": 1.5}, "train.augment.flip is 1.5; expected a probability"),
    "below 0": ({"shift": -1}, "train.augment.shift is -1; expected 0 or more"),
    "a width of no mask": ({"mask_width": 0.4}, "train.augment.mask_width is 0.4, but nothing is masked"),
    "as long as the clip": ({"shift": 3}, "train.augment.shift is 3, but a clip has 3 seconds"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_values_that_cannot_work_are_refused(what: str, tiny_experiment: Make) -> None:
    changes, message = REFUSED[what]
    with pytest.raises(ExperimentError, match=message):
        tiny_experiment(**{f"train.augment.{name}": value for name, value in changes.items()})


def test_mixup_needs_a_batch(tiny_experiment: Make) -> None:
    with pytest.raises(ExperimentError, match=r"mixes clips of a batch, but train.batch_size is 1"):
        tiny_experiment(**{"train.augment.mixup": 0.2, "train.batch_size": 1})


@pytest.mark.parametrize("option", ["flip", "mixup", "shift"])
def test_a_task_refuses_what_makes_its_annotations_wrong(option: str, tiny_captioned: Make) -> None:
    with pytest.raises(ExperimentError, match=rf"train.augment.{option} is 1.*annotations of the task 'avr'"):
        tiny_captioned("avr", **{f"train.augment.{option}": 1})
    assert tiny_captioned("avr", **{"train.augment.mel_masks": 1}).train.augment.used == ("mel_masks",)


def test_masks_are_refused_for_vggish(tiny_experiment: Make) -> None:
    changes = {"encoder.name": "separate", "audio.features": "vggish", "encoder.audio_weights": "random"}
    with pytest.raises(ExperimentError, match="masks are for the features 'kaldi'"):
        tiny_experiment(**changes, **{"train.augment.time_masks": 1})
