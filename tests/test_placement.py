"""Everything that computes, on a faked device: nothing is left on the CPU, and the values are those of the CPU."""

import contextlib
import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.torch_version import TorchVersion

from avpea import registry
from avpea.attention import attention_maps
from avpea.cli import main
from avpea.compare.cost import random_batch
from avpea.data.cache import Batch
from avpea.errors import ExperimentError
from avpea.experiment import Experiment, class_of, load_recipe
from avpea.media import read
from avpea.model import AVModel, build
from avpea.optimizer import make_optimizer
from avpea.options import option_names
from avpea.predict import VideoView
from avpea.train import train
from tests.contract import values_for
from tests.encoders.test_encoder_contract import SMALL
from tests.faked import Misplaced, Placed, faked

pytestmark = pytest.mark.usefixtures("small_vggish", "small_tower")

TASKS = {name: registry.load("task", name) for name in registry.names("task")}
PAIRS = [
    (task, head)
    for task, kind in TASKS.items()
    for head in registry.names("head")
    if issubclass(registry.load("head", head), kind.heads)
]
# Every kind of sound that an encoder may read.
SOUNDS: dict[str, dict[str, Any]] = {
    "image": {"audio.layout": "image"},
    "native": {"audio.layout": "native", "audio.rows": 96},
    "slices": {"audio.layout": "slices", "audio.rows": 96},
    "continuous": {"audio.layout": "continuous", "audio.rows": 96, "audio.slices": 2},
    "vggish": {"audio.features": "vggish"},
    "precomputed": {"audio.features": "precomputed"},
}


HEARD = [
    (name, sound)
    for name in registry.names("encoder")
    for sound, options in SOUNDS.items()
    if options.get("audio.features", "kaldi") == registry.load("encoder", name).features
]


@pytest.fixture(scope="module")
def video(tiny_data: Path) -> Path:
    return min((tiny_data / "AVE").iterdir())


def knows_negatives(head: str) -> bool:
    return "negatives" in option_names(class_of("head", {"name": head}))


