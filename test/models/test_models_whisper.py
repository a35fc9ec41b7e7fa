"""Whisper with small random weights: names and shapes of the released checkpoints, the key-value cache, the rules of
decoding and independence of the batch.  No released weights are at hand, so no recorded text is compared."""

from __future__ import annotations

import base64
import dataclasses
import logging
import math
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from funasr.frontends.whisper_frontend import WhisperFrontend
from funasr.models.build import build_model
from funasr.models.whisper.decoding import SearchOptions, apply_rules, search
from funasr.models.whisper.model import Whisper, split_segments
from funasr.models.whisper.network import RELEASED_DIMS, AudioEncoder, Dims
from funasr.models.whisper.tokenizer import WhisperTokenizer
from funasr.models.whisper.tokens import LANGUAGES, SpecialIds
from funasr.register import tables
from funasr.utils.errors import ConfigError, DataError

TEXT_TOKENS, LANGUAGE_COUNT = 40, 3
VOCAB = TEXT_TOKENS + 8 + LANGUAGE_COUNT + 1501
DIMS = Dims(8, 10, 16, 2, 2, VOCAB, 24, 16, 2, 2)


@pytest.fixture(scope="module")
def model() -> Whisper:
    torch.manual_seed(0)
    built = Whisper(dataclasses.asdict(DIMS), num_languages=LANGUAGE_COUNT).eval()
    with torch.no_grad():
        for parameter in built.parameters():
            if parameter.dim() > 1:
                parameter.normal_(std=0.5)
    return built


@pytest.fixture
def vocab_path(tmp_path: Path) -> Path:
    """All single bytes and a few pairs, so that any text can be said."""
    tokens = [bytes([i]) for i in range(256)] + [b"he", b"ll", b"hell", b" (", "你".encode()[:2]]
    path = tmp_path / "small.tiktoken"
    path.write_bytes(b"\n".join(base64.b64encode(t) + b" %d" % i for i, t in enumerate(tokens)))
    return path


def feats(count: int) -> torch.Tensor:
    return torch.randn(count, 2 * DIMS.n_audio_ctx, DIMS.n_mels, generator=torch.Generator().manual_seed(1))


