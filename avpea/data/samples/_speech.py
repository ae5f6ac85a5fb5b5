"""Spoken words from espeak-ng (PyPI's `espeakng-loader`) through ctypes, in a process of its own.

espeak-ng is not thread-safe, and keeps state between words, so the same word sounds slightly different later. A new
process that speaks a whole list always gives the same sound.
"""

import ctypes
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Int16

from avpea.errors import DataError

__all__ = ["SPEECH_RATE_HZ", "speak"]

SPEECH_RATE_HZ = 22_050
_SYNCHRONOUS, _CHARS_UTF8, _RATE, _PITCH = 2, 1, 1, 3
# espeak-ng returns at most one buffer per word: with its default of 500 ms, longer words are cut.
_BUFFER_MS = 3000

_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)


def speak(utterances: Sequence[tuple[str, str, int, int]]) -> list[Int16[np.ndarray, " _samples"]]:
    """Speak each (text, voice, rate in words per minute, pitch 0-99), in this order.

    Returns:
        Mono sound at `SPEECH_RATE_HZ` for each, without silence at both ends.

    Raises:
        DataError: The library cannot be loaded, or rejects a voice.
    """
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(
        [sys.executable, "-m", __name__],
        input=json.dumps(utterances).encode(),
        capture_output=True,
        env=environment,
        check=False,
    )
    if done.returncode:
        reason = done.stderr.decode(errors="replace").strip().splitlines() or [f"exit code {done.returncode}"]
        raise DataError(
            f"espeak-ng could not speak ({reason[-1]}); install its parts anew with: "
            'pip install --force-reinstall "avpea[samples]"'
        )
    samples = np.frombuffer(done.stdout, dtype="<i2")
    lengths = samples[: 2 * len(utterances)].view("<i4")
    return np.split(samples[2 * len(utterances) :], np.cumsum(lengths)[:-1])


class _Espeak:
    """The initialised library; only one per process."""

    def __init__(self) -> None:
        import espeakng_loader

        self._data = Path(espeakng_loader.get_data_path())
        self._library = ctypes.CDLL(espeakng_loader.get_library_path())
        rate = self._library.espeak_Initialize(_SYNCHRONOUS, _BUFFER_MS, str(self._data).encode(), 0)
        if rate != SPEECH_RATE_HZ:
            raise RuntimeError(f"espeak_Initialize answered {rate}; expected {SPEECH_RATE_HZ} Hz")
        self._chunks: list[Int16[np.ndarray, " _samples"]] = []
        self._callback = _Callback(self._collect)  # ctypes keeps no reference
        self._library.espeak_SetSynthCallback(self._callback)

    def _collect(self, sound: "ctypes._Pointer[ctypes.c_short]", count: int, _events: int | None) -> int:
        if count > 0:
            self._chunks.append(np.ctypeslib.as_array(sound, (count,)).astype("<i2"))
        return 0

    def say(self, text: str, voice: str, rate: int, pitch: int) -> Int16[np.ndarray, " samples"]:
        # An unknown variant is silently replaced by the plain voice, without an error code: look for its file.
        variant = voice.partition("+")[2]
        if variant and not (self._data / "voices" / "!v" / variant).is_file():
            raise RuntimeError(f"espeak-ng has no voice variant '{variant}'")
        self._check(self._library.espeak_SetVoiceByName(voice.encode()), f"voice '{voice}'")
        self._check(self._library.espeak_SetParameter(_RATE, rate, 0), f"rate {rate}")
        self._check(self._library.espeak_SetParameter(_PITCH, pitch, 0), f"pitch {pitch}")
        self._chunks.clear()
        encoded = text.encode()
        answer = self._library.espeak_Synth(encoded, len(encoded) + 1, 0, 1, 0, _CHARS_UTF8, None, None)
        self._check(answer, f"the word '{text}'")
        self._check(self._library.espeak_Synchronize(), f"the word '{text}'")
        sound = np.concatenate([np.zeros(0, "<i2"), *self._chunks])
        loud = np.flatnonzero(np.abs(sound.astype(np.int32)) > 0.02 * np.abs(sound.astype(np.int32)).max(initial=0))
        if not loud.size:
            raise RuntimeError(f"espeak-ng said nothing for '{text}' with voice '{voice}'")
        return sound[loud[0] : loud[-1] + 1]

    @staticmethod
    def _check(answer: int, what: str) -> None:
        if answer:
            raise RuntimeError(f"espeak-ng refused {what} with answer {answer}")


def _main() -> None:
    try:
        espeak = _Espeak()
        sounds = [espeak.say(*utterance) for utterance in json.load(sys.stdin.buffer)]
    except (RuntimeError, OSError, ImportError) as error:
        sys.exit(str(error))
    sys.stdout.buffer.write(np.array([len(sound) for sound in sounds], "<i4").tobytes())
    sys.stdout.buffer.write(b"".join(sound.tobytes() for sound in sounds))


if __name__ == "__main__":
    _main()
