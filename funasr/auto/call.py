"""Options of one call of `generate` that are not the models', and what is done with its results."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from numbers import Integral
from pathlib import Path
from typing import Any

from funasr.auto.inputs import MAX_DOWNLOAD_MB, Reading
from funasr.auto.progress import Callback, Progress
from funasr.auto.result_files import write_results
from funasr.models.abs_model import Result
from funasr.text.hotword_post import THRESHOLD, HotwordReplacer, Hotwords, read_hotwords

LOWEST_FS, HIGHEST_FS = 1000, 768000


@dataclass(frozen=True)
class Call:
    """See `AutoModel.generate` for the meaning.  ValueError for a number that cannot be."""

    batch_size: int = 1
    fs: int | None = None
    max_download_mb: float = MAX_DOWNLOAD_MB
    disable_pbar: bool = False
    progress_callback: Callback | None = None
    output_dir: str | Path | None = None
    postprocess_hotwords: Hotwords | None = None
    postprocess_hotword_file: str | Path | None = None
    postprocess_hotword_threshold: float = THRESHOLD
    postprocess_hotword_fuzzy: bool = True
    return_postprocess_hotword_matches: bool = False

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, not {self.batch_size}")
        if self.fs is not None and not (isinstance(self.fs, Integral) and LOWEST_FS <= self.fs <= HIGHEST_FS):
            raise ValueError(
                f"fs is the sample rate of arrays in Hz, from {LOWEST_FS} to {HIGHEST_FS}, not {self.fs!r}"
            )
        if self.max_download_mb <= 0:
            raise ValueError(f"max_download_mb must be more than 0, not {self.max_download_mb}")

    @property
    def reading(self) -> Reading:
        """How inputs are read."""
        return Reading(self.fs, self.max_download_mb)

    def progress(self, total: int) -> Progress:
        """A counter of inputs."""
        return Progress(total, self.progress_callback, self.disable_pbar)

    def replacer(self) -> HotwordReplacer | None:
        """What puts hot words into the texts, if there are any.  ConfigError for a wrong list."""
        wanted = read_hotwords(self.postprocess_hotwords, self.postprocess_hotword_file)
        if not wanted.pairs and not wanted.targets:
            return None
        return HotwordReplacer(wanted, self.postprocess_hotword_threshold, self.postprocess_hotword_fuzzy)

    def finished(self, found: Sequence[Sequence[Result]], model: str, replacer: HotwordReplacer | None) -> list[Result]:
        """The results of all inputs in one list, with hot words put in; written to `output_dir` if there is one.

        Args:
            found: results of each input, best first.
            model: name of the main model's class.
        """
        if replacer is not None:
            found = [[self._replaced(result, replacer) for result in results] for results in found]
        if self.output_dir is not None:
            write_results(self.output_dir, found, model)
        return [result for results in found for result in results]

    def _replaced(self, result: Result, replacer: HotwordReplacer) -> Result:
        if not isinstance(result.get("text"), str):
            return result
        text, matches = replacer.replace(result["text"])
        replaced: Result = {**result, "text": text}
        if "sentence_info" in result:
            replaced["sentence_info"] = [_replaced_sentence(entry, replacer) for entry in result["sentence_info"]]
        if self.return_postprocess_hotword_matches:
            replaced["postprocess_hotword_matches"] = [asdict(match) for match in matches]
        return replaced


CALL_OPTIONS = frozenset(option.name for option in fields(Call))


def _replaced_sentence(entry: dict[str, Any], replacer: HotwordReplacer) -> dict[str, Any]:
    texts = {
        name: replacer.replace(entry[name])[0] for name in ("text", "sentence") if isinstance(entry.get(name), str)
    }
    return {**entry, **texts}
