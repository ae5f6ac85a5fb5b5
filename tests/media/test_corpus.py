"""Mutants that found something (`tests/faults/mutate.py`, cut down): each is answered, or refused in a sentence.

argument.wav      127 channels, which cannot be mixed: an exception of FFmpeg
planes.mp4        a packet that decodes to more than 8 planes of sound: PyAV's arrays were read out of bounds
rate.wav          2 samples a second: hours of sound from half a kilobyte
rate_spliced.wav  the same, of 6 channels
track.*           packets of a track that is not there when the file is opened: KeyError, or sound taken from them
"""

from pathlib import Path

import pytest
import torch

from avpea.errors import MediaError
from avpea.media import Limits, boxed, probe, read
from avpea.media.box import current

CORPUS = Path(__file__).parent / "corpus"
NOTHING = "nothing in this file decodes; expected an intact video. Get the file anew."
EXPECTED: dict[str, int | str] = {
    "argument.wav": NOTHING,
    "planes.mp4": 2,
    "rate.wav": NOTHING,
    "rate_spliced.wav": NOTHING,
    "track.avi": NOTHING,
    "track.flv": 1,
    "track.mkv": NOTHING,
    "track.mp4": 2,
}


def test_every_file_has_its_outcome() -> None:
    assert {path.name for path in CORPUS.iterdir()} == EXPECTED.keys()


def test_the_corpus_is_read_or_refused_and_harms_no_worker() -> None:
    outcomes: dict[str, int | str] = {}
    with boxed(Limits(memory_mb=400)):
        box = current()
        assert box is not None
        numbers = set()
        for path in sorted(CORPUS.iterdir()):
            try:
                probe(path)
                clip = read(path, missing_audio="silence", missing_video="black")
                outcomes[path.name] = len(clip.frames)
                assert torch.isfinite(clip.waveform).all()
            except MediaError as error:
                outcomes[path.name] = error.reason
            numbers.add(box.process_id)
    assert outcomes == EXPECTED
    assert len(numbers) == 1


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_they_are_safe_outside_of_a_box_too(name: str) -> None:
    path, expected = CORPUS / name, EXPECTED[name]
    if isinstance(expected, int):
        assert len(read(path, missing_audio="silence", missing_video="black").frames) == expected
        return
    with pytest.raises(MediaError) as error:
        read(path, missing_audio="silence", missing_video="black")
    assert error.value.reason == expected
