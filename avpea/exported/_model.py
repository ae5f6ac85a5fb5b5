"""An exported model in the place of the trained one: it computes outputs elsewhere, and its task makes the answers."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import torch
from jaxtyping import UInt8
from torch import Tensor

from avpea import registry
from avpea.checkpoint import find, fingerprint_of
from avpea.device import Precision, choose_precision
from avpea.errors import AvpeaError, CheckpointError
from avpea.experiment import Experiment
from avpea.exported._folder import ABOUT_FILE, Export, is_export, read_export
from avpea.exported._output import named, restored
from avpea.exported._sessions import Runtime, Session, Shape, open_session, require_runtime
from avpea.model import require_numbers
from avpea.shortage import short_of_memory
from avpea.tasks import Dims, Encoded, Task
from avpea.trust import lies_inside, nothing_fetched

__all__ = ["HEARD", "SEEN", "ExportedModel", "find_export", "open_export"]

SEEN, HEARD = "visual_cls", "audio_cls"  # outputs of every graph: CLS tokens of the streams, second by second


class ExportedModel:
    """The graph of an exported model, with its task.

    Attributes:
        about: Its description.
        runtime: What computes it.
        task: The task, whose head has no weights here: it only turns outputs into answers.
        device: The CPU.
        image_size: Side of the frames in pixels.
    """

    device = torch.device("cpu")

    def __init__(self, about: Export, runtime: Runtime, session: Session) -> None:
        self.about, self.runtime, self._session = about, runtime, session
        self.image_size = about.frame_size
        self.task, self._like = _task_of(about)
        _require_fit(about, session.shapes, self._like)
        self.task.calibration = about.info.calibration

    def __call__(self, frames: UInt8[Tensor, "batch segments height width 3"], log_mel: Tensor) -> Any:
        """The task's output for a batch of windows.

        Raises:
            AvpeaError: The graph does not take inputs of these shapes.
        """
        return restored(self._like, self._run(frames, log_mel))

    def folded(self) -> Self:
        """Itself: the graph is for inference only."""
        return self

    def respond(self, frames: UInt8[Tensor, "batch segments height width 3"], log_mel: Tensor) -> list[Any]:
        """The task's answer about each window of a batch.

        Raises:
            AvpeaError: The graph does not take inputs of these shapes.
        """
        found = self._run(frames, log_mel)
        # The only tokens that an answer reads beside the output are the CLS tokens.
        seen, heard = (found[name].flatten(0, 1)[:, None] for name in (SEEN, HEARD))
        encoded = Encoded(seen, heard, frames.shape[1], num_prefix_tokens=1, has_cls=True)
        return self.task.respond(encoded, output=restored(self._like, found))

    def _run(self, frames: Tensor, log_mel: Tensor) -> dict[str, Tensor]:
        segments, side = self.about.segments, self.image_size
        if frames.ndim != 5 or tuple(frames.shape[2:]) != (side, side, 3) or not frames.shape[0]:
            raise AvpeaError(
                f"The frames have shape {tuple(frames.shape)}; the exported model takes (batch, segments, {side}, "
                f"{side}, 3)."
            )
        if segments is not None and frames.shape[1] != segments:
            raise AvpeaError(
                f"The window has {frames.shape[1]} seconds, and this exported model takes {segments} only; use the "
                "run itself for shorter videos."
            )
        with _in_a_sentence(f"{self.about.graph} computes nothing of these inputs"):
            found = self._session({"frames": frames.contiguous(), "log_mel": log_mel.contiguous()})
        require_numbers(self.task, None, found)
        return found


def _task_of(about: Export) -> tuple[Task, Any]:
    """The task with a head of shapes only, and an output of shapes only.

    Raises:
        CheckpointError: The description names what lies elsewhere, or describes no model.
    """
    experiment, tokens = about.info.experiment.rebuilt(), about.tokens
    visual, audio = tokens["visual"], tokens["audio"]
    kind: type[Task] = registry.load("task", experiment.task.name)
    _require_inside(experiment, about.folder)
    seconds = about.segments or 2
    source = about.folder / ABOUT_FILE
    with (
        _in_a_sentence(f"{source} describes no model that can be built"),
        nothing_fetched(f"{about.folder} is an exported model"),
        torch.device("meta"),
    ):
        dims = Dims(visual[1], audio[1], tuple(width for _, width in tokens["stages"]))
        task = kind.build(experiment, dims, about.info.labels).eval()
        stages = tuple(torch.empty(seconds, *one) for one in tokens["stages"])
        seen, heard = torch.empty(seconds, *visual), torch.empty(seconds, *audio)
        return task, task(Encoded(seen, heard, seconds, tokens["prefix"], tokens["has_cls"], stages=stages))


@contextmanager
def _in_a_sentence(start: str) -> Iterator[None]:
    """Let any error be one sentence: torch and each runtime have errors of their own, which share no class.

    Raises:
        CheckpointError: There was one, which does not come of too little memory.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, AvpeaError) or short_of_memory(error):
            raise
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        raise CheckpointError(f"{start} ({reason}); export the run again.") from None


