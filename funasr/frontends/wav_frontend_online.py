"""`WavFrontendOnline`: the features of `WavFrontend`, chunk by chunk."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from funasr.frontends.fbank import fbank
from funasr.frontends.wav_frontend import WavFrontend, as_float_waves
from funasr.register import tables
from funasr.utils.errors import ConfigError
from funasr.utils.signature import extends


@tables.register("frontend_classes", "WavFrontendOnline", aliases=("wav_frontend_online",))
class WavFrontendOnline(WavFrontend):
    """Streaming filterbank; all state is in the `cache` of the caller, which stays smaller than a window plus a chunk.

    However the audio is cut, the rows emitted up to the final call are those of `WavFrontend` on the whole audio. The
    exception is audio shorter than one frame, which gives none.
    """

    @extends(WavFrontend.__init__, without=("snip_edges", "upsacle_samples"))
    def __init__(self, *, frame_length: float = 25, frame_shift: float = 10, **options: Any) -> None:
        """Options as in `WavFrontend`; samples are always scaled by 32768 and edges snipped."""
        super().__init__(frame_length=frame_length, frame_shift=frame_shift, **options)
        if self.options.shift > self.options.window_size:
            raise ConfigError(f"frame_shift {frame_shift} ms must not exceed frame_length {frame_length} ms")

    def forward(  # type: ignore[override]
        self,
        input: Tensor,
        input_lengths: Tensor,
        cache: dict[str, Any],
        is_final: bool = False,
        return_waveform: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """Rows that this chunk completes.

        Args:
            input: (1, samples) float in [-1, 1], or int16; may be empty.
            input_lengths: (1,) valid samples.
            cache: an empty dict at the start of a stream; the state of the stream afterwards. Empty again after the
                final call, but for the aligned waveform.
            is_final: no more audio follows: emit what is buffered.
            return_waveform: keep in `cache["aligned_waveforms"]` (1, samples) the span of raw audio that belongs to
                the emitted rows: from the first sample of the first row's frame to the last of the last row's, where
                row i stands at frame i * lfr_n. The same in all calls of a stream.

        Returns:
            (1, rows, n_mels * lfr_m) float32 and (1,) rows; rows may be 0.

        Raises:
            ValueError: a batch of more than one stream.
        """
        if input.size(0) != 1:
            raise ValueError(f"WavFrontendOnline takes one stream at a time, not a batch of {input.size(0)}")
        chunk = as_float_waves(input)[:, : int(input_lengths[0])].float()
        rows_before = cache.get("rows", 0)
        frames, first_frame = self._new_frames(chunk, cache)
        total = first_frame + frames.size(1)
        rows = self._rows_complete(total, is_final) - rows_before
        feats = self._stack(frames, first_frame, rows_before, rows)
        if self.shift is not None and self.scale is not None:
            feats = feats.add(self.shift).mul_(self.scale)  # the sum is a fresh array: stacked frames share memory
        else:
            feats = feats.contiguous()
        if return_waveform:
            self._align_waveform(chunk, cache, rows_before, rows)

        if is_final:
            aligned = cache.get("aligned_waveforms")
            cache.clear()
            if return_waveform:
                cache["aligned_waveforms"] = aligned
        else:
            # The next row begins `left` frames before its own; the last frame stays, as it may have to be repeated.
            keep_from = min(max((rows_before + rows) * self.lfr_n - self._left, 0), max(total - 1, 0))
            keep_from = max(keep_from, first_frame)
            cache["rows"] = rows_before + rows
            cache["frames"] = frames[:, keep_from - first_frame :].clone()
            cache["first_frame"] = keep_from
        return feats, torch.tensor([rows], dtype=torch.int64, device=input_lengths.device)

    @property
    def _left(self) -> int:
        """Frames of context before a row's own frame."""
        return (self.lfr_m - 1) // 2

    def _new_frames(self, chunk: Tensor, cache: dict[str, Any]) -> tuple[Tensor, int]:
        """Buffered and new frames (1, frames, n_mels) and the stream index of the first; keeps unused samples."""
        samples = torch.cat([cache["samples"], chunk], 1) if "samples" in cache else chunk
        frames = cache.get("frames", chunk.new_zeros(1, 0, self.n_mels))
        if samples.size(1) >= self.options.window_size:
            length = torch.tensor([samples.size(1)])
            new, _ = fbank(samples, length, self.options, self.dither if self.training else 0.0)
            frames = torch.cat([frames, new], 1)
            samples = samples[:, new.size(1) * self.options.shift :]
        cache["samples"] = samples.clone()
        return frames, cache.get("first_frame", 0)

    def _rows_complete(self, total: int, is_final: bool) -> int:
        """How many rows of the stream can be made from its first `total` frames."""
        if is_final:
            return (total + self.lfr_n - 1) // self.lfr_n
        return max(0, (total + self._left - self.lfr_m) // self.lfr_n + 1)

    def _stack(self, frames: Tensor, first_frame: int, row: int, rows: int) -> Tensor:
        """Rows `row` to `row + rows` of the stream as (1, rows, n_mels * lfr_m), a view in which frames repeat."""
        if rows == 0:
            return frames.new_zeros(1, 0, self.output_size())
        begin = row * self.lfr_n - self._left - first_frame
        end = begin + (rows - 1) * self.lfr_n + self.lfr_m
        wanted = frames[:, max(begin, 0) : end]
        first, last = frames[:, :1], frames[:, -1:]  # stand for what is before and after the audio
        if begin < 0 or end > frames.size(1):
            before, after = max(-begin, 0), max(end - frames.size(1), 0)
            wanted = torch.cat([first.expand(-1, before, -1), wanted, last.expand(-1, after, -1)], 1)
        return wanted.reshape(1, -1).unfold(1, self.output_size(), self.lfr_n * self.n_mels)

    def _align_waveform(self, chunk: Tensor, cache: dict[str, Any], row: int, rows: int) -> None:
        """Put the audio of the emitted rows into `cache["aligned_waveforms"]` and keep what follows them."""
        step = self.lfr_n * self.options.shift
        if row and "waveform" not in cache:
            raise ValueError("return_waveform must be the same in all calls of a stream")
        wave = torch.cat([cache["waveform"], chunk], 1) if "waveform" in cache else chunk
        begin = cache.get("waveform_begin", 0)  # of the buffer in the stream; the next row may begin beyond its end
        span = (rows - 1) * step + self.options.window_size if rows else 0
        offset = row * step - begin
        cache["aligned_waveforms"] = wave[:, offset : offset + span].clone() if rows else wave[:, :0]
        used = min((row + rows) * step - begin, wave.size(1))
        cache["waveform"] = wave[:, used:].clone()
        cache["waveform_begin"] = begin + used
