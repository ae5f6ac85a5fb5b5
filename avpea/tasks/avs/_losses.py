"""The losses of audio-visual segmentation, as AVSBench's public code has them.

S4, MS3 and semantic masks differ only in which frames have an annotation: the cross-entropy is over those alone (in
S4's training split that is the first frame of every five).
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from avpea.distributed import mean_of, total

__all__ = ["cross_entropy", "matching_cosine", "matching_kl"]


def cross_entropy(
    logits: Float[Tensor, "frames channels height width"],
    classes: Int[Tensor, "frames height width"],
    labelled: Bool[Tensor, " frames"],
) -> Float[Tensor, ""]:
    """Cross-entropy of pixels, mean over each frame and then over the annotated frames.

    With one channel it is the binary one, of the object's probability; else channel 0 is background.

    Args:
        logits: Of the object, or of each class.
        classes: Annotated class of each pixel; 0 is background.
        labelled: Which frames are annotated; the others have no part in it.
    """
    if logits.shape[1] == 1:
        each = F.binary_cross_entropy_with_logits(logits[:, 0], (classes > 0).to(logits.dtype), reduction="none")
    else:
        each = F.cross_entropy(logits, classes, reduction="none")
    frames = each.flatten(1).mean(dim=1)
    return (frames * labelled).sum() / labelled.sum().clamp(min=1)


def _object(logits: Float[Tensor, "frames channels height width"]) -> Float[Tensor, "frames height width"]:
    """Logits of there being an object: of the only channel, or of any class against background."""
    if logits.shape[1] == 1:
        return logits[:, 0]
    return logits[:, 1:].logsumexp(dim=1) - logits[:, 0]


def _shares(logits: Tensor, found: Tensor) -> Float[Tensor, "frames 1 rows columns"]:
    """The mask at the size of a map: the mean of the logits, then the sigmoid."""
    rows, columns = found.shape[-2:]
    return F.adaptive_avg_pool2d(_object(logits)[:, None], (rows, columns)).sigmoid()


def matching_kl(
    logits: Float[Tensor, "frames channels height width"],
    maps: Sequence[Float[Tensor, "frames dim _rows _columns"]],
    sounds: Sequence[Float[Tensor, "frames dim"]],
) -> Float[Tensor, ""]:
    """MS3's matching term: KL(softmax(sound) || softmax(what is under the mask)), summed over frames, mean over stages.

    What is under the mask is the map times the mask, averaged over all positions. Frames are those of all processes.

    Args:
        logits: The predicted masks.
        maps: Visual maps of each stage, after sound and picture have met.
        sounds: The projected sound of each stage.
    """
    terms = []
    for found, sound in zip(maps, sounds, strict=True):
        seen = (found * _shares(logits, found)).flatten(2).mean(dim=2)
        terms.append(F.kl_div(seen.log_softmax(dim=1), sound.softmax(dim=1), reduction="sum"))
    return total(torch.stack(terms).mean())


def matching_cosine(
    logits: Float[Tensor, "frames channels height width"],
    maps: Sequence[Float[Tensor, "frames dim _rows _columns"]],
    sounds: Sequence[Float[Tensor, "frames dim"]],
) -> Float[Tensor, ""]:
    """S4's matching term: -log(relu(cos(sound, what is under the mask)) + 1e-6), mean over frames and stages.

    The mask at the size of the map is binarised at 0.5.

    Args:
        logits: The predicted masks.
        maps: Visual maps of each stage, after sound and picture have met.
        sounds: The projected sound of each stage.
    """
    terms = []
    for found, sound in zip(maps, sounds, strict=True):
        under = (_shares(logits, found) > 0.5).to(found.dtype)
        seen = (found * under).flatten(2).mean(dim=2)
        apart = -(F.cosine_similarity(sound, seen, dim=1).relu() + 1e-6).log()
        terms.append(mean_of(apart.sum(), torch.tensor(len(apart), device=apart.device)))
    return torch.stack(terms).mean()
