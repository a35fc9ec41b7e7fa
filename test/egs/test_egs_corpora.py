"""The corpus makers: the same bytes on every run, disjoint sets, tables that fit the audio."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import wave
from pathlib import Path

import numpy as np
import pytest

EGS = Path(__file__).parents[2] / "egs"
MAKE_CORPUS = EGS / "mini" / "asr" / "local" / "make_corpus.py"
MAKE_STRINGS = EGS / "fsdd" / "asr" / "local" / "make_strings.py"
WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def call(script: Path, cwd: Path, *words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(script), *map(str, words)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


def table(path: Path) -> dict[str, str]:
    return dict(line.split(" ", 1) for line in path.read_text(encoding="utf-8").splitlines())


def digest(directory: Path) -> dict[str, str]:
    files = sorted(path for path in directory.rglob("*") if path.is_file())
    return {str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def read(path: Path, rate: int) -> np.ndarray:
    with wave.open(str(path), "rb") as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (rate, 1, 2)
        return np.frombuffer(file.readframes(file.getnframes()), dtype="<i2")


def check_set(base: Path, name: str, rate: int, most_words: int = 7) -> set[str]:
    """Tables agree with each other and with the audio; returns the speakers."""
    text, wavs, utt2spk = (table(base / "data" / name / file) for file in ("text", "wav.scp", "utt2spk"))
    assert list(text) == list(wavs) == list(utt2spk) == sorted(text)
    spk2utt = table(base / "data" / name / "spk2utt")
    assert {utt: spk for spk, utts in spk2utt.items() for utt in utts.split()} == utt2spk
    for utt, spk in utt2spk.items():
        assert utt.startswith(f"{spk}-")
        words = text[utt].split()
        assert 1 <= len(words) <= most_words and (most_words > 7 or set(words) <= set(WORDS))
        samples = read(base / wavs[utt], rate).astype(float)
        assert 0.1 * len(words) < len(samples) / rate < 0.9 + 1.5 * len(words)
        assert np.sqrt(np.mean(samples**2)) > 30 and np.abs(samples).max() < 32767
    return set(spk2utt)


@pytest.fixture(scope="module")
def mini(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("mini")
    pytest.importorskip("espeakng_loader")
    done = call(MAKE_CORPUS, base, "--num_train", 9, "--num_dev", 4, "--num_test", 16, "--nj", 2)
    assert done.returncode == 0, done.stderr
    return base


def test_embedded_corpus_has_disjoint_voices(mini: Path) -> None:
    sets = {name: check_set(mini, name, 16000, most_words=30) for name in ("train", "dev", "test")}
    assert sum(map(len, sets.values())) >= 20
    variants = {name: {speaker[2:] for speaker in speakers} for name, speakers in sets.items()}
    assert not variants["train"] & (variants["dev"] | variants["test"])
    assert not variants["dev"] & variants["test"]


def test_embedded_corpus_keeps_the_marks_beside_the_text(mini: Path) -> None:
    for name in ("train", "dev", "test"):
        text, marked = (table(mini / "data" / name / file) for file in ("text", "text_punc"))
        assert list(text) == list(marked)
        for utt, words in text.items():
            assert marked[utt][0].isupper() and marked[utt][-1] in ".?"
            assert marked[utt].translate(str.maketrans("", "", ",.?")).lower() == words


def test_embedded_corpus_is_the_same_on_every_run(mini: Path, tmp_path: Path) -> None:
    words = ("--num_train", 9, "--num_dev", 4, "--num_test", 16, "--nj", 1)
    assert call(MAKE_CORPUS, tmp_path, *words).returncode == 0
    assert digest(tmp_path) == digest(mini)


@pytest.fixture(scope="module")
def fake_fsdd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two speakers, 3 digits, 12 clips each; every clip is a tone of its own."""
    corpus = tmp_path_factory.mktemp("fsdd") / "any-name" / "recordings"
    corpus.mkdir(parents=True)
    for number, (speaker, digit, index) in enumerate(
        (speaker, digit, index) for speaker in ("ann", "bob") for digit in (0, 4, 9) for index in range(12)
    ):
        clip = 3000 * np.sin(2 * np.pi * (200 + 20 * number) * np.arange(2000 + 10 * number) / 8000)
        with wave.open(str(corpus / f"{digit}_{speaker}_{index}.wav"), "wb") as file:
            file.setparams((1, 2, 8000, len(clip), "NONE", "not compressed"))
            file.writeframes(clip.astype("<i2").tobytes())
    return corpus.parents[1]


