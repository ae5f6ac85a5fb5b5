"""From high dynamic range to the range of ordinary video, so that a model sees what it was trained on.

HDR codes light in the wide primaries of BT.2020, with the curve PQ (SMPTE ST 2084) or HLG (ARIB STD-B67, BT.2100).
Taken as ordinary video, it looks grey and washed out. Here, as in players: light relative to a white of 203 nits
(BT.2408), the primaries of BT.709, ffmpeg's curve `tonemap=mobius`, and the inverse of a display's gamma (BT.1886).
"""

from typing import Any

import numpy as np

__all__ = ["CURVES", "tone_mapped"]

Array = np.ndarray[Any, np.dtype[Any]]

CURVES = {16: "PQ", 18: "HLG"}  # FFmpeg's numbers of transfer characteristics
WHITE_NITS = 203.0
PEAK_NITS = 1000.0  # that most HDR is graded for; brighter light is white
KNEE = 0.3  # relative to white; up to here light is unchanged
GAMMA = 2.4
# From BT.2020 to BT.709 (BT.2087).
TO_BT709 = np.array([[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]], np.float32)
LUMINANCE = np.array([0.2627, 0.6780, 0.0593], np.float32)


def tone_mapped(pixels: Array, curve: int) -> Array:
    """Ordinary 8-bit RGB of a picture in HDR.

    Args:
        pixels: RGB (height, width, 3) in BT.2020 with 16 bits a channel.
        curve: FFmpeg's number of the transfer characteristic, a key of `CURVES`.
    """
    coded = pixels.astype(np.float32) / 65_535
    nits = _pq(coded) if CURVES[curve] == "PQ" else _hlg(coded)
    light = np.clip(nits / WHITE_NITS @ TO_BT709.T, 0, PEAK_NITS / WHITE_NITS)
    brightest = np.maximum(light.max(axis=-1, keepdims=True), 1e-6)
    small = np.clip(light * (_mobius(brightest) / brightest), 0, 1) ** (1 / GAMMA)
    mapped: Array = np.round(255 * small).astype(np.uint8)
    return mapped


def _pq(coded: Array) -> Array:
    """Light in nits of PQ, by the EOTF of ST 2084."""
    power = coded ** (4096 / (2523 * 128))
    ratio = np.maximum(power - 3424 / 4096, 0) / (2413 / 4096 * 32 - 2392 / 4096 * 32 * power)
    nits: Array = 10_000 * ratio ** (16_384 / 2610)
    return nits


def _hlg(coded: Array) -> Array:
    """Light in nits of HLG on a display of 1,000 nits, by the inverse OETF and the OOTF of BT.2100."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    scene = np.where(coded <= 0.5, coded**2 / 3, (np.exp((coded - c) / a) + b) / 12)
    luminance = np.maximum(scene @ LUMINANCE, 1e-6)[..., None]
    nits: Array = 1000 * luminance**0.2 * scene
    return nits


def _mobius(light: Array) -> Array:
    """Ffmpeg's curve: linear up to the knee, then a hyperbola that reaches 1 at the peak."""
    peak = PEAK_NITS / WHITE_NITS
    a = -(KNEE**2) * (peak - 1) / (KNEE**2 - 2 * KNEE + peak)
    b = (KNEE**2 - 2 * KNEE * peak + peak) / (peak - 1)
    high = (b**2 + 2 * b * KNEE + KNEE**2) / (b - a) * (light + a) / (light + b)
    return np.where(light <= KNEE, light, high)
