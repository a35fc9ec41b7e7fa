"""The command `funasr`: audio in, text, subtitles or tables out."""

from __future__ import annotations

import argparse
import glob
import logging
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from funasr.text.writers import FORMATS, format_result
from funasr.utils.errors import ConfigError, DamagedUtteranceError, DataError
from funasr.utils.io import write_text

AUDIO_SUFFIXES = (".wav", ".flac", ".mp3", ".ogg", ".opus", ".pcm", ".aiff", ".aif", ".au", ".aac", ".amr", ".wma")
VIDEO_SUFFIXES = (".m4a", ".mp4", ".mov", ".webm", ".mkv", ".avi", ".3gp")
STDIN = "-"
DEFAULT_VAD, DEFAULT_SPK = "fsmn-vad", "cam++"
LIST_SUFFIXES = (".scp", ".jsonl", ".txt")


@dataclass(frozen=True)
class Item:
    """One input: its name in results, what to read, and where its output goes (below --output-dir)."""

    key: str
    source: str
    output: str


class UsageError(ValueError):
    """Options or inputs that cannot be right, whatever the model does."""


def get_parser() -> argparse.ArgumentParser:
    """The options of the command."""
    parser = argparse.ArgumentParser(
        prog="funasr",
        description="Transcribe audio. Exit status: 1 if an input failed, 2 if an option or model is wrong.",
    )
    parser.add_argument(
        "inputs",
        nargs="+",
        help="audio or video files, patterns ('*.wav'), directories, http(s) addresses, wav.scp or jsonl lists, - for "
        "standard input",
    )
    models = parser.add_argument_group("models (directory, name such as paraformer-zh, or hub id)")
    models.add_argument("--model", required=True, help="recogniser")
    models.add_argument("--vad-model", help="speech detector; recordings may then be of any length")
    models.add_argument("--punc-model", help="punctuation")
    models.add_argument("--spk-model", help="speaker embeddings, to tell speakers apart")
    models.add_argument("--hub", default="ms", choices=("ms", "modelscope", "hf", "huggingface"), help="default: ms")
    models.add_argument("--revision", help="branch, tag or commit of --model")
    decoding = parser.add_argument_group("decoding")
    decoding.add_argument("--language", help="for models of several languages: zh, en, ..., auto")
    decoding.add_argument("--hotwords", help="words to prefer, separated by spaces, or a file with one per line")
    decoding.add_argument("--timestamps", action="store_true", help="ask for times (subtitles and tables do so anyway)")
    decoding.add_argument(
        "--spk", action="store_true", help=f"tell speakers apart; without models: {DEFAULT_SPK} and {DEFAULT_VAD}"
    )
    decoding.add_argument("--batch-size", type=_positive, default=1, help="files handled together (default: 1)")
    decoding.add_argument("--batch-size-s", type=float, help="seconds of speech recognised together, with --vad-model")
    machine = parser.add_argument_group("machine")
    machine.add_argument("--device", help="cpu, cuda, cuda:1 (default: a GPU if there is one)")
    machine.add_argument("--dtype", help="float32, bfloat16, float16 or auto")
    machine.add_argument("--threads", type=_positive, help="CPU threads")
    machine.add_argument("--max-download-mb", type=_positive, help="largest file from an address (1024)")
    output = parser.add_argument_group("output")
    output.add_argument("--format", choices=list(FORMATS), default="text", help="default: text, KEY TEXT on the screen")
    output.add_argument("--output-dir", type=Path, help="write one file for each input there instead of the screen")
    output.add_argument("--resume", action="store_true", help="leave out inputs whose file in --output-dir is there")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    args = get_parser().parse_args(argv)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    failed: dict[str, str] = {}
    try:
        items = list(_items(args.inputs, failed))
        _check(args, items)
        left = [item for item in items if not (args.resume and _path(args, item).is_file())]
        if len(left) < len(items):
            _say(f"{len(items) - len(left)} of {len(items)} were done before")
        if left:
            _transcribe(args, left, _load(args), failed)
    except (UsageError, ConfigError, LookupError, ImportError, OSError) as error:  # those of an input are in `failed`
        _say(str(error))
        return 2
    for name, reason in failed.items():
        _say(f"{name} failed: {reason}")
    return 1 if failed else 0


def _say(line: str) -> None:
    sys.stderr.write(f"funasr: {line}\n")


def _positive(value: str) -> int:
    number = int(value)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, not {number}")
    return number


def _items(inputs: Sequence[str], failed: dict[str, str]) -> Iterator[Item]:
    """Every single input; what is not there is entered in `failed`."""
    from funasr.audio.download import is_url, url_stem
    from funasr.auto.result_files import file_name

    for given in inputs:
        path = Path(given)
        if given == STDIN:
            yield Item("stdin", STDIN, "stdin")
        elif is_url(given):
            yield Item(url_stem(given), given, file_name(url_stem(given)))
        elif path.is_dir():
            found = sorted(file for file in path.rglob("*") if _is_media(file))
            if not found:
                failed[given] = "holds no audio files"
            yield from (Item(f.stem, str(f), f.relative_to(path).with_suffix("").as_posix()) for f in found)
        elif path.suffix.lower() in LIST_SUFFIXES and path.is_file():
            yield from _listed(path, failed)
        elif path.is_file():
            yield Item(path.stem, given, file_name(path.stem))
        elif found_by_pattern := sorted(glob.glob(given, recursive=True)):
            yield from (Item(Path(f).stem, f, file_name(Path(f).stem)) for f in found_by_pattern if Path(f).is_file())
        else:
            failed[given] = "no such file" if glob.escape(given) == given else "no file matches"


def _is_media(path: Path) -> bool:
    return path.suffix.lower() in AUDIO_SUFFIXES + VIDEO_SUFFIXES and path.is_file()


