"""SeacoParaformer against arrays recorded from released FunASR 1.4.16, and what biasing must never do."""

from __future__ import annotations

import copy
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from recorded_models import (
    PARITY,
    SPAN,
    arrays,
    cases,
    check_alone_equals_batch,
    check_official_keys,
    check_training,
    close,
    inside,
    options,
    samples,
)

from funasr import AutoModel
from funasr.models.paraformer.hotwords import encode_hotwords, last_outputs, pad_hotwords, read_hotwords
from funasr.tokenizers.char_tokenizer import CharTokenizer
from funasr.utils.errors import ConfigError, DataError

NAME = "SeacoParaformer"
TRAIN_EXTRA = ("hotword_pad", "hotword_lengths", "seaco_label_pad")


@pytest.fixture(scope="module")
def auto() -> AutoModel:
    return AutoModel(PARITY / NAME, device="cpu")


@pytest.fixture(scope="module")
def model(auto: AutoModel) -> Any:
    return auto.model


def without_shift(case: str, times: list[SPAN]) -> list[SPAN]:
    """The recording dropped the <unk> at place 3 from the text, but the last time instead of its own."""
    return [*times[:3], *times[4:], [2550, 2786]] if case in ("hot_str", "hot_file60") else times


@pytest.mark.parametrize(("name", "case"), cases(NAME))
def test_results_equal_the_recording(auto: AutoModel, name: str, case: dict[str, Any]) -> None:
    if len(case["input"]) > 1:
        check_alone_equals_batch(auto, name, case)
        return
    wave, kwargs = samples(case["input"][0]), options(name, case)
    (found,) = auto.generate(wave, **kwargs)
    (wanted,) = case.get("output") or [{"text": ""}]  # without a token, or on empty audio, the recording has nothing
    times = inside(wanted.get("timestamp", []), wave, kwargs.get("begin_time", 0))
    assert (found["text"], found["timestamp"]) == (wanted["text"], without_shift(case["name"], times))


@pytest.mark.parametrize("case", ["a", "b", "hot_str"])
def test_network_equals_the_recording(auto: AutoModel, model: Any, case: str) -> None:
    recorded = arrays(NAME, case)
    feats = recorded["feats"] if "feats" in recorded else arrays(NAME, "a")["feats"]
    lengths, scorer = torch.tensor([feats.size(1)]), None
    with torch.no_grad():
        if case == "hot_str":
            ids = encode_hotwords("你好 hello 公园玩 语音识别 zzz 三", auto.tokenizer, 1)
            vectors = model.hotword_vectors(*pad_hotwords(ids, torch.device("cpu")))
            close(vectors, recorded["hotword_embed"])
            scorer = partial(model._biased_scores, vectors=vectors)
        output = model.recognise(feats, lengths, scorer)
        cif = model.predictor(output.encoder_out)
        hidden = model.decoder.hidden(output.encoder_out, lengths, cif.embeds, output.token_lengths)
        close(hidden, recorded["decoder.hidden"], 3e-4)
        if case == "hot_str":
            count = torch.tensor([len(vectors)])
            for query, key in ((cif.embeds, "seaco_decoder.hidden"), (hidden, "seaco_decoder#1.hidden")):
                attended = model.seaco_decoder.hidden(vectors[None], count, query, output.token_lengths)
                close(attended, recorded[key], 3e-4)
            logits = model.hotword_logits(vectors, cif.embeds, hidden, output.token_lengths)
            close(logits.log_softmax(-1), recorded["hotword_logits"].log_softmax(-1), 3e-4)
    close(output.log_probs, recorded["merged_log_probs"], 3e-4)
    close(output.alphas, recorded["cif.alphas"])
    close(cif.embeds, recorded["cif.acoustic_embeds"])
    mask = torch.ones(output.encoder_out.shape[:2], dtype=torch.bool)
    alphas, peaks = model.predictor.timestamp_curves(output.encoder_out, mask, output.token_lengths)
    close(alphas, recorded["upsample.us_alphas"])
    close(peaks, recorded["upsample.us_peaks"])


