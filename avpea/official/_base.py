"""The base class of kinds of official checkpoints, and the report of an import."""

import dataclasses
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor

from avpea.experiment import Experiment
from avpea.labels import Labels

__all__ = ["ImportReport", "Official", "Piece", "Rule", "Table", "to"]

Table = Mapping[str, Tensor]


@dataclass(frozen=True)
class Piece:
    """A tensor of a file under this code's name.

    Attributes:
        name: The name that a checkpoint of avpea gives it.
        tensor: Its value.
        part: Its place, where several tensors of the file are concatenated to one.
    """

    name: str
    tensor: Tensor
    part: int = 0


# A pattern that matches the whole official name, and a function that makes the piece.
Rule = tuple[str, Callable[[re.Match[str], Tensor], Piece]]


def to(name: str, change: Callable[[Tensor], Tensor] = lambda value: value) -> Callable[[re.Match[str], Tensor], Piece]:
    """A rule's function: the name, with the groups of the pattern as in `re.sub`, and the changed tensor."""
    return lambda match, value: Piece(match.expand(name), change(value))


@dataclass(frozen=True)
class ImportReport:
    """What was imported from a checkpoint.

    Attributes:
        run: The run folder.
        kind: Kind of the checkpoint.
        title: Title of the recipe.
        taken: Names of this code's tensors that were loaded.
        made: Names of this code's tensors that got values with which the model computes what the public code computes.
        frozen: Names of the file's tensors that became the frozen backbone.
        missing: Names of this code's tensors that are not in the file; they keep their random initialisation.
        shared: Names of the file's tensors that are second copies, with equal values, of tensors that were taken.
        left_out: Names of the file's tensors that this model does not need, by the reason.
        unknown: Names of the file's tensors that this code knows no use for.
        differences: How the model's inputs differ from those of the public code, in sentences.
    """

    run: Path
    kind: str
    title: str
    taken: tuple[str, ...]
    made: tuple[str, ...]
    frozen: tuple[str, ...]
    missing: tuple[str, ...]
    shared: tuple[str, ...]
    left_out: dict[str, tuple[str, ...]]
    unknown: tuple[str, ...]
    differences: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return dataclasses.asdict(self) | {"run": str(self.run)}


class Official(ABC):
    """A kind of official checkpoint: how its names and settings translate to this code.

    A file in `avpea/official/` with one subclass is a kind. Names are without the prefix `module.`.

    Attributes:
        code: The public code, as `owner/repository`.
        example: Name of a file as the public code writes it.
        tasks: Names of the tasks that its files can be imported for.
        left_out: Patterns of official names that no model needs, each with the reason.
    """

    code: ClassVar[str]
    example: ClassVar[str]
    tasks: ClassVar[tuple[str, ...]]
    left_out: ClassVar[tuple[tuple[str, str], ...]] = ()

    @staticmethod
    @abstractmethod
    def recognises(table: Table) -> bool:
        """Whether the names are those of such a checkpoint."""

    @staticmethod
    @abstractmethod
    def recipe(table: Table) -> str:
        """Name of the recipe that the checkpoint is imported with if none is given.

        Raises:
            CheckpointError: No recipe is of its size.
        """

    @staticmethod
    def settings(table: Table, experiment: Experiment) -> dict[str, Any]:
        """Options that follow from the checkpoint, by dotted name.

        Raises:
            CheckpointError: The checkpoint does not fit the experiment.
        """
        return {}

    @staticmethod
    def frozen(table: Table) -> dict[str, str]:
        """Official names of the frozen image network's tensors, with the names that timm knows them by."""
        return {}

    @staticmethod
    @abstractmethod
    def labels(table: Table, experiment: Experiment) -> Labels:
        """Labels of the data set that the checkpoint was trained on, for a recipe without `data.root`.

        Raises:
            CheckpointError: They are known from the data set only.
        """

    @staticmethod
    @abstractmethod
    def rules(table: Table, experiment: Experiment) -> list[Rule]:
        """Rules for the trained tensors; the first that matches a name is applied."""

    @staticmethod
    def elsewhere(name: str, experiment: Experiment) -> str:
        """Why a trained tensor that would be called `name` here may have no place in the model; empty if it must have.

        Such tensors are left out for this reason, as what one file holds for several tasks. Of all others an import is
        refused: the options are not those that the file was trained with.
        """
        return ""

    @staticmethod
    def made(table: Table, wanted: Table) -> dict[str, Tensor]:
        """Tensors that only this code has, with the values that make it compute what the public code computes."""
        return {}

    @staticmethod
    def may_miss(name: str) -> bool:
        """Whether a run is of use while a tensor of this code's keeps its initialisation."""
        return False

    @staticmethod
    def twins(name: str) -> tuple[str, ...]:
        """Names of the tensors that this one may be a second copy of."""
        return ()

    @staticmethod
    @abstractmethod
    def differences(experiment: Experiment) -> list[str]:
        """How the inputs of an imported model differ from those of the public code, in sentences."""
