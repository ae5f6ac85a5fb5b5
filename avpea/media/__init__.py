"""From media files to tensors: frames with their time stamps, waveforms, and Kaldi's and VGGish's log-mels.

Importing this imports no torch, which the workers that decode do without; the names are looked up when first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from avpea.media.box import boxed, limits_here, open_for_good, warm_up, watched
    from avpea.media.clip import Clip
    from avpea.media.decode import probe, read, read_sound, read_stored
    from avpea.media.fbank import log_mel
    from avpea.media.film import Film
    from avpea.media.folder import MediaBelow, media_below
    from avpea.media.info import SAMPLE_RATE_HZ, MediaInfo, segments_in
    from avpea.media.limits import Limits
    from avpea.media.regular import require_file
    from avpea.media.spread import SpreadRule, chosen_seconds, moments, read_spread
    from avpea.media.vggish import vggish_log_mel

_NAMES = {
    "box": ("boxed", "limits_here", "open_for_good", "warm_up", "watched"),
    "clip": ("Clip",),
    "decode": ("probe", "read", "read_sound", "read_stored"),
    "fbank": ("log_mel",),
    "film": ("Film",),
    "folder": ("MediaBelow", "media_below"),
    "info": ("SAMPLE_RATE_HZ", "MediaInfo", "segments_in"),
    "limits": ("Limits",),
    "regular": ("require_file",),
    "spread": ("SpreadRule", "chosen_seconds", "moments", "read_spread"),
    "vggish": ("vggish_log_mel",),
}
_HOMES = {name: home for home, names in _NAMES.items() for name in names}

__all__ = [
    "SAMPLE_RATE_HZ",
    "Clip",
    "Film",
    "Limits",
    "MediaBelow",
    "MediaInfo",
    "SpreadRule",
    "boxed",
    "chosen_seconds",
    "limits_here",
    "log_mel",
    "media_below",
    "moments",
    "open_for_good",
    "probe",
    "read",
    "read_sound",
    "read_spread",
    "read_stored",
    "require_file",
    "segments_in",
    "vggish_log_mel",
    "warm_up",
    "watched",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'avpea.media' has no attribute '{name}'")
    return getattr(importlib.import_module(f"avpea.media.{_HOMES[name]}"), name)
