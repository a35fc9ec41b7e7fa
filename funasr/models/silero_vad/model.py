"""Silero VAD, the network and the rule of its own package, `silero-vad`.

Here are only the options, the reading in pieces and times in ms.  Weights come with the package, so there is no model
directory: `AutoModel(model="silero-vad")`, or `vad_model="silero-vad"` in a pipeline.
"""

from __future__ import annotations

import copy
import time
from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from funasr.models.abs_model import FunASRModel, Result, Stats
from funasr.register import tables
from funasr.utils.errors import ConfigError
from funasr.utils.threads import torch_threads

WINDOW_SAMPLES = {16000: 512, 8000: 256}
MAX_SPEECH_S = 60.0  # as FSMN-VAD: longer is more than a recogniser should be given at once
INSTALL = "pip install 'funasr[silero]'"


@tables.register("model_classes", "SileroVAD", aliases=("silero-vad", "silero_vad"))
class SileroVAD(FunASRModel):
    """Where in a recording somebody speaks.

    Args:
        sample_rate: 16000 or 8000 Hz.
        onnx: run the network in onnxruntime instead of TorchScript.

    Raises ConfigError if the package is not installed, or too old.
    """

    answers_at_end: ClassVar[bool] = True
    """`stream` tells the segments when the recording has ended: the package's rule looks at all of it."""

    def __init__(self, sample_rate: int = 16000, onnx: bool = False) -> None:
        super().__init__()
        if sample_rate not in WINDOW_SAMPLES:
            raise ConfigError(f"Silero VAD works at 16000 or 8000 Hz, not at {sample_rate}")
        self.fs = sample_rate
        load, self._segments = _package()
        try:
            # In a tuple, so that it stays on the CPU and in float32: it hears 32 ms at a time.
            self._network = (load(onnx=onnx),)
        except ImportError as error:
            raise ConfigError(f"Silero VAD with onnx=True: pip install onnxruntime ({error})") from error

    @property
    def device(self) -> torch.device:
        return torch.device("cpu")

    def forward(
        self, speech: Tensor, speech_lengths: Tensor, text: Tensor, text_lengths: Tensor, **kwargs: Any
    ) -> tuple[Tensor, Stats, Tensor]:
        """The package trains nothing: ConfigError."""
        raise ConfigError("Silero VAD cannot be trained here; train FsmnVADStreaming")

    def inference(
        self,
        data_in: Sequence[Tensor] | Tensor,
        data_lengths: Tensor | None = None,
        key: Sequence[str] | None = None,
        tokenizer: Any = None,
        frontend: Any = None,
        *,
        threshold: float = 0.5,
        neg_threshold: float | None = None,
        min_speech_duration_ms: float = 250,
        max_speech_duration_s: float = MAX_SPEECH_S,
        min_silence_duration_ms: float = 100,
        speech_pad_ms: float = 30,
        **kwargs: Any,
    ) -> tuple[list[Result], dict[str, Any]]:
        """Segments of whole recordings; see FunASRModel.

        Args:
            threshold: probability from which it is speech.
            neg_threshold: probability below which speech ends (default: threshold - 0.15).
            min_speech_duration_ms: shorter speech is left out.
            max_speech_duration_s: longer speech is cut at its longest pause (`float("inf")`: never).
            min_silence_duration_ms: silence that ends a segment.
            speech_pad_ms: added on both sides of a segment.

        Returns:
            `key` and `value`: [[start_ms, end_ms], ...] for each input.
        """
        started = time.perf_counter()
        options: dict[str, Any] = {
            "threshold": threshold, "neg_threshold": neg_threshold, "min_speech_duration_ms": min_speech_duration_ms,
            "max_speech_duration_s": max_speech_duration_s, "min_silence_duration_ms": min_silence_duration_ms,
            "speech_pad_ms": speech_pad_ms,
        }  # fmt: skip
        waves = data_in if data_lengths is None else [w[: int(n)] for w, n in zip(data_in, data_lengths)]
        keys = list(key) if key is not None else [f"utt_{i}" for i in range(len(data_in))]
        results = [{"key": name, "value": list(self.stream([w], **options))} for name, w in zip(keys, waves)]
        return results, {"decode": time.perf_counter() - started}

    def stream(
        self,
        chunks: Iterable[Tensor | np.ndarray],
        frontend: Any = None,
        *,
        threshold: float = 0.5,
        neg_threshold: float | None = None,
        min_speech_duration_ms: float = 250,
        max_speech_duration_s: float = MAX_SPEECH_S,
        min_silence_duration_ms: float = 100,
        speech_pad_ms: float = 30,
    ) -> Iterator[list[int]]:
        """Segments of a recording that comes in pieces (samples,) of any sizes, told when it has ended.

        Four bytes are kept for each 32 ms of it.  Options as for `inference`.
        """
        found, count = self._probabilities(chunks)
        segments = self._segments(
            found,
            sampling_rate=self.fs,
            threshold=threshold,
            neg_threshold=neg_threshold,
            min_speech_duration_ms=min_speech_duration_ms,
            max_speech_duration_s=max_speech_duration_s,
            min_silence_duration_ms=min_silence_duration_ms,
            speech_pad_ms=speech_pad_ms,
            audio_length_samples=count,
        )
        for segment in segments:
            yield [round(1000 * segment["start"] / self.fs), round(1000 * segment["end"] / self.fs)]

    @torch.no_grad()
    def _probabilities(self, chunks: Iterable[Tensor | np.ndarray]) -> tuple[array[float], int]:
        """Probability of speech in each window, and the number of samples."""
        network: Any = copy.deepcopy(self._network[0])  # it remembers what it has heard
        network.reset_states()
        size = WINDOW_SAMPLES[self.fs]
        found: array[float] = array("f")
        rest, count = torch.zeros(0), 0
        for chunk in chunks:
            wave = torch.as_tensor(chunk, dtype=torch.float32).reshape(-1).cpu()
            count += len(wave)
            wave = torch.cat([rest, wave])
            whole = len(wave) // size * size
            # 32 ms of audio are too little to share: waiting for each other costs more, on a busy machine 25 times.
            with torch_threads(1):
                found.extend(network(window, self.fs).item() for window in wave[:whole].reshape(-1, size))
            rest = wave[whole:].clone()
        if len(rest):
            found.append(network(torch.nn.functional.pad(rest, (0, size - len(rest))), self.fs).item())
        return found, count


def _package() -> tuple[Any, Any]:
    """What makes the network and what makes segments of probabilities."""
    try:
        with torch_threads():  # the package sets 1 when it is imported
            from silero_vad import get_speech_timestamps_from_probs, load_silero_vad
    except ImportError as error:
        raise ConfigError(f"Silero VAD needs the package silero-vad, 6.2.3 or later ({error}): {INSTALL}") from error
    return load_silero_vad, get_speech_timestamps_from_probs
