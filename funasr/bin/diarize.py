"""Who speaks when: `python -m funasr.bin.diarize --spk_model DIR --vad_model DIR --input wav.scp --output out.rttm`.

The pipeline of AutoModel without its recogniser: speech is found, cut into windows of 1.5 s, each window gets a speaker
embedding, and the embeddings are clustered.  `--speech_rttm` takes the speech from a file in place of a detector, and
`--speakers_rttm` the number of speakers, to see what each part costs.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from funasr.auto.auto_model import AutoModel
from funasr.auto.engine import Engine
from funasr.auto.inputs import Reading, Source, list_sources
from funasr.auto.pipeline import Engines, Pipeline, Plan, Recording
from funasr.auto.progress import Progress
from funasr.auto.recording import Stretch, whole
from funasr.auto.results import Speakers, View
from funasr.bin.command import user_errors
from funasr.decode.diarization.clustering import MAX_SPEAKERS, MERGE_THRESHOLD
from funasr.models.speaker_embedding import SpeakerEmbeddingModel
from funasr.utils.errors import ConfigError, DataError
from funasr.utils.logging import setup_logging
from funasr.utils.option_types import int_range
from funasr.utils.rttm import Span, Turn, read_rttm, speech_spans, write_rttm

logger = logging.getLogger(__name__)


class Diarizer(Pipeline):
    """Recordings -> turns.

    Args:
        spk: a speaker model.
        vad: finds the speech, unless `speech` is given.
        plan: how embeddings are clustered.
        speech: recording -> spans (start, end) of speech in s.
        counts: recording -> number of speakers.
    """

    def __init__(
        self,
        spk: Engine,
        vad: Engine | None,
        plan: Plan,
        speech: Mapping[str, Sequence[Span]] | None = None,
        counts: Mapping[str, int] | None = None,
    ) -> None:
        options = {"asr": {}, "spk": spk.options({}), "vad": vad.options({}) if vad is not None else {}}
        super().__init__(Engines(asr=spk, vad=vad, spk=spk), plan, View(), options, Reading())
        self.speech = speech
        self.counts = counts
        self.turns: dict[str, list[Turn]] = {}

    def _stretches(self, source: Source) -> Iterable[Stretch]:
        if self.speech is None:
            return super()._stretches(source)
        if source.key not in self.speech:
            raise DataError(f"--speech_rttm has no recording '{source.key}'")
        everything = whole(source, self.engines.asr.fs, self.how)
        return [part for span in self.speech[source.key] if len((part := _cut(everything, span)).wave)]

    def _recognise_pool(self) -> None:
        pool, self._pool, self._pooled_s = self._pool, [], 0.0
        self._embed(self.engines.asr, pool)

    def _speakers(self, recording: Recording) -> Speakers | None:
        if self.counts is not None:
            if recording.key not in self.counts:
                raise DataError(f"--speakers_rttm has no recording '{recording.key}'")
            self.plan = replace(self.plan, preset_spk_num=self.counts[recording.key])
        return super()._speakers(recording)

    def _conclude(self, recordings: Sequence[Recording]) -> None:
        for recording in recordings:
            found = self._speakers(recording)
            segments = found.turns if found is not None else ()
            turns = [Turn(one.start_s, one.end_s, f"spk{one.speaker}") for one in segments]
            self.turns[recording.key] = turns


def _cut(everything: Stretch, span: Span) -> Stretch:
    begin, end = (round(time * everything.fs) for time in span)
    return Stretch(round(1000 * span[0]), round(1000 * span[1]), everything.wave[begin:end], everything.fs)


def get_parser() -> argparse.ArgumentParser:
    """The options of this command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--input", required=True, nargs="+", help="audio files, or one wav.scp")
    parser.add_argument("--output", required=True, help="the RTTM file to write")
    parser.add_argument("--spk_model", required=True, help="directory, alias or hub id of a speaker model")
    speech = parser.add_mutually_exclusive_group(required=True)
    speech.add_argument("--vad_model", help="directory, alias or hub id of a model that finds speech")
    speech.add_argument("--speech_rttm", help="take the union of these turns for the speech")
    counts = parser.add_mutually_exclusive_group()
    counts.add_argument("--num_speakers", type=int_range(1), help="in every recording; default: found out")
    counts.add_argument("--speakers_rttm", help="count the speakers of each recording in this file")
    parser.add_argument("--max_speakers", type=int_range(1), default=MAX_SPEAKERS, help="if the number is found out")
    parser.add_argument("--merge_thr", type=float, default=MERGE_THRESHOLD, help="cosine from which two are one")
    parser.add_argument("--device", help="cpu, cuda, ...; default: a GPU if there is one")
    return parser


def load_engines(spk_model: str, vad_model: str | None, device: str | None) -> tuple[Engine, Engine | None]:
    """The models of the pipeline.  Raises ConfigError if the first is no speaker model."""
    options: dict[str, Any] = {} if vad_model is None else {"vad_model": vad_model}
    engines = AutoModel(model=spk_model, device=device, **options).engines
    if not isinstance(engines.asr.model, SpeakerEmbeddingModel):
        raise ConfigError(f"--spk_model {spk_model} is {type(engines.asr.model).__name__}, no speaker model")
    return engines.asr, engines.vad


@user_errors
def main(argv: Sequence[str] | None = None) -> int:
    """Command line; returns the exit status."""
    args = get_parser().parse_args(argv)
    setup_logging()
    speech = counts = None
    if args.speech_rttm is not None:
        speech = {name: speech_spans(turns) for name, turns in read_rttm(args.speech_rttm).items()}
    if args.speakers_rttm is not None:
        known = read_rttm(args.speakers_rttm)
        counts = {name: len({turn.speaker for turn in turns}) for name, turns in known.items()}
    plan = Plan(preset_spk_num=args.num_speakers, max_spk_num=args.max_speakers, merge_thr=args.merge_thr)
    sources = list_sources(args.input[0] if len(args.input) == 1 else args.input)
    diarizer = Diarizer(*load_engines(args.spk_model, args.vad_model, args.device), plan, speech, counts)
    with Progress(len(sources), None, False) as progress:
        diarizer.run(sources, progress)
    write_rttm(args.output, diarizer.turns)
    logger.info("%s: %d of %d recordings", args.output, len(diarizer.turns), len(sources))
    return 0 if diarizer.turns else 1


if __name__ == "__main__":
    sys.exit(main())
