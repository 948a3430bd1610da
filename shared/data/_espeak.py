"""Speak a list of utterances with espeak-ng, in a process of its own: espeak keeps its state in global variables.

Reads a JSON list of [word, voice, words a minute, pitch] from standard input. Writes the samples, 16-bit integers of
this machine, one utterance after the other, to the file named on the command line, and prints JSON: the sampling rate
and the number of samples of each utterance. Exits with 1 and one line on standard error when an utterance fails.
Imports nothing heavy, so that it starts at once.
"""

import ctypes
import json
import sys
from pathlib import Path

import espeakng_loader

_SYNCHRONOUS, _DONT_EXIT, _UTF8 = 2, 0x8000, 1  # constants of espeak's speak_lib.h
_PARAMETER_RATE, _PARAMETER_PITCH = 1, 3
_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)


def main(utterances, target):
    """Speak all utterances and write them to `target`."""
    library = ctypes.CDLL(espeakng_loader.get_library_path())
    home = Path(espeakng_loader.get_data_path()).parent  # espeak looks for `espeak-ng-data` below it
    rate = library.espeak_Initialize(_SYNCHRONOUS, 0, str(home).encode(), _DONT_EXIT)
    if rate <= 0:
        sys.exit("espeak-ng does not start: reinstall the package espeakng-loader.")
    # Starting seeds espeak's random numbers (the breath in some voices) with the time of day.
    library.espeak_ng_SetRandSeed.argtypes = [ctypes.c_long]
    library.espeak_ng_SetRandSeed(1)
    pieces = []

    @_CALLBACK
    def collect(samples, count, events):
        if samples and count > 0:
            pieces.append(ctypes.string_at(samples, 2 * count))
        return 0

    library.espeak_SetSynthCallback(collect)
    counts = []
    with open(target, "wb") as stream:
        for word, voice, speed, pitch in utterances:
            if library.espeak_SetVoiceByName(voice.encode()):
                sys.exit(f"espeak-ng has no voice {voice!r}: choose from speech.voices().")
            library.espeak_SetParameter(_PARAMETER_RATE, speed, 0)
            library.espeak_SetParameter(_PARAMETER_PITCH, pitch, 0)
            pieces.clear()
            text = word.encode()
            failed = library.espeak_Synth(text, len(text) + 1, 0, 1, 0, _UTF8, None, None)
            samples = b"".join(pieces)
            if failed or not any(samples):
                sys.exit(f"espeak-ng says nothing for {word!r} with the voice {voice!r}: choose another word or voice.")
            stream.write(samples)
            counts.append(len(samples) // 2)
    print(json.dumps({"rate": rate, "counts": counts}))


if __name__ == "__main__":
    main(json.load(sys.stdin), sys.argv[1])
