"""What must hold before a training begins, and what is said if it does not."""

import os
import socket
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from avpea import distributed, registry
from avpea.backbones import Transformer
from avpea.data.identity import DataIdentity, appeared, changes, names_changed, reordered, vanished
from avpea.device import choose_precision
from avpea.errors import DataError, ExperimentError
from avpea.experiment import Experiment
from avpea.labels import SPLITS, Annotations
from avpea.locks import LOCK_FILE
from avpea.run import RunFolder, differences
from avpea.sections import BackboneOptions, TrainOptions

__all__ = [
    "require_needed",
    "require_same",
    "require_same_data",
    "require_same_run",
    "require_schedule",
    "require_videos",
    "require_whole_patches",
    "smaller",
    "with_all_processes",
]


def require_needed(experiment: Experiment, annotations: Annotations) -> None:
    """Refuse labels of another kind than the task needs, which shards can hold.

    Raises:
        DataError: They are.
    """
    needs = registry.load("task", experiment.task.name).needs
    if not isinstance(annotations.labels, needs):
        raise DataError(
            f"{experiment.data.root} holds {annotations.labels.kind}, but the task '{experiment.task.name}' needs "
            f"{needs.kind}; give another data set, or a recipe for this one."
        )


def require_schedule(train: TrainOptions) -> None:
    """Refuse a schedule that turns the learning rate round; models that were trained so can still be used.

    Raises:
        ExperimentError: `train.gamma` is not above 0.
    """
    gamma = getattr(train, "gamma", 1.0)
    if not 0 < gamma < float("inf"):
        raise ExperimentError(f"train.gamma is {gamma}; expected a factor above 0, such as 0.5.")


def require_whole_patches(options: BackboneOptions, backbone: Any) -> None:
    """Refuse frames of which something would not be seen; models that were trained so can still be used.

    The size that the weights were trained with (`image_size: 0`) is theirs, even where it is no multiple, as 384 pixels
    with patches of 14 (SigLIP).

    Raises:
        ExperimentError: Their side is no multiple of a patch's.
    """
    if not options.image_size:
        return
    side, patch = backbone.image_size, backbone.patch_size if isinstance(backbone, Transformer) else 1
    if over := side % patch:
        raise ExperimentError(
            f"backbone.image_size is {side}, but '{backbone.name}' reads whole patches of {patch}x{patch} pixels and "
            f"would not see the last {over} at the right and at the bottom; choose {side - over} or "
            f"{side - over + patch}."
        )


def with_all_processes(experiment: Experiment, here: distributed.World) -> Experiment:
    """The experiment with as many devices as processes were started.

    Raises:
        ExperimentError: It wants another number, or more than a batch has videos.
    """
    wanted, batch = experiment.train.devices, experiment.train.batch_size
    if here.alone and wanted > 1:
        raise ExperimentError(
            f"train.devices is {wanted}, but this is a single process; start it with `avpea train`, or with "
            f"`torchrun --nproc_per_node {wanted}`."
        )
    if wanted not in (1, here.size):
        raise ExperimentError(f"train.devices is {wanted}, but {here.size} processes were started; leave it out.")
    if here.size > batch:
        raise ExperimentError(
            f"{here.size} processes cannot share batches of {batch} videos; start fewer, or raise --train.batch_size."
        )
    return experiment if here.alone else experiment.override({"train.devices": here.size})


def require_same(experiment: Experiment, run: Path) -> None:
    """Refuse processes that train something else.

    Raises:
        ExperimentError: One has another recipe or run.
    """
    asked = distributed.everyones((str(run.absolute()), experiment.to_dict()))
    for rank, (folder, options) in enumerate(asked):
        if folder != asked[0][0]:
            raise ExperimentError(f"Process 0 trains in {asked[0][0]}, process {rank} in {folder}; give all the same.")
        if changed := differences(asked[0][1], options, ()):
            raise ExperimentError(
                f"Process {rank} has another recipe than process 0 ({'; '.join(changed[:4])}); give all the same."
            )


def require_same_run(folder: RunFolder) -> None:
    """Refuse processes that do not see the run folder of the first one, as on machines that do not share it.

    Raises:
        ExperimentError: One does not see the lock that the first one holds there, or reads another state.
    """
    if distributed.world().alone:
        return
    lock, name = folder.path / LOCK_FILE, socket.gethostname()
    held = distributed.from_first(_bytes(lock))
    with suppress(OSError):
        os.listdir(folder.path)  # NFS then asks the server for what is new
    seen = distributed.everyones((name, _bytes(lock) == held, folder.position))
    for rank, (host, sees, position) in enumerate(seen):
        if not sees:
            raise ExperimentError(
                f"Process {rank} on {host} does not see {folder.path} of process 0 on {seen[0][0]}; give --run a "
                "folder that all machines share, such as one on NFS."
            )
        if position != seen[0][2]:
            raise ExperimentError(
                f"Process {rank} on {host} reads another training state in {folder.path} than process 0 on "
                f"{seen[0][0]}; wait until its machine sees the folder as it is now, and start again."
            )


def _bytes(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None


def require_same_data(identity: DataIdentity) -> None:
    """Refuse processes that read other data, as where each machine has a copy.

    Raises:
        ExperimentError: One does; says what differs.
    """
    there = distributed.from_first(identity)
    differs = [
        *names_changed(identity.outputs, there.names, identity.names),
        *changes(there, identity),
        *vanished(there, identity, SPLITS),
        *appeared(there, identity, SPLITS),
        *(phrase for split in SPLITS if split in there.rows for phrase in reordered(there, identity, split)),
    ]
    for rank, found in enumerate(distributed.everyones(differs)):
        if found:
            raise ExperimentError(
                f"Process {rank} reads other data than process 0 ({'; '.join(found[:3])}); give all machines the same."
            )


def smaller(config: TrainOptions, device: torch.device) -> str:
    """What makes a training step need less memory, as an imperative."""
    ways = []
    if half := config.batch_size // 2:
        ways.append(f"--train.batch_size {half} with --train.accumulate {2 * config.accumulate}")
    if device.type != "cpu" and choose_precision(config.precision, device) == "fp32":
        ways.append("--train.precision bf16")
    anew = [f"try {' or '.join(ways)} in a new run"] if ways else []
    again = [] if config.checkpointing else ["--train.checkpointing true in this one"]
    elsewhere = "close other programs that use it" if device.type == "cpu" else "--device cpu in this one"
    return ", or ".join([*anew, *again, elsewhere])


def require_videos(annotations: Annotations, select_on: str) -> None:
    """Refuse a data set without a video to train on, or to select the best epoch on.

    Raises:
        DataError: One of the splits is empty; says what to do.
    """
    train = len({sample.video_id for sample in annotations.splits["train"]})
    if not train:
        raise DataError(f"{annotations.name} has no video in the split 'train', so there is nothing to train on.")
    if not annotations.splits[select_on]:
        raise DataError(
            f"{annotations.name} has no video in the split '{select_on}', on which the best epoch is selected; put "
            f"about one in six of the {train} training videos into it (the column 'split' of a table)."
        )
