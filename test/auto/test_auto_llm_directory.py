"""A recogniser with a language model, in the style of Fun-ASR-Nano: parts come from a folder of the model directory."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from funasr import AutoModel
from funasr.utils.errors import ConfigError

MODEL = '''
"""A recogniser of three parts: audio encoder, adaptor, and a language model that writes the text."""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file
from tiny_lm import TinyLM

from funasr.register import tables


@tables.register("tokenizer_classes", "TinyHubTokenizer", override=True)
class TinyHubTokenizer:
    """As the tokenizers of hubs: made of a folder, `len` counts, special tokens are known to `decode`."""

    def __init__(self, init_param_path: str) -> None:
        self.words = json.loads((Path(init_param_path) / "tokenizer.json").read_text())["vocab"]
        {size}

    def __len__(self) -> int:
        return len(self.words)

    def get_vocab(self) -> dict:
        return {{word: i for i, word in enumerate(self.words)}}

    def encode(self, text: str) -> list:
        return [self.words.index(word) for word in text.split()]

    def decode(self, ids, skip_special_tokens: bool = True) -> str:
        return " ".join(self.words[i] for i in ids if not (skip_special_tokens and self.words[i].startswith("<|")))


@tables.register("model_classes", "TinyNano", override=True)
class TinyNano(torch.nn.Module):
    def __init__(self, audio_encoder: str, audio_encoder_conf: dict, llm: str, llm_conf: dict, input_size: int = 80,
                 length_normalized_loss: bool = False, **kwargs):
        super().__init__()
        self.audio_encoder = tables.encoder_classes[audio_encoder](input_size=input_size, **audio_encoder_conf)
        self.audio_adaptor = torch.nn.Linear(self.audio_encoder.output_size(), llm_conf["hidden_size"])
        assert llm == "TinyLM"
        self.llm = TinyLM.from_pretrained(llm_conf["init_param_path"], llm_conf["hidden_size"])
        self.tokenizer = kwargs["tokenizer"]

    def inference(self, data_in, data_lengths=None, key=None, tokenizer=None, frontend=None, **kwargs):
        waves = torch.nn.utils.rnn.pad_sequence([torch.as_tensor(w) for w in data_in], batch_first=True)
        feats, lengths = frontend(waves.to(kwargs["device"]), torch.tensor([len(w) for w in data_in]))
        heard = self.audio_adaptor(self.audio_encoder(feats, lengths)[0])
        prompt = tokenizer.encode(kwargs.get("prompt", "<|write|>"))
        results = []
        for name, vectors, count in zip(key, heard, lengths):
            ids = self.llm.generate(prompt, vectors[:int(count)], kwargs.get("max_length", 5))
            results.append({{"key": name, "text": tokenizer.decode(ids)}})
        return results, {{"batch_data_time": 1.0}}
'''

LM = """
from pathlib import Path

import torch
from safetensors.torch import load_file


class TinyLM(torch.nn.Module):
    def __init__(self, words: int, size: int) -> None:
        super().__init__()
        self.embed = torch.nn.Embedding(words, size)
        self.rnn = torch.nn.GRU(size, size, batch_first=True)

    @classmethod
    def from_pretrained(cls, folder: str, size: int):
        weights = load_file(Path(folder) / "model.safetensors")
        made = cls(len(weights["embed.weight"]), size)
        made.load_state_dict(weights)
        return made

    def generate(self, prompt, heard, count):
        inputs = torch.cat([self.embed(torch.tensor(prompt)), heard])[None]
        ids, state = [], None
        for _ in range(count):
            out, state = self.rnn(inputs, state)
            ids.append(int((out[0, -1] @ self.embed.weight.T).argmax()))
            inputs = self.embed(torch.tensor([[ids[-1]]]))
        return ids
