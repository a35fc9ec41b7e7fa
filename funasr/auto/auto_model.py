"""`AutoModel(model=...).generate(input=...)`: text from audio with any model directory, trained here or official."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch

from funasr.auto.aliases import PACKAGED
from funasr.auto.call import CALL_OPTIONS, Call
from funasr.auto.device import choose_device, choose_dtype, set_threads
from funasr.auto.engine import Engine, build_engine, build_packaged, warn_unknown
from funasr.auto.hub import find_model
from funasr.auto.inputs import UNREADABLE, Reading, Source, iter_sources, pair_sources, read_source
from funasr.auto.pipeline import Engines, Pipeline, Plan
from funasr.auto.progress import Callback, Progress
from funasr.auto.recording import can_stream, segments_of
from funasr.auto.results import SPK_MODES, View
from funasr.models.abs_model import Result
from funasr.utils.errors import ConfigError

logger = logging.getLogger(__name__)

PLAN_OPTIONS = frozenset(option.name for option in fields(Plan)) - {"merge_thr"}
VIEW_OPTIONS = frozenset(option.name for option in fields(View)) - {"spk_mode"}
LANE_S = 30.0  # audio for each of the threads that work side by side, which bounds their memory
WITHOUT_EFFECT = frozenset(
    {"disable_update", "check_latest", "disable_log", "log_level", "seed", "model_path", "punc_kwargs", "is_training"}
)
"""Keywords of FunASR 1.x scripts for what is never done here: looking for updates, setting up logging, seeding."""


class AutoModel:
    """A model directory, built and ready, or several as a pipeline.

    Nothing changes after construction: options, caches and results belong to the call, so threads may share one
    object.  An option given at construction is the default of every call; one in a call wins over it, and both win
    over the `config.yaml` of the model.

    Args:
        model: path of a model directory or of an experiment directory, alias ("paraformer-zh") or hub id.
        device: "cpu", "cuda", "cuda:1"; default: a GPU if there is one.
        vad_model: finds the speech; recordings may then be of any length.  "silero-vad" is the one of its own package.
        punc_model: puts the marks in.
        spk_model: tells the speakers apart.
        vad_kwargs, punc_kwargs, spk_kwargs: settings of these models, as `options` are of the main one; in spk_kwargs
            also `cb_kwargs={"merge_thr": 0.78}`, the cosine from which two speakers are one.
        spk_mode: "punc_segment" (the default) gives a speaker to each clause, "vad_segment" to each speech segment.
        dtype: number type of the main model, "float32", "bfloat16", "float16" or "auto": a 16-bit type where the
            device has units for it and a probe gives the same text.  `bf16=True` and `fp16=True` are understood too.
        threads: threads of torch in this process (also as `ncpu`); default: as they are.
        hub: "ms" (ModelScope) or "hf" (Hugging Face).
        model_revision, vad_model_revision, punc_model_revision, spk_model_revision: branch, tag or commit.
        offline: never use the network.
        trust_remote_code, remote_code: run the Python file of a model directory; see funasr.auto.remote_code.
        options: keys of the configuration to replace (`frontend_conf={"dither": 0.0}`), options of the model's
            constructor, and defaults of `generate`.

    Raises:
        ConfigError: no model of this name, a directory that is none, weights that do not fit.
    """

    model: Any
    frontend: Any
    tokenizer: Any
    config: dict[str, Any]

    def __init__(
        self,
        model: str | Path,
        device: str | None = None,
        *,
        vad_model: str | Path | None = None,
        punc_model: str | Path | None = None,
        spk_model: str | Path | None = None,
        vad_kwargs: Mapping[str, Any] | None = None,
        punc_kwargs: Mapping[str, Any] | None = None,
        spk_kwargs: Mapping[str, Any] | None = None,
        spk_mode: str = "punc_segment",
        dtype: str | torch.dtype | None = None,
        bf16: bool = False,
        fp16: bool = False,
        threads: int | None = None,
        ncpu: int | None = None,
        ngpu: int | None = None,
        hub: str = "ms",
        model_revision: str | None = None,
        vad_model_revision: str | None = None,
        punc_model_revision: str | None = None,
        spk_model_revision: str | None = None,
        offline: bool = False,
        trust_remote_code: bool = False,
        remote_code: str | Path | None = None,
        **options: Any,
    ) -> None:
        if spk_mode not in SPK_MODES:
            raise ConfigError(f"spk_mode must be one of {', '.join(SPK_MODES)}, not '{spk_mode}'")
        wrong = [name for name in options if name.endswith("_model")]
        if wrong:
            raise TypeError(f"AutoModel has no '{wrong[0]}'; sub-models are vad_model, punc_model and spk_model")
        set_threads(threads if threads is not None else ncpu)
        place = choose_device("cpu" if ngpu == 0 else device)
        kind = "bfloat16" if bf16 else "float16" if fp16 else dtype

        def engine(
            name: str | Path, settings: Mapping[str, Any], revision: str | None, kind: Any, code: str | Path | None
        ) -> tuple[Engine, dict[str, Any]]:
            own = {key: value for key, value in settings.items() if key not in ("hub", "model_revision", "device")}
            where = choose_device(settings["device"]) if "device" in settings else place
            if str(name) in PACKAGED and not Path(name).is_dir():
                return build_packaged(PACKAGED[str(name)], where, own)
            source = settings.get("hub", hub)
            directory = find_model(name, source, settings.get("model_revision", revision), offline)
            number_type = kind if kind == "auto" else choose_dtype(kind)
            return build_engine(directory, where, own, number_type, code, trust_remote_code)

        def sub(name: str | Path | None, settings: Mapping[str, Any] | None, revision: str | None) -> Engine | None:
            if name is None:
                return None
            built, left = engine(name, settings or {}, revision, None, None)
            _warn_left(left, built)
            return built

        own = {name: value for name, value in options.items() if name not in WITHOUT_EFFECT}
        calls = {name: own.pop(name) for name in PLAN_OPTIONS | VIEW_OPTIONS | CALL_OPTIONS if name in own}
        main, left = engine(model, own, model_revision, kind, remote_code)
        backend = dict((spk_kwargs or {}).get("cb_kwargs") or {})
        spk_settings = {name: value for name, value in (spk_kwargs or {}).items() if name != "cb_kwargs"}
        self._engines = Engines(
            main,
            sub(vad_model, vad_kwargs, vad_model_revision),
            sub(punc_model, punc_kwargs, punc_model_revision),
            sub(spk_model, spk_settings, spk_model_revision),
        )
        # What the main model does not take may be meant for the others, e.g. max_end_silence_time.
        self._shared = {name: value for name, value in left.items() if name in self._sub_options()}
        _warn_left({name: value for name, value in left.items() if name not in self._shared}, main)
        _warn_left({name: value for name, value in backend.items() if name != "merge_thr"}, main)
        self._calls = {**calls, **{name: backend[name] for name in ("merge_thr",) if name in backend}}
        self._spk_mode = "punc_segment" if spk_mode == "default" else spk_mode
        self.device = main.device
        self.model, self.frontend, self.tokenizer, self.config = main.model, main.frontend, main.tokenizer, main.config
        self._built = True

    def __setattr__(self, name: str, value: Any) -> None:
        if getattr(self, "_built", False):
            raise AttributeError(f"an AutoModel does not change; give '{name}' to the constructor or to generate")
        super().__setattr__(name, value)

    @property
    def engines(self) -> Engines:
        """The models: `asr`, `vad`, `punc`, `spk`."""
        return self._engines

    @property
    def fs(self) -> int:
        """Sample rate the main model works at, in Hz."""
        return self._engines.asr.fs

    def generate(
        self,
        input: Any,
        key: str | Sequence[str] | None = None,
        batch_size: int | None = None,
        fs: int | None = None,
        *,
        data_type: str | Sequence[str] | None = None,
        progress_callback: Callback | None = None,
        disable_pbar: bool | None = None,
        **options: Any,
    ) -> list[Result]:
        """Recognise audio, or whatever the model does with its inputs.

        Args:
            input: path, http(s) address, wav.scp or jsonl file, bytes, open file, numpy array, tensor, or a list or
                iterator of them.
                For a model that reads text: a text, a list of texts, or the path of a list file.
            key: name(s) for the results; default: the file name without its extension.
            batch_size: inputs decoded together if there is only the main model; the results do not depend on it.  On a
                CPU, models that read their input in one pass take at least one for each thread, if they are short.
            fs: sample rate of arrays in Hz (default: the model's).
            data_type: of `input`; ("sound", "text") for input=(audio, text), as aligners take it.
            progress_callback: called with (inputs done, inputs in all, 0 if not known) now and then.
            disable_pbar: no progress bar; without a terminal there is none anyway.
            options: also max_download_mb: largest file at an address, in MiB (1024).
                output_dir: write the results there, see funasr.auto.result_files; tokens and scores are asked for.
                postprocess_hotwords, postprocess_hotword_file: put hot words into the texts, see
                funasr.text.hotword_post; postprocess_hotword_fuzzy=False: only its pairs;
                postprocess_hotword_threshold: how alike words must sound (0.85).
                return_postprocess_hotword_matches: add `postprocess_hotword_matches`, what was replaced.
                Of the models, e.g. `beam_size=5`, `output_timestamp=True`, `hotword="..."`,
                `max_end_silence_time=500`, and with a vad_model, punc_model or spk_model:
                batch_size_s: audio recognised together in s, padding included (default 60 on a CPU, which takes no
                more, else 300); 0 for one segment at a time.  The results do not depend on it.
                batch_size_threshold_s: longer segments run alone (60).
                merge_vad, merge_length_s: join speech segments to about this length (15).
                sentence_timestamp: add `sentence_info`, the clauses with their times.
                return_raw_text: add `raw_text`, the text without marks.
                en_post_proc: ASCII marks in `sentence_info`.
                return_spk_res: False: leave the speakers out.
                preset_spk_num: how many speakers there are; else between min_spk_num (1) and max_spk_num (15).
                return_spk_center: add `spk_embedding_center` (speakers, dim).
                return_word_info: add `word_info`, for each word `text`, `start`, `end`, `punc`, `spk`, `score`.
                return_segments: add `value`, the stretches that were recognised, [[start_ms, end_ms], ...].

        Returns:
            One dict per input in order (`key`, `text`, ...; more than one with nbest > 1).  An input of a list that
            cannot be read has `error` and empty text; a single unreadable input raises DamagedUtteranceError.
        """
        given = {
            "batch_size": batch_size,
            "fs": fs,
            "progress_callback": progress_callback,
            "disable_pbar": disable_pbar,
        }
        options = {name: value for name, value in options.items() if name not in WITHOUT_EFFECT}
        merged = {**self._calls, **options, **{name: value for name, value in given.items() if value is not None}}
        call = Call(**{name: merged[name] for name in CALL_OPTIONS if name in merged})
        replacer = call.replacer()
        options = {name: value for name, value in options.items() if name not in CALL_OPTIONS}
        main = self._engines.asr
        if isinstance(data_type, (list, tuple)):
            sources: Iterable[Source] = (pairs := pair_sources(input, data_type, key))
            total = len(pairs)
        else:
            sources, total = iter_sources(input, key, main.reads_text)
            if data_type is not None:
                options["data_type"] = data_type
        warn_unknown([name for name in options if name not in self._known()], sorted(self._known()), self._title)
        with call.progress(total) as progress:
            if self._is_pipeline and not main.reads_text:
                found = [[result] for result in self._pipeline(options, call, total == 1).run(sources, progress)]
            else:
                found = list(self._direct(sources, call, total == 1, self._detailed(options, call), progress))
        return call.finished(found, self._title, replacer)

    def _detailed(self, options: Mapping[str, Any], call: Call) -> dict[str, Any]:
        """Options of the main model; tokens and scores are asked for if they are to be written to files."""
        main = self._engines.asr
        details = {"with_scores": True} if call.output_dir is not None and main.names("with_scores") else {}
        return {**details, **main.options(options)}

    def _pipeline(self, options: Mapping[str, Any], call: Call, alone: bool) -> Pipeline:
        engines = self._engines
        calls = {**self._calls, **options}
        if call.output_dir is not None and engines.vad is not None:
            calls = {"return_segments": True, **calls}
        plan = Plan(**{name: calls[name] for name in PLAN_OPTIONS | {"merge_thr"} if name in calls})
        view = View(**{name: calls[name] for name in VIEW_OPTIONS if name in calls}, spk_mode=self._spk_mode)
        given = {**self._shared, **options}
        asr = self._detailed(given, call)
        if engines.spk is not None and "output_timestamp" in engines.asr.option_names:
            asr = {"output_timestamp": True, **asr}  # words need times to have speakers
        by_model = {"asr": asr}
        for name, engine in (("vad", engines.vad), ("punc", engines.punc), ("spk", engines.spk)):
            by_model[name] = {} if engine is None else engine.options(given)
        return Pipeline(engines, plan, view, by_model, call.reading, alone)

    def _direct(
        self, sources: Iterable[Source], call: Call, alone: bool, options: dict[str, Any], progress: Progress
    ) -> Iterator[list[Result]]:
        """Results of the main model alone for each input, batch after batch."""
        remaining = iter(sources)
        while batch := self._recognise(remaining, call, alone, options):
            yield from batch
            progress.advance(len(batch))

    def _recognise(
        self, remaining: Iterator[Source], call: Call, alone: bool, options: dict[str, Any]
    ) -> list[list[Result]]:
        """Results of the next inputs: of a batch, or of as many batches as are worked on side by side."""
        asr = self._engines.asr
        streams = can_stream(asr, options)
        # With a cache the inputs are pieces of one stream, in order.
        batch_size, lanes = (1, 1) if options.get("cache") is not None else (call.batch_size, asr.lanes)
        most = lanes * -(-batch_size // lanes)
        taken: list[Source] = []
        read: dict[int, Any] = {}
        found: dict[int, list[Result]] = {}
        seconds = 0.0
        for source in remaining:
            position = len(taken)
            taken.append(source)
            try:
                if streams:
                    segments = segments_of(source, asr, options, call.reading)
                    found[position] = [{"key": source.key, "value": list(map(list, segments))}]
                else:
                    read[position] = self._read(source, call.reading)
                    seconds += _length(read[position]) / asr.fs
            except UNREADABLE as error:
                if alone:
                    raise
                logger.error("%s is left out: %s", source.key, error)
                found[position] = [{"key": source.key, "text": "", "error": str(error)}]
            # Beyond what the caller asked for, only short inputs.
            if len(taken) >= batch_size and (len(taken) >= most or seconds >= LANE_S * lanes):
                break
        # Positions as keys: two inputs may well have the same name.
        keys = [str(position) for position in read]
        for result in asr.infer_parts(list(read.values()), keys, options, batch_size):
            position = int(result["key"])
            found.setdefault(position, []).append({**result, "key": taken[position].key})
        return [found[position] for position in sorted(found)]

    def _read(self, source: Source, how: Reading) -> Any:
        if self._engines.asr.reads_text:
            return source.data
        if isinstance(source.data, tuple):
            audio, text = source.data
            return read_source(Source(source.key, audio), self.fs, how), text
        return read_source(source, self.fs, how)

    def recognise_batch(
        self, data: Any, lengths: torch.Tensor | None, keys: Sequence[str], options: Mapping[str, Any]
    ) -> list[Result]:
        """Results for a batch that is loaded already: waveforms, or features if the model has no front end."""
        return self._engines.asr.infer(data, keys, options, lengths)

    def known_options(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """The options that the main model's `inference` takes; the others are named in a warning."""
        names = self._engines.asr.option_names
        warn_unknown([name for name in options if name not in names], sorted(names), self._title)
        return {name: value for name, value in options.items() if name in names}

    @property
    def _title(self) -> str:
        return type(self.model).__name__

    @property
    def _is_pipeline(self) -> bool:
        engines = self._engines
        return any(engine is not None for engine in (engines.vad, engines.punc, engines.spk))

    def _sub_options(self) -> frozenset[str]:
        engines = (self._engines.vad, self._engines.punc, self._engines.spk)
        return frozenset().union(*(engine.option_names for engine in engines if engine is not None))

    def _known(self) -> frozenset[str]:
        """All option names that a call can have an effect with."""
        own = self._engines.asr.option_names | self._sub_options() | CALL_OPTIONS
        return own | PLAN_OPTIONS | VIEW_OPTIONS if self._is_pipeline else own


def _length(data: Any) -> int:
    """Samples of an input; 0 for one that is no audio."""
    audio = data[0] if isinstance(data, tuple) else data
    return len(audio) if isinstance(audio, torch.Tensor) else 0


def _warn_left(left: Mapping[str, Any], engine: Engine) -> None:
    known = sorted(engine.option_names | set(engine.config) | PLAN_OPTIONS | VIEW_OPTIONS | CALL_OPTIONS)
    warn_unknown(list(left), known, type(engine.model).__name__)
