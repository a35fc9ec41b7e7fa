"""Punctuation against outputs recorded from released FunASR 1.4.16, and what must hold for any such model."""

from __future__ import annotations

import importlib.util
import json
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from funasr.models.build import build, build_model
from funasr.models.ct_transformer import windows as w
from funasr.models.ct_transformer.marks import Marks
from funasr.models.ct_transformer.tokens import tokenize_words
from funasr.utils.config import read_yaml
from funasr.utils.errors import ConfigError

PUNC_LIST = ["<unk>", "_", "，", "。", "？", "、"]
OFFLINE, WORDS, STREAMING = "CTTransformer", "CTTransformer-jieba", "CTTransformerStreaming"
PARITY = Path(__file__).parents[1] / "parity"
needs_jieba = pytest.mark.skipif(importlib.util.find_spec("jieba") is None, reason="jieba is not installed")


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """The models are so small that threads only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def load(name: str) -> tuple[Any, Any]:
    directory = PARITY / name / "model"
    config = read_yaml(directory / "config.yaml")
    config["tokenizer_conf"]["token_list"] = str(directory / "tokens.json")
    if name == WORDS:
        config["model_conf"]["jieba_usr_dict"] = str(directory / "jieba_usr_dict")
    parts = build(config, strict=False)
    parts.model.load_state_dict(torch.load(directory / "model.pt", weights_only=True))
    return parts.model.eval(), parts.tokenizer


@pytest.fixture(scope="module")
def offline() -> tuple[Any, Any]:
    return load(OFFLINE)


@pytest.fixture(scope="module")
def streaming() -> tuple[Any, Any]:
    return load(STREAMING)


@pytest.fixture
def loaded(request: pytest.FixtureRequest) -> tuple[Any, Any]:
    return load(request.param)


def cases(name: str, *kinds: str) -> list[dict[str, Any]]:
    found = json.loads((PARITY / name / "expected" / "expected.json").read_text())["cases"]
    return [case for case in found if case["name"].split("/")[0] in kinds]


def per_model(*names: str) -> list[Any]:
    return [pytest.param(name, name, id=name, marks=[needs_jieba] if name == WORDS else []) for name in names]


def run(loaded: tuple[Any, Any], texts: list[str], **options: Any) -> list[dict[str, Any]]:
    model, tokenizer = loaded
    results, _ = model.inference(texts, key=[f"k{i}" for i in range(len(texts))], tokenizer=tokenizer, **options)
    assert [result.pop("key") for result in results] == [f"k{i}" for i in range(len(texts))]
    for result in results:
        if result["punc_array"] is not None:
            assert result["punc_array"].dtype == torch.int64
            result["punc_array"] = result["punc_array"].tolist()
    return results


@pytest.mark.parametrize("name", [OFFLINE, WORDS, STREAMING])
def test_logits_equal_the_recording(name: str) -> None:
    model, _ = load(name)
    with np.load(PARITY / name / "expected" / "tensors.npz") as stored:
        for case in cases(name, "logits"):
            wanted = torch.from_numpy(stored[case["arrays"]["logits"]])
            ids = torch.tensor(case["ids"])
            lengths = torch.tensor(case.get("lengths") or [ids.size(1)] * len(ids))
            pause = () if name != STREAMING else (torch.as_tensor(case["vad_index"]).reshape(-1),)
            with torch.no_grad():
                found = model.logits(ids, lengths, *pause)
            for row, length in enumerate(lengths):
                torch.testing.assert_close(found[row, :length], wanted[row, :length], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("name", "loaded"), per_model(OFFLINE, WORDS), indirect=["loaded"])
def test_tokens_equal_the_recording(name: str, loaded: tuple[Any, Any]) -> None:
    model, tokenizer = loaded
    for case in cases(name, "split"):
        tokens, _ = tokenize_words(case["input"].split(), model._cutter())
        assert (tokens, tokenizer.tokens2ids(tokens)) == (case["tokens"], case["ids"])


def by_split_size(found: list[dict[str, Any]]) -> list[tuple[int, list[dict[str, Any]]]]:
    """Cases that go into one call: the recorded ones went alone."""
    sizes = {case["kwargs"].get("split_size", 20) for case in found}
    return [(size, [case for case in found if case["kwargs"].get("split_size", 20) == size]) for size in sorted(sizes)]


@pytest.mark.parametrize(("name", "loaded"), per_model(OFFLINE, WORDS), indirect=["loaded"])
def test_texts_equal_the_recording(name: str, loaded: tuple[Any, Any]) -> None:
    for size, group in by_split_size(cases(name, "text")):
        for case, found in zip(group, run(loaded, [case["input"] for case in group], split_size=size)):
            assert found == {"text": case["text"], "punc_array": case["punc_array"]}, case["name"]
    (several,) = cases(name, "list")
    assert run(loaded, several["input"]) == several["value"]


def test_streaming_texts_equal_the_recording(streaming: tuple[Any, Any]) -> None:
    for size, group in by_split_size(cases(STREAMING, "text")):
        for case, found in zip(group, run(streaming, [case["input"] for case in group], split_size=size)):
            if "error" in case:  # a single token: the released model fails, it should be the token itself
                assert found["text"] == case["input"] and len(found["punc_array"]) == 1
            else:
                assert found["text"] == case["text"], case["name"]
                same_marks(found, case)
    (several,) = cases(STREAMING, "list")
    assert [found["text"] for found in run(streaming, several["input"])] == [v["text"] for v in several["value"]]


def same_marks(found: dict[str, Any], case: dict[str, Any]) -> None:
    """The recording has the marks of the last window, also of earlier pieces; ours are those of this piece."""
    common = min(len(found["punc_array"]), len(case["punc_array"]))
    assert found["punc_array"][-common:] == case["punc_array"][-common:]


@pytest.mark.parametrize("case", [pytest.param(c, id=c["name"]) for c in cases(STREAMING, "stream")])
def test_sessions_equal_the_recording(streaming: tuple[Any, Any], case: dict[str, Any]) -> None:
    """The released model fails on a single token in all (the token itself is right) and on an empty piece."""
    cache: dict[str, Any] = {}
    compare = True
    for push in case["pushes"]:
        before = dict(cache)
        (found,) = run(streaming, [push["push"]], cache=cache, **case["kwargs"])
        if not push["push"]:
            assert found == {"text": "", "punc_array": None} and cache == before
        elif "error" in push:
            assert push["push"].strip() in found["text"] and len(found["punc_array"]) == 1
            # The recorded session goes on without the token, ours with it.
            compare = False
            if case["name"] == "stream/odd":
                cache.clear()
                compare = True
        elif compare:
            assert (found["text"], cache["pre_text"]) == (push["text"], push["pre_text"])
            same_marks(found, push)


def test_pieces_of_a_session_may_come_in_one_call(streaming: tuple[Any, Any]) -> None:
    pieces = ["今天天气怎么样我们一起", "去公园散步好吗 hello", "how are you"]
    one, other = {}, {}
    together = run(streaming, pieces, cache=one)
    assert together == [run(streaming, [piece], cache=other)[0] for piece in pieces] and one == other
    tokens = [len(tokenize_words([piece])[0]) for piece in pieces]
    assert [len(found["punc_array"]) for found in together] == tokens


def test_a_session_without_sentence_end_stays_bounded(streaming: tuple[Any, Any]) -> None:
    model, tokenizer = streaming
    bias = model.decoder.bias.detach().clone()
    cache: dict[str, Any] = {}
    with torch.no_grad():
        model.decoder.bias.copy_(torch.tensor([0.0, 1e4, 0.0, 0.0, 0.0, 0.0]))
        for _ in range(5):
            model.inference(["天 " * 300], tokenizer=tokenizer, cache=cache, split_size=300)
            assert len(cache["pre_text"]) <= w.LONGEST_TOKENS
        model.decoder.bias.copy_(bias)


@pytest.mark.parametrize("name", [OFFLINE, STREAMING])
def test_nothing_to_punctuate(name: str) -> None:
    model, tokenizer = load(name)
    assert model.inference([], tokenizer=tokenizer)[0] == []
    for text in ("", "  \n "):
        assert run((model, tokenizer), [text]) == [{"text": "", "punc_array": None}]
    beside = run((model, tokenizer), ["", "今天天气怎么样我们", " "])
    assert beside[1] == run((model, tokenizer), ["今天天气怎么样我们"])[0]


def test_wrong_input_is_named(offline: tuple[Any, Any]) -> None:
    model, tokenizer = offline
    for wrong in ([5], [b"\xe4\xbd\xa0"], ["你好", None]):
        with pytest.raises(TypeError, match="reads text"):
            model.inference(wrong, tokenizer=tokenizer)
    with pytest.raises(ValueError, match="split_size"):
        model.inference(["你好"], tokenizer=tokenizer, split_size=1)
    with pytest.raises(ConfigError, match="tokenizer"):
        model.inference(["你好"])
    for conf, words in (
        ({"punc_list": ["，"]}, "lacks '_'"),
        ({"jieba_usr_dict": "missing"}, "jieba_usr_dict missing"),
    ):
        config = read_yaml(PARITY / OFFLINE / "model" / "config.yaml")
        config["model_conf"] |= {"punc_weight": None, **conf}
        with pytest.raises(ConfigError, match=words):
            build_model({**config, "vocab_size": 10}, None, None, strict=False)


def plain_walk(length: int, found_in: Any, marks: Marks, size: int) -> list[w.Block]:
    """The rule of the windows, one after the other."""
    blocks, begin = [], 0
    for start in range(0, length, size):
        end = min(start + size, length)
        found = found_in(begin, end)
        final = found if end == length else w.final_marks(found, marks)
        if final:
            blocks.append(w.Block(begin, final))
            begin += len(final)
    return blocks


@pytest.mark.parametrize("reach", [0, 3, 1000], ids=["local", "near", "never-meeting"])
@pytest.mark.parametrize("comma_only", [False, True])
def test_scouts_change_nothing_but_the_order(reach: int, comma_only: bool) -> None:
    """Whether marks depend on the token alone or on how far back the window begins, the blocks are the plain ones."""
    marks = Marks(PUNC_LIST, 3)
    lengths = [0, 1, 2, 39, 40, 1203, 4001]

    def mark(text: int, begin: int, position: int) -> int:
        chance = random.Random(f"{text} {max(position - reach, begin) if reach else 0} {position}")
        return chance.choices(range(1, 6), [40, 2, 0 if comma_only else 1, 0 if comma_only else 1, 1])[0]

    evaluated = []

    def evaluate(windows: list[w.Window]) -> list[list[int]]:
        assert len(windows) <= w.WINDOWS_AT_ONCE and len(set(windows)) == len(windows)
        evaluated.extend(windows)
        return [[mark(v.text, v.begin, i) for i in range(v.begin, v.end)] for v in windows]

    found = w.walk_texts(lengths, evaluate, marks, 20)
    needed = 0
    for text, length in enumerate(lengths):
        wanted = plain_walk(length, lambda b, e, t=text: [mark(t, b, i) for i in range(b, e)], marks, 20)
        assert found[text] == wanted
        needed += -(-length // 20)
    assert len(evaluated) == len(set(evaluated)), "no window is computed twice"
    assert len(evaluated) <= (1.3 if reach < 1000 and not comma_only else 3.2) * needed


def test_a_very_long_text_without_marks_is_not_carried_on_for_ever() -> None:
    longest = 0

    def evaluate(windows: list[w.Window]) -> list[list[int]]:
        nonlocal longest
        longest = max(longest, *(v.end - v.begin for v in windows))
        return [[1] * (v.end - v.begin) for v in windows]

    blocks = w.walk_texts([5000], evaluate, Marks(PUNC_LIST, 3), 20)[0]
    assert sum(len(block.marks) for block in blocks) == 5000 and longest <= w.LONGEST_TOKENS + 20


def long_text(count: int) -> str:
    base = "今天天气怎么样我们一起去公园散步好吗我觉得这个想法 hello how are you today 非常好但是明天可能会下雨"
    tokens = tokenize_words(base.split())[0]
    return " ".join(random.Random(0).choices(tokens, k=count))


def test_a_long_text_equals_its_steps_one_by_one(offline: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    text = long_text(1500)
    together = run(offline, [text, "你好吗", text[:300]])
    monkeypatch.setattr(w, "STEPS_PER_SCOUT", 10**9)
    assert together == [run(offline, [one])[0] for one in (text, "你好吗", text[:300])]


def test_threads_share_a_model(offline: tuple[Any, Any]) -> None:
    texts = [long_text(200 + 40 * i) for i in range(4)]
    alone = [run(offline, [text]) for text in texts]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda text: run(offline, [text]), texts)) == alone


def test_words_have_the_marks_of_their_text(offline: tuple[Any, Any]) -> None:
    model, tokenizer = offline
    words = ["今", "天", "", "hello", "world", "你好", "吗", "ok"]
    before = list(words)
    marked, empty, *_ = model.mark_words([words, [], ["", " "]], tokenizer)
    (found,) = run(offline, ["今天 hello world 你好吗 ok"])
    per_token = found["punc_array"]
    assert words == before and empty == [] and len(marked) == len(words)
    assert [marked[i] for i in (0, 1, 3, 4, 6, 7)] == [per_token[i] for i in (0, 1, 2, 3, 6, 7)]
    assert marked[2] == 1 and marked[5] == (per_token[5] if per_token[5] > 1 else per_token[4])
    text = long_text(400)
    assert model.mark_words([text.split()], tokenizer) == [run(offline, [text])[0]["punc_array"]]


@needs_jieba
def test_words_are_marked_where_the_cut_words_end() -> None:
    loaded = load(WORDS)
    model, tokenizer = loaded
    text = cases(WORDS, "text")[0]["input"]
    marks = model.mark_words([list(text)], tokenizer)[0]
    assert marks == run(loaded, [text])[0]["punc_array"]
    tokens, owners = tokenize_words(["怎", "么", "样", "下雨", "ok", "绿", "茶"], model._cutter())
    assert (tokens, owners) == (["怎么样", "下雨", "ok", "绿茶"], [2, 3, 4, 6])


@needs_jieba
def test_models_do_not_share_a_dictionary(tmp_path: Path) -> None:
    from funasr.models.ct_transformer.tokens import word_cutter

    text = "张三丰李四处理图片"
    (tmp_path / "own").write_text("四处\n", encoding="utf-8")
    recorded = word_cutter(str(PARITY / WORDS / "model" / "jieba_usr_dict"))(text)
    assert "张三丰李四" in recorded and "张三丰李四" not in word_cutter(str(tmp_path / "own"))(text)


def test_without_jieba_the_way_out_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import sys

    from funasr.models.ct_transformer.tokens import word_cutter

    monkeypatch.setitem(sys.modules, "jieba", None)
    (tmp_path / "words").write_text("你好\n", encoding="utf-8")
    with pytest.raises(ImportError, match="pip install jieba"):
        word_cutter(str(tmp_path / "words"))


def test_ascii_mark_lists_mean_full_width_marks() -> None:
    assert Marks(["<unk>", "_", ",", "。", "?", "、"], 3).symbols == tuple(PUNC_LIST)
    marks = Marks(PUNC_LIST, 3)
    assert marks.written(0) == marks.written(1) == "" and marks.written(4, ascii_width=True) == "?"


@pytest.mark.parametrize("name", [OFFLINE, STREAMING])
def test_training(name: str) -> None:
    """The loss is per labelled token, whatever the padding holds, and every parameter that can learn does."""
    model, _ = load(name)
    text = torch.randint(1, 150, (2, 12), generator=torch.Generator().manual_seed(0))
    punc = torch.randint(1, 6, (2, 12), generator=torch.Generator().manual_seed(1))
    lengths = torch.tensor([12, 7])
    pause = {"vad": torch.tensor([5, 0])} if name == STREAMING else {}
    loss, stats, weight = model(text, lengths, punc, lengths, **pause)
    rows = [
        model(
            text[i : i + 1, :n],
            torch.tensor([n]),
            punc[i : i + 1, :n],
            torch.tensor([n]),
            **{k: v[i : i + 1] for k, v in pause.items()},
        )
        for i, n in enumerate(lengths.tolist())
    ]
    assert weight == 19 and loss.item() == pytest.approx(sum((r[0] * r[2]).item() for r in rows) / 19, rel=1e-5)
    text[1, 7:], punc[1, 7:] = -1, -1
    again, _, _ = model(text, lengths, punc, lengths, **pause)
    assert again.item() == pytest.approx(loss.item(), rel=1e-6)
    logits = model.logits(text.clamp(min=0), lengths, *pause.values()).transpose(1, 2)
    wanted = torch.nn.functional.cross_entropy(logits, punc, ignore_index=-1)
    assert loss.item() == pytest.approx(wanted.item(), rel=1e-5) and 0 <= stats["acc"] <= 1
    loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def official_model(name: str) -> Any:
    small = {"ct-punc": WORDS, "ct-punc-c": OFFLINE, "ct-punc-realtime": STREAMING}[name]
    config = read_yaml(PARITY / small / "model" / "config.yaml")
    vocab, dim, heads, hidden, blocks = {
        "ct-punc": (471067, 516, 12, 2048, 12),
        "ct-punc-c": (272727, 256, 8, 1024, 4),
        "ct-punc-realtime": (272727, 256, 8, 1024, 3),
    }[name]
    config["encoder_conf"] |= {
        "input_size": dim,
        "output_size": dim,
        "attention_heads": heads,
        "linear_units": hidden,
        "num_blocks": blocks,
    }
    config["model_conf"] |= {"embed_unit": dim, "att_unit": dim}
    with torch.device("meta"):
        return build_model({**config, "vocab_size": vocab}, None, None, strict=False)


@pytest.mark.parametrize("name", ["ct-punc", "ct-punc-c", "ct-punc-realtime"])
def test_state_dict_has_the_keys_of_the_official_model(name: str) -> None:
    lines = (PARITY / "official_keys" / f"{name}.txt").read_text().splitlines()
    official = {line.split(" ", 1)[0]: line.split(" ", 1)[1] for line in lines if not line.startswith("#")}
    found = {key: f"{list(value.shape)} float32" for key, value in official_model(name).state_dict().items()}
    assert found == official
