"""From media files to tensors: frames with their seconds, the waveform, and Kaldi's log-mel filter bank."""

from avpea.media.clip import SAMPLE_RATE_HZ, Clip, MediaInfo, segments_in
from avpea.media.decode import probe, read
from avpea.media.fbank import log_mel

__all__ = ["SAMPLE_RATE_HZ", "Clip", "MediaInfo", "log_mel", "probe", "read", "segments_in"]
