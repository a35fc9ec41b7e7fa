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
FEATURES_MS = 60000  # audio in the front end and the network at once: 25 MB of arrays; half costs a tenth more time

Event = list[int]


@dataclass(frozen=True)
class Detector:
    """The parts a session runs on; they hold no state."""

    encoder: FSMN
    frontend: Any
    options: VADOptions

    def part_size(self, piece: int) -> int:
        """How many samples of a piece are scored at once: all if the network looks ahead, for then a part shows."""
        return piece if self.encoder.looks_ahead else min(piece, FEATURES_MS * self.options.sample_rate // 1000)


@dataclass
class Session:
    """State of one recording or stream.

    Audio is cut into pieces of a fixed length counted from the start, whatever the calls brought, so the answer does
    not depend on the calls. Features and scores are made in parts of a piece, as soon as a part is there.
    """

    decider: FrameDecider
    end_silence: EndSilence
    segmenter: Segmenter
    streaming: bool  # report where a segment begins as soon as it is known
    waiting: list[Tensor] = field(default_factory=list)  # samples that do not make a part yet
    scored: int = 0  # samples of the piece that have been scored
    silence: list[np.ndarray] = field(default_factory=list)  # scores of their frames
    levels: list[np.ndarray] = field(default_factory=list)
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
        part = detector.part_size(size)
        events: list[Event] = []
        while len(samples) >= (wanted := self._wanted(part, size)):
            self.score(detector, self._joined(samples[:wanted]), False)
            samples = samples[wanted:]
            if self.scored >= size:
                events += self._decide(detector, piece_ms, False)
        if final:
            self.score(detector, self._joined(samples), True)
            events += self._decide(detector, piece_ms, True)
        elif len(samples):
            self.waiting.append(samples.clone())  # the caller may use its array again
        return events

    def _wanted(self, part: int, size: int) -> int:
        """How many more samples the next part needs."""
        return max(0, min(part, size - self.scored) - sum(map(len, self.waiting)))

    def _joined(self, samples: Tensor) -> Tensor:
        """What has been waiting and these samples."""
        waiting, self.waiting = self.waiting, []
        return torch.cat([*waiting, samples]) if waiting else samples

    def _decide(self, detector: Detector, piece_ms: float, final: bool) -> list[Event]:
        """Events of the piece whose frames have been scored."""
        frame_ms = detector.options.frame_in_ms
        segmenter = self.segmenter
        was_open = segmenter.is_open
        segment_ms = (segmenter.frames - segmenter.start) * frame_ms if was_open else None
        end_silence_ms = self.end_silence.before_piece(piece_ms, segment_ms)
        speech = self.decider(*self.scores())
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

    @torch.inference_mode()  # not no_grad: many small steps, of which it takes a twentieth of the time
    def score(self, detector: Detector, samples: Tensor, final: bool) -> None:
        """Keep the silence probability and, if an option needs it, the level of each frame the samples complete."""
        options = detector.options
        self.scored += len(samples)
        feats, count = detector.frontend(
            samples[None],
            torch.tensor([len(samples)]),
            cache=self.frontend_cache,
            is_final=final,
            return_waveform=options.needs_levels,
        )
        if int(count[0]) == 0:
            return
        self.silence.append(self._silence(detector.encoder, feats, options))
        if options.needs_levels:
            window = options.frame_length_ms * options.sample_rate // 1000
            step = options.frame_in_ms * options.sample_rate // 1000
            self.levels.append(frame_levels(self.frontend_cache["aligned_waveforms"][0], window, step))

    def scores(self) -> tuple[np.ndarray, np.ndarray | None]:
        """Silence probability and, if an option needs it, level in dB of each frame since the last call: (frames,)."""
        silence, levels = self.silence, self.levels
        self.scored, self.silence, self.levels = 0, [], []
        if not silence:
            return np.zeros(0), np.zeros(0)
        return np.concatenate(silence), np.concatenate(levels) if levels else None

    def _silence(self, encoder: FSMN, feats: Tensor, options: VADOptions) -> np.ndarray:
        scores = encoder.forward_chunk(feats.to(encoder.in_linear1.linear.weight.dtype), self.encoder_cache)
        silence = sum((scores[0, :, unit] for unit in options.sil_pdf_ids), start=scores.new_zeros(scores.size(1)))
        return silence.float().cpu().numpy()