"""

WORDS = ["<|write|>", "<|end|>", "one", "two", "three", "four", "five"]
SIZE = 8


@pytest.fixture
def directory(parity: Path, tmp_path: Path) -> Path:
    return make_directory(parity, tmp_path / "nano")


def make_directory(parity: Path, directory: Path, size: str = "self.vocab_size = len(self.words)") -> Path:
    """A model directory with `model.py`, `tiny_lm.py`, and the folder TinyLM for the tokenizer and language model."""
    (directory / "TinyLM").mkdir(parents=True)
    (directory / "model.py").write_text(MODEL.format(size=size))
    (directory / "tiny_lm.py").write_text(LM)
    (directory / "TinyLM" / "tokenizer.json").write_text(json.dumps({"vocab": WORDS}))
    shutil.copy(parity / "Paraformer" / "am.mvn", directory)
    (directory / "config.yaml").write_text(
        "model: TinyNano\nmodel_conf: {length_normalized_loss: true}\n"
        "frontend: WavFrontend\nfrontend_conf: {fs: 16000, window: hamming, n_mels: 80, lfr_m: 7, lfr_n: 6}\n"
        "tokenizer: TinyHubTokenizer\ntokenizer_conf: {init_param_path: null}\n"
        "audio_encoder: SenseVoiceEncoderSmall\n"
        f"audio_encoder_conf: {{output_size: {SIZE}, attention_heads: 2, linear_units: 16, num_blocks: 2, "
        "tp_blocks: 1, dropout_rate: 0.0, attention_dropout_rate: 0.0, input_layer: pe, kernel_size: 5, "
        "positional_dropout_rate: 0.1, pos_enc_class: SinusoidalPositionEncoder, selfattention_layer_type: sanm}\n"
        f"llm: TinyLM\nllm_conf: {{hidden_size: {SIZE}, freeze: true}}\n"
    )
    files = {"init_param": "model.pt", "frontend_conf": {"cmvn_file": "am.mvn"},
             "tokenizer_conf": {"init_param_path": "TinyLM"}, "llm_conf": {"init_param_path": "TinyLM"}}  # fmt: skip
    (directory / "configuration.json").write_text(json.dumps({"file_path_metas": files}))
    generator = torch.Generator().manual_seed(1)
    shapes = {"embed.weight": (len(WORDS), SIZE)} | {
        f"rnn.{kind}_{side}_l0": (3 * SIZE, SIZE) if kind == "weight" else (3 * SIZE,)
        for kind in ("weight", "bias")
        for side in ("ih", "hh")
    }
    save_file(
        {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()},
        directory / "TinyLM" / "model.safetensors",
    )
    from funasr.auto.model_dir import read_model_dir
    from funasr.auto.remote_code import load_remote_code
    from funasr.models.build import build

    torch.save({"none": torch.zeros(1)}, directory / "model.pt")
    load_remote_code(directory, trust_remote_code=True)
    torch.manual_seed(2)
    built = build(read_model_dir(directory).config, strict=False).model
    torch.save({"state_dict": built.state_dict()}, directory / "model.pt")
    return directory


def load(directory: Path, **options: Any) -> AutoModel:
    return AutoModel(model=directory, device="cpu", trust_remote_code=True, **options)


def test_tokenizer_and_language_model_of_a_folder(directory: Path, parity: Path) -> None:
    wav = str(parity / "_wavs" / "b.wav")
    model = load(directory)
    first = model.generate(wav)[0]
    assert first["key"] == "b" and set(first["text"].split()) <= set(WORDS[2:])
    assert model.generate([wav, wav], batch_size=2) == [first, first]
    assert len(model.generate(wav, max_length=2, prompt="one two")[0]["text"].split()) <= 2
    assert model.tokenizer.encode("one five") == [2, 6]
    assert model.config["llm_conf"]["init_param_path"] == str((directory / "TinyLM").resolve())


def test_weights_of_the_language_model_may_be_in_its_folder_only(directory: Path, parity: Path) -> None:
    wav = str(parity / "_wavs" / "b.wav")
    expected = load(directory).generate(wav)
    weights = torch.load(directory / "model.pt", weights_only=True)["state_dict"]
    torch.save({name: value for name, value in weights.items() if not name.startswith("llm.")}, directory / "model.pt")
    assert load(directory).generate(wav) == expected
    torch.save({name: value for name, value in weights.items() if "adaptor" not in name}, directory / "model.pt")
    with pytest.raises(ConfigError, match=r"missing in the file \(audio_adaptor"):
        load(directory)


def test_folders_that_config_yaml_alone_names(directory: Path, parity: Path) -> None:
    wav = str(parity / "_wavs" / "b.wav")
    expected = load(directory).generate(wav)
    (directory / "configuration.json").unlink()
    config = (directory / "config.yaml").read_text()
    config = config.replace("freeze: true", "init_param_path: TinyLM").replace("path: null", "path: ./TinyLM")
    (directory / "config.yaml").write_text(config)
    assert load(directory).generate(wav) == expected


def test_a_folder_outside_of_the_directory_is_refused(directory: Path) -> None:
    metas = (directory / "configuration.json").read_text().replace('"TinyLM"', '"../TinyLM"', 1)
    (directory / "configuration.json").write_text(metas)
    with pytest.raises(ConfigError, match="outside the model directory"):
        load(directory)


def test_a_tokenizer_that_has_only_a_vocabulary(parity: Path, tmp_path: Path) -> None:
    directory = make_directory(parity, tmp_path / "bare", size="pass")
    assert load(directory).generate(str(parity / "_wavs" / "a.wav"))[0]["key"] == "a"


def test_in_a_pipeline(directory: Path, parity: Path) -> None:
    model = load(
        directory, vad_model=parity / "FsmnVADStreaming" / "model", punc_model=parity / "CTTransformer" / "model"
    )
    result = model.generate(str(parity / "Pipeline-bicif" / "audio" / "short.wav"), return_raw_text=True)[0]
    assert set(result["raw_text"].split()) <= set(WORDS[2:]) and result["text"]
