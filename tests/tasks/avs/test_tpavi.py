"""TPAVI's decoder: its parameters in closed form, its attention in factors, and its wiring."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from avpea.accounting import size_of
from avpea.errors import ExperimentError
from avpea.labels import AVSS_CLASSES, MaskLabels
from avpea.tasks import Dims, Encoded
from avpea.tasks.avs.heads._decoder import Decoder, DilatedSum, Exchange
from avpea.tasks.avs.heads.mask_readout import MaskReadout, MaskReadoutOptions
from avpea.tasks.avs.heads.tpavi import TPAVI, TPAVIOptions
from avpea.tasks.avs.heads.tpavi_pyramid import TPAVIPyramid

SWIN_L = Dims(1536, 1536, (192, 384, 768, 1536))
SMALL = TPAVIOptions(width=8, stages=(4, 4, 6, 8))


def test_the_decoder_has_as_many_parameters_as_the_public_one() -> None:
    with torch.device("meta"):
        sums = [size_of(DilatedSum(channels, 256)) for channels in (64, 128, 320, 512)]
        exchange, decoder, head = Exchange(256), Decoder(256, 1), TPAVI(SWIN_L, 1, 224, TPAVIOptions())
        semantic = TPAVI(SWIN_L, 71, 224, TPAVIOptions())
    assert sums == [590_848, 1_180_672, 2_950_144, 4_719_616]
    assert sums == [4 * (9 * c * 256 + 256) for c in (64, 128, 320, 512)]
    assert size_of(exchange) == 165_760
    assert size_of(decoder) + Decoder.dead(256) == 4 * 2_360_320 + 331_969
    registered = sum(sums) + 4 * size_of(exchange) + size_of(decoder) + Decoder.dead(256)
    assert registered == 19_877_569
    projections = size_of(head.projections) + size_of(head.sound)
    assert projections == 1_291_392
    assert size_of(head) + sum(head.registered_but_unused().values()) == registered + projections == 21_168_961
    assert size_of(semantic) == size_of(head) + 70 * 33 - 4 * 256


def test_the_pyramid_has_its_own_count() -> None:
    with torch.device("meta"):
        head = TPAVIPyramid(Dims(768, 768), 1, 224, TPAVIOptions())
    assert size_of(head.projections) + size_of(head.sound) == 769 * 1024 + 769 * 128 == 885_888
    assert size_of(head) + sum(head.registered_but_unused().values()) == 19_877_569 + 885_888


def test_the_attention_in_factors_is_the_plain_one() -> None:
    torch.manual_seed(0)
    exchange = Exchange(6).double()
    x, heard = torch.randn(2, 6, 3 * 4, dtype=torch.float64), torch.randn(2, 3, 6, dtype=torch.float64)
    repeated = heard.transpose(1, 2).repeat_interleave(4, dim=2)  # over the space of each frame
    attention = exchange.theta(x).transpose(1, 2) @ exchange.phi(repeated) / 12
    plain = (attention @ exchange.g(x).transpose(1, 2)).transpose(1, 2)
    torch.testing.assert_close(exchange.attend(x, heard), plain)


def test_a_new_exchange_is_the_layer_norm_of_its_input() -> None:
    torch.manual_seed(0)
    exchange, x = Exchange(6), torch.randn(2, 3, 6, 2, 2)
    z, _ = exchange(x, torch.randn(2, 3, 3))
    expected = torch.nn.functional.layer_norm(x.movedim(2, -1), (6,)).movedim(-1, 2)
    torch.testing.assert_close(z, expected)


def test_the_skip_of_a_residual_has_the_relu_of_the_public_code() -> None:
    torch.manual_seed(0)
    residual: Any = Decoder(4, 1).fusions[0].residual
    x = torch.randn(1, 4, 3, 3)
    inner = torch.nn.functional.conv2d(x.relu(), residual.first.weight, residual.first.bias, padding=1).relu()
    expected = x.relu() + torch.nn.functional.conv2d(inner, residual.second.weight, residual.second.bias, padding=1)
    torch.testing.assert_close(residual(x), expected)


def encoded(patches: int = 16, dim: int = 8, stages: tuple[Tensor, ...] = ()) -> Encoded:
    return Encoded(torch.randn(4, patches + 1, dim), torch.randn(4, 5, dim), 2, 1, True, stages=stages)


@pytest.mark.parametrize(("side", "channels"), [(32, 1), (30, 1), (64, 3)])
def test_masks_have_the_size_of_the_labels_and_depend_on_the_sound(side: int, channels: int) -> None:
    torch.manual_seed(0)
    head = TPAVIPyramid(Dims(8, 8), channels, side, SMALL)
    every: Any = head.exchanges
    for exchange in every:
        torch.nn.init.ones_(exchange.out_norm.weight)
    found = encoded()
    output = head(found)
    assert output.logits.shape == (4, channels, side, side)
    assert [one.shape[-1] for one in output.maps] == [-(-side // 32) * 2**power for power in (3, 2, 1, 0)]
    other = Encoded(found.visual, torch.randn(4, 5, 8), 2, 1, True)
    assert not torch.equal(head(other).logits, output.logits)


def test_stages_of_a_swin_go_into_their_places_and_others_are_refused() -> None:
    torch.manual_seed(0)
    dims = Dims(8, 8, (2, 4, 6, 8))
    head = TPAVI(dims, 1, 32, SMALL)
    stages = tuple(torch.randn(4, (16 // 2**i) ** 2, dim) for i, dim in enumerate(dims.stages))
    assert head(encoded(stages=stages)).logits.shape == (4, 1, 32, 32)
    with pytest.raises(ExperimentError, match=r"gives 0; name a Swin V2 .*or set head.name to tpavi_pyramid"):
        TPAVI.build(SMALL, Dims(8, 8), MaskLabels())


def test_the_readout_reads_each_patch_by_itself_and_no_sound() -> None:
    torch.manual_seed(0)
    head = MaskReadout.build(MaskReadoutOptions(detail=2), Dims(8, 8), MaskLabels(side=8))
    assert size_of(head) == 9 * 4
    found = encoded()
    logits = head(found).logits
    assert torch.equal(head(Encoded(found.visual, torch.randn(4, 5, 8), 2, 1, True)).logits, logits)
    assert found.visual is not None
    patch = 6  # the third of the second row, of four
    values = head.readout(found.visual[0, 1 + patch])
    torch.testing.assert_close(logits[0, 0, 2:4, 4:6].flatten(), values)
    many = MaskReadout.build(MaskReadoutOptions(), Dims(8, 8), MaskLabels(AVSS_CLASSES, 56))
    assert many(found).logits.shape == (4, 71, 56, 56)
    assert math.prod(many.readout.weight.shape) == 8 * 71 * 16


@pytest.mark.parametrize(
    ("options", "said"),
    [({"width": 7}, "head.width is 7; expected an even"), ({"stages": (1, 2, 3)}, "head.stages is [1, 2, 3]")],
)
def test_widths_that_cannot_be_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ExperimentError) as error:
        TPAVIOptions(**options)
    assert said in str(error.value)