def make_strings(corpus: Path, base: Path) -> subprocess.CompletedProcess[str]:
    words = ("--corpus_dir", corpus, "--num_train", 40, "--num_dev", 10, "--test_groupings", 3)
    return call(MAKE_STRINGS, base, *words)


def test_strings_keep_the_official_split(fake_fsdd: Path, tmp_path: Path) -> None:
    done = make_strings(fake_fsdd, tmp_path)
    assert done.returncode == 0, done.stderr
    for name in ("train", "dev", "test"):
        assert check_set(tmp_path, name, 8000) == {"ann", "bob"}
    counts = {name: len(table(tmp_path / "data" / name / "text")) for name in ("train", "dev")}
    assert counts == {"train": 40, "dev": 10}
    # Each of the 30 test clips occurs in each grouping, and once alone: 3 * 30 digits, of which 30 are alone.
    test = table(tmp_path / "data" / "test" / "text")
    digits = " ".join(test.values()).split()
    assert {word: digits.count(word) for word in set(digits)} == {"zero": 30, "four": 30, "nine": 30}
    assert sum(len(text.split()) == 1 for text in test.values()) >= 30


def test_clips_of_one_set_never_occur_in_another(fake_fsdd: Path, tmp_path: Path) -> None:
    assert make_strings(fake_fsdd, tmp_path).returncode == 0
    tones: dict[str, set[int]] = {}
    for name in ("train", "dev", "test"):
        tones[name] = set()
        for path in table(tmp_path / "data" / name / "wav.scp").values():
            samples = read(tmp_path / path, 8000).astype(float)
            power = np.abs(np.fft.rfft(samples, 8000 * 4)) ** 2
            peaks = [power[(200 + 20 * n) * 4 - 8 : (200 + 20 * n) * 4 + 8].max() for n in range(72)]
            tones[name] |= {n for n in range(72) if peaks[n] > 0.2 * max(peaks)}
    expected = {"test": range(5), "dev": range(5, 9), "train": range(9, 12)}
    for name, indices in expected.items():
        assert tones[name] == {block * 12 + index for block in range(6) for index in indices}, name


def test_strings_are_the_same_on_every_run(fake_fsdd: Path, tmp_path: Path) -> None:
    for base in (tmp_path / "a", tmp_path / "b"):
        base.mkdir()
        assert make_strings(fake_fsdd, base).returncode == 0
    assert digest(tmp_path / "a") == digest(tmp_path / "b")


def test_a_damaged_clip_is_named_and_left_out(fake_fsdd: Path, tmp_path: Path) -> None:
    recordings = tmp_path / "corpus"
    recordings.mkdir()
    for path in fake_fsdd.rglob("*.wav"):
        (recordings / path.name).write_bytes(path.read_bytes())
    (recordings / "4_ann_7.wav").write_bytes((recordings / "4_ann_7.wav").read_bytes()[:500])
    done = make_strings(recordings, tmp_path)
    assert done.returncode == 0
    assert "4_ann_7.wav" in done.stderr


def test_a_wrong_corpus_dir_is_explained(tmp_path: Path) -> None:
    done = make_strings(tmp_path, tmp_path)
    assert done.returncode != 0
    assert "DIGIT_SPEAKER_INDEX.wav" in done.stderr