def _require_fit(about: Export, found: Mapping[str, Shape], like: Any) -> None:
    """Refuse a graph whose inputs and outputs are not those of its description, or of the task.

    Raises:
        CheckpointError: One is missing, or has another shape.
    """
    given = {SEEN, HEARD, *named(like)} - {*about.outputs}
    if given or not about.shapes.keys() <= found.keys():
        lacking = sorted(given | about.shapes.keys() - found.keys())
        raise CheckpointError(f"{about.graph} and {ABOUT_FILE} do not both have {lacking[0]}; export the run again.")
    wanted = [*about.shapes.items(), *((name, tuple(value.shape)) for name, value in named(like).items())]
    for name, shape in wanted:
        if not _agree(found[name], shape):
            raise CheckpointError(
                f"{about.graph} has {name} of shape {_shown(found[name])}, and by {ABOUT_FILE} it is {_shown(shape)}; "
                "export the run again."
            )


def _agree(one: Shape, other: Shape) -> bool:
    """Whether two shapes may be the same, where None stands for any size; no sizes at all are not known."""
    return not one or (
        len(one) == len(other) and all(None in pair or len({*pair}) == 1 for pair in zip(one, other, strict=True))
    )


def _shown(shape: Shape) -> str:
    return f"({', '.join('any' if size is None else str(size) for size in shape)})"


def _require_inside(experiment: Experiment, folder: Path) -> None:
    """Refuse files and folders outside of an exported model's, of which what avpea writes names none.

    Raises:
        CheckpointError: One is named.
    """
    for option, place in experiment.outside().items():
        if not lies_inside(place, folder):
            raise CheckpointError(
                f"{folder / ABOUT_FILE} wants to open '{place:.200}' ({option}), but an exported model opens nothing "
                "outside its folder; export the run again."
            )


def find_export(run: str | Path, runtime: str = "") -> Path | None:
    """The folder of an exported model that a run and an option `--runtime` mean; None for the run itself.

    Args:
        run: Folder of an exported model, or a run, whose exports are in its folders `onnx` and `openvino`.
        runtime: The option; empty means the run itself, or what an exported model was made for.

    Raises:
        CheckpointError: The run was not exported for this runtime, or has changed since.
    """
    if is_export(run):
        return Path(run)
    if not runtime:
        return None
    file = find(run)
    folder = file.parent / runtime
    if not is_export(folder):
        raise CheckpointError(f"{run} is not exported; `avpea export {run} --to {runtime}` makes {folder}.")
    if read_export(folder).checkpoint != fingerprint_of(file):
        raise CheckpointError(
            f"{folder} was exported from {run} before it was trained or calibrated further; `avpea export {run} --to "
            f"{runtime} --overwrite` makes it anew."
        )
    return folder


def open_export(folder: Path, runtime: str = "", precision: Precision | None = None) -> ExportedModel:
    """Load an exported model.

    Args:
        folder: Its folder.
        runtime: `onnx` or `openvino`; empty means the one that it was exported to.
        precision: What OpenVINO computes in; None means that of training, where `auto` is what suits the CPU. ONNX
            Runtime computes in float32.

    Raises:
        AvpeaError: The runtime is not installed, or cannot read this kind of graph.
        CheckpointError: The folder is damaged.
    """
    about = read_export(folder)
    if about.to == "torch":
        raise AvpeaError(
            f"{folder} is an archive of torch.export for other programs, which avpea does not open, since torch would "
            "unpickle parts of it; export the run to onnx or openvino."
        )
    chosen: Runtime = "openvino" if (runtime or about.to) == "openvino" else "onnx"
    if chosen == "onnx" and about.to == "openvino":
        raise AvpeaError(f"{folder} was exported to openvino, which ONNX Runtime cannot read; use --runtime openvino.")
    require_runtime(chosen)
    wanted = precision or about.info.experiment.train.precision
    computed = choose_precision(wanted, torch.device("cpu"))
    return ExportedModel(
        about, chosen, open_session(about.graph, chosen, about.outputs, computed, torch.get_num_threads())
    )
