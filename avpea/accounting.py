"""Exact parameter counts, from the real modules on the meta device; no weights are loaded or downloaded.

The columns of the paper's Tables 1 and 4 turn out to count this:

    Adapter      the adapters                                            3,654,192    12,890,208
    trainable    adapters + CMBS head as its public code has it         17,756,041    27,188,665
    frozen       backbone + its classifier of 21,843 classes           102,595,923   325,690,707

The classifier and 4,344,064 parameters of the head are never used; `ParameterCount` has totals with and without them.
"""

import dataclasses
import math
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import nn

from avpea import backbones, registry
from avpea.encoders import build_encoder
from avpea.experiment import Experiment, load_recipe, recipe_names
from avpea.labels import Labels
from avpea.options import countable
from avpea.sections import BackboneOptions
from avpea.tasks import Dims, Task

__all__ = ["PaperRow", "ParameterCount", "count", "on_meta", "paper_rows", "size_of"]


@dataclass(frozen=True)
class ParameterCount:
    """Number of parameters of an experiment, by part. Buffers (BatchNorm statistics) do not count.

    Attributes:
        frozen: Parameters of the frozen networks, as used.
        frozen_classifier: Parameters of the backbone's own classifier, which is not used; 0 if nothing is frozen.
        adapters: Parameters of all adapters, or trained copies of the backbone's weights.
        head: Parameters of the task's head, as used.
        head_registered: Parameters of the head as its public code registers it, unused layers included.
        num_classes: Number of classes or answers of the head; 0 if it does not classify.
        outputs: What `num_classes` counts, such as `classes`.
    """

    frozen: int
    frozen_classifier: int
    adapters: int
    head: int
    head_registered: int
    num_classes: int
    outputs: str = "classes"

    @property
    def trainable(self) -> int:
        """Trained parameters: adapters and head."""
        return self.adapters + self.head

    @property
    def trainable_registered(self) -> int:
        """Trainable parameters as the paper counts them: adapters and the head as registered."""
        return self.adapters + self.head_registered

    @property
    def frozen_with_classifier(self) -> int:
        """Frozen parameters as the paper counts them."""
        return self.frozen + self.frozen_classifier

    @property
    def total(self) -> int:
        """All parameters that a forward pass uses."""
        return self.frozen + self.trainable

    @property
    def adapter_share(self) -> float:
        """Share of the adapters in `total`, in [0, 1]."""
        return self.adapters / self.total

    @property
    def trainable_share(self) -> float:
        """Share of adapters and head in `total`, in [0, 1]."""
        return self.trainable / self.total

    @property
    def paper_share(self) -> float:
        """Share of the adapters in all that the paper counts, in [0, 1]: 3.04 % with ViT-B, 3.65 % with ViT-L."""
        return self.adapters / (self.trainable_registered + self.frozen_with_classifier)

    def to_dict(self) -> dict[str, Any]:
        """Counts, totals and shares by name, as plain values."""
        derived = [name for name, member in vars(ParameterCount).items() if isinstance(member, property)]
        return dataclasses.asdict(self) | {name: getattr(self, name) for name in derived}


@dataclass(frozen=True)
class PaperRow:
    """A row of the paper's Table 1, 2 or 4, with this code's counts.

    Attributes:
        recipe: Name of the recipe.
        title: Title of the recipe, with the number of the table.
        published: The paper's figures: `accuracy` in percent, `adapter_millions`, `trainable_millions`,
            `frozen_millions`. Table 4 has the accuracy only. Table 2's accuracy is the mean over the three modalities,
            which are also there; its rows without adapters have `total_millions`.
        counts: This code's counts.
    """

    recipe: str
    title: str
    published: dict[str, float]
    counts: ParameterCount

    @property
    def in_paper_form(self) -> dict[str, float]:
        """The counts of this code as the paper prints them: in millions with one decimal, from 100 on with none.

        Frozen counts are truncated to one decimal, not rounded.
        """
        trainable = self.counts.trainable_registered / 1e6
        return {
            "adapter_millions": round(self.counts.adapters / 1e6, 1),
            "trainable_millions": round(trainable, 1) if trainable < 100 else float(round(trainable)),
            "frozen_millions": math.floor(self.counts.frozen_with_classifier / 1e5) / 10,
            "total_millions": round((self.counts.frozen_with_classifier + self.counts.trainable_registered) / 1e6, 1),
        }

    @property
    def published_share(self) -> float | None:
        """The adapters' share in the paper's text, from its rounded columns, in [0, 1]: 3.1 % and 3.7 %."""
        if "adapter_millions" not in self.published:
            return None
        everything = self.published["trainable_millions"] + self.published["frozen_millions"]
        return self.published["adapter_millions"] / everything

    def to_dict(self) -> dict[str, Any]:
        """The row as plain values."""
        return {
            "recipe": self.recipe,
            "title": self.title,
            "published": self.published,
            "published_share": self.published_share,
            "in_paper_form": self.in_paper_form,
            "counts": self.counts.to_dict(),
        }


def count(experiment: Experiment, labels: Labels | None = None) -> ParameterCount:
    """Count an experiment's parameters.

    Args:
        experiment: The experiment.
        labels: Labels that the head predicts; by default as many as the best-known data set of the task has (AVE's 28
            classes, MUSIC-AVQA's 93 words and 42 answers).

    Raises:
        ExperimentError: Options that do not fit each other.
    """
    backbone, classifier = _frozen(experiment.backbone)
    labels = labels or registry.load("task", experiment.task.name).needs.typical()
    encoder, made = on_meta(backbone, experiment, labels)
    if made.head.frozen_negatives:
        encoder.require_see()
    frozen, trained = encoder.parameter_counts()
    return ParameterCount(
        frozen=frozen,
        frozen_classifier=classifier if frozen else 0,
        adapters=trained,
        head=size_of(made.head),
        head_registered=size_of(made.head) + sum(made.head.registered_but_unused().values()),
        num_classes=len(labels.names),
        outputs=labels.outputs,
    )


def on_meta(backbone: Any, experiment: Experiment, labels: Labels | None = None) -> tuple[Any, Task]:
    """An experiment's encoder and task on the meta device, around a backbone that is there already.

    Args:
        backbone: The backbone, as `backbones.shape_only` makes it.
        experiment: The experiment.
        labels: As in `count`.

    Raises:
        ExperimentError: Options that do not fit each other.
    """
    task: type[Task] = registry.load("task", experiment.task.name)
    with countable(experiment), torch.device("meta"):
        encoder = build_encoder(backbone, experiment)
        dims = Dims(encoder.visual_dim, encoder.audio_dim, encoder.stage_dims)
        return encoder, task.build(experiment, dims, labels or task.needs.typical())


def paper_rows() -> list[PaperRow]:
    """Every recipe that is a row of the paper, sorted by table and accuracy."""
    recipes = {name: load_recipe(name) for name in recipe_names() if name.startswith("paper/")}
    rows = [
        PaperRow(name, recipe.title, recipe.published, count(recipe))
        for name, recipe in recipes.items()
        if recipe.published
    ]
    return sorted(rows, key=lambda row: (row.title.partition(":")[0], next(iter(row.published.values()))))


@cache
def _frozen(options: BackboneOptions) -> tuple[Any, int]:
    return backbones.shape_only(options), backbones.classifier_parameters(options.name)


def size_of(module: nn.Module) -> int:
    """Number of parameters of a module."""
    return sum(parameter.numel() for parameter in module.parameters())
