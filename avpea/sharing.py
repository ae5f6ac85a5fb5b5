"""Share a trained adapter: a local folder or hub repository with the checkpoint, its configuration and a model card."""

import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from avpea import registry
from avpea.backbones import fetch, fetch_if_there
from avpea.checkpoint import BACKBONE_FILE, MODEL_FILE, CheckpointInfo, find, network_of, read_info
from avpea.errors import CheckpointError
from avpea.escapes import code_for_markdown, for_markdown, for_terminal
from avpea.files import replacing, write_json, write_text
from avpea.metrics.figures import epoch_kept
from avpea.records import Records, read_records
from avpea.tables import how_many
from avpea.tasks import Figure, Task

if TYPE_CHECKING:
    from huggingface_hub import ModelCard

__all__ = ["push_to_hub", "resolve", "save_pretrained"]


def save_pretrained(run: str | Path, folder: str | Path) -> Path:
    """Write a folder to share: `model.safetensors` (adapters and head), `config.json`, and a model card `README.md`.

    An image network that lies in the run, as after an import, comes with it as `backbone.safetensors`.

    Args:
        run: Run folder or checkpoint file.
        folder: Folder to write; created if needed.

    Returns:
        The folder.

    Raises:
        CheckpointError: There is no checkpoint, or the folder holds the image network of another run.
        WriteError: The folder cannot be written.
    """
    source, info, target, network = find(run), read_info(run), Path(os.path.expanduser(folder)), network_of(run)
    if network is None and os.path.lexists(target / BACKBONE_FILE):
        raise CheckpointError(
            f"{target / BACKBONE_FILE} is the image network of another run; remove it, or name another folder."
        )
    for one, name in ((source, MODEL_FILE), (network, BACKBONE_FILE)):
        if one is not None and one.resolve() != (target / name).resolve():
            with replacing(target / name) as aside:
                shutil.copyfile(one, aside)
    names = {info.labels.outputs or "labels": info.labels.names}
    write_json(target / "config.json", {**names, "fingerprint": info.fingerprint, **info.experiment.to_dict()})
    write_text(target / "README.md", str(model_card(info, read_records(run), network=network is not None)))
    return target


def push_to_hub(run: str | Path, repository: str, *, private: bool = False, token: str | None = None) -> str:
    """Upload what `save_pretrained` writes to a hub repository `owner/name`, created if needed.

    Returns:
        URL of the commit.

    Raises:
        CheckpointError: There is no checkpoint, or the hub refuses.
    """
    import tempfile

    from huggingface_hub import HfApi

    with tempfile.TemporaryDirectory() as folder:
        save_pretrained(run, folder)
        try:
            api = HfApi(token=token)
            api.create_repo(repository, private=private, exist_ok=True)
            return str(api.upload_folder(repo_id=repository, folder_path=folder, commit_message="Upload with avpea"))
        # The HTTP library under the hub's client, and so its errors, differ between versions.
        except Exception as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
            raise CheckpointError(
                f"Uploading to {repository} failed ({reason}); `hf auth login` stores a token that may write."
            ) from error


def resolve(run: str | Path, network: bool = True) -> Path:
    """A checkpoint file from a run folder, a saved folder, a file, or a hub repository `owner/name`.

    A local file or folder takes precedence over the hub.

    Args:
        run: What was named.
        network: Whether to fetch the file of an image network that comes with it, too.

    Raises:
        CheckpointError: There is no such file or folder, or it holds no checkpoint.
        WeightsError: The hub has no such file, or cannot be reached.
    """
    path, parts = Path(run), str(run).split("/")
    if os.path.lexists(path) or len(parts) != 2 or not all(parts) or parts[0] in (".", "..", "~", "runs"):
        return find(path)
    from huggingface_hub.errors import HFValidationError  # slow, and not needed for local files

    what, otherwise = f"The adapter and head of '{run}'", "or name a run folder"
    try:
        found = fetch(str(run), [MODEL_FILE], what, otherwise)
    except HFValidationError:  # no repository can have the name, so a folder was meant
        return find(path)
    named = read_info(found).experiment.outside().get("backbone.weights")
    if not network or named is None or os.path.isfile(os.path.expanduser(named)):
        return found
    # A file, which comes with the run, or which only whoever shared it has, as loading says.
    remedy = "or name its file with --backbone.weights"
    if fetch_if_there(str(run), [BACKBONE_FILE], f"The weights of the image network of '{run}'", remedy) is None:
        return found
    return fetch(str(run), [MODEL_FILE], what, otherwise)  # of the same commit, should another one be there by now


