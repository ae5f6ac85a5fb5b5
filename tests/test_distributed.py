"""Several processes train as one: the same weights, the same validation, each sample once."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from avpea import distributed
from avpea.distributed import gathered, mean_of, own_share, share
from avpea.errors import ExperimentError
from avpea.experiment import Experiment
from tests.several import together, trained

Make = Callable[..., Experiment]


def rows_of_three(counts: list[int]) -> dict[str, Any]:
    with distributed.joined(distributed.meet(distributed.launched()), torch.device("cpu")) as here:
        own = counts[here.rank]
        rows = torch.arange(float(max(own, 1)) * 2).reshape(-1, 2) + 10 * here.rank
        rows.requires_grad_()
        here.weight = float(own > 0)
        everything, first = gathered(rows)
        (everything * torch.arange(float(everything.numel())).reshape(everything.shape)).sum().backward()
        longer, _ = gathered(torch.ones(max(own, 1), 2 + here.rank))
        mean = mean_of(torch.tensor(float(here.rank)), torch.tensor(own))
        assert rows.grad is not None
        return {
            "rows": everything.tolist(),
            "first": first,
            "gradient": rows.grad.tolist(),
            "longer": longer.tolist(),
            "mean": float(mean * here.weight),
            "everyones": distributed.everyones(here.rank),
            "from_first": distributed.from_first(here.rank),
        }


def test_rows_of_several_processes_and_one_that_is_absent() -> None:
    found = together(3, rows_of_three, [2, 0, 1])
    for rank, one in enumerate(found):
        assert one["rows"] == [[0, 1], [2, 3], [20, 21]]
        assert len(one["longer"]) == 3
        assert one["longer"][0] == [1, 1, 0, 0]  # padded to the longest
        assert one["everyones"] == [0, 1, 2]
        assert one["from_first"] == 0
        assert rank == 1 or one["first"] == {0: 0, 2: 2}[rank]
    assert found[0]["gradient"] == [[0, 3], [6, 9]]  # what the own rows get in all three sums
    assert found[1]["gradient"] == [[0, 0]]
    assert found[2]["gradient"] == [[12, 15]]
    assert sum(one["mean"] for one in found) == pytest.approx(2 / 3)  # (0 + 2) over three answers


def test_one_process_gets_what_it_gives() -> None:
    rows = torch.ones(2, 2)
    assert gathered(rows)[0] is rows
    assert own_share([1, 2, 3]) == [1, 2, 3]
    assert distributed.everyones(5) == [5]
    assert distributed.from_first("x") == "x"
    assert float(mean_of(torch.tensor(3.0), torch.tensor(0))) == 3.0
    with share(2, 2, 1) as weight:
        assert weight == 1.0


@pytest.mark.parametrize(
    ("variables", "said"),
    [({"WORLD_SIZE": "2", "RANK": "2"}, "RANK=2"), ({"WORLD_SIZE": "x"}, "WORLD_SIZE=x"), ({"RANK": "1"}, "RANK=1")],
)
def test_variables_that_contradict_each_other(
    variables: dict[str, str], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ExperimentError, match=said):
        distributed.launched()


# Five videos in batches of 3 and 2; with three processes, one is absent from the last batch of each epoch.
FIVE_STEPS = {"train.epochs": 3, "train.batch_size": 3, "train.learning_rate": 1e-2, "train.precision": "fp32"}


def compared(experiment: Experiment, tmp_path: Path, processes: int) -> None:
    """One process and several end with the same weights, losses and validation."""
    alone = together(1, trained, experiment.to_dict(), str(tmp_path / "alone"))[0]
    several = together(processes, trained, experiment.to_dict(), str(tmp_path / "several"))
    assert alone["steps"] >= 5
    for found in several:
        assert found["weights"].keys() == alone["weights"].keys()
        for name, weights in alone["weights"].items():
            np.testing.assert_allclose(found["weights"][name], weights, rtol=1e-6, atol=1e-7, err_msg=name)
        for ours, theirs in zip(found["metrics"], alone["metrics"], strict=True):
            for name in ours.keys() - {"seconds", "waited_seconds", "gates"}:
                assert ours[name] == pytest.approx(theirs[name], rel=1e-6), name


@pytest.mark.parametrize("processes", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_several_processes_train_as_one(processes: int, tiny_experiment: Make, tmp_path: Path) -> None:
    compared(tiny_experiment(**FIVE_STEPS), tmp_path, processes)


CHANGES: dict[str, dict[str, Any]] = {
    "accumulated": {"train.accumulate": 2, "train.epochs": 5},
    "head with means over some windows": {"head.name": "cmbs"},
    "mixed": {"train.augment.mixup": 0.4, "train.augment.flip": 0.5, "train.augment.time_masks": 1},
    "computed again": {"train.checkpointing": True},
    "kept frozen layers": {"encoder.keep_frozen": True, "adapter.blocks": [1]},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CHANGES)
def test_whatever_is_changed(name: str, tiny_experiment: Make, tmp_path: Path) -> None:
    compared(tiny_experiment(**(FIVE_STEPS | CHANGES[name])), tmp_path, 3)


MASKS: dict[str, dict[str, Any]] = {
    "kl": {"task.matching": 0.5},
    "cosine": {"task.matching": 0.5, "task.matching_form": "cosine"},
}


@pytest.mark.parametrize("matching", ["kl", pytest.param("cosine", marks=pytest.mark.slow)])
def test_the_decoder_of_masks_is_the_same(matching: str, tiny_masking: dict[str, Any], tmp_path: Path) -> None:
    head = {"name": "tpavi_pyramid", "width": 8, "stages": [4, 4, 4, 4]}
    experiment = Experiment.from_dict({**tiny_masking, "head": head}).override(FIVE_STEPS | MASKS[matching])
    compared(experiment, tmp_path, 2)


def parts_of_losses(own: list[list[int]]) -> dict[str, float]:
    """This process's part of losses over three videos, of which the first has two texts; `own` are its videos."""
    from avpea.tasks.avc.heads import writer
    from avpea.tasks.avs._losses import matching_cosine, matching_kl
    from avpea.text import Sentences, build_text
    from tests.tiny import section

    torch.manual_seed(0)
    logits, maps, sounds = torch.randn(3, 1, 8, 8), torch.randn(3, 4, 4, 4), torch.randn(3, 4)
    options = section("head", "writer", text={"name": "tiny"}, groups=("t",), average="texts")
    head = writer.Writer(8, 8, build_text(options.text, writes=True), options).eval()
    texts = Sentences(torch.randint(1000, 2000, (4, 6)), torch.ones(4, 6, dtype=torch.bool))
    chosen = torch.tensor([[False, True, row > 1, row > 2, False, False] for row in range(4)])
    patched: Any = writer
    with distributed.joined(distributed.meet(distributed.launched()), torch.device("cpu")) as here:
        some = torch.tensor(own[here.rank])
        rows = torch.cat([torch.tensor([[0, 1], [2], [3]][video]) for video in own[here.rank]])
        patched.hide = lambda text, *_: (text, chosen[rows])
        with share(len(some), 3, 3) as weight, torch.no_grad():
            found = {
                "kl": matching_kl(logits[some], [maps[some]], [sounds[some]]),
                "cosine": matching_cosine(logits[some], [maps[some]], [sounds[some]]),
                **head.loss({"t": None}, texts[rows], torch.zeros(len(rows), dtype=torch.int64)),
            }
            distributed.wait()
            return {name: float(value) * weight for name, value in found.items()}


