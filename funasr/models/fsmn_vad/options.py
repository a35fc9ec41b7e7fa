"""Options of the voice activity detector, in ms as configurations give them and in frames as the detector counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from funasr.utils.errors import ConfigError

QUIETEST_DB = -60.0  # level of digital silence: 10 log10(1e-6)
LOUDEST_DB = 30.0  # above the level of any frame of samples in [-1, 1]


@dataclass(frozen=True)
class VADOptions:
    """See `FsmnVADStreaming` for the meaning; durations in ms, what is no multiple of `frame_in_ms` is rounded down."""

    sample_rate: int
    detect_mode: int
    max_end_silence_time: float
    max_start_silence_time: float
    window_size_ms: float
    sil_to_speech_time_thres: float
    speech_to_sil_time_thres: float
    speech_2_noise_ratio: float
    do_extend: bool
    lookback_time_start_point: float
    lookahead_time_end_point: float
    max_single_segment_time: float
    snr_thres: float
    noise_frame_num_used_for_snr: int
    decibel_thres: float
    speech_noise_thres: float
    fe_prior_thres: float
    sil_pdf_ids: Sequence[int]
    frame_in_ms: int
    frame_length_ms: int

    def __post_init__(self) -> None:
        if self.detect_mode not in (0, 1):
            raise ConfigError(f"detect_mode is 0 (single utterance) or 1 (many), not {self.detect_mode}")
        for name in ("sample_rate", "frame_in_ms", "frame_length_ms", "noise_frame_num_used_for_snr"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.window_frames < 1 or self.limit_frames < 1:
            raise ConfigError("window_size_ms and max_single_segment_time must be at least frame_in_ms")
        if not self.sil_pdf_ids:
            raise ConfigError("sil_pdf_ids must name at least one output unit that stands for silence")

    def frames(self, duration_ms: float) -> int:
        """Whole frames in a duration."""
        return int(duration_ms / self.frame_in_ms)

    @property
    def window_frames(self) -> int:
        """Frames that vote on whether it is speech now."""
        return self.frames(self.window_size_ms)

    @property
    def limit_frames(self) -> int:
        """A segment with more frames is closed."""
        return self.frames(self.max_single_segment_time)

    @property
    def lookback_frames(self) -> int:
        """From the frame where speech is found back to the start of the segment."""
        return self.window_frames + (self.frames(self.lookback_time_start_point) if self.do_extend else 0)

    @property
    def needs_levels(self) -> bool:
        """Whether a threshold on the level or the signal-to-noise ratio can be missed by samples in [-1, 1]."""
        return self.decibel_thres > QUIETEST_DB or self.snr_thres > QUIETEST_DB - LOUDEST_DB
