"""What is fitted to a trained model on its selection split: how sure it may be, and what it does not know."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from jaxtyping import Float, Int
from torch import Tensor

from avpea.errors import CheckpointError
from avpea.metrics.calibration import (
    HIGHEST,
    LOWEST,
    NO_ANSWER,
    Reliability,
    fit_temperature,
    reliability,
    temper,
)  # fmt: skip
from avpea.metrics.novelty import novelty
from avpea.tables import how_many

__all__ = ["Calibration", "Chances"]


@dataclass(frozen=True)
class Chances:
    """The probabilities behind the answers of a split.

    Attributes:
        probabilities: Probability of each category; each row sums to 1.
        given: Index of the category that was answered.
        right: Index of the right category; `NO_ANSWER` where no category is right.
    """

    probabilities: Float[Tensor, "answers categories"]
    given: Int[Tensor, " answers"]
    right: Int[Tensor, " answers"]

    def at(self, temperature: float) -> "Chances":
        """The same answers at a temperature."""
        return Chances(temper(self.probabilities, temperature), self.given, self.right)

    def reliability(self) -> Reliability:
        """How far the probability of the given answers is from the share of right ones."""
        confidence = self.probabilities.gather(1, self.given[:, None]).squeeze(1)
        return reliability(confidence, self.given == self.right)

    def temperature(self) -> tuple[float, str]:
        """The temperature of the highest likelihood, and a remark; 1 where nothing can be fitted."""
        known = self.right != NO_ANSWER
        if not known.any():
            return 1.0, "no answer of the split can be right"
        if bool((self.given == self.right).all()):
            return 1.0, "every answer of the split is right, so nothing tells how sure is too sure"
        fitted = fit_temperature(self.probabilities[known], self.right[known])
        if not 1.01 * LOWEST < fitted < 0.99 * HIGHEST:  # as of a few videos with mistakes: it would go on for ever
            return 1.0, f"no temperature from {LOWEST:g} to {HIGHEST:g} is the best one, so the split says too little"
        return fitted, ""


@dataclass(frozen=True)
class Calibration:
    """What was fitted after training; stored in the checkpoint.

    Attributes:
        split: The split it was fitted on.
        samples: Number of videos of that split.
        answers: Number of their answers.
        temperature: Probabilities are raised to 1 / temperature and normalised.
        remark: Why the temperature is 1, if nothing could be fitted; else empty.
        chosen: Options of `predict` that do best on that split, by name.
        means: Mean features of each category in the training set; None for a task without features.
    """

    split: str
    samples: int
    answers: int
    temperature: float = 1.0
    remark: str = ""
    chosen: Mapping[str, float] = field(default_factory=dict)
    means: Float[Tensor, "classes width"] | None = field(default=None, compare=False)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, without the means."""
        return {name: value for name, value in vars(self).items() if name != "means"} | {"chosen": dict(self.chosen)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> "Calibration":
        """What `to_dict` and `tensors` were called on."""
        return cls(**values, means=tensors.get("means"))

    def tensors(self) -> dict[str, Tensor]:
        """The tensors to store beside `to_dict`, by name."""
        return {} if self.means is None else {"means": self.means}

    def novelty(
        self, features: Float[Tensor, "rows width"], given: Int[Tensor, " rows"], categories: int
    ) -> Float[Tensor, " rows"] | None:
        """Distance of inputs from the training mean of the category that each was given, as a multiple of the limit.

        None if that was not fitted. Above 1, an input is unlike anything in the training set.

        Args:
            features: Features of each input.
            given: Index of the category that each was given.
            categories: Number of categories of the model.

        Raises:
            CheckpointError: The means are of other categories or features.
        """
        if self.means is None or "novelty_limit" not in self.chosen:
            return None
        rows, width = self.means.shape
        if (rows, width) != (categories, features.shape[1]):
            raise CheckpointError(
                f"The run's calibration knows {rows} categories by {width} numbers each, which are not those of its "
                "model; make it anew with `avpea calibrate`, or copy the run anew."
            )
        return novelty(features, given, self.means) / self.chosen["novelty_limit"]

    def brief(self) -> dict[str, Any]:
        """What an answer says of it, as plain values."""
        return {"temperature": round(self.temperature, 4), "fitted_on": self.split}

    def line(self) -> str:
        """In a sentence."""
        why = f" ({self.remark})" * bool(self.remark)
        chosen = "".join(f", {name.replace('_', ' ')} {value:.3g}" for name, value in self.chosen.items())
        where = f"{self.split} ({how_many(self.samples, 'video')})"
        return f"Calibrated on {where}: temperature {self.temperature:.2f}{why}{chosen}."
