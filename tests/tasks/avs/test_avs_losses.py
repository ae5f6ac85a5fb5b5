"""The losses of segmentation against the formulas written out."""

import math

import pytest
import torch

from avpea.tasks.avs._losses import cross_entropy, matching_cosine, matching_kl


def test_frames_without_annotation_have_no_part_in_the_cross_entropy() -> None:
    torch.manual_seed(0)
    logits, classes = torch.randn(5, 1, 4, 4, requires_grad=True), torch.randint(0, 2, (5, 4, 4))
    labelled = torch.tensor([True, False, False, False, False])  # as in S4's training split
    loss = cross_entropy(logits, classes, labelled)
    assert loss.item() == pytest.approx(torch.nn.BCELoss()(logits[0, 0].sigmoid(), classes[0].float()).item(), abs=1e-6)
    loss.backward()
    assert logits.grad is not None
    assert logits.grad[0].abs().min() > 0
    assert not logits.grad[1:].any()
    both = cross_entropy(logits, classes, torch.ones(5, dtype=torch.bool))
    assert both.item() == pytest.approx(torch.nn.BCELoss()(logits[:, 0].sigmoid(), classes.float()).item(), abs=1e-6)


def test_the_cross_entropy_of_classes_is_torchs_over_annotated_frames() -> None:
    torch.manual_seed(0)
    logits, classes = torch.randn(3, 5, 4, 4), torch.randint(0, 5, (3, 4, 4))
    labelled = torch.tensor([True, False, True])
    expected = torch.nn.CrossEntropyLoss()(logits[labelled], classes[labelled])
    assert float(cross_entropy(logits, classes, labelled)) == pytest.approx(float(expected), abs=1e-6)
    assert float(cross_entropy(logits, classes, labelled & False)) == 0.0


def test_the_matching_term_is_the_divergence_written_out() -> None:
    torch.manual_seed(0)
    logits, maps, sounds = (
        torch.randn(2, 1, 8, 8),
        [torch.randn(2, 3, 4, 4), torch.randn(2, 3, 2, 2)],
        torch.randn(2, 3),
    )
    total = 0.0
    for found in maps:
        rows, step = found.shape[-1], 8 // found.shape[-1]
        for frame in range(2):
            seen = [0.0] * 3
            for y in range(rows):
                for x in range(rows):
                    patch = logits[frame, 0, y * step : (y + 1) * step, x * step : (x + 1) * step]
                    share = 1 / (1 + math.exp(-float(patch.mean())))
                    seen = [old + share * float(found[frame, c, y, x]) / rows**2 for c, old in enumerate(seen)]
            heard = [math.exp(float(v)) for v in sounds[frame]]
            shown = [math.exp(v) for v in seen]
            p, q = ([v / sum(some) for v in some] for some in (heard, shown))
            total += sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
    assert float(matching_kl(logits, maps, [sounds, sounds])) == pytest.approx(total / 2, rel=1e-5)


def test_the_cosine_term_sees_what_is_under_the_mask_alone() -> None:
    logits = torch.full((1, 1, 2, 2), -9.0)
    logits[..., 0] = 9.0
    found = torch.zeros(1, 2, 2, 2)
    found[0, 0, :, 0], found[0, 1, :, 1] = 1.0, 1.0
    for sound, cosine in (((1.0, 0.0), 1.0), ((1.0, 1.0), math.sqrt(0.5)), ((0.0, 1.0), 0.0), ((-1.0, 0.0), 0.0)):
        loss = matching_cosine(logits, [found], [torch.tensor([sound])])
        assert float(loss) == pytest.approx(-math.log(cosine + 1e-6), rel=1e-4, abs=1e-5)


def test_of_classes_the_object_is_whatever_is_no_background() -> None:
    torch.manual_seed(0)
    logits, maps, sounds = torch.randn(2, 4, 8, 8), [torch.randn(2, 3, 4, 4)], [torch.randn(2, 3)]
    objects = logits.softmax(dim=1)[:, 1:].sum(dim=1, keepdim=True).logit()
    assert float(matching_kl(logits, maps, sounds)) == pytest.approx(
        float(matching_kl(objects, maps, sounds)), rel=1e-4
    )