def model_card(info: CheckpointInfo, records: Records, *, network: bool = False) -> "ModelCard":
    """The model card: what the model is, how to use it, and its results.

    Args:
        info: Description of the checkpoint.
        records: Its evaluations, as `avpea.records.read_records` finds them.
        network: Whether the file of its image network lies beside it.
    """
    from huggingface_hub import EvalResult, ModelCard, ModelCardData  # slow, and `resolve` does not need it

    experiment = info.experiment
    task: type[Task] = registry.load("task", experiment.task.name)
    figure, data = task.figure, Path(experiment.data.root).name or experiment.data.name
    title = experiment.title or "AV-PEA adapter"
    plain_data, plain_title = for_terminal(data), for_terminal(title)
    results = [
        EvalResult(
            task_type=task.tag, dataset_type=plain_data, dataset_name=plain_data, dataset_split=split,
            metric_type=figure.metric, metric_name=figure.name, metric_value=round(value, 4),
        )
        for split, (value, _) in _reached(info, records, figure).items()
    ]  # fmt: skip
    about = ModelCardData(
        library_name="avpea", tags=["audio-visual", task.tag, "adapter", "av-pea"], model_name=plain_title,
        eval_results=results or None,
    )  # fmt: skip
    adapter, outputs = experiment.adapter, info.labels.outputs
    trained = (
        f"What the encoder `{experiment.encoder.name}` trains, if any,"
        if adapter is None
        else f"Adapters ({adapter.name}, streams: {adapter.streams})"
    )
    starter = "The backbone is a saliency-tuned DINOv2 ViT-S/14, none of the AV-PEA paper's.\n\n"
    names = ", ".join(map(code_for_markdown, info.labels.names))
    parts = [
        f"# {for_markdown(title)}\n\n{trained} and head ({experiment.head.name}) for the backbone "
        f"{code_for_markdown(info.backbone)}. "
        f"The frozen weights are {f'in `{BACKBONE_FILE}`' if network else 'not in this file'}.\n\n"
        + starter * (experiment.backbone.name == "starter")
        + f'```python\nimport avpea\n\navpea.load("THIS_FOLDER_OR_REPOSITORY").{task.example}\n```',
        "## Results\n\n" + "\n\n".join(_results(info, records, figure)),
        f"{epoch_kept(info.results)}; seed {experiment.train.seed}; data set {code_for_markdown(data)} "
        f"({experiment.data.name}); avpea {info.version}.",
        *([info.calibration.line()] if info.calibration is not None else []),
        *([f"## {outputs.capitalize()}\n\n{names}"] if names else []),
        f"Backbone fingerprint: `{info.fingerprint}`",
    ]
    return ModelCard(f"---\n{about.to_yaml()}\n---\n\n" + "\n\n".join(parts) + "\n")


def _reached(info: CheckpointInfo, records: Records, figure: Figure) -> dict[str, tuple[float, str]]:
    """Figure and number of videos by split, on the data of the run."""
    reached = {split: (found[figure.metric], f"{found['videos']}") for split, found in records.own.items()}
    if not reached and figure.metric in info.results:
        why = "last epoch" if info.results.get("kept") == "last" else "selection"
        reached = {f"{info.results['selected_on']} ({why})": (info.results[figure.metric], "")}
    return reached


def _results(info: CheckpointInfo, records: Records, figure: Figure) -> Iterator[str]:
    """What was measured on the run's own data; after it, under its own name, what was measured on other data."""
    reached, heading = _reached(info, records, figure), f"{figure.name} | videos |"
    rows = [f"| {split} | {figure.shown(value)} | {videos} |" for split, (value, videos) in reached.items()]
    yield "\n".join([f"| split | {heading}", "| --- | --- | --- |", *rows]) if rows else "Not evaluated."
    others = [
        f"| {_name(found)} | {found['split']} | {figure.shown(found[figure.metric])} | {found['videos']} |"
        for found in records.others
        if figure.metric in found
    ]
    if others:
        yield "On other data than it was trained with, or on data that is not known to be the same:"
        yield "\n".join([f"| data set | split | {heading}", "| --- | --- | --- | --- |", *others])


def _name(record: Mapping[str, Any]) -> str:
    data = record.get("data")
    if not data:
        return "not recorded"
    seen = f", {data['trained_on']} of {how_many(data['rows'][record['split']], 'sample')} trained on" * bool(
        data.get("trained_on")
    )
    return f"{code_for_markdown(data['root'])} ({data['fingerprint'][:12]}{seen})"