def test_parts_of_losses_add_up_whatever_they_are_means_of() -> None:
    pytest.importorskip("tokenizers")
    (alone,) = together(1, parts_of_losses, [[0, 1, 2]])
    parts = together(2, parts_of_losses, [[0], [1, 2]])
    assert alone.keys() == {"kl", "cosine", "words_t"}
    for name, whole in alone.items():
        assert sum(part[name] for part in parts) == pytest.approx(whole, rel=1e-5), name


def decoder_gradients(head: str) -> dict[str, Any]:
    """Gradients and running statistics of a decoder of masks, of this process's share of four videos."""
    from avpea.tasks import Dims, Encoded
    from avpea.tasks.avs.heads.tpavi import TPAVI, TPAVIOptions
    from avpea.tasks.avs.heads.tpavi_pyramid import TPAVIPyramid

    torch.manual_seed(0)
    kind = {"tpavi": TPAVI, "tpavi_pyramid": TPAVIPyramid}[head]
    made: Any = kind(Dims(8, 8, (4, 4, 8, 8)), 1, 32, TPAVIOptions(width=8, stages=(4, 4, 4, 4))).double()
    for exchange in made.exchanges:
        torch.nn.init.ones_(exchange.out_norm.weight)
    every = 4 * 2
    scale = torch.arange(1.0, every + 1).double()[:, None, None]
    visual, audio = (torch.randn(every, 5, 8).double() * scale for _ in range(2))
    stages = [torch.randn(every, side**2, dim).double() * scale for side, dim in ((8, 4), (4, 4), (2, 8), (1, 8))]
    with distributed.joined(distributed.meet(distributed.launched()), torch.device("cpu")) as here:
        own = distributed.own_share(range(4))
        some = slice(2 * own[0], 2 * own[-1] + 2)
        encoded = Encoded(visual[some], audio[some], 2, 1, True, stages=tuple(stage[some] for stage in stages))
        with share(len(own), 4, 4) as weight:
            (made(encoded).logits.square().mean() * weight).backward()
        gradients = [parameter.grad for parameter in made.parameters() if parameter.grad is not None]
        distributed.add_up(gradients)
    statistics = [value for name, value in made.named_buffers() if "running" in name]
    assert len(gradients) > 50
    assert here.size in (1, 2)
    return {"gradients": [one.numpy() for one in gradients], "statistics": [one.numpy() for one in statistics]}


@pytest.mark.parametrize("head", ["tpavi", "tpavi_pyramid"])
def test_the_decoder_of_masks_norms_the_whole_batch(head: str) -> None:
    (alone,) = together(1, decoder_gradients, head)
    for found in together(2, decoder_gradients, head):
        for name, expected in alone.items():
            for ours, theirs in zip(found[name], expected, strict=True):
                np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-12, err_msg=name)


@pytest.mark.slow
@pytest.mark.parametrize("negatives", ["batch", "frozen"])
def test_frames_of_other_videos_are_the_same(negatives: str, tiny_asking: Make, tmp_path: Path) -> None:
    compared(tiny_asking(**FIVE_STEPS, **{"head.negatives": negatives}), tmp_path, 3)


@pytest.mark.slow
def test_texts_are_compared_with_the_videos_of_all_processes(tiny_captioned: Make, tmp_path: Path) -> None:
    compared(tiny_captioned("avr", **FIVE_STEPS, **{"train.segments": 2}), tmp_path, 3)