def moved(model: AVModel) -> AVModel:
    """No gate is closed and no matrix is zero, so that every part computes."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for group in model.trained_parameters().values():
            for parameter in group:
                parameter.add_(0.02 * torch.randn(parameter.shape, generator=generator))
                if parameter.dim() == 0:
                    parameter.fill_(0.7)
    return model


def made(experiment: Experiment) -> tuple[AVModel, Batch]:
    """A model and a batch, on the CPU."""
    torch.manual_seed(0)
    kind = registry.load("task", experiment.task.name)
    model = moved(build(experiment, kind.needs.typical()))
    batch = random_batch(experiment, model)
    model.task.prepare(batch.samples)
    return model, batch


def exercised(
    made: tuple[AVModel, Batch], experiment: Experiment, device: torch.device, video: Path | None = None
) -> dict[str, Any]:
    """Train a step, evaluate, answer and draw attention; answers everything that comes out of it."""
    model, batch = made[0].to(device).train(), made[1].to(device)
    task, found = model.task, dict[str, Any]()
    optimizer = make_optimizer(model, experiment.train)
    torch.manual_seed(1)
    targets = task.targets(batch.samples).to(device)
    negatives = batch.frames.flip(0) if task.head.frozen_negatives else None
    output = model(batch.frames, batch.log_mel, targets, negatives, batch.positions)
    loss, found["terms"] = task.loss(output, targets)
    torch.autograd.backward(loss)
    found["gradients"] = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    model.eval()
    with torch.no_grad():
        targets = task.targets(batch.samples).to(device)
        encoded = model.encode(batch.frames, batch.log_mel)
        torch.manual_seed(2)
        found["validation"] = task.validation_loss(task(encoded, targets), targets)
        answers = task.complete(batch.samples, task.respond(encoded, targets))
    assert not any(isinstance(one, Placed) for one in leaves(answers)), "an answer is not on the CPU"
    found["answers"] = answers
    found["metrics"] = task.evaluate(batch.samples, answers)
    found["features"], found["chances"] = task.features(batch.samples, answers), task.chances(batch.samples, answers)
    if video is not None:
        found |= watched(model, experiment, video)
    optimizer.step()  # last: Adam's first step makes much of the rounding of small gradients
    assert all(bool(parameter.isfinite().all()) for parameter in model.parameters())
    return found


@torch.inference_mode()
def watched(model: AVModel, experiment: Experiment, video: Path) -> dict[str, Any]:
    """What it says of a video: the answer to a user, the embeddings of retrieval, and the attention maps."""
    found: dict[str, Any] = {}
    view = VideoView(video, model, experiment, {})
    task: Any = model.task
    if task.verb:
        asked = (" ".join(task.labels.vocabulary.words[1:4]),) if task.needs.kind == "questions" else ()
        found["answer"] = task.predict(view, *asked).to_dict()
    if hasattr(task, "embed_text"):
        found["sentence"] = task.embed_text("a red light")
        assert not any(isinstance(one, Placed) for one in leaves(found["sentence"]))
    adapters = [one for _, _, one in model.encoder.beside_attention() if one.attends]
    if adapters:
        side = model.encoder.backbone.image_size
        clip = read(video, frame_size=(side, side))
        maps = attention_maps(model, experiment, clip, 1)
        assert not any(isinstance(one, Placed) for one in leaves(maps.sound_looked, maps.image_listened))
        found["maps"] = maps.sound_looked, maps.image_listened
    return found


def leaves(*values: Any) -> Iterator[Any]:
    """Everything inside of lists, mappings and dataclasses."""
    for value in values:
        if isinstance(value, dict):
            yield from leaves(*value.values())
        elif isinstance(value, list | tuple):
            yield from leaves(*value)
        elif dataclasses.is_dataclass(value) and not isinstance(value, type):
            yield from leaves(*(getattr(value, field.name) for field in dataclasses.fields(value)))
        else:
            yield value


def assert_alike(on_cpu: Any, on_device: Any) -> None:
    """Numbers differ by rounding at most, since on the device both streams go through a layer in one call."""
    for a, b in zip(leaves(on_cpu), leaves(on_device), strict=True):
        if isinstance(a, Tensor):
            other = b.held if isinstance(b, Placed) else b
            largest = float(a.detach().abs().max()) if a.is_floating_point() and a.numel() else 0.0
            torch.testing.assert_close(other, a, rtol=1e-3, atol=1e-5 + 1e-3 * largest)
        else:
            assert a == (pytest.approx(b, abs=2e-4) if isinstance(b, float) else b)


def assert_placed(experiment: Experiment, video: Path | None = None, kind: str = "cuda") -> None:
    if getattr(experiment.backbone, "depth", 0):
        experiment = experiment.override({"backbone.depth": 1})  # a second block is as the first
    on_cpu = exercised(made(experiment), experiment, torch.device("cpu"), video)
    again = made(experiment)
    with faked(kind) as device:
        on_device = exercised(again, experiment, device, video)
        assert all(isinstance(one, Placed) for one in leaves(on_device["gradients"]))
        assert on_device["gradients"]
        # A stream that the head does not read has no gradient where it is alone in a layer, and 0 where both are in it.
        for name in on_device["gradients"].keys() - on_cpu["gradients"].keys():
            assert not on_device["gradients"].pop(name).held.any()
        assert_alike(on_cpu, on_device)


@pytest.mark.parametrize(
    ("task", "head"),
    # Beam search takes long on the faked device; that of the written answer is the same. And so does a whole Swin.
    [
        pytest.param(*pair, marks=pytest.mark.slow if pair in (("avc", "writer"), ("avs", "tpavi")) else ())
        for pair in PAIRS
    ],
)
def test_every_task_and_head(
    task: str, head: str, tiny_values: dict[str, Any], tiny_roots: dict[str, Path], video: Path
) -> None:
    assert_placed(Experiment.from_dict(values_for(task, head, tiny_values, tiny_roots)), video)


@pytest.mark.slow
@pytest.mark.parametrize(("task", "head"), [(task, head) for task, head in PAIRS if knows_negatives(head)])
def test_every_head_with_frozen_negatives(
    task: str, head: str, tiny_values: dict[str, Any], tiny_roots: dict[str, Path]
) -> None:
    values = values_for(task, head, tiny_values, tiny_roots)
    assert_placed(Experiment.from_dict({**values, "head": {**values["head"], "negatives": "frozen"}}))


@pytest.mark.parametrize("name", registry.names("adapter"))
def test_every_adapter(name: str, tiny_experiment: Any, video: Path) -> None:
    assert_placed(tiny_experiment(**{"adapter.name": name}), video)


@pytest.mark.parametrize(("name", "sound"), HEARD)
def test_every_encoder_with_every_sound(
    name: str, sound: str, tiny_values: dict[str, Any], tiny_roots: dict[str, Path]
) -> None:
    known = option_names(class_of("encoder", {"name": name}))
    options = {"encoder.name": name} | {f"encoder.{key}": value for key, value in SMALL.items() if key in known}
    if sound == "precomputed":
        experiment = load_recipe("paper/avel-cmbs-features").override({**options, "train.batch_size": 2})
    else:
        pair = ("avr", "matcher") if sound in ("slices", "continuous") else ("avel", "linear")  # of the whole sound
        plain = Experiment.from_dict(values_for(*pair, tiny_values, tiny_roots))
        try:
            experiment = plain.override({**options, **SOUNDS[sound]})
        except ExperimentError as refused:
            pytest.skip(str(refused))
    assert_placed(experiment)


def test_a_misplaced_tensor_is_found(tiny_experiment: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A head that makes a tensor without saying where, as one easily does."""
    from avpea.tasks.avel.heads.linear import LinearHead

    forward = LinearHead.forward

    def careless(self: Any, *tokens: Tensor) -> Tensor:
        logits = forward(self, *tokens)
        return logits + torch.arange(logits.shape[-1])

    monkeypatch.setattr(LinearHead, "forward", careless)
    experiment = tiny_experiment()
    exercised(made(experiment), experiment, torch.device("cpu"))  # where it does not matter
    model = made(experiment)
    with faked() as device, pytest.raises(Misplaced, match=r"aten\.add.* a tensor of shape \(\d+,\) on the CPU beside"):
        exercised(model, experiment, device)


