"""Voice activity detection: an FSMN gives each frame's probability of silence, a vote over a window makes segments.

Whole recordings and streams run on the same code: a session (session.py) with all its state, so that a model object
serves any number of them, also from several threads.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from funasr.frontends.wav_frontend_online import WavFrontendOnline
from funasr.layers.mask import length_mask
from funasr.models.abs_model import FunASRModel, Result, Stats
from funasr.models.fsmn_vad.encoder import FSMN
from funasr.models.fsmn_vad.end_silence import (
    SCHEDULE,
    SPEECH_NOISE_THRES,
    EndSilence,
    FixedSilence,
    Schedule,
    ScheduledSilence,
    check_schedule,
)
from funasr.models.fsmn_vad.frames import FrameDecider
from funasr.models.fsmn_vad.loss import FrameLoss
from funasr.models.fsmn_vad.options import VADOptions
from funasr.models.fsmn_vad.segmenter import Segmenter
from funasr.models.fsmn_vad.session import Detector, Session
from funasr.register import tables
from funasr.utils.errors import ConfigError

STREAMING_BELOW_MS = 15000  # a stream in shorter chunks is told where segments begin
INT16_SCALE = 32768.0


@tables.register("model_classes", "FsmnVADStreaming", aliases=("FsmnVAD", "e2evad"))
class FsmnVADStreaming(FunASRModel):
    """Where in a recording or stream somebody speaks.

    A frame is speech if 1 - s >= s ** speech_2_noise_ratio + speech_noise_thres, s being its probability of silence.
    Durations are in ms.

    Args:
        encoder: FSMN with `use_softmax`.
        sample_rate: Hz; must be the front end's.
        detect_mode: 1 finds all segments, 0 stops after the first.
        max_end_silence_time: silence that ends a segment, if it is fixed (see `inference`).
        max_start_silence_time: in detect_mode 0, give up after this much silence at the start.
        window_size_ms: the vote counts the speech frames among those of this window.
        sil_to_speech_time_thres, speech_to_sil_time_thres: with this much speech in the window, or more, the vote
            turns to speech; with this much or less, to silence.
        speech_2_noise_ratio, speech_noise_thres: of the speech test.
        do_extend: move starts back by lookback_time_start_point, and ends on by lookahead_time_end_point.
        max_single_segment_time: longer segments are cut.
        snr_thres: dB above the noise level that speech must have; the noise level is a mean over about
            noise_frame_num_used_for_snr frames without speech.
        decibel_thres: frames with a lower level, in dB, are silence.
        fe_prior_thres: 1 or more makes every frame silence.
        sil_pdf_ids: output units that stand for silence; silence_pdf_num is their number.
        frame_in_ms, frame_length_ms: step and length of a frame; must be the front end's.
        targets: what the labels of training are: "pdf" output units; "class" 0 for silence and 1 for speech, whose
            probability is that of all units of its kind together, so that speech units need no labels of their own.
        class_weights: of silence and speech in the training loss.
        focal_gamma: above 0, frames that are right count less: by (1 - p) ** focal_gamma (Lin et al. 2017).
    """

    training_only_options = frozenset(
        {
            "snr_mode",
            "do_start_point_detection",
            "do_end_point_detection",
            "nn_eval_block_size",
            "dcd_block_size",
            "speech_noise_thresh_low",
            "speech_noise_thresh_high",
            "output_frame_probs",
        }
    )
    """Options that configurations of released models name and that have never changed anything."""

    def __init__(
        self,
        encoder: FSMN,
        sample_rate: int = 16000,
        detect_mode: int = 1,
        max_end_silence_time: float = 800,
        max_start_silence_time: float = 3000,
        window_size_ms: float = 200,
        sil_to_speech_time_thres: float = 150,
        speech_to_sil_time_thres: float = 150,
        speech_2_noise_ratio: float = 1.0,
        do_extend: int = 1,
        lookback_time_start_point: float = 200,
        lookahead_time_end_point: float = 100,
        max_single_segment_time: float = 60000,
        snr_thres: float = -100.0,
        noise_frame_num_used_for_snr: int = 100,
        decibel_thres: float = -100.0,
        speech_noise_thres: float = 0.6,
        fe_prior_thres: float = 1e-4,
        silence_pdf_num: int = 1,
        sil_pdf_ids: Sequence[int] = (0,),
        frame_in_ms: int = 10,
        frame_length_ms: int = 25,
        targets: str = "pdf",
        class_weights: Sequence[float] = (1.0, 1.0),
        focal_gamma: float = 0.0,
    ) -> None:
        super().__init__()
        if not isinstance(encoder, FSMN):
            raise ConfigError(f"FsmnVADStreaming needs `encoder: FSMN`, not {type(encoder).__name__}")
        if silence_pdf_num != len(sil_pdf_ids):
            raise ConfigError(f"silence_pdf_num is {silence_pdf_num}, but sil_pdf_ids names {len(sil_pdf_ids)} units")
        if max(sil_pdf_ids, default=0) >= encoder.output_size():
            raise ConfigError(f"sil_pdf_ids {list(sil_pdf_ids)}: the encoder has {encoder.output_size()} units")
        self.encoder = encoder
        self.criterion = FrameLoss(encoder.output_size(), sil_pdf_ids, targets, class_weights, focal_gamma)
        self.options = VADOptions(
            sample_rate=sample_rate,
            detect_mode=detect_mode,
            max_end_silence_time=max_end_silence_time,
            max_start_silence_time=max_start_silence_time,
            window_size_ms=window_size_ms,
            sil_to_speech_time_thres=sil_to_speech_time_thres,
            speech_to_sil_time_thres=speech_to_sil_time_thres,
            speech_2_noise_ratio=speech_2_noise_ratio,
            do_extend=bool(do_extend),
            lookback_time_start_point=lookback_time_start_point,
            lookahead_time_end_point=lookahead_time_end_point,
            max_single_segment_time=max_single_segment_time,
            snr_thres=snr_thres,
            noise_frame_num_used_for_snr=noise_frame_num_used_for_snr,
            decibel_thres=decibel_thres,
            speech_noise_thres=speech_noise_thres,
            fe_prior_thres=fe_prior_thres,
            sil_pdf_ids=tuple(sil_pdf_ids),
            frame_in_ms=frame_in_ms,
            frame_length_ms=frame_length_ms,
        )

    def forward(
        self, speech: Tensor, speech_lengths: Tensor, text: Tensor, text_lengths: Tensor, **kwargs: Any
    ) -> tuple[Tensor, Stats, Tensor]:
        """Cross entropy of the label of each frame; see FunASRModel.

        Args:
            text: label of each frame (batch, frames), see `targets`; frames of a negative one are left out.

        Stats: see FrameLoss.  The weight is that of all labelled frames.
        """
        frames = min(speech.size(1), text.size(1))
        lengths = torch.minimum(speech_lengths, text_lengths)
        labels = text[:, :frames].masked_fill(~length_mask(lengths, frames), -1)
        outside = ~length_mask(speech_lengths, speech.size(1)) if self.encoder.looks_ahead else None
        return self.criterion(self.encoder.logits(speech, outside=outside)[:, :frames], labels)

    def inference(
        self,
        data_in: Sequence[Tensor] | Tensor,
        data_lengths: Tensor | None = None,
        key: Sequence[str] | None = None,
        tokenizer: Any = None,
        frontend: Any = None,
        *,
        cache: dict[str, Any] | None = None,
        is_final: bool | None = None,
        is_streaming_input: bool | None = None,
        chunk_size: float = 60000,
        max_end_silence_time: float | None = None,
        speech_noise_thres: float | None = None,
        dynamic_silence: bool | None = None,
        silence_schedule: Schedule | None = None,
        **kwargs: Any,
    ) -> tuple[list[Result], dict[str, Any]]:
        """Segments of whole recordings, or of the next audio of one stream; see FunASRModel.

        Args:
            data_in: waveforms (samples,) in [-1, 1], or int16; any may be empty. One, if there is a `cache`.
            frontend: WavFrontendOnline.
            cache: of a stream: a dict, empty at its start, the same one at each call; empty again after the final
                call.  Without it the inputs are whole recordings.
            is_final: the stream ends here (default: if it is not `is_streaming_input`).
            is_streaming_input: report [start, -1] when a segment begins (default: if `chunk_size` < 15000).
            chunk_size: audio is done in pieces of this many ms; what does not fill one waits for the next call.
            max_end_silence_time: fixed silence in ms that ends a segment.
            speech_noise_thres: in place of the model's; with dynamic silence it is 0.5 always.
            dynamic_silence: end silence gets shorter in the course of a segment: from 2000 ms down to 100 after a
                minute, looked up before each piece.  Default: unless `max_end_silence_time` is given.  False without
                `max_end_silence_time`: the fixed one of the model.
            silence_schedule: rows (duration_ms, silence_ms) in place of that table.

        The options of a stream, but for `is_final` and `chunk_size`, are those of its first call.

        Returns:
            `key` and `value` for each input: [[start_ms, end_ms], ...], times from the start of the stream.  In a
            stream with `is_streaming_input` -1 stands for a time told before or not known yet.
        """
        started = time.perf_counter()
        if cache is None:
            if is_final is False:
                raise ConfigError("is_final=False needs a `cache`: a dict that is passed with each call of a stream")
            streaming, is_final = bool(is_streaming_input), True
        else:
            if len(data_in) != 1:
                raise ConfigError(f"a stream takes one input at a time, not {len(data_in)}; use a cache for each")
            streaming = chunk_size < STREAMING_BELOW_MS if is_streaming_input is None else is_streaming_input
            is_final = not streaming if is_final is None else is_final
        keys = list(key) if key is not None else [f"utt_{i}" for i in range(len(data_in))]
        results: list[Result] = []
        for i, name in enumerate(keys):
            session = None if cache is None else cache.get("session")
            if session is None:
                session = self._open_session(
                    streaming, max_end_silence_time, speech_noise_thres, dynamic_silence, silence_schedule
                )
            wave = data_in[i] if data_lengths is None else data_in[i][: int(data_lengths[i])]
            results.append({"key": name, "value": self.feed(session, wave, frontend, chunk_size, is_final)})
            if cache is not None:
                cache.clear()
                if not is_final:
                    cache["session"] = session
        return results, {"decode": time.perf_counter() - started}

    def stream(
        self,
        chunks: Iterable[Tensor | np.ndarray],
        frontend: Any,
        *,
        chunk_size: float = 60000,
        max_end_silence_time: float | None = None,
        speech_noise_thres: float | None = None,
        dynamic_silence: bool | None = None,
        silence_schedule: Schedule | None = None,
    ) -> Iterator[list[int]]:
        """Segments of a recording of any length, read and done piece by piece in constant memory.

            for start_ms, end_ms in vad.stream(read_blocks("day.wav"), frontend): ...

        Args:
            chunks: consecutive waveforms (samples,) of any sizes, as for `inference`.

        Yields:
            [start_ms, end_ms] of each segment once it is complete: those that `inference` gives for the whole
            recording with the same options.
        """
        session = self._open_session(False, max_end_silence_time, speech_noise_thres, dynamic_silence, silence_schedule)
        for chunk in chunks:
            yield from self.feed(session, chunk, frontend, chunk_size)
        yield from self.feed(session, torch.zeros(0), frontend, chunk_size, is_final=True)

    def feed(
        self,
        session: Session,
        samples: Tensor | np.ndarray,
        frontend: Any,
        chunk_size: float,
        is_final: bool = False,
    ) -> list[list[int]]:
        """Give a session more audio (samples,), float in [-1, 1] or int16; see `Session.feed`."""
        if chunk_size * self.options.sample_rate < 1000:
            raise ConfigError(f"chunk_size is in ms and must be positive, not {chunk_size}")
        return session.feed(self.detector(frontend), _as_wave(samples, self.device), chunk_size, is_final)

    @torch.no_grad()
    def speech_probabilities(self, samples: Tensor | np.ndarray, frontend: Any) -> np.ndarray:
        """Probability of speech of each frame of a recording (samples,), before any smoothing: (frames,) float32."""
        session, detector = self.open_session(FixedSilence(0.0)), self.detector(frontend)
        wave = _as_wave(samples, self.device)
        parts = wave.split(max(1, detector.part_size(len(wave))))
        for i, part in enumerate(parts):
            session.score(detector, part, final=i == len(parts) - 1)
        silence, _ = session.scores()
        return (1.0 - silence).astype(np.float32)

    def open_session(
        self, end_silence: EndSilence, speech_noise_thres: float | None = None, streaming: bool = False
    ) -> Session:
        """A session with an end silence of the caller's own, for `feed`."""
        thres = self.options.speech_noise_thres if speech_noise_thres is None else speech_noise_thres
        return Session(FrameDecider(self.options, thres), end_silence, Segmenter(self.options), streaming)

    def _open_session(
        self,
        streaming: bool,
        max_end_silence_time: float | None,
        speech_noise_thres: float | None,
        dynamic_silence: bool | None,
        silence_schedule: Schedule | None,
    ) -> Session:
        turn_ms = self.options.speech_to_sil_time_thres
        if max_end_silence_time is None if dynamic_silence is None else dynamic_silence:
            schedule = check_schedule(SCHEDULE if silence_schedule is None else silence_schedule)
            return self.open_session(ScheduledSilence(schedule, turn_ms), SPEECH_NOISE_THRES, streaming)
        silence_ms = self.options.max_end_silence_time if max_end_silence_time is None else max_end_silence_time
        return self.open_session(FixedSilence(silence_ms - turn_ms), speech_noise_thres, streaming)

    def detector(self, frontend: Any) -> Detector:
        """The parts a session runs on.  ConfigError if the front end does not stream or has other frames."""
        options = self.options
        if not isinstance(frontend, WavFrontendOnline):
            name = "none" if frontend is None else type(frontend).__name__
            raise ConfigError(f"FsmnVADStreaming needs `frontend: WavFrontendOnline` and waveforms, not {name}")
        theirs = (frontend.fs, frontend.frame_shift * frontend.lfr_n, frontend.frame_length)
        ours = (options.sample_rate, options.frame_in_ms, options.frame_length_ms)
        if theirs != ours:
            raise ConfigError(
                f"the front end has {theirs[0]} Hz, a frame every {theirs[1]} ms of {theirs[2]} ms, but model_conf "
                f"says sample_rate {ours[0]}, frame_in_ms {ours[1]}, frame_length_ms {ours[2]}"
            )
        return Detector(self.encoder, frontend, options)


def _as_wave(samples: Tensor | np.ndarray, device: torch.device) -> Tensor:
    """(samples,) float32 on `device`; int16 is scaled.  ValueError for another shape, TypeError for other integers."""
    wave = torch.as_tensor(samples)
    if wave.dim() != 1:
        raise ValueError(f"a waveform is (samples,), not {tuple(wave.shape)}")
    if wave.dtype == torch.int16:
        return wave.to(device).float() / INT16_SCALE
    if not wave.is_floating_point():
        raise TypeError(f"a waveform must be float in [-1, 1] or int16, not {wave.dtype}")
    return wave.to(device).float()
