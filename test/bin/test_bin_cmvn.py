"""compute_cmvn gives the mean and deviation of the stacked features that the configuration's front end makes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from funasr.bin import compute_cmvn
from funasr.frontends.cmvn import read_cmvn
from funasr.frontends.wav_frontend import WavFrontend

CONF = {"fs": 8000, "n_mels": 20, "lfr_m": 3, "lfr_n": 2}


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """wav.scp of three files of noise, 1-2 s at 8 kHz."""
    rng = np.random.default_rng(0)
    lines = []
    for number in range(3):
        path = tmp_path / f"{number}.wav"
        soundfile.write(path, rng.normal(0, 0.02 * (number + 1), 8000 + 3000 * number), 8000)
        lines.append(f"utt{number} {path}")
    (tmp_path / "wav.scp").write_text("\n".join(lines) + "\n")
    return tmp_path / "wav.scp"


def features(path: Path, start: int = 0, stop: int | None = None) -> np.ndarray:
    samples = torch.from_numpy(soundfile.read(path, dtype="float32")[0][start:stop])
    feats, _ = WavFrontend(**CONF).eval()(samples[None], torch.tensor([len(samples)]))
    return feats[0].double().numpy()


def run(corpus: Path, *options: str) -> int:
    conf = [word for key, value in CONF.items() for word in ("--frontend_conf", f"{key}={value}")]
    output = str(corpus.parent / "out" / "am.mvn")
    return compute_cmvn.main(["--wav_scp", str(corpus), "--output", output, *conf, *options])


def check(corpus: Path, feats: np.ndarray) -> None:
    shift, scale = read_cmvn(corpus.parent / "out" / "am.mvn").double().numpy()
    assert len(shift) == CONF["n_mels"] * CONF["lfr_m"]
    np.testing.assert_allclose(-shift, feats.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(1 / scale, feats.std(axis=0), rtol=1e-4)


def test_moments_of_stacked_features(corpus: Path) -> None:
    assert run(corpus) == 0
    check(corpus, np.concatenate([features(corpus.parent / f"{n}.wav") for n in range(3)]))


def test_number_of_processes_changes_nothing(corpus: Path) -> None:
    assert run(corpus) == 0
    alone = (corpus.parent / "out" / "am.mvn").read_bytes()
    assert run(corpus, "--nj", "2") == 0
    assert (corpus.parent / "out" / "am.mvn").read_bytes() == alone


def test_scale_takes_the_first_fraction(corpus: Path) -> None:
    assert run(corpus, "--scale", "0.34") == 0
    check(corpus, features(corpus.parent / "0.wav"))


def test_segments_are_respected(corpus: Path) -> None:
    (corpus.parent / "segments").write_text("a utt2 0.25 0.75\nb utt1 0.5 1.0\n")
    assert run(corpus) == 0
    parts = [features(corpus.parent / "2.wav", 2000, 6000), features(corpus.parent / "1.wav", 4000, 8000)]
    check(corpus, np.concatenate(parts))


def test_damaged_and_too_short_audio_is_skipped_and_named(corpus: Path) -> None:
    soundfile.write(corpus.parent / "short.wav", np.zeros(1), 8000)
    (corpus.parent / "broken.wav").write_bytes(b"RIFF")
    bad = {"utt3": "short", "utt4": "broken", "utt5": "none"}
    extra = "".join(f"{utt} {corpus.parent / name}.wav\n" for utt, name in bad.items())
    corpus.write_text(corpus.read_text() + extra)
    sums, damaged = compute_cmvn.compute_cmvn(str(corpus), "wav_frontend", CONF)
    assert sorted(damaged) == sorted(bad)
    expected = np.concatenate([features(corpus.parent / f"{n}.wav") for n in range(3)])
    np.testing.assert_allclose(sums.moments()[0], expected.mean(axis=0), rtol=1e-6)


def test_a_constant_dimension_gets_a_finite_scale(corpus: Path) -> None:
    soundfile.write(corpus.parent / "0.wav", np.zeros(8000), 8000)
    assert run(corpus, "--scale", "0.34") == 0
    assert torch.isfinite(read_cmvn(corpus.parent / "out" / "am.mvn")).all()


def test_options_come_from_the_training_configuration(corpus: Path) -> None:
    config = corpus.parent / "train.yaml"
    config.write_text("frontend: wav_frontend\nfrontend_conf: {fs: 8000, n_mels: 99, lfr_m: 3, cmvn_file: old.mvn}\n")
    name, conf = compute_cmvn.frontend_options(str(config), None, ["n_mels=20"])
    assert (name, conf["fs"], conf["n_mels"]) == ("wav_frontend", 8000, 20)
    assert run(corpus, "--train_config", str(config)) == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--frontend_conf", "n_mel=3"], "n_mels"),
        (["--frontend", "wav_frontent"], "WavFrontend"),
        (["--frontend_conf", "n_mels"], "key=value"),
        (["--scale", "0"], "--scale"),
    ],
)
def test_wrong_options_are_explained(
    corpus: Path, options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(corpus, *options) == 2
    assert message in capsys.readouterr().err
    assert not (corpus.parent / "out" / "am.mvn").exists()
