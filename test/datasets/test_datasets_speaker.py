"""Crops and classes for speaker training, and augmentation that is drawn anew in each pass over a corpus."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from funasr.datasets.collate import CommonCollateFn
from funasr.datasets.dataset import SpeechTextDataset
from funasr.datasets.iterator import SequenceIterFactory
from funasr.datasets.samplers import build_batches
from funasr.datasets.speaker_preprocessor import SpeakerPreprocessor, speeds_of
from funasr.utils.errors import ConfigError, DamagedUtteranceError, DataError

FS = 1000


def made(**options) -> SpeakerPreprocessor:
    return SpeakerPreprocessor(["anna", "ben"], **{"crop_s": 0.5, "fs": FS, "seed": 1, **options})


def ramp(samples: int) -> np.ndarray:
    return np.linspace(0.1, 0.9, samples, dtype=np.float32)


def test_crops_are_stretches_of_one_length_drawn_by_seed_epoch_and_id() -> None:
    speech, process = ramp(3000), made()
    crops = {}
    for epoch in (1, 2):
        process.set_epoch(epoch)
        for uid in ("u1", "u2"):
            found = process(uid, {"speech": speech, "speaker": "ben"})
            crop = found["speech"]
            assert len(crop) == 500 and found["speaker"].tolist() == [1]
            start = int(np.searchsorted(speech, crop[0]))
            np.testing.assert_array_equal(crop, speech[start : start + 500])
            crops[epoch, uid] = start
    assert len(set(crops.values())) == 4
    again = made()
    again.set_epoch(2)
    np.testing.assert_array_equal(
        again("u1", {"speech": speech, "speaker": "ben"})["speech"], speech[crops[2, "u1"] : crops[2, "u1"] + 500]
    )


def test_another_speed_is_another_speaker() -> None:
    """Speed number k of speaker i of N is class i + k N, and sounds higher by its factor."""
    assert speeds_of([1.1, 0.9, 1.0]) == speeds_of([0.9, 1.1]) == [1.0, 0.9, 1.1]
    process = made(speeds=[1.0, 0.9, 1.1])
    tone = np.sin(2 * np.pi * 100 * np.arange(3000) / FS).astype(np.float32)
    seen = set()
    for epoch in range(30):
        process.set_epoch(epoch)
        found = process("u", {"speech": tone, "speaker": "ben"})
        assert len(found["speech"]) == 500
        number, speaker = divmod(int(found["speaker"][0]), 2)
        assert speaker == 1
        spectrum = np.abs(np.fft.rfft(found["speech"] * np.hanning(500), 4096))
        assert spectrum.argmax() * FS / 4096 == pytest.approx(100 * process.speeds[number], abs=2)
        seen.add(number)
    assert seen == {0, 1, 2}


def test_validation_takes_the_middle_at_its_own_speed() -> None:
    process = made(speeds=[1.0, 0.9], train=False)
    speech = ramp(2000)
    found = process("u", {"speech": speech, "speaker": "anna"})
    np.testing.assert_array_equal(found["speech"], speech[750:1250])
    assert found["speaker"].tolist() == [0]


def test_what_is_shorter_than_a_crop_is_repeated() -> None:
    speech = ramp(200)
    for train in (True, False):
        crop = made(train=train)("u", {"speech": speech, "speaker": "anna"})["speech"]
        np.testing.assert_array_equal(crop, np.concatenate([speech, speech, speech[:100]]))


def test_a_crop_holds_sound() -> None:
    """Of a recording with long digital silence no crop is all zeros: its deviation would have no gradient."""
    speech = np.concatenate([np.zeros(5000, np.float32), ramp(200), np.zeros(5000, np.float32)])
    process = made()
    for epoch in range(20):
        process.set_epoch(epoch)
        assert process("u", {"speech": speech, "speaker": "anna"})["speech"].any()


def test_augmentation_is_of_the_crop_and_of_the_epoch() -> None:
    class Louder:
        epoch = 0

        def set_epoch(self, epoch: int) -> None:
            self.epoch = epoch

        def __call__(self, uid: str, values: dict) -> dict:
            assert len(values["speech"]) == 500
            return {"speech": values["speech"] * self.epoch}

    process = made(augment=Louder(), train=False)
    process.set_epoch(3)
    speech = np.stack([ramp(500), ramp(500)], axis=1)  # channels are averaged
    np.testing.assert_allclose(process("u", {"speech": speech, "speaker": "anna"})["speech"], 3 * ramp(500))


def test_speech_that_cannot_be_used() -> None:
    process = made()
    with pytest.raises(DamagedUtteranceError, match=r"0\.050 s are too short"):
        process("u", {"speech": ramp(50), "speaker": "anna"})
    with pytest.raises(DamagedUtteranceError, match="silence"):
        process("u", {"speech": np.zeros(900, np.float32), "speaker": "anna"})
    with pytest.raises(DataError, match="speaker 'carl' of u"):
        process("u", {"speech": ramp(900), "speaker": "carl"})
    with pytest.raises(ConfigError, match="crop_s"):
        made(crop_s=0.01)
    with pytest.raises(ConfigError, match="speed_perturb"):
        speeds_of([0.0, 1.0])


@pytest.fixture
def dataset(tmp_path: Path) -> SpeechTextDataset:
    rng = np.random.default_rng(0)
    for number in range(6):
        soundfile.write(tmp_path / f"{number}.wav", rng.normal(0, 0.1, 2000), FS)
    (tmp_path / "wav.scp").write_text("".join(f"u{n} {tmp_path}/{n}.wav\n" for n in range(6)))
    (tmp_path / "utt2spk").write_text("".join(f"u{n} {'anna' if n < 3 else 'ben'}\n" for n in range(6)))
    triplets = [(str(tmp_path / "wav.scp"), "speech", "sound"), (str(tmp_path / "utt2spk"), "speaker", "text")]
    return SpeechTextDataset(triplets, made(), fs=FS)


def batches(dataset: SpeechTextDataset, epochs: range, window: int | None, workers: int = 0, skip: int = 0) -> list:
    plan = build_batches("shuffled", [dict.fromkeys(dataset.ids, (1,))], batch_size=2)
    collate = CommonCollateFn(not_sequence=("speaker",))
    factory = SequenceIterFactory(
        dataset, plan, collate, num_iters_per_epoch=window, seed=5, shuffle=True, num_workers=workers
    )
    return [batch for epoch in epochs for batch in factory.build_iter(epoch, skip)]


def test_each_pass_over_a_small_corpus_is_augmented_anew(dataset: SpeechTextDataset) -> None:
    """An epoch of 4 passes: every utterance comes 4 times, in 4 different crops."""
    crops: dict[str, set[bytes]] = {uid: set() for uid in dataset.ids}
    for ids, batch in batches(dataset, range(1, 2), window=12):
        for uid, crop in zip(ids, batch["speech"]):
            crops[uid].add(crop.numpy().tobytes())
    assert all(len(found) == 4 for found in crops.values())


def test_the_same_passes_however_they_are_cut_into_epochs(dataset: SpeechTextDataset) -> None:
    plain = batches(dataset, range(1, 5), window=None)
    for other in (
        batches(dataset, range(1, 2), window=12, workers=2),
        batches(dataset, range(1, 4), window=4),
    ):
        assert [ids for ids, _ in other] == [ids for ids, _ in plain]
        for (_, first), (_, second) in zip(other, plain):
            np.testing.assert_array_equal(first["speech"], second["speech"])
    tail = batches(dataset, range(1, 2), window=12, skip=5)
    np.testing.assert_array_equal(tail[0][1]["speech"], plain[5][1]["speech"])


def test_shuffled_batches_are_filled_anew(dataset: SpeechTextDataset) -> None:
    plan = build_batches("shuffled", [dict.fromkeys(map(str, range(10)), (1,))], batch_size=3)
    assert len(plan) == 3 and [len(batch) for batch in plan.batches(None)] == [3, 3, 4]
    passes = [plan.batches(np.random.default_rng(seed)) for seed in range(2)]
    assert all(sorted(uid for batch in one for uid in batch) == list(map(str, range(10))) for one in passes)
    assert {frozenset(batch) for batch in passes[0]} != {frozenset(batch) for batch in passes[1]}
