"""Whether the tensors in a file are those of a model: names, types, shapes, and finite numbers."""

from collections.abc import Mapping

from torch import Tensor

from avpea.errors import CheckpointError
from avpea.tables import how_many
from avpea.tensors import Shape, all_finite, kind_of

__all__ = ["REMEDY", "require_finite", "require_same"]

REMEDY = "copy it anew, or train again"


def require_same(own: Mapping[str, Tensor], found: Mapping[str, Shape], source: str) -> None:
    """Refuse other names, types or shapes than the model's own.

    Raises:
        CheckpointError: The message names some.
    """
    missing, unknown = sorted(own.keys() - found.keys()), sorted(found.keys() - own.keys())
    if missing or unknown:
        raise CheckpointError(
            f"{source} does not fit the model, by its tensors: {len(missing)} missing {missing[:3]}, "
            f"{len(unknown)} unknown {unknown[:3]}."
        )
    for key, value in own.items():
        if tuple(value.shape) != found[key].sizes:
            raise CheckpointError(
                f"{source} does not fit the model: {key} has shape {found[key].sizes}, expected {tuple(value.shape)}."
            )
        if (kind := kind_of(value)) != found[key].kind:
            raise CheckpointError(
                f"{source} does not fit the model: {key} has numbers of type {found[key].kind}, expected {kind}."
            )


def require_finite(tensors: Mapping[str, Tensor], source: str) -> None:
    """Refuse weights that are NaN or infinite.

    Raises:
        CheckpointError: The message names some.
    """
    wrong = [key for key, value in sorted(tensors.items()) if value.is_floating_point() and not all_finite(value)]
    if wrong:
        raise CheckpointError(
            f"{source} has weights that are no finite numbers, in {how_many(len(wrong), 'tensor')} {wrong[:3]}; "
            f"{REMEDY}."
        )
