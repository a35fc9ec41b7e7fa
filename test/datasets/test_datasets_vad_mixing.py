"""On-line mixing: labels stay with the speech, what is drawn depends on (seed, epoch, id) alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from funasr.datasets.vad_mixing import FrameGrid, VADPreprocessor
from funasr.utils.errors import ConfigError, DamagedUtteranceError, DataError

FS = 8000
GRID = FrameGrid(FS, window=200, shift=80)
SEGMENTS = "[[1000, 2500], [3000, 3500]]"


def speech() -> np.ndarray:
    """A tone where SEGMENTS says, else nothing; 4 s."""
    wave = np.zeros(4 * FS, dtype=np.float32)
    for start, end in ((1.0, 2.5), (3.0, 3.5)):
        at = np.arange(int((end - start) * FS))
        wave[int(start * FS) : int(start * FS) + len(at)] = 0.3 * np.sin(at)
    return wave


@pytest.fixture
def noises(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for i, seconds in enumerate((0.7, 9.0)):
        soundfile.write(tmp_path / f"n{i}.wav", 0.1 * rng.standard_normal(int(seconds * FS)), FS)
    (tmp_path / "noise.list").write_text(f"{tmp_path}/n0.wav\nn1 {tmp_path}/n1.wav\n")
    return tmp_path / "noise.list"


def loud(wave: np.ndarray) -> np.ndarray:
    """Whether each step of 10 ms has the tone."""
    return np.abs(wave[: len(wave) // 80 * 80]).reshape(-1, 80).max(1) > 0.05


def test_labels_of_segments_without_mixing() -> None:
    out = VADPreprocessor(False, GRID)("a", {"speech": speech(), "segments": SEGMENTS})
    assert set(out) == {"speech", "text"}
    assert len(out["text"]) == GRID.rows(4 * FS) == 1 + (4 * FS - 200) // 80
    assert np.flatnonzero(np.diff(out["text"])).tolist() == [99, 249, 299, 349]


def test_a_stride_takes_every_other_label() -> None:
    grid = FrameGrid(FS, 200, 80, stride=3)
    whole = VADPreprocessor(False, GRID)("a", {"speech": speech(), "segments": SEGMENTS})["text"]
    assert np.array_equal(
        VADPreprocessor(False, grid)("a", {"speech": speech(), "segments": SEGMENTS})["text"], whole[::3]
    )


@pytest.mark.parametrize("mix_length", [1.5, 4.0, 7.0])
@pytest.mark.parametrize("speeds", [[], [0.8, 1.25]])
def test_labels_stay_with_the_speech(mix_length: float, speeds: list[float]) -> None:
    mixer = VADPreprocessor(True, GRID, mix_length=mix_length, speed_perturb=speeds)
    drawn = set()
    for uid in "abcdefgh":
        out = mixer(uid, {"speech": speech(), "segments": SEGMENTS})
        assert len(out["speech"]) == mix_length * FS and out["speech"].dtype == np.float32
        assert len(out["text"]) == GRID.rows(len(out["speech"]))
        heard = loud(out["speech"])[: len(out["text"])]
        assert (heard != (out["text"] == 1)).sum() <= 8, "edges may differ by a step, more after resampling"
        drawn.add(heard.tobytes())
    assert len(drawn) > (1 if mix_length == 4.0 and not speeds else 4) - 1


def test_the_same_draw_for_the_same_seed_epoch_and_id(noises: Path) -> None:
    def draw(uid: str, epoch: int, seed: int, before: int = 0) -> np.ndarray:
        mixer = VADPreprocessor(True, GRID, 5.0, [f"{noises},0.8,0_10"], 0.2, "-10_0", seed=seed)
        mixer.set_epoch(epoch)
        for i in range(before):
            mixer(f"other-{i}", {"speech": speech(), "segments": SEGMENTS})
        return mixer(uid, {"speech": speech(), "segments": SEGMENTS})["speech"]

    assert np.array_equal(draw("a", 1, 0), draw("a", 1, 0, before=3))
    assert not any(
        np.array_equal(draw("a", 1, 0), other) for other in (draw("b", 1, 0), draw("a", 2, 0), draw("a", 1, 1))
    )


def test_noise_has_the_level_asked_for(noises: Path) -> None:
    given = speech()
    for uid in "abcdef":
        mixer = VADPreprocessor(True, GRID, None, [f"{noises},1,6"])
        noise = mixer(uid, {"speech": given, "segments": SEGMENTS})["speech"] - given
        sounding = np.abs(noise) > 0
        snr_db = 10 * np.log10(np.square(given[given != 0]).mean() / np.square(noise[sounding]).mean())
        assert abs(snr_db - 6) < 2.5, "levels are those of the whole stretch of noise, which may sound for a part of it"


def test_noise_alone_has_no_speech(noises: Path) -> None:
    mixer = VADPreprocessor(True, GRID, 3.0, [f"{noises},0.0,0"], noise_alone_prob=1.0, silence=5)
    for uid in "abcd":
        out = mixer(uid, {"speech": speech(), "segments": SEGMENTS})
        assert (out["text"] == 5).all() and np.abs(out["speech"]).max() > 0.001
    assert not (VADPreprocessor(False, GRID)("a", {"speech": speech(), "segments": "[]"})["text"]).any()


def test_targets_of_an_alignment() -> None:
    units = np.arange(398) // 10
    out = VADPreprocessor(False, GRID)("a", {"speech": speech(), "target": units})
    assert np.array_equal(out["text"], units)
    cut = VADPreprocessor(True, GRID, mix_length=2.0)("a", {"speech": speech(), "target": units})["text"]
    assert len(cut) == GRID.rows(2 * FS) and set(cut) <= set(units)
    filled = VADPreprocessor(True, GRID, mix_length=6.0, silence=99)("a", {"speech": speech(), "target": units})["text"]
    assert (filled == 99).sum() > 150


@pytest.mark.parametrize(
    "values, message",
    [
        ({"target": np.zeros(300, dtype=np.int64)}, "300 labels, but the audio has 398 frames of 10 ms"),
        ({"target": np.zeros(398, dtype=np.float32)}, "not unit numbers"),
        ({"target": np.full(398, 9)}, r"unit 9; the units are 0\.\.8"),
        ({"segments": "[[1000, 4500]]"}, "until 4.500 s, but the audio lasts 4.000 s"),
        ({"segments": "1 2"}, "must read"),
    ],
)
def test_labels_that_do_not_fit_damage_the_utterance(values: dict, message: str) -> None:
    with pytest.raises(DamagedUtteranceError, match=message):
        VADPreprocessor(False, GRID, units=9)("a", {"speech": speech(), **values})


def test_wrong_options(noises: Path, tmp_path: Path) -> None:
    for mix in ("list", f"{noises},2,0", f"{noises},0.5", f"{noises},0.5,10_0", f"{noises},0.5,0,1"):
        with pytest.raises(ConfigError):
            VADPreprocessor(True, GRID, mix=[mix])
    with pytest.raises(ConfigError, match="needs a list"):
        VADPreprocessor(True, GRID, noise_alone_prob=0.5)
    with pytest.raises(ConfigError, match="needs quotes"):
        VADPreprocessor(True, GRID, gain_db_range=-255)
    with pytest.raises(ConfigError, match="at least 1"):
        VADPreprocessor(True, GRID, mix_length=0.1)
    with pytest.raises(DataError, match="does not exist"):
        VADPreprocessor(True, GRID, mix=[f"{tmp_path}/none,0.5,0"])
