"""`AutoModel(model=...).generate(input=...)`: text from audio with any model directory, trained here or official."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from funasr.auto.inputs import Source, list_sources, read_source
from funasr.auto.model_dir import read_model_dir
from funasr.models.abs_model import Result
from funasr.models.build import Recognizer, build
from funasr.register import nearest_names
from funasr.utils.errors import ConfigError, DamagedUtteranceError
from funasr.utils.weights import load_into, load_weights

logger = logging.getLogger(__name__)


class AutoModel:
    """A model directory, built and ready.

    Nothing changes after construction: options and results belong to the call, so threads may share one object.

    Args:
        model: path of a model directory or of an experiment directory.
        device: "cpu", "cuda", "cuda:1"; default: a GPU if there is one.
        overrides: keys of the configuration to replace, e.g. `frontend_conf={"dither": 0.0}`.
    """

    def __init__(self, model: str | Path, device: str | None = None, **overrides: Any) -> None:
        directory = read_model_dir(model, overrides)
        parts = build(directory.config, strict=False)
        _load(parts, directory.weights)
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.model = parts.model.to(self.device).eval()
        self.frontend = parts.frontend.to(self.device).eval() if parts.frontend is not None else None
        self.tokenizer = parts.tokenizer
        self._fs = int(getattr(self.frontend, "fs", 16000))
        self.config = directory.config
        parameters = inspect.signature(parts.model.inference).parameters.values()
        self._options = {p.name for p in parameters if p.kind is p.KEYWORD_ONLY}

    def generate(
        self,
        input: Any,
        key: str | Sequence[str] | None = None,
        batch_size: int = 1,
        fs: int | None = None,
        **options: Any,
    ) -> list[Result]:
        """Recognise audio.

        Args:
            input: path, wav.scp or jsonl file, bytes, open file, numpy array, tensor, or a list of them.
            key: name(s) for the results; default: the file name without its extension.
            batch_size: utterances decoded together; the results do not depend on it.
            fs: sample rate of arrays in Hz (default: the model's).
            options: decoding options of the model, e.g. `beam_size=5`, `output_timestamp=True`.

        Returns:
            One dict per input (`key`, `text`, ...).  An input of a list that cannot be read has `error` and empty
            text; a single unreadable input raises DamagedUtteranceError.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, not {batch_size}")
        options = self.known_options(options)
        sources = list_sources(input, key)
        alone = len(sources) == 1
        results: list[Result] = []
        for start in range(0, len(sources), batch_size):
            results.extend(self._recognise(sources[start : start + batch_size], fs, alone, options))
        return results

    @torch.inference_mode()
    def _recognise(
        self, sources: Sequence[Source], fs: int | None, alone: bool, options: dict[str, Any]
    ) -> list[Result]:
        waves: dict[int, torch.Tensor] = {}
        failed: dict[int, str] = {}
        for position, source in enumerate(sources):
            try:
                waves[position] = read_source(source, self.fs, fs)
            except DamagedUtteranceError as error:
                if alone:
                    raise
                logger.error("%s is left out: %s", source.key, error)
                failed[position] = str(error)
        # Positions as keys: two inputs may well have the same name.
        keys = [str(position) for position in waves]
        found = self.recognise_batch(list(waves.values()), None, keys, options) if waves else []
        by_position: dict[int, list[Result]] = {
            position: [{"key": sources[position].key, "text": "", "error": reason}]
            for position, reason in failed.items()
        }
        for result in found:
            position = int(result["key"])
            by_position.setdefault(position, []).append({**result, "key": sources[position].key})
        return [result for position in sorted(by_position) for result in by_position[position]]

    @property
    def fs(self) -> int:
        """Sample rate the model works at, in Hz."""
        return self._fs

    def recognise_batch(
        self, data: Any, lengths: torch.Tensor | None, keys: Sequence[str], options: Mapping[str, Any]
    ) -> list[Result]:
        """Results for a batch that is loaded already: waveforms, or features if the model has no front end."""
        results, _ = self.model.inference(
            data, lengths, key=list(keys), tokenizer=self.tokenizer, frontend=self.frontend, **options
        )
        return results

    def known_options(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """The options that this model's `inference` takes; the others are named in a warning."""
        for name in [name for name in options if name not in self._options]:
            near = nearest_names(name, sorted(self._options))
            hint = f"; did you mean {near[0]}?" if near else ""
            logger.warning("%s has no option '%s'%s; it is left out", type(self.model).__name__, name, hint)
        return {name: value for name, value in options.items() if name in self._options}


def _load(parts: Recognizer, weights: Path) -> None:
    """Load the weights, all of them; ConfigError names the file and what does not fit."""
    report = load_into(parts.model, load_weights(weights), ignore_mismatch=True)
    if report.mismatched:
        vocab_size = parts.tokenizer.vocab_size if parts.tokenizer is not None else None
        for name, in_file, in_model in report.mismatched:
            differing = [(a, b) for a, b in zip(in_file, in_model) if a != b]
            if len(differing) == 1 and differing[0][1] == vocab_size:
                raise ConfigError(
                    f"the token list does not fit {weights}: it has {vocab_size} tokens, but {name} was trained "
                    f"with {differing[0][0]}; use the token list of the training run"
                )
    if report.mismatched or report.missing:
        raise ConfigError(f"{weights} does not fit the model of config.yaml: {report}")
    if report.unexpected:
        logger.warning("%s: %s", weights, report)