def checkpoint_shapes(dims: Dims) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a released checkpoint of these sizes, written down independently of the network."""
    width = dims.n_audio_state
    shapes: dict[str, tuple[int, ...]] = {
        "encoder.conv1.weight": (width, dims.n_mels, 3),
        "encoder.conv1.bias": (width,),
        "encoder.conv2.weight": (width, width, 3),
        "encoder.conv2.bias": (width,),
        "encoder.positional_embedding": (dims.n_audio_ctx, width),
        "decoder.token_embedding.weight": (dims.n_vocab, width),
        "decoder.positional_embedding": (dims.n_text_ctx, width),
    }
    norms = ["encoder.ln_post", "decoder.ln"]
    for side, layers in (("encoder", dims.n_audio_layer), ("decoder", dims.n_text_layer)):
        for prefix in (f"{side}.blocks.{layer}" for layer in range(layers)):
            attentions = ["attn"] if side == "encoder" else ["attn", "cross_attn"]
            norms += [f"{prefix}.{name}_ln" for name in (*attentions, "mlp")]
            for name in attentions:
                for part in ("query", "key", "value", "out"):
                    shapes[f"{prefix}.{name}.{part}.weight"] = (width, width)
                    if part != "key":
                        shapes[f"{prefix}.{name}.{part}.bias"] = (width,)
            shapes |= {f"{prefix}.mlp.0.weight": (4 * width, width), f"{prefix}.mlp.0.bias": (4 * width,)}
            shapes |= {f"{prefix}.mlp.2.weight": (width, 4 * width), f"{prefix}.mlp.2.bias": (width,)}
    return shapes | {f"{norm}.{part}": (width,) for norm in norms for part in ("weight", "bias")}


@pytest.mark.parametrize("name", ["tiny.en", "large-v3", "large-v3-turbo"])
def test_names_and_shapes_of_released_checkpoints(name: str) -> None:
    with torch.device("meta"):
        released = Whisper(name)
    shapes = {key: tuple(value.shape) for key, value in released.state_dict().items()}
    assert shapes == checkpoint_shapes(RELEASED_DIMS[name])


@pytest.mark.parametrize(
    "name, millions",
    [("tiny", 39), ("base", 74), ("small", 244), ("medium", 769), ("large-v3", 1550), ("large-v3-turbo", 809)],
)
def test_sizes_are_those_of_the_paper(name: str, millions: int) -> None:
    with torch.device("meta"):
        count = sum(parameter.numel() for parameter in Whisper(name).parameters())
    assert count / 1e6 == pytest.approx(millions, rel=0.07)


@pytest.mark.parametrize(
    "vocab, eot, transcribe, no_timestamps",
    [(51864, 50256, 50358, 50362), (51865, 50257, 50359, 50363), (51866, 50257, 50360, 50364)],
)
def test_special_ids_of_released_vocabularies(vocab: int, eot: int, transcribe: int, no_timestamps: int) -> None:
    special = SpecialIds.of_vocab(vocab)
    assert (special.eot, special.transcribe, special.no_timestamps) == (eot, transcribe, no_timestamps)
    assert special.multilingual == (vocab != 51864)
    assert eot + len(special.names()) == vocab
    assert special.names()[no_timestamps - eot : no_timestamps - eot + 2] == ["<|notimestamps|>", "<|0.00|>"]


def test_all_model_keys_give_this_class() -> None:
    for name in ("Whisper", "whisper", "WhisperWarp", "Whisper-tiny.en", "Whisper-large-v3-turbo"):
        assert tables.model_classes[name] is Whisper
    config = {
        "model": "Whisper-tiny",
        "model_conf": {"dims": dataclasses.asdict(DIMS), "num_languages": LANGUAGE_COUNT},
    }
    assert isinstance(build_model(config, None, None), Whisper)


def test_encoder_positions_are_sines_then_cosines() -> None:
    table = AudioEncoder(DIMS).positional_embedding
    rate = math.exp(-math.log(10000.0) / 7)
    assert table[3, 1].item() == pytest.approx(math.sin(3 * rate), abs=1e-6)
    assert table[3, 9].item() == pytest.approx(math.cos(3 * rate), abs=1e-6)


@torch.no_grad()
def test_one_token_at_a_time_equals_all_at_once(model: Whisper) -> None:
    memory = model.decoder.project_memory(model.encode(feats(2)))
    tokens = torch.randint(TEXT_TOKENS, (6, 9))  # three hypotheses of each utterance
    whole, _ = model.decoder(tokens, memory)
    logits, past = model.decoder(tokens[:, :4], memory)
    steps = [logits]
    for position in range(4, 9):
        logits, past = model.decoder(tokens[:, position : position + 1], memory, past)
        steps.append(logits)
    torch.testing.assert_close(torch.cat(steps, dim=1), whole, atol=1e-4, rtol=1e-4)
    alone, _ = model.decoder(tokens[4:5], [keys_values[1:] for keys_values in memory])
    torch.testing.assert_close(whole[4:5], alone, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_greedy_search_takes_the_best_token_each_time(model: Whisper) -> None:
    special = model.special
    memory = model.decoder.project_memory(model.encode(feats(1)))
    prompt = torch.tensor([[special.sot, special.languages[0], special.transcribe, special.no_timestamps]])
    options = SearchOptions(max_tokens=12)
    (answer,) = search(model.decoder, memory, prompt, special, options)
    ids: list[int] = []
    score = 0.0
    while len(ids) < 12:
        said = torch.tensor([ids], dtype=torch.long)
        logits, _ = model.decoder(torch.cat([prompt, said], dim=1), memory)
        log_probs = F.log_softmax(apply_rules(logits[:, -1], said, special, options), dim=-1)[0]
        token = int(log_probs.argmax())
        score += log_probs[token].item()
        if token == special.eot:
            break
        ids.append(token)
    assert list(answer.ids) == ids and ids
    assert answer.score == pytest.approx(score, abs=1e-3)


@pytest.mark.parametrize(
    "options", [{}, {"beam_size": 4}, {"output_timestamp": True}, {"beam_size": 3, "output_timestamp": True}]
)
def test_an_utterance_has_the_same_result_in_any_batch(model: Whisper, options: dict[str, Any]) -> None:
    batch, keys = feats(3), list("abc")
    together, meta = model.inference(batch, key=keys, **options)
    alone = [model.inference(batch[i : i + 1], key=[k], **options)[0][0] for i, k in enumerate(keys)]
    assert together == alone
    assert any(result["token_int"] for result in together)
    assert {result["language"] for result in together} <= set(LANGUAGES[:LANGUAGE_COUNT])
    assert set(meta) == {"extract_feat", "decode"}


@torch.no_grad()
def test_a_wide_beam_finds_the_likeliest_short_answer() -> None:
    torch.manual_seed(5)
    small = Whisper(dataclasses.asdict(DIMS), num_languages=LANGUAGE_COUNT).eval()
    small.decoder.token_embedding.weight.normal_(std=0.4)
    special, options = small.special, SearchOptions(beam_size=60, max_tokens=2, suppressed=tuple(range(6, TEXT_TOKENS)))
    memory = small.decoder.project_memory(small.encode(feats(1)))
    prompt = torch.tensor([[special.sot]])
    (answer,) = search(small.decoder, memory, prompt, special, options)

    def log_probs(said: list[int]) -> torch.Tensor:
        tokens = torch.tensor([said], dtype=torch.long)
        logits, _ = small.decoder(torch.cat([prompt, tokens], dim=1), memory)
        return F.log_softmax(apply_rules(logits[:, -1], tokens, special, options), dim=-1)[0]

    first = log_probs([])
    means = {}
    for a in range(6):
        second = log_probs([a])
        means[(a,)] = (first[a] + second[special.eot]).item() / 2
        means |= {(a, b): (first[a] + second[b]).item() / 3 for b in range(6)}
    assert answer.ids == max(means, key=means.__getitem__)
    assert answer.mean_score == pytest.approx(means[answer.ids], abs=1e-4)


def test_time_stamps_come_in_pairs_and_never_go_back(model: Whisper) -> None:
    results, _ = model.inference(feats(6), output_timestamp=True, language="zh")
    for result in results:
        assert result["language"] == "zh"
        times = [t for pair in result["timestamp"] for t in pair]
        assert all(0 <= t <= 30000 for t in times)
        assert [a for a, _ in result["timestamp"]] == sorted(a for a, _ in result["timestamp"])
    special = model.special
    begin = special.first_timestamp

    def allowed(*said: int) -> set[int]:
        options = SearchOptions(timestamps=True)
        logits = torch.zeros(1, VOCAB)
        logits[:, :begin] = 20.0  # time stamps together do not win
        rules = apply_rules(logits, torch.tensor([said], dtype=torch.long), special, options)
        return set(rules[0].isfinite().nonzero().flatten().tolist())

    stamps = set(range(begin, VOCAB))
    assert allowed() == set(range(begin, begin + 51))
    assert allowed(begin + 5) & stamps == set() and 3 in allowed(begin + 5)
    assert allowed(begin + 5, 3) & stamps == set(range(begin + 6, VOCAB))
    assert allowed(begin + 5, 3, begin + 9) == {special.eot} | set(range(begin + 9, VOCAB))
    assert not allowed(begin + 5, 3, begin + 9, begin + 9) & stamps
    winning = apply_rules(torch.zeros(1, VOCAB), torch.tensor([[begin, 3]]), special, SearchOptions(timestamps=True))
    assert winning[0, :begin].isinf().all()


def test_segments_between_time_stamps() -> None:
    special = SpecialIds.of_vocab(51865)
    stamp = special.first_timestamp
    assert split_segments([stamp, 1, 2, stamp + 50, stamp + 60, 3], special, 1500) == [
        (0, 1000, [1, 2]),
        (1200, 30000, [3]),
    ]
    assert split_segments([stamp, stamp + 3], special, 1500) == split_segments([], special, 1500) == []


def test_training_loss_is_that_of_the_next_token(model: Whisper) -> None:
    special = model.special
    text = torch.tensor([[special.sot, 4, 5, special.eot], [special.sot, 6, special.eot, -1]])
    lengths = torch.tensor([4, 3])
    loss, stats, weight = model(feats(2), torch.tensor([20, 20]), text, lengths)
    with torch.no_grad():
        memory = model.decoder.project_memory(model.encode(feats(2)))
        logits, _ = model.decoder(text[:1, :-1], [m[:1] for m in memory])
        short, _ = model.decoder(text[1:, :2], [m[1:] for m in memory])
    total = F.cross_entropy(logits[0], text[0, 1:], reduction="sum") + F.cross_entropy(
        short[0], text[1, 1:3], reduction="sum"
    )
    assert loss.item() == pytest.approx(total.item() / 5, rel=1e-4)
    assert weight.item() == 5 and set(stats) == {"loss", "acc"}
    loss.backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_audio_through_the_front_end_and_the_tokenizer(vocab_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    torch.manual_seed(2)
    tokenizer = WhisperTokenizer(vocab_path, num_languages=LANGUAGE_COUNT)
    sizes = dataclasses.asdict(dataclasses.replace(DIMS, n_mels=80, n_audio_ctx=1500, n_vocab=tokenizer.vocab_size))
    small = Whisper(sizes, num_languages=LANGUAGE_COUNT).eval()
    waves = [torch.randn(16000) * 0.1, torch.zeros(0), torch.randn(481000) * 0.1]
    options: dict[str, Any] = {"key": list("abc"), "tokenizer": tokenizer, "output_timestamp": True, "max_tokens": 6}
    with caplog.at_level(logging.WARNING):
        results, _ = small.inference(waves, frontend=WhisperFrontend(), **options)
    assert "c: only the first 30 of 30.1 s" in caplog.text and "a:" not in caplog.text
    assert results[1] | {"language": ""} == {
        "key": "b",
        "text": "",
        "timestamp": [],
        "sentence_info": [],
        "language": "",
    }
    assert results == small.inference(waves, frontend=WhisperFrontend(permute=True), **options)[0]
    for result in results:
        assert [[info["start"], info["end"]] for info in result["sentence_info"]] == result["timestamp"]
    assert small.inference([]) == ([], {})


def test_wrong_options_say_what_is_right(model: Whisper) -> None:
    with pytest.raises(ConfigError, match="known: auto, en, zh, de"):
        model.inference(feats(1), language="yue")
    with pytest.raises(ConfigError, match="task"):
        model.inference(feats(1), task="summarise")
    with pytest.raises(ConfigError, match="do_pad_trim: true"):
        model.inference(feats(1)[:, :7])
    with pytest.raises(ConfigError, match="large-v3"):
        Whisper("large-v4")
    with pytest.raises(ConfigError, match="dims must give n_mels"):
        Whisper({"n_mels": 80})
    with pytest.raises(ConfigError, match="num_languages"):
        SpecialIds.of_vocab(300)


def test_tokens_to_text_and_back(vocab_path: Path) -> None:
    tokenizer = WhisperTokenizer(vocab_path, num_languages=LANGUAGE_COUNT)
    assert tokenizer.vocab_size == 261 + 8 + LANGUAGE_COUNT + 1501 == len(tokenizer.token_list)
    special = tokenizer.special
    said = [258, ord("o"), 260, "你".encode()[2], special.sot, special.first_timestamp + 50]
    assert tokenizer.decode(said) == "hello你"
    assert tokenizer.decode([260]) == "�"
    assert tokenizer.token_list[special.first_timestamp + 50] == "<|1.00|>"
    assert tokenizer.tokens2ids(tokenizer.ids2tokens(said)) == said
    assert tokenizer.blank_id == ord(" ") and {ord("("), 259} <= set(tokenizer.non_speech_ids)
    assert pickle.loads(pickle.dumps(tokenizer)).decode(said) == "hello你"
    with pytest.raises(DataError, match="no token"):
        tokenizer.tokens2ids(["你"])


def test_text_to_tokens_needs_tiktoken(vocab_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "tiktoken", None)
    with pytest.raises(ImportError, match=r"pip install 'funasr\[whisper\]'"):
        WhisperTokenizer(vocab_path).encode("hello")


def test_text_to_tokens(vocab_path: Path) -> None:
    pytest.importorskip("tiktoken")
    tokenizer = WhisperTokenizer(vocab_path)
    assert tokenizer.encode("hello") == [258, ord("o")]
    assert tokenizer.decode(tokenizer.encode(" (你好, hello)")) == " (你好, hello)"


def test_damaged_vocabulary_files(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not exist"):
        WhisperTokenizer(tmp_path / "none")
    bad = tmp_path / "bad.tiktoken"
    bad.write_text("QQ== 0\nQg== x\n")
    with pytest.raises(DataError, match=r"bad\.tiktoken:2"):
        WhisperTokenizer(bad)
    bad.write_text("QQ== 0\nQg== 2\n")
    with pytest.raises(DataError, match="without a gap"):
        WhisperTokenizer(bad)
