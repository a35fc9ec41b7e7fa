"""SenseVoiceSmall against what released FunASR 1.4.16 recorded, and what must hold for any model of the family."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from funasr import AutoModel
from funasr.audio.read import read_audio
from funasr.models.build import build_model
from funasr.models.sense_voice.encoder import SenseVoiceEncoderSmall
from funasr.models.sense_voice.model import LANGUAGES, QUERIES, TEXT_NORMS
from funasr.models.sense_voice.timing import join_pieces, label_runs, run_times
from funasr.text.rich_transcription import rich_transcription_postprocess
from funasr.utils.config import read_yaml
from funasr.utils.errors import ConfigError, DataError

PARITY = Path(__file__).parents[1] / "parity"
SMALL, LARGE_VOCAB = "SenseVoiceSmall", "SenseVoiceSmall-vocab25055"


def expected(name: str) -> dict[str, Any]:
    return json.loads((PARITY / name / "expected" / "expected.json").read_text(encoding="utf-8"))


def arrays(name: str) -> dict[str, torch.Tensor]:
    with np.load(PARITY / name / "expected" / "tensors.npz") as stored:
        return {key: torch.from_numpy(stored[key]) for key in stored}


def cases(name: str) -> list[Any]:
    return [pytest.param(case, id=case["name"]) for case in expected(name)["cases"]]


class Joined:
    """The tokenizer of the recorded run with the large vocabulary: tokens are joined and nothing else."""

    def __init__(self) -> None:
        self.token_list = json.loads((PARITY / LARGE_VOCAB / "tokens.json").read_text(encoding="utf-8"))
        self.vocab_size = len(self.token_list)

    def ids2tokens(self, ids: list[int]) -> list[str]:
        return [self.token_list[i] for i in ids]

    def tokens2text(self, tokens: list[str]) -> str:
        return "".join(tokens)


@pytest.fixture(scope="module")
def small() -> AutoModel:
    return AutoModel(model=PARITY / SMALL, device="cpu")


@pytest.fixture(scope="module")
def large_vocab() -> AutoModel:
    auto = AutoModel(model=PARITY / LARGE_VOCAB, device="cpu")
    object.__setattr__(auto.engines.asr, "tokenizer", Joined())  # a built model does not change otherwise
    return auto


def audio(item: Any) -> Any:
    if isinstance(item, str):
        return str(PARITY / "_wavs" / item)
    if "zeros" in item:
        return np.zeros(item["zeros"], np.float32)
    name, begin, end = item["slice"]
    return soundfile.read(PARITY / "_wavs" / name, dtype="float32")[0][begin:end]


def correct(case: dict[str, Any], output: dict[str, Any]) -> dict[str, Any]:
    """The recorded result without the reference's bugs: it leaves the mark of a space in the first word, and it cuts
    the text into pieces anew, which moves the ` d` of one case (said as space, then `d`) to the frame of the space."""
    output = {name: value for name, value in output.items() if name != "key" or value != "<random>"}
    if "words" in output:
        output["words"] = [word.removeprefix("▁") for word in output["words"]]
    if case["name"] == "c_timestamp":
        assert output["words"][4] == "d" and output["timestamp"][4] == [270, 330]
        output["timestamp"][4] = [330, 390]
    return output


def check_results(auto: AutoModel, case: dict[str, Any]) -> None:
    inputs = [audio(item) for item in case["input"]]
    results = auto.generate(inputs, **(case.get("kwargs") or {}))
    if "error" in case and case["name"] == "empty":  # an empty text here instead of an exception
        assert [result["text"] for result in results] == [""]
        return
    if "error" in case:  # the id is looked up in the vocabulary here, so the option works with any
        assert all("EMO_UNKNOWN" not in result["text"] for result in results)
        return
    for result, output in zip(results, case["output"], strict=True):
        wanted = correct(case, output)
        assert {name: result[name] for name in wanted} == wanted
    shown = [rich_transcription_postprocess(result["text"]) for result in results]
    assert shown == case["rich_postprocess"]


@pytest.mark.parametrize("case", cases(SMALL))
def test_recorded_text_times_and_words(small: AutoModel, case: dict[str, Any]) -> None:
    check_results(small, case)


@pytest.mark.parametrize("case", cases(LARGE_VOCAB))
def test_recorded_text_with_the_released_vocabulary_size(large_vocab: AutoModel, case: dict[str, Any]) -> None:
    check_results(large_vocab, case)


@pytest.mark.parametrize("name", [SMALL, LARGE_VOCAB])
@pytest.mark.parametrize("case, language", [("a_auto", "auto"), ("b_zh", "zh"), ("batch3", "auto")])
def test_recorded_network_outputs(request: pytest.FixtureRequest, name: str, case: str, language: str) -> None:
    model = request.getfixturevalue("small" if name == SMALL else "large_vocab").model
    recorded = {k.removeprefix(f"{case}/"): v for k, v in arrays(name).items() if k.startswith(f"{case}/")}
    feats, lengths = recorded["feats"], recorded["feats.lens"]
    rows = [torch.full((len(feats),), row) for row in (LANGUAGES[language], TEXT_NORMS["woitn"])]
    with torch.no_grad():
        memory, out_lengths = model.encode(feats, lengths, *rows)
        log_probs = model.ctc.log_softmax(memory)
    assert out_lengths.tolist() == recorded["encoder_out.lens"].tolist() == (lengths + QUERIES).tolist()
    for row, count in enumerate(out_lengths.tolist()):
        torch.testing.assert_close(memory[row, :count], recorded["encoder_out"][row, :count], atol=1e-4, rtol=1e-4)
        if "ctc_log_probs" in recorded:
            best, wanted = log_probs[row, :count], recorded["ctc_log_probs"][row, :count]
        else:
            best = log_probs[row, :count].gather(1, recorded["ctc_top3.ids"][row, :count])
            wanted = recorded["ctc_top3.log_probs"][row, :count]
        torch.testing.assert_close(best, wanted, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("run, told", [("language_kept", True), ("language_dropped", False)])
def test_recorded_training_loss(monkeypatch: pytest.MonkeyPatch, run: str, told: bool) -> None:
    model = AutoModel(model=PARITY / LARGE_VOCAB, device="cpu").model
    monkeypatch.setattr(model, "keep_language", lambda batch: torch.full((batch,), told))
    stored, wanted = arrays(LARGE_VOCAB), expected(LARGE_VOCAB)["train"]["runs"][run]
    batch = [stored[f"train/{name}"] for name in ("speech", "speech_lengths", "text", "text_lengths")]
    before = [value.clone() for value in batch]
    loss, stats, weight = model(*batch)
    loss.backward()
    assert loss.item() == pytest.approx(wanted["loss"], rel=1e-5)
    assert {name: [pytest.approx(value.item(), rel=1e-5)] for name, value in stats.items()} == wanted["stats"]
    assert [weight.item()] == wanted["weight"]
    norms = {name: value.grad.norm().item() for name, value in model.named_parameters()}
    assert norms == pytest.approx(wanted["grad_norms"], rel=1e-3)
    for value, copy in zip(batch, before):
        assert torch.equal(value, copy)


def test_state_dict_has_the_keys_of_the_official_model() -> None:
    config = read_yaml(PARITY / SMALL / "config.yaml")
    config["encoder_conf"].update(output_size=512, linear_units=2048, num_blocks=50, tp_blocks=20)
    config |= {"vocab_size": 25055, "input_size": 560}
    with torch.device("meta"):
        model = build_model(config, None, None, strict=False)
    actual = {key: "x".join(map(str, value.shape)) for key, value in model.state_dict().items()}
    lines = (PARITY / "official_keys" / "sensevoice-small.txt").read_text().splitlines()
    assert actual == dict(line.split()[:2] for line in lines if not line.startswith("#"))


def test_an_utterance_has_the_same_result_in_any_batch(small: AutoModel) -> None:
    inputs = [audio(item) for item in ("a.wav", {"zeros": 0}, "c.wav", {"zeros": 400}, "b.wav")]
    together = small.generate(inputs, batch_size=5, output_timestamp=True, key=list("vwxyz"))
    alone = [small.generate(x, output_timestamp=True, key=k)[0] for k, x in zip("vwxyz", inputs)]
    assert together == alone
    assert together[1] == {"key": "w", "text": "", "timestamp": [], "words": []}
    assert together == small.generate(inputs, batch_size=5, output_timestamp=True, key=list("vwxyz"))


def test_padding_does_not_reach_the_encoder_output() -> None:
    torch.manual_seed(0)
    encoder = SenseVoiceEncoderSmall(24, 16, 4, 32, num_blocks=2, tp_blocks=1).eval()
    x, lengths = torch.randn(2, 9, 24), torch.tensor([9, 5])
    before = x.clone()
    with torch.no_grad():
        both, out_lengths, intermediate = encoder(x, lengths)
        alone = encoder(x[1:, :5], lengths[1:])[0]
    torch.testing.assert_close(both[1:, :5], alone)
    assert torch.equal(x, before) and torch.equal(out_lengths, lengths) and intermediate == []


@pytest.mark.parametrize("case", [case for case in cases(SMALL) if "forced_alignment_ids" in case.values[0]])
def test_the_best_path_is_the_recorded_alignment(small: AutoModel, case: dict[str, Any]) -> None:
    """Why times need no search: released FunASR aligns the decoded ids by force and gets the path they came from."""
    waves = [torch.from_numpy(read_audio(audio(item), small.frontend.fs)[0]) for item in case["input"]]
    padded = torch.nn.utils.rnn.pad_sequence(waves, batch_first=True)
    feats, lengths = small.frontend(padded, torch.tensor([len(wave) for wave in waves]))
    languages = torch.full_like(lengths, LANGUAGES[case["kwargs"].get("language", "auto")])
    with torch.no_grad():
        paths = small.model.best_paths(feats, lengths, languages, torch.full_like(lengths, TEXT_NORMS["woitn"]))
    for path, (wanted,) in zip(paths, case["forced_alignment_ids"], strict=True):
        spoken = path[QUERIES:]
        if case["name"] == "c_timestamp":  # see `correct`: the space and the `d` that the reference aligns as one piece
            spoken[5:7] = wanted[5:7]
        assert spoken == wanted


def test_features_instead_of_audio_and_no_tokenizer(small: AutoModel) -> None:
    stored = arrays(SMALL)
    feats, lengths = stored["batch3/feats"], stored["batch3/feats.lens"]
    results, meta = small.model.inference(feats, lengths, output_timestamp=True)
    assert [result["key"] for result in results] == ["utt_0", "utt_1", "utt_2"]
    assert all(len(result["timestamp"]) <= len(result["token_int"]) for result in results)
    assert set(meta) == {"extract_feat", "decode"}
    options = {"key": ["x", "y", "z"], "tokenizer": small.tokenizer}
    named, _ = small.model.inference(feats, lengths, frontend=small.frontend, data_type="fbank", **options)
    assert [result["key"] for result in named] == ["x", "y", "z"]
    assert small.model.inference([]) == ([], {})


def test_wrong_options_say_what_is_right(small: AutoModel, caplog: pytest.LogCaptureFixture) -> None:
    feats = arrays(SMALL)["a_auto/feats"]
    with pytest.raises(ConfigError, match="withitn or woitn"):
        small.model.inference(feats, text_norm="itn")
    with pytest.raises(ConfigError, match="ban_emo_unk"):
        small.model.inference(feats, ban_emo_unk=True)
    with caplog.at_level(logging.WARNING):
        small.model.inference(feats, language="Chinese")
    assert "'Chinese' is none of auto, zh" in caplog.text
    with pytest.raises(ConfigError, match="input_layer"):
        SenseVoiceEncoderSmall(16, input_layer="conv2d")


def test_labels_without_tags_are_refused(large_vocab: AutoModel) -> None:
    speech, lengths = torch.randn(1, 12, 560), torch.tensor([12])
    with pytest.raises(DataError, match="begin with 4 tags"):
        large_vocab.model(speech, lengths, torch.tensor([[24884, 25001, 24993]]), torch.tensor([3]))
    with pytest.raises(DataError, match="not 77"):
        large_vocab.model(speech, lengths, torch.tensor([[24884, 25001, 24993, 77, 5]]), torch.tensor([5]))


def test_one_language_in_five_is_withheld_in_training_only(small: AutoModel) -> None:
    torch.manual_seed(3)
    model = small.model
    assert model.keep_language(50).all()
    model.train()
    try:
        assert model.keep_language(4000).float().mean().item() == pytest.approx(0.8, abs=0.03)
    finally:
        model.eval()


def test_runs_and_words() -> None:
    runs = label_runs([7, 7, 0, 7, 8, 8, 0])
    assert [(run.label, run.start, run.end) for run in runs] == [(7, 0, 2), (7, 3, 4), (8, 4, 6)]
    assert label_runs([]) == label_runs([0, 0]) == []
    assert run_times(runs, 0, 60.0) == [[0, 90], [150, 210], [210, 330]]
    pieces = ["▁he", "llo", "▁", "you", "'", "re", "▁", "你", "好", "ok", "<|BGM|>", "a"]
    words, spans = join_pieces(pieces, [[i, i + 1] for i in range(len(pieces))])
    assert words == ["hello", "you", "'", "re", "你", "好", "ok", "<|BGM|>", "a"]
    assert spans[:2] == [[0, 2], [3, 4]] and len(spans) == len(words)