def _listed(path: Path, failed: dict[str, str]) -> Iterator[Item]:
    from funasr.auto.inputs import list_sources
    from funasr.auto.result_files import file_name

    try:
        sources = list_sources(str(path))
    except (DataError, OSError, UnicodeDecodeError) as error:
        failed[str(path)] = str(error)
        return
    yield from (Item(source.key, str(source.data), file_name(source.key)) for source in sources)


def _path(args: argparse.Namespace, item: Item) -> Path:
    return Path(args.output_dir) / (item.output + FORMATS[args.format].suffix)


def _check(args: argparse.Namespace, items: Sequence[Item]) -> None:
    """Refuse what would go wrong after hours of work."""
    if args.output_dir is None:
        if args.resume:
            raise UsageError("--resume needs --output-dir, where it looks for what is done")
        if len(items) > 1 and not FORMATS[args.format].joinable:
            raise UsageError(f"{len(items)} inputs cannot be one {args.format} file; give --output-dir")
        return
    if args.output_dir.exists() and not args.output_dir.is_dir():
        raise UsageError(f"--output-dir {args.output_dir} is not a directory")
    seen: dict[str, str] = {}
    for item in items:
        other = seen.setdefault(item.output, item.source)
        if other != item.source:
            raise UsageError(f"{other} and {item.source} would both be written to {_path(args, item)}")


def _load(args: argparse.Namespace) -> Any:
    from funasr.auto.auto_model import AutoModel  # only now: --help needs no torch

    if (args.spk or FORMATS[args.format].needs_speakers) and args.spk_model is None:
        args.spk_model = DEFAULT_SPK
    if args.spk_model is not None and args.vad_model is None:
        args.vad_model = DEFAULT_VAD
    settings = {
        "vad_model": args.vad_model, "punc_model": args.punc_model, "spk_model": args.spk_model, "dtype": args.dtype,
        "threads": args.threads, "hub": args.hub, "model_revision": args.revision,
    }  # fmt: skip
    return AutoModel(args.model, device=args.device, **{k: value for k, value in settings.items() if value is not None})


def _options(args: argparse.Namespace) -> dict[str, Any]:
    """Options of `generate`."""
    options: dict[str, Any] = {"batch_size": args.batch_size}
    if args.timestamps or FORMATS[args.format].needs_times:
        options["output_timestamp"] = True
    if FORMATS[args.format].needs_times and args.punc_model is not None:
        options["sentence_timestamp"] = True
    given = {"language": args.language, "hotword": args.hotwords, "batch_size_s": args.batch_size_s,
             "max_download_mb": args.max_download_mb}  # fmt: skip
    return {**options, **{name: value for name, value in given.items() if value is not None}}


def _transcribe(args: argparse.Namespace, items: Sequence[Item], model: Any, failed: dict[str, str]) -> None:
    """Results of all items, written as soon as their batch is done."""
    options = _options(args)
    for start in range(0, len(items), args.batch_size):
        with ExitStack() as files:
            batch: list[Item] = []
            paths: list[str] = []
            for item in items[start : start + args.batch_size]:
                try:
                    paths.append(_saved(files) if item.source == STDIN else item.source)
                    batch.append(item)
                except OSError as error:
                    failed[item.source] = str(error)
            if batch:
                _write(args, batch, _results(model, batch, paths, options, failed), failed)


def _saved(files: ExitStack) -> str:
    """Standard input as a temporary file, which is there until `files` closes."""
    from funasr.audio.read import is_container

    head = sys.stdin.buffer.read(4096)
    kind = "" if is_container(head) else ".pcm"  # without a header it is 16 kHz, 16 bit
    path = Path(files.enter_context(tempfile.TemporaryDirectory(prefix="funasr_"))) / f"stdin{kind}"
    with path.open("wb") as file:
        file.write(head)
        shutil.copyfileobj(sys.stdin.buffer, file)
    return str(path)


def _results(
    model: Any, batch: Sequence[Item], paths: Sequence[str], options: dict[str, Any], failed: dict[str, str]
) -> dict[int, list[dict[str, Any]]]:
    """Position in the batch -> results; what fails as a whole fails for each of the batch."""
    try:
        # Positions as keys: two inputs may well have the same name.
        found = model.generate(list(paths), key=[str(i) for i in range(len(batch))], **options)
    except (DamagedUtteranceError, DataError, OSError, RuntimeError) as error:
        reason = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
        failed.update({item.source: reason for item in batch})
        return {}
    by_position: dict[int, list[dict[str, Any]]] = {}
    for result in found:
        position = int(result["key"])
        by_position.setdefault(position, []).append({**result, "key": batch[position].key})
    return by_position


def _write(
    args: argparse.Namespace,
    batch: Sequence[Item],
    results: dict[int, list[dict[str, Any]]],
    failed: dict[str, str],
) -> None:
    to_screen: Callable[[dict[str, Any]], str] = (
        (lambda result: f"{result['key']} {format_result(result, 'text')}")
        if args.format == "text"
        else (lambda result: format_result(result, args.format))
    )
    for position, found in sorted(results.items()):
        item = batch[position]
        reasons = [str(result["error"]) for result in found if result.get("error")]
        if reasons:
            failed[item.source] = reasons[0]
            continue
        try:
            if args.output_dir is None:
                sys.stdout.write("".join(map(to_screen, found)))
                sys.stdout.flush()
            else:
                kept = found if FORMATS[args.format].joinable else found[:1]  # the best of nbest
                write_text(_path(args, item), "".join(format_result(result, args.format) for result in kept))
        except (ValueError, OSError) as error:
            failed[item.source] = str(error)


if __name__ == "__main__":
    sys.exit(main())
