"""One recording or stream on its way through the detector; what is kept between calls does not grow with it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from funasr.models.fsmn_vad.encoder import FSMN
from funasr.models.fsmn_vad.end_silence import EndSilence
from funasr.models.fsmn_vad.frames import FrameDecider, frame_levels
from funasr.models.fsmn_vad.options import VADOptions
from funasr.models.fsmn_vad.segmenter import Segmenter

OPEN = -1  # in place of a time that is not known yet or was told before
FEATURES_MS = 20000  # audio in the front end and the network at once: larger arrays fall out of the cache

Event = list[int]


@dataclass(frozen=True)
class Detector:
    """The parts a session runs on; they hold no state."""

    encoder: FSMN
    frontend: Any
    options: VADOptions


@dataclass
class Session:
    """State of one recording or stream.

    Audio is cut into pieces of a fixed length counted from the start, whatever the calls brought, so the answer does
    not depend on the calls.
    """

    decider: FrameDecider
    end_silence: EndSilence
    segmenter: Segmenter
    streaming: bool  # report where a segment begins as soon as it is known
    rest: Tensor = field(default_factory=lambda: torch.zeros(0))
    frontend_cache: dict[str, Any] = field(default_factory=dict)
    encoder_cache: dict[str, Tensor] = field(default_factory=dict)

    def feed(self, detector: Detector, samples: Tensor, piece_ms: float, final: bool) -> list[Event]:
        """Take more audio.

        Args:
            samples: (samples,) float in [-1, 1]; may be empty.
            piece_ms: length of a piece; what is no whole piece waits for the next call.
            final: nothing follows; whatever is left is done and an open segment closed.

        Returns:
            [start_ms, end_ms] of segments, or of a streaming session [start_ms, -1] and [-1, end_ms] of those that do
            not begin and end in the same piece.
        """
        size = int(piece_ms * detector.options.sample_rate / 1000)
        samples = torch.cat([self.rest, samples]) if len(self.rest) else samples
        whole = len(samples) // size
        events: list[Event] = []
        for i in range(whole):
            events += self._piece(detector, samples[i * size : (i + 1) * size], piece_ms, False)
        self.rest = samples[whole * size :].clone()
        if final:
            rest, self.rest = self.rest, self.rest[:0]
            events += self._piece(detector, rest, piece_ms, True)
        return events

    @torch.no_grad()
    def _piece(self, detector: Detector, samples: Tensor, piece_ms: float, final: bool) -> list[Event]:
        frame_ms = detector.options.frame_in_ms
        segmenter = self.segmenter
        was_open = segmenter.is_open
        segment_ms = (segmenter.frames - segmenter.start) * frame_ms if was_open else None
        end_silence_ms = self.end_silence.before_piece(piece_ms, segment_ms)
        speech = self.decider(*self._observe(detector, samples, final))
        closed = [
            [start * frame_ms, end * frame_ms] for start, end in segmenter.push(speech, end_silence_ms, last=final)
        ]
        events = self._as_events(closed, was_open, frame_ms) if self.streaming else closed
        self.end_silence.after_piece(bool(events))
        return events

    def _as_events(self, closed: list[Event], was_open: bool, frame_ms: int) -> list[Event]:
        events = [list(segment) for segment in closed]
        if was_open and events:
            events[0][0] = OPEN
        if self.segmenter.is_open and not (was_open and not closed):
            events.append([self.segmenter.start * frame_ms, OPEN])
        return events

    def _observe(self, detector: Detector, samples: Tensor, final: bool) -> tuple[np.ndarray, np.ndarray | None]:
        """Silence probability and, if an option needs them, level of each frame that the samples complete: (frames,).

        Features of long pieces are made part by part, unless the network looks ahead, for then a part shows.
        """
        encoder, options = detector.encoder, detector.options
        size = FEATURES_MS * options.sample_rate // 1000
        parts = [samples] if encoder.looks_ahead or len(samples) <= size else list(samples.split(size))
        silence, levels = [], []
        for i, part in enumerate(parts):
            feats, count = detector.frontend(
                part[None],
                torch.tensor([len(part)]),
                cache=self.frontend_cache,
                is_final=final and i == len(parts) - 1,
                return_waveform=options.needs_levels,
            )
            if int(count[0]) == 0:
                continue
            silence.append(self._silence(encoder, feats, options))
            if options.needs_levels:
                window = options.frame_length_ms * options.sample_rate // 1000
                step = options.frame_in_ms * options.sample_rate // 1000
                levels.append(frame_levels(self.frontend_cache["aligned_waveforms"][0], window, step))
        if not silence:
            return np.zeros(0), np.zeros(0)
        return np.concatenate(silence), np.concatenate(levels) if levels else None

    def _silence(self, encoder: FSMN, feats: Tensor, options: VADOptions) -> np.ndarray:
        scores = encoder.forward_chunk(feats.to(encoder.in_linear1.linear.weight.dtype), self.encoder_cache)
        return scores[0, :, list(options.sil_pdf_ids)].sum(dim=1).float().cpu().numpy()
