"""From media files to tensors: frames with their time stamps, waveforms, and Kaldi's and VGGish's log-mels."""

from avpea.media.clip import SAMPLE_RATE_HZ, Clip, MediaInfo, segments_in
from avpea.media.container import require_file
from avpea.media.decode import probe, read, read_sound
from avpea.media.fbank import log_mel
from avpea.media.folder import MediaBelow, media_below
from avpea.media.spread import SpreadRule, chosen_seconds, moments, read_spread
from avpea.media.vggish import vggish_log_mel

__all__ = [
    "SAMPLE_RATE_HZ",
    "Clip",
    "MediaBelow",
    "MediaInfo",
    "SpreadRule",
    "chosen_seconds",
    "log_mel",
    "media_below",
    "moments",
    "probe",
    "read",
    "read_sound",
    "read_spread",
    "require_file",
    "segments_in",
    "vggish_log_mel",
]