def test_an_answer_left_on_the_device_is_found(tiny_experiment: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from avpea.tasks.avel.task import AVEL

    respond = AVEL.respond

    def careless(self: Any, *given: Any) -> Any:
        found = respond(self, *given)
        return [dataclasses.replace(one, tokens=given[0].visual_cls[0]) for one in found]

    monkeypatch.setattr(AVEL, "respond", careless)
    experiment = tiny_experiment()
    model = made(experiment)
    with faked() as device, pytest.raises(AssertionError, match="an answer is not on the CPU"):
        exercised(model, experiment, device)


def test_values_of_a_device_cannot_be_read_as_an_array() -> None:
    with faked() as device, pytest.raises((RuntimeError, TypeError), match=r"numpy|Tensor\.cpu"):
        torch.ones(2, device=device).numpy()
    with faked("mps") as device, pytest.raises(Misplaced, match="no float64"):
        torch.ones(2, device=device).double()


OPERATIONS: dict[str, Any] = {
    "add": lambda a, b: a + b,
    "add a number": lambda a, b: a + b.sum(),
    "add to a number": lambda a, b: a.sum() + b,
    "product": lambda a, b: a @ b,
    "cat": lambda a, b: torch.cat((a, b)),
    "stack numbers": lambda a, b: torch.stack((a.sum(), b.sum())),
    "where": lambda a, b: torch.where(a > 0, a, b),
    "masked": lambda a, b: a.masked_fill(b > 0, 0.0),
    "index": lambda a, b: a[b.long().clamp(0, 1)[0]],
    "index of an index": lambda a, b: a.long().clamp(0, 1)[0][b.long().clamp(0, 1)[0]],
    "set": lambda a, b: a.clone().index_put_((torch.tensor([0, 1]),), b),
    "gather": lambda a, b: a.gather(1, b.long().clamp(0, 1)),
    "embedding": lambda a, b: torch.nn.functional.embedding(b.long().clamp(0, 1), a),
    "linear": lambda a, b: torch.nn.functional.linear(a, b),
    "norm": lambda a, b: torch.nn.functional.layer_norm(a, (2,), b[0]),
    "loss": lambda a, b: torch.nn.functional.cross_entropy(a, b.long().clamp(0, 1)[0]),
    "copy": lambda a, b: a.clone().copy_(b),
    "to": lambda a, b: a.to(b),
    "lerp": lambda a, b: a.lerp(b, 0.5),
    "add in place": lambda a, b: a.clone().add_(b),
}


@pytest.mark.skipif(torch.__version__ < TorchVersion("2.7"), reason="torch 2.6 lets more pass than cards do")
@pytest.mark.parametrize("name", OPERATIONS)
def test_the_rules_are_those_of_torch(name: str) -> None:
    """Each operation on two devices is refused, or gives a result on the same one, as under FakeTensorMode.

    One is refused here and by a card, but not there: indices on a card into a tensor on the CPU.
    """
    from torch._subclasses.fake_tensor import FakeTensorMode

    def outcome(first: str, second: str, make: Any) -> str:
        try:
            return str(OPERATIONS[name](make(first), make(second)).device.type)
        except (RuntimeError, TypeError):  # as both of them say it
            return "refused"

    placements = [("cuda", "cuda"), ("cuda", "cpu"), ("cpu", "cuda")]
    with FakeTensorMode():
        expected = [outcome(*pair, lambda where: torch.empty(2, 2, device=where)) for pair in placements]
    with faked():
        found = [outcome(*pair, lambda where: torch.ones(2, 2, device=where)) for pair in placements]
    assert found == [*expected[:2], "refused" if name.startswith("index") else expected[2]]
    assert found[0] == "cuda"


def test_commands_on_a_card(tiny_values: Any, video: Path, tmp_path: Path, capsys: Any) -> None:
    """Training, evaluation, calibration and prediction, with the loop, the optimiser and the files of each."""
    recipe, run = tmp_path / "recipe.yaml", str(tmp_path / "run")
    recipe.write_text(json.dumps(tiny_values), encoding="utf-8")
    words = [str(run), "--quiet", "--json"]
    with faked():
        assert main(["train", str(recipe), "--run", run, "--quiet", "--device", "cuda", "--train.epochs", "1"]) == 0
        capsys.readouterr()
        for command in ("evaluate", "calibrate"):
            assert main([command, *words, "--device", "cuda:0"]) == 0
        picture = tmp_path / "attention.png"
        answer = ["predict", run, str(video), "--attention", str(picture), "--json"]
        assert main([*answer, "--device", "cuda"]) == 0
    on_card = list(map(json.loads, capsys.readouterr().out.splitlines()))
    assert picture.stat().st_size > 1000
    for command in ("evaluate", "calibrate"):
        assert main([command, *words, "--device", "cpu"]) == 0
    assert main([*answer, "--device", "cpu"]) == 0
    assert_alike(list(map(json.loads, capsys.readouterr().out.splitlines())), on_card)


@pytest.mark.slow
def test_search_on_a_card(tiny_matched_run: Path, tiny_data: Path, tmp_path: Path) -> None:
    from avpea.search import Query, index

    found = {}
    for device in ("cpu", "cuda"):
        with faked() if device == "cuda" else contextlib.nullcontext():
            report = index(tiny_matched_run, tiny_data, str(tmp_path / device), device=device, progress=False)
            assert not report.broken
            query = Query(str(tmp_path / device), device=device)
            both = query.text("a red light"), query.example(min((tiny_data / "AVE").iterdir()))
            found[device] = [{(one.file, one.start_seconds): one.score for one in some} for some in both]
    assert_alike(found["cpu"], found["cuda"])


@pytest.mark.slow
def test_kept_tokens_on_a_card(tiny_experiment: Any, tmp_path: Path) -> None:
    with faked():
        experiment = tiny_experiment(
            **{"encoder.keep_frozen": True, "train.epochs": 1, "train.device": "cuda", "data.cache": str(tmp_path)}
        )
        assert len(train(experiment, tmp_path / "run", progress=False).epochs) == 1


@pytest.mark.slow
def test_mps_gets_no_float64(tiny_experiment: Any, video: Path) -> None:
    assert_placed(tiny_experiment(**{"head.name": "cmbs"}), video, "mps")
