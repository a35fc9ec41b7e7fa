"""Long form: from recordings of any length to words with times, marks and speakers.

Speech segments of all recordings go into one pool and are recognised in batches of like cost.  When a recording is
read and its segments are recognised, its words are punctuated, its speakers told apart, and its result made.  What is
kept of a recording until then are words and speaker embeddings; the samples of a segment are dropped once recognised.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from funasr.audio.resample import resample
from funasr.auto.batching import plan_batches
from funasr.auto.engine import Engine
from funasr.auto.inputs import UNREADABLE, Reading, Source
from funasr.auto.progress import Progress
from funasr.auto.recording import Stretch, speech_of, whole
from funasr.auto.results import Segment, Speakers, Transcript, View, make_segment, transcript_result
from funasr.decode.diarization.clustering import MAX_SPEAKERS, MERGE_THRESHOLD, cluster_speakers
from funasr.decode.diarization.segments import speaker_centers, speaker_segments
from funasr.decode.diarization.windows import FS as SPEAKER_FS
from funasr.decode.diarization.windows import cut_windows
from funasr.models.abs_model import Result
from funasr.utils.memory import give_back_memory

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Amounts:
    """How much is taken on at once.  A CPU gains no time from more, and it costs memory."""

    batch_s: float  # audio in a batch
    pool_s: float  # speech that is collected before it is recognised: enough to choose batches from
    windows: int  # of speakers


ON_CPU = Amounts(60.0, 240.0, 32)
ON_DEVICE = Amounts(300.0, 600.0, 256)


@dataclass(frozen=True)
class Engines:
    """The models of a pipeline; without `vad` a recording is recognised as a whole."""

    asr: Engine
    vad: Engine | None = None
    punc: Engine | None = None
    spk: Engine | None = None


@dataclass(frozen=True)
class Plan:
    """Options of a call; see `AutoModel.generate`."""

    batch_size_s: float | None = None
    batch_size_threshold_s: float = 60.0
    merge_vad: bool = False
    merge_length_s: float = 15.0
    preset_spk_num: int | None = None
    min_spk_num: int = 1
    max_spk_num: int = MAX_SPEAKERS
    merge_thr: float = MERGE_THRESHOLD


@dataclass
class Recording:
    """What is known of an input so far."""

    position: int
    key: str
    segments: list[Segment] = field(default_factory=list)
    times: list[np.ndarray] = field(default_factory=list)  # of speaker windows, (windows, 2) s
    embeddings: list[np.ndarray] = field(default_factory=list)
    error: str | None = None


class Pipeline:
    """One call: takes inputs, gives one result for each.

    Args:
        options: for each model of `engines` by name, those of its `inference`.
        how: the inputs are read.
        alone: raise what is wrong with an input instead of reporting it in its result.
    """

    def __init__(
        self,
        engines: Engines,
        plan: Plan,
        view: View,
        options: Mapping[str, Mapping[str, Any]],
        how: Reading,
        alone: bool = False,
    ) -> None:
        self.engines = engines
        self.plan = plan
        self.view = view
        self.options = options
        self.how = how
        self.alone = alone
        self._pool: list[tuple[Recording, Stretch]] = []
        self._pooled_s = 0.0
        self._read: list[Recording] = []  # to the end, and not finished
        self._windows: list[tuple[Recording, np.ndarray, np.ndarray]] = []  # not embedded yet, with their times
        self._results: dict[int, Result] = {}
        cpu = engines.asr.device.type == "cpu"
        self._amounts = ON_CPU if cpu else ON_DEVICE
        wanted = plan.batch_size_s if plan.batch_size_s is not None else self._amounts.batch_s
        self._batch_s = min(wanted, self._amounts.batch_s) if cpu else wanted

    def run(self, sources: Iterable[Source], progress: Progress) -> list[Result]:
        """Results of the inputs in order.  Raises DamagedUtteranceError for an unreadable one if `alone`."""
        for position, source in enumerate(sources):
            recording = Recording(position, source.key)
            try:
                for stretch in self._stretches(source):
                    self._pool.append((recording, stretch))
                    self._pooled_s += stretch.seconds
                    if self._pooled_s >= max(self._amounts.pool_s, self._batch_s):
                        self._recognise_pool()
                        self._finish(progress)
                        progress.heard(source.key, stretch.end_ms / 1000.0)
            except UNREADABLE as error:
                if self.alone:
                    raise
                logger.error("%s is left out: %s", source.key, error)
                recording.error = str(error)
                self._pool = [entry for entry in self._pool if entry[0] is not recording]
                self._pooled_s = sum(stretch.seconds for _, stretch in self._pool)
            self._read.append(recording)
        self._recognise_pool()
        self._finish(progress)
        return [self._results[position] for position in sorted(self._results)]

    def _stretches(self, source: Source) -> Iterable[Stretch]:
        if self.engines.vad is None:
            return [whole(source, self.engines.asr.fs, self.how)]
        merge_ms = 1000.0 * self.plan.merge_length_s if self.plan.merge_vad else None
        return speech_of(source, self.engines.vad, self.options["vad"], merge_ms, self.how)

    def _recognise_pool(self) -> None:
        pool, self._pool, self._pooled_s = self._pool, [], 0.0
        found: dict[int, Segment] = {}
        asr = self.engines.asr
        give_back_memory()  # of the detector

        def recognise(batch: Sequence[int]) -> None:
            waves = [_at_rate(pool[position][1], asr.fs) for position in batch]
            for result in asr.infer(waves, [str(position) for position in batch], self.options["asr"]):
                position = int(result["key"])
                if position not in found:  # the best of n
                    stretch = pool[position][1]
                    found[position] = make_segment(result, stretch.start_ms, stretch.end_ms)
            give_back_memory()

        asr.map(recognise, self._batches([stretch.seconds for _, stretch in pool]))
        for position, (recording, stretch) in enumerate(pool):
            recording.segments.append(found.get(position) or Segment(stretch.start_ms, stretch.end_ms, ()))
        if self.engines.spk is not None and self.view.return_spk_res:
            self._embed(self.engines.spk, pool)

    def _batches(self, seconds: Sequence[float]) -> list[list[int]]:
        """Positions of stretches in batches; those that are worked on side by side are no more than one for all."""
        lanes, threshold_s = self.engines.asr.lanes, self.plan.batch_size_threshold_s
        plan = plan_batches(seconds, self._batch_s / lanes, threshold_s)
        return plan if len(plan) >= lanes else plan_batches(seconds, self._batch_s, threshold_s)

    def _embed(self, spk: Engine, pool: Sequence[tuple[Recording, Stretch]]) -> None:
        """Speaker embeddings of the windows of all stretches, many at once; some windows wait for more."""
        for recording, stretch in pool:
            wave = _at_rate(stretch, SPEAKER_FS).numpy()
            times, windows = cut_windows(wave, stretch.start_ms / 1000.0)
            self._windows += [(recording, time, window) for time, window in zip(times, windows)]
            self._embed_windows(spk, self._amounts.windows)

    def _embed_windows(self, spk: Engine, least: int) -> None:
        """Embed the windows that wait, as long as there are `least` of them."""
        while len(self._windows) >= least:
            count = self._amounts.windows
            part, self._windows = self._windows[:count], self._windows[count:]
            inputs = [torch.from_numpy(window) for _, _, window in part]
            results = spk.infer_parts(inputs, [str(i) for i in range(len(part))], self.options["spk"], len(part))
            for (owner, time, _), result in zip(part, results):
                if len(result["spk_embedding"]):
                    owner.times.append(time[None])
                    owner.embeddings.append(result["spk_embedding"].numpy())
            give_back_memory()

    def _finish(self, progress: Progress) -> None:
        """Make the results of all recordings that are read to their end."""
        ready, self._read = self._read, []
        if ready and self.engines.spk is not None:
            self._embed_windows(self.engines.spk, 1)
        for recording in ready:
            if recording.error is not None:
                self._results[recording.position] = {"key": recording.key, "text": "", "error": recording.error}
        self._conclude([recording for recording in ready if recording.error is None])
        if ready:
            progress.advance(len(ready))

    def _conclude(self, recordings: Sequence[Recording]) -> None:
        """Make the results of recordings of which all words and embeddings are there."""
        transcripts = self._punctuated([Transcript(r.key, tuple(r.segments)) for r in recordings])
        give_back_memory()  # of the punctuation, before speakers are told apart
        for recording, transcript in zip(recordings, transcripts):
            speakers = self._speakers(recording)
            labelled = transcript if speakers is None else transcript.spoken_by(speakers)
            self._results[recording.position] = transcript_result(labelled, self.view)

    def _punctuated(self, transcripts: list[Transcript]) -> list[Transcript]:
        punc = self.engines.punc
        if punc is None:
            return transcripts
        out = list(transcripts)
        spoken = [i for i, transcript in enumerate(out) if transcript.words]
        surface = [i for i in spoken if out[i].on_surface and hasattr(punc.model, "mark_words")]
        rewritten = [i for i in spoken if i not in set(surface)]
        if surface:
            self._mark_surface(punc, out, surface)
        if rewritten:
            texts = [out[i].spoken for i in rewritten]
            for i, result in zip(rewritten, punc.infer(texts, [str(i) for i in rewritten], self.options["punc"])):
                out[i] = out[i].punctuated_as(result["text"])
        return out

    def _mark_surface(self, punc: Engine, transcripts: list[Transcript], chosen: Sequence[int]) -> None:
        """Marks behind words that stay as they are."""
        model: Any = punc.model
        texts = [[word.text for word in transcripts[i].words] for i in chosen]
        size = {name: value for name, value in self.options["punc"].items() if name == "split_size"}
        for i, ids in zip(chosen, model.mark_words(texts, punc.tokenizer, **size)):
            transcripts[i] = transcripts[i].marked_with([model.marks.written(mark) for mark in ids])

    def _speakers(self, recording: Recording) -> Speakers | None:
        if not recording.embeddings:
            return None
        plan = self.plan
        embeddings, times = np.concatenate(recording.embeddings), np.concatenate(recording.times)
        labels = cluster_speakers(embeddings, plan.preset_spk_num, plan.min_spk_num, plan.max_spk_num, plan.merge_thr)
        return Speakers(speaker_segments(times, labels), speaker_centers(embeddings, labels))


def _at_rate(stretch: Stretch, fs: int) -> torch.Tensor:
    return torch.from_numpy(resample(stretch.wave, stretch.fs, fs))
