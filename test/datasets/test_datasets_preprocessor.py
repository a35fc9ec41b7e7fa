"""Each augmentation on a signal whose answer is known; none outside training; all of it tied to (seed, epoch, id)."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile

from funasr.datasets.preprocessor import CommonPreprocessor, parse_db_range
from funasr.register import tables
from funasr.utils.errors import ConfigError

FS = 16000
TOKENS = ["<blank>", "<s>", "</s>", "你", "好", "hel@@", "lo", "a", "b", "<unk>"]


def sine(seconds=1.0, hz=440.0, peak=0.5):
    return (peak * np.sin(2 * np.pi * hz * np.arange(int(seconds * FS)) / FS)).astype(np.float32)


def peak_hz(wave):
    return np.abs(np.fft.rfft(wave * np.hanning(len(wave)))).argmax() * FS / len(wave)


def speech_of(preprocessor, wave, uid="u", epoch=1):
    preprocessor.set_epoch(epoch)
    return preprocessor(uid, {"speech": wave})["speech"]


def write_wave(path, wave, name="list.scp"):
    soundfile.write(path / f"{name}.wav", wave, FS, subtype="FLOAT")
    (path / name).write_text(f"n1 {path}/{name}.wav\n")
    return path / name


def test_registered():
    assert tables.preprocessor_classes["common"] is CommonPreprocessor


@pytest.mark.parametrize("factor", [0.9, 1.1])
def test_speed(factor):
    out = speech_of(CommonPreprocessor(True, speed_perturb=[factor], fs=FS), sine())
    assert abs(len(out) - FS / factor) <= 1
    assert abs(peak_hz(out) - 440 * factor) < 2


def test_speed_one_of_the_factors_per_epoch_and_id():
    made = CommonPreprocessor(True, speed_perturb=[0.9, 1.0, 1.1], fs=FS)
    drawn = {(uid, e): len(speech_of(made, sine(0.1), uid, e)) for uid in "abc" for e in range(20)}
    assert set(drawn.values()) == {1600, 1778, 1455}
    again = CommonPreprocessor(True, speed_perturb=[0.9, 1.0, 1.1], fs=FS)
    assert all(len(speech_of(again, sine(0.1), uid, e)) == n for (uid, e), n in reversed(drawn.items()))
    other = CommonPreprocessor(True, speed_perturb=[0.9, 1.0, 1.1], fs=FS, seed=1)
    assert any(len(speech_of(other, sine(0.1), uid, e)) != n for (uid, e), n in drawn.items())


@pytest.mark.parametrize("seconds", [0.2, 3.0])
@pytest.mark.parametrize(("db_range", "low", "high"), [("10", 10, 10), (5, 5, 5), ("13_15", 13, 15), ("-3_3", -3, 3)])
def test_noise_at_its_ratio(tmp_path, seconds, db_range, low, high):
    noise = np.random.default_rng(0).normal(0, 0.05, int(seconds * FS)).astype(np.float32)
    scp = write_wave(tmp_path, noise)
    clean = sine(peak=0.1)
    noisy = speech_of(CommonPreprocessor(True, noise_scp=scp, noise_db_range=db_range, fs=FS), clean)
    added = noisy - clean
    ratio = 10 * np.log10(np.square(clean).mean() / np.square(added).mean())
    assert len(noisy) == len(clean) and low - 0.1 <= ratio <= high + 0.1


def test_noise_probability(tmp_path):
    scp = write_wave(tmp_path, np.random.default_rng(0).normal(0, 0.05, FS).astype(np.float32))
    made = CommonPreprocessor(True, noise_scp=scp, noise_apply_prob=0.3, fs=FS)
    changed = sum(not np.array_equal(speech_of(made, sine(0.1), f"u{i}"), sine(0.1)) for i in range(200))
    assert 35 < changed < 85


def test_loud_noise_is_limited_to_full_scale(tmp_path):
    scp = write_wave(tmp_path, np.random.default_rng(0).normal(0, 0.3, FS).astype(np.float32))
    out = speech_of(CommonPreprocessor(True, noise_scp=scp, noise_db_range="-10", fs=FS), sine(peak=0.9))
    assert np.abs(out).max() == pytest.approx(1.0, abs=1e-6)


def test_echo(tmp_path):
    rir = np.zeros(801, np.float32)
    rir[0], rir[800] = 1.0, 0.5
    scp = write_wave(tmp_path, rir)
    click = np.zeros(4000, np.float32)
    click[1000] = 0.5
    out = speech_of(CommonPreprocessor(True, rir_scp=scp, fs=FS), click)
    assert len(out) == 4000 and out[1800] / out[1000] == pytest.approx(0.5, abs=1e-4)
    assert np.abs(np.delete(out, [1000, 1800])).max() < 1e-6


def test_multi_channel_is_folded_or_kept(tmp_path):
    stereo = np.stack([sine(), 0.5 * sine()], 1)
    folded = speech_of(CommonPreprocessor(False, fs=FS), stereo)
    np.testing.assert_allclose(folded, 0.75 * sine(), atol=1e-6)
    scp = write_wave(tmp_path, np.random.default_rng(0).normal(0, 0.05, 2 * FS).astype(np.float32))
    kept = CommonPreprocessor(True, noise_scp=scp, rir_scp=scp, speed_perturb=[0.9], force_single_channel=False, fs=FS)
    assert speech_of(kept, stereo).shape == (17778, 2)


def test_volume():
    made = CommonPreprocessor(True, speech_volume_normalize=0.8, fs=FS)
    assert np.abs(speech_of(made, sine(peak=0.1))).max() == pytest.approx(0.8)
    np.testing.assert_array_equal(speech_of(made, np.zeros(10, np.float32)), np.zeros(10))


def test_nothing_is_drawn_outside_training(tmp_path):
    scp = write_wave(tmp_path, np.ones(100, np.float32))
    made = CommonPreprocessor(False, noise_scp=scp, rir_scp=scp, speed_perturb=[0.5], fs=FS)
    np.testing.assert_array_equal(speech_of(made, sine()), sine())


def test_a_damaged_noise_file_does_not_cost_the_speech(tmp_path, caplog):
    (tmp_path / "list").write_text("lost.wav\n")
    made = CommonPreprocessor(True, noise_scp=tmp_path / "list", fs=FS)
    np.testing.assert_array_equal(speech_of(made, sine()), sine())
    speech_of(made, sine())
    assert caplog.text.count("cannot be used for augmentation") == 1


def test_inputs_are_left_as_they_were(tmp_path):
    scp = write_wave(tmp_path, np.random.default_rng(0).normal(0, 0.05, FS).astype(np.float32))
    wave = sine()
    values = {"speech": wave, "other": np.arange(3)}
    made = CommonPreprocessor(True, noise_scp=scp, rir_scp=scp, speed_perturb=[1.1], speech_volume_normalize=1.0, fs=FS)
    out = made("u", values)
    assert values["speech"] is wave and np.array_equal(wave, sine()) and out["other"] is values["other"]


@pytest.mark.parametrize(
    ("options", "text", "expected"),
    [
        ({"token_type": "char"}, "你好b", [3, 4, 8]),
        ({"token_type": "char"}, "你x", [3, 9]),
        ({"token_type": "word"}, "你 hel@@ lo", [3, 5, 6]),
        ({"token_type": "char", "split_with_space": True}, "好 hel@@ lo", [4, 5, 6]),
        ({"token_type": "char", "text_cleaner": "vietnamese"}, "AB!", [7, 8]),
        ({"token_type": "char"}, "", []),
    ],
)
def test_text(options, text, expected):
    ids = CommonPreprocessor(False, token_list=TOKENS, **options)("u", {"text": text})["text"]
    assert ids.dtype == np.int64 and ids.tolist() == expected


def test_text_without_tokenizer_and_numbers_stay():
    assert CommonPreprocessor(True)("u", {"text": "a"})["text"] == "a"
    ids = np.array([1, 2])
    assert CommonPreprocessor(True, "char", TOKENS)("u", {"text": ids})["text"] is ids


def test_wrong_options(tmp_path):
    for wrong in ("a", "3_2", "1_2_3", ""):
        with pytest.raises(ConfigError, match="noise_db_range"):
            parse_db_range(wrong)
    with pytest.raises(ConfigError, match="rir_apply_prob"):
        CommonPreprocessor(True, rir_apply_prob=1.5)
    with pytest.raises(ConfigError, match="speed_perturb"):
        CommonPreprocessor(True, speed_perturb=[0.0])
