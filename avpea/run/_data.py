"""The data of a run: what must not have changed between its sessions."""

from collections.abc import Collection, Mapping
from pathlib import Path

from avpea.checkpoint import CheckpointInfo
from avpea.data.identity import (
    DATA_FILE,
    DataIdentity,
    appeared,
    changes,
    names_changed,
    read_identity,
    reordered,
    vanished,
)
from avpea.errors import CheckpointError
from avpea.labels import Labels, shortened

__all__ = ["require_same_data", "require_same_videos"]


def require_same_data(
    run: Path, info: CheckpointInfo | None, now: DataIdentity, labels: Labels, used: Collection[str], finished: bool
) -> list[str]:
    """Refuse data that is not what a run was trained on.

    Args:
        run: Folder of the run, which has been trained on.
        info: Its model's description; None if the model is gone, or not written yet.
        now: The data set as it is now.
        labels: Its labels.
        used: Splits that training reads.
        finished: Whether nothing is left to train.

    Returns:
        Sentences about what cannot be known.

    Raises:
        CheckpointError: Samples, labels, names or video files have changed; says which, and what to do.
    """
    then, notes, changed = read_identity(run), list[str](), list[str]()
    if then is not None:
        changed = names_changed(then.outputs, then.names, now.names) + changes(then, now) + appeared(then, now, used)
        # The order of the samples, and which are used, decide what the rest of an epoch is.
        changed += [] if finished else vanished(then, now, used) + reordered(then, now, "train")
    elif info is not None and info.data:
        same = info.data["fingerprint"] == now.fingerprint
        changed = [] if same else [f"samples or labels, but {run / DATA_FILE} is gone, which knows them"]
    else:
        notes.append(
            f"{run} was started by an earlier version and does not know its data; if labels of {now.root} have changed "
            f"since, remove it and train anew."
        )
    if info is not None and info.labels != labels and not changed:
        changed = names_changed(labels.outputs, info.labels.names, labels.names) or [f"words of the {labels.kind}"]
    if changed:
        raise CheckpointError(
            f"{run} was trained on other data than {now.root} holds now: {'; '.join(changed)}. Put the data back as it "
            f"was, choose another folder with --run, or remove this one to train anew."
        )
    return notes


def require_same_videos(run: Path, before: Mapping[str, str], now: Mapping[str, str]) -> None:
    """Refuse to go on with other videos than a run began with, as the samples of an epoch would not be the same.

    Args:
        run: Folder of the run.
        before: Reason by sample key for videos that could not be used when it began.
        now: The same, now.

    Raises:
        CheckpointError: They are not the same; names those that are different.
    """
    differ = [f"{key}: {reason}" for key, reason in now.items() if key not in before]
    differ += [f"{key} can be used now" for key in before if key not in now]
    if differ:
        raise CheckpointError(
            f"{run} was trained on other videos than can be used now ({shortened(differ, 3)}); put them back as they "
            f"were, choose another folder with --run, or remove this one to train anew."
        )
