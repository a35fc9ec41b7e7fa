"""`DynamicStreamingVAD`: live audio in, finished segments out, with an end silence that shrinks as a segment ages."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from torch import Tensor

from funasr.models.fsmn_vad.end_silence import Schedule, SegmentAgeSilence, check_schedule
from funasr.models.fsmn_vad.model import FsmnVADStreaming
from funasr.utils.errors import ConfigError

LIVE_SCHEDULE: Schedule = (
    (5000, 2000),
    (10000, 1500),
    (15000, 1000),
    (30000, 800),
    (45000, 400),
    (math.inf, 100),
)


class DynamicStreamingVAD:
    """One live stream; make one object for each.

    Args:
        vad: an AutoModel of a FsmnVADStreaming, or anything with its `model` and `frontend`.
        chunk_size_ms: audio is done in pieces of this length, however it comes.
        speech_noise_thres: of the speech test, see FsmnVADStreaming.
        speech_to_sil_thres_ms: silence that has passed by the time the vote turns, taken off the schedule's.
        silence_schedule: rows (age_ms, silence_ms): silence that ends a segment of at most this age.
        sample_rate: of the audio, Hz; must be the model's.
    """

    def __init__(
        self,
        vad: Any,
        chunk_size_ms: float = 60,
        speech_noise_thres: float = 0.5,
        speech_to_sil_thres_ms: float = 150,
        silence_schedule: Schedule | None = None,
        sample_rate: int = 16000,
    ) -> None:
        if not isinstance(vad.model, FsmnVADStreaming):
            raise ConfigError(f"DynamicStreamingVAD needs a FsmnVADStreaming, not {type(vad.model).__name__}")
        self._model = vad.model
        self._frontend = vad.frontend
        if sample_rate != self._model.options.sample_rate:
            raise ConfigError(f"the model works at {self._model.options.sample_rate} Hz, not {sample_rate}")
        self._chunk_size_ms = chunk_size_ms
        self._thres = speech_noise_thres
        self._turn_ms = speech_to_sil_thres_ms
        self._schedule = check_schedule(LIVE_SCHEDULE if silence_schedule is None else silence_schedule)
        self.reset()

    def reset(self) -> None:
        """Forget the stream and start a new one."""
        self._session = self._model.open_session(SegmentAgeSilence(self._schedule, self._turn_ms), self._thres)

    def feed(self, chunk: Tensor | np.ndarray, is_final: bool = False) -> list[list[int]]:
        """[start_ms, end_ms] of the segments that end in this audio (samples,); after the final call it is reset."""
        found = self._model.feed(self._session, chunk, self._frontend, self._chunk_size_ms, is_final)
        if is_final:
            self.reset()
        return found

    def finalize(self) -> list[list[int]]:
        """End the stream: the segment that is still open, if there is one."""
        return self.feed(np.zeros(0, dtype=np.float32), is_final=True)

    def process(self, audio: Tensor | np.ndarray) -> list[list[int]]:
        """All segments of a recording (samples,), in a stream of its own."""
        self.reset()
        return self.feed(audio, is_final=True)
