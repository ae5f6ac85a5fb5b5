"""Share a trained adapter: a folder with the checkpoint, its configuration and a model card, local or on the hub."""

import json
import shutil
from pathlib import Path
from typing import Any

from avpea import registry
from avpea.backbones.hub import fetch
from avpea.checkpoint import MODEL_FILE, CheckpointInfo, find, read_info
from avpea.errors import CheckpointError
from avpea.metrics.figures import figure_of
from avpea.tasks._base import Task

__all__ = ["push_to_hub", "resolve", "save_pretrained"]


def save_pretrained(run: str | Path, folder: str | Path) -> Path:
    """Write what others need: `model.safetensors` (adapters and head), `config.json`, and the card `README.md`.

    Args:
        run: Run folder or checkpoint file.
        folder: Where to; made if it is not there.

    Returns:
        The folder.

    Raises:
        CheckpointError: There is no checkpoint, or the folder cannot be written.
    """
    source, info, target = find(run), read_info(run), Path(folder)
    try:
        target.mkdir(parents=True, exist_ok=True)
        if source.resolve() != (target / MODEL_FILE).resolve():
            shutil.copyfile(source, target / MODEL_FILE)
        config = {
            "class_names": info.class_names,
            "fingerprint": info.fingerprint,
            **info.experiment.to_dict(),
        }
        (target / "config.json").write_text(json.dumps(config, indent=2, ensure_ascii=False), encoding="utf-8")
        (target / "README.md").write_text(model_card(info, _evaluations(source.parent)), encoding="utf-8")
    except OSError as error:
        raise CheckpointError(f"{target} cannot be written: {error.strerror}.") from None
    return target


def push_to_hub(run: str | Path, repository: str, *, private: bool = False, token: str | None = None) -> str:
    """Upload what `save_pretrained` writes to a repository `owner/name`, made if it is not there.

    Returns:
        The address of the upload.

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


def resolve(run: str | Path) -> Path:
    """A checkpoint file from a run folder, a saved folder, a file, or a hub repository `owner/name`.

    What is there on disk goes before the hub.

    Raises:
        CheckpointError, WeightsError: There is none, here or there.
    """
    path, parts = Path(run), str(run).split("/")
    if path.exists() or len(parts) != 2 or not all(parts) or parts[0] in (".", "..", "~", "runs"):
        return find(path)
    return fetch(str(run), [MODEL_FILE], f"The adapter and head of '{run}'", "or name a run folder")


# What a task is called among models, and how one is used.
_ANSWERS = ("question-answering", 'ask("video.mp4", "How many instruments are sounding?")')
_USES = {
    "avel": ("event-localization", 'predict("video.mp4")'),
    "avqa": _ANSWERS,
    "avqa_generative": _ANSWERS,
    "avqa_grounding": ("audio-visual-matching", "model  # what question answering starts from (train.start_from)"),
    "avr": ("video-retrieval", 'model  # avpea.search.index("THIS_FOLDER_OR_REPOSITORY", "videos", "library")'),
    "avc": ("video-captioning", 'caption("video.mp4")'),
}


def model_card(info: CheckpointInfo, evaluations: dict[str, Any]) -> str:
    """The card in Markdown: what it is, how to use it, what it reached and on what."""
    experiment = info.experiment
    task: type[Task] = registry.load("task", experiment.task)
    metric, figure = task.metric, figure_of(task.metric)
    kind, use = _USES.get(experiment.task, (experiment.task, "model"))
    rows = [f"| {split} | {figure.shown(e[metric])} | {e['videos']} |" for split, e in evaluations.items()]
    if not rows:
        selected = info.results.get("selected_on")
        accuracy = info.results.get(metric)
        rows = [f"| {selected} (selection) | {figure.shown(accuracy)} | |"] if accuracy is not None else []
    results = [f"| split | {figure.name} | videos |", "| --- | --- | --- |", *rows] if rows else ["Not evaluated."]
    names = ", ".join(f"`{name}`" for name in info.class_names)
    starter = experiment.backbone.name == "starter"
    encoder, adapter = experiment.encoder.name, f"{experiment.adapter.name}, streams: {experiment.adapter.streams}"
    trained = f"Adapters ({adapter})" if encoder == "dual_stream" else f"What the encoder `{encoder}` trains, if any,"
    note = ["The backbone is a saliency-tuned DINOv2 ViT-S/14, none of the AV-PEA paper's.", ""] if starter else []
    return "\n".join(
        [
            "---",
            "library_name: avpea",
            f"tags: [audio-visual, {kind}, adapter, av-pea]",
            "---",
            "",
            f"# {experiment.title or 'AV-PEA adapter'}",
            "",
            f"{trained} and head ({experiment.head.name}) for the backbone `{info.backbone}`. "
            "The frozen weights are not in this file.",
            "",
            *note,
            "```python",
            "import avpea",
            f'avpea.load("THIS_FOLDER_OR_REPOSITORY").{use}',
            "```",
            "",
            "## Results",
            "",
            *results,
            "",
            f"Best epoch {info.results.get('epoch')}, selected on {info.results.get('selected_on')}; seed "
            f"{experiment.train.seed}; data set `{Path(experiment.data.root).name}` ({experiment.data.name}); "
            f"avpea {info.version}.",
            "",
            *([f"## {'Answers' if task.needs == 'questions' else 'Classes'}", "", names, ""] if names else []),
            f"Backbone fingerprint: `{info.fingerprint}`",
            "",
        ]
    )


def _evaluations(folder: Path) -> dict[str, Any]:
    files = sorted(folder.glob("evaluation-*.json"))
    return {file.stem.removeprefix("evaluation-"): json.loads(file.read_text(encoding="utf-8")) for file in files}
