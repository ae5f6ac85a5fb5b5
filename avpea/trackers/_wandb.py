"""Weights & Biases: options, and the numbers of each epoch; neither code, nor output, nor the machine's state."""

import os
import secrets
from collections.abc import Mapping
from typing import Any, ClassVar

from avpea.errors import AvpeaError
from avpea.trackers._base import About, Outcome, Tracker, as_text

__all__ = ["WeightsAndBiases"]

# What W&B would collect by itself.
_QUIET: dict[str, Any] = {
    "silent": True,
    "console": "off",
    "host": "-",  # this computer's name
    "disable_git": True,
    "save_code": False,
    "x_disable_stats": True,
    "x_disable_meta": True,
    "x_disable_machine_info": True,
    "x_save_requirements": False,
}
_SECONDS = 30  # to begin, and to send what is left at the end


class WeightsAndBiases(Tracker):
    """A run of W&B in the project `WANDB_PROJECT` (`avpea`); its other variables hold too, such as `WANDB_MODE`."""

    title: ClassVar[str] = "Weights & Biases"
    package: ClassVar[str] = "wandb"
    extra: ClassVar[str] = "wandb"

    def start(self, about: About, known: str, epochs: int) -> tuple[str, int, str]:
        """Begin a run, or go on with the one of that identifier.

        Raises:
            AvpeaError: There is no API key, although the run is to be sent.
        """
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # to W&B's makers
        import wandb

        online = wandb.setup(wandb.Settings(silent=True)).settings.mode not in ("offline", "disabled", "dryrun")
        if online and not wandb.login(prompt=False, verify=False):
            raise AvpeaError("it has no API key here; `wandb login` keeps one, and WANDB_MODE=offline needs none")
        identifier = known or secrets.token_hex(8)
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "avpea"),
            id=identifier,
            name=about.name[:128],
            resume="allow",
            dir=str(about.folder),
            settings=wandb.Settings(**_QUIET, init_timeout=_SECONDS, finish_timeout=_SECONDS),
        )
        self._run.config.update(_as_texts(about.options), allow_val_change=True)
        where = as_text(self._run.settings.sync_dir)
        sent = f"{self._run.url}" if online else f"kept in {where}, and sent by `wandb sync` only"
        return identifier, epochs, f"Weights & Biases: {sent}."

    def log(self, epoch: int, numbers: Mapping[str, float]) -> None:
        """Log an epoch, whose number is the step; W&B sends it in a process of its own."""
        self._run.log({"epoch": epoch, **numbers}, step=epoch)

    def end(self, best: Mapping[str, float], outcome: Outcome) -> None:
        """Finish the run."""
        self._run.summary.update({f"best/{name}": value for name, value in best.items()})
        self._run.finish(exit_code=0 if outcome == "finished" else 1)


def _as_texts(value: Any) -> Any:
    """The same with texts that are valid UTF-8."""
    if isinstance(value, Mapping):
        return {as_text(key): _as_texts(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_as_texts(item) for item in value]
    return as_text(value) if isinstance(value, str) else value