@pytest.mark.parametrize(
    ("run", "ratio", "train_decoder"),
    [("no_sampler", 0.0, False), ("sampler", 0.75, False), ("train_decoder", 0.0, True)],
)
def test_training_equals_the_recording(
    model: Any, run: str, ratio: float, train_decoder: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = copy.deepcopy(model)
    trained.train_decoder = train_decoder
    check_training(trained, NAME, run, monkeypatch, ratio, TRAIN_EXTRA)


def test_training_without_hotwords_is_refused(model: Any) -> None:
    recorded = arrays(NAME, "train")
    inputs = [recorded[key] for key in ("speech", "speech_lengths", "text", "text_lengths")]
    with pytest.raises(DataError, match="hotword_pad"):
        model(*inputs)
    with pytest.raises(DataError, match="seaco_label_pad"):
        model(*inputs, **{key: recorded[key] for key in TRAIN_EXTRA[:2]})


def test_state_dict_has_the_keys_of_the_official_model() -> None:
    check_official_keys(
        NAME, "seaco_paraformer-large", model_conf={"inner_dim": 512}, seaco_decoder_conf={"linear_units": 1024}
    )


def test_hotwords_belong_to_the_call(auto: AutoModel) -> None:
    """All ways to give them are equal, and the next call knows nothing of them."""
    wave = samples("a.wav")
    plain = auto.generate(wave)[0]["text"]
    before = set(vars(auto.model)), {key: value.clone() for key, value in auto.model.state_dict().items()}
    words = ["你好", "hello", "公园玩", "语音识别", "zzz", "三"]
    biased = auto.generate(wave, hotword=" ".join(words))[0]["text"]
    assert auto.generate(wave, hotword=words)[0]["text"] == biased != plain
    assert auto.generate(wave)[0]["text"] == plain
    assert set(vars(auto.model)) == before[0]
    assert all(torch.equal(value, before[1][key]) for key, value in auto.model.state_dict().items())


def test_many_hotwords_are_chosen_for_each_utterance(model: Any) -> None:
    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(70, 32, generator=generator)
    hidden, lengths = torch.randn(2, 9, 32, generator=generator), torch.tensor([9, 5])
    with torch.no_grad():
        selected = model.select_hotwords(vectors, hidden, lengths)
        assert selected.shape == (2, 51, 32) and torch.equal(selected[:, -1], vectors[-1].expand(2, -1))
        for row, length in enumerate(lengths.tolist()):
            alone = model.select_hotwords(vectors, hidden[row : row + 1, :length], lengths[row : row + 1])
            assert torch.equal(alone[0], selected[row])
            assert len({tuple(vector.tolist()) for vector in selected[row]}) == 51
        assert set(map(tuple, selected[0].tolist())) != set(map(tuple, selected[1].tolist()))
        assert torch.equal(model.select_hotwords(vectors[:51], hidden, lengths)[1], vectors[:51])


def test_hotwords_are_read_from_text_list_and_file(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "words.txt"
    path.write_text("你好 世界\n\n阿里巴巴 20\n", encoding="utf-8")
    assert read_hotwords(None) is None
    assert read_hotwords("") == []
    assert read_hotwords(" a  b ") == ["a", "b"]
    assert read_hotwords(["a b", " "]) == ["a b"]
    assert read_hotwords(path) == read_hotwords(str(path)) == ["你好 世界", "阿里巴巴 20"]
    assert read_hotwords(tmp_path / "absent.txt") is None and "absent.txt" in caplog.text
    with pytest.raises(DataError, match="URL"):
        read_hotwords("https://example.com/words.txt")


def test_hotwords_become_ids() -> None:
    tokens = ["<blank>", "<s>", "</s>", "你", "好", "9", "hel@@", "lo", "world", "<unk>"]
    seg_dict = {"你": ["你"], "好": ["好"], "9": ["9"], "hello": ["hel@@", "lo"]}
    with_dict = CharTokenizer(tokens, seg_dict=seg_dict)
    assert encode_hotwords(["你好 Hello", "9好天", "world"], with_dict, 1) == [[3, 4, 6, 7], [5, 4, 9], [9], [1]]
    assert encode_hotwords("", with_dict, 1) == [[1]] == encode_hotwords([], None, 1)
    assert encode_hotwords("world 你好", CharTokenizer(tokens), 1) == [[8], [3, 4], [1]]
    assert encode_hotwords(None, None, 1) is None
    with pytest.raises(ConfigError, match="tokenizer"):
        encode_hotwords("a", None, 1)


@pytest.mark.parametrize("bidirectional", [False, True])
def test_a_hotword_vector_does_not_depend_on_the_others(bidirectional: bool) -> None:
    lstm = torch.nn.LSTM(4, 4, 2, batch_first=True, bidirectional=bidirectional).eval()
    embedded, lengths = torch.randn(3, 5, 4), torch.tensor([5, 2, 1])
    vectors = last_outputs(lstm, embedded, lengths)
    for row, length in enumerate(lengths.tolist()):
        close(vectors[row], lstm(embedded[row : row + 1, :length])[0][0, -1])


def test_options_act_or_are_refused(model: Any) -> None:
    parts = {name: getattr(model, name) for name in ("encoder", "decoder", "predictor", "ctc", "seaco_decoder")}
    make = partial(type(model), **parts, vocab_size=76, ctc_weight=0.0, inner_dim=32)
    two_way = make(bias_encoder_bid=True)
    keys = set(two_way.state_dict()) - set(model.state_dict())
    assert {"lstm_proj.weight", "bias_encoder.weight_ih_l1_reverse"} < keys
    assert two_way.hotword_vectors(torch.tensor([[3, 4], [1, 0]]), torch.tensor([2, 1])).shape == (2, 32)
    with pytest.raises(ConfigError, match="bias_encoder_type"):
        make(bias_encoder_type="mean")
    with pytest.raises(ConfigError, match="seaco_decoder"):
        type(model)(**{**parts, "seaco_decoder": None}, vocab_size=76, ctc_weight=0.0, inner_dim=32)
