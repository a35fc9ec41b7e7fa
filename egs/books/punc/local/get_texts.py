#!/usr/bin/env python3
"""Bring the texts of a language into one form: UTF-8, without licence and without damaged lines.

    local/get_texts.py --lang zh --output_dir data/zh/texts [--corpus_dir DIR]

Takes every .txt of DIR, also from .zip files; without --corpus_dir the texts are downloaded into downloads/LANG.
Writes OUTPUT_DIR/novels/*.txt and, for Chinese, OUTPUT_DIR/modern/*.txt (one sentence per line).
"""

from __future__ import annotations

import argparse
import logging
import os
import re
import shutil
import sys
import urllib.parse
import zipfile
from collections.abc import Iterator
from pathlib import Path

from funasr.utils.io import write_text

GUTENBERG = "https://www.gutenberg.org/cache/epub/{0}/pg{0}.txt"
GITHUB = "https://raw.githubusercontent.com"
SOURCES = {
    "en": {
        "sherlock_holmes_1661.txt": GUTENBERG.format(1661),
        "pride_and_prejudice_1342.txt": GUTENBERG.format(1342),
        "great_expectations_1400.txt": GUTENBERG.format(1400),
    },
    "zh": {
        "红楼梦.txt": f"{GITHUB}/Linnann/Hongloumeng/bffb235b59a6403bd31f300175bda7d087037641/红楼梦.txt",
        "西游记.txt": f"{GITHUB}/limchiahooi/nlp-chinese/1bbf78ba2d6ea23cfe00c45153edaa4bfe3d1560/西游记.txt",
        "三国演义.txt": f"{GITHUB}/tennessine/corpus/c5ce96aca36c6a3cb4da5f0ff7d2d5fa30c32aea/三国演义.txt",
        "zh_gsdsimp-dev.conllu": f"{GITHUB}/UniversalDependencies/UD_Chinese-GSDSimp/"
        "9b1fc1d388b8f4ac7cf12a704995618571454b80/zh_gsdsimp-ud-dev.conllu",
    },
}
MODERN = "zh_gsdsimp"  # names that begin so are no novels
DAMAGED_SHARE = 0.02
LICENCE_BEGINS, LICENCE_ENDS = re.compile(r"\*\*\* ?END OF .*"), re.compile(r"\*\*\* ?START OF .*?\*\*\*")
HAN = re.compile("[\u4e00-\u9fff]")


def fetch(lang: str, directory: Path) -> None:
    """Download what is not there yet."""
    sys.path.append(os.path.join(os.environ["FUNASR_ROOT"], "tools"))
    from download_and_extract import download

    for name, url in SOURCES[lang].items():
        if not (directory / name).is_file():
            logging.info("downloading %s", url)
            download(urllib.parse.quote(url, safe=":/"), directory / name)


def texts(directory: Path) -> Iterator[tuple[str, bytes]]:
    """(name, content) of each text of a directory, those in zip files too."""
    for path in sorted(directory.iterdir()):
        if path.suffix in (".txt", ".conllu"):
            yield path.name, path.read_bytes()
        elif path.suffix == ".zip":
            with zipfile.ZipFile(path) as archive:
                for name in sorted(archive.namelist()):
                    if name.endswith(".txt"):
                        yield Path(name).name, archive.read(name)


def decode(content: bytes) -> str:
    """UTF-8, or the encoding of older Chinese texts."""
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("gb18030", errors="replace")


def without_licence(text: str) -> str:
    """The text between the lines with which Project Gutenberg surrounds it."""
    start, end = LICENCE_ENDS.search(text), LICENCE_BEGINS.search(text)
    return text[start.end() if start else 0 : end.start() if end else len(text)]


def is_damaged(line: str) -> bool:
    """Whether a Chinese line went through a wrong encoding: that leaves ASCII question marks all over it."""
    return line.count("?") > DAMAGED_SHARE * len(HAN.findall(line)) > 0 or "\ufffd" in line


def main() -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lang", choices=tuple(SOURCES), required=True)
    parser.add_argument("--corpus_dir", type=Path, help="directory of the texts")
    parser.add_argument("--output_dir", type=Path, required=True)
    args = parser.parse_args()
    logging.basicConfig(level="INFO", format="%(message)s")
    directory = args.corpus_dir or Path("downloads") / args.lang
    if args.corpus_dir is None:
        fetch(args.lang, directory)
    for kind in ("novels", "modern"):
        shutil.rmtree(args.output_dir / kind, ignore_errors=True)
    count = 0
    for name, content in texts(directory):
        text = decode(content)
        if name.endswith(".conllu"):
            text = "".join(f"{line[9:]}\n" for line in text.splitlines() if line.startswith("# text = "))
        lines = without_licence(text).splitlines()
        kept = [line for line in lines if args.lang != "zh" or not is_damaged(line)]
        if len(kept) < len(lines):
            characters = sum(map(len, lines)) - sum(map(len, kept))
            logging.info("%s: %d damaged lines (%d characters) left out", name, len(lines) - len(kept), characters)
        kind = "modern" if name.startswith(MODERN) else "novels"
        write_text(args.output_dir / kind / f"{Path(name).stem}.txt", "".join(f"{line}\n" for line in kept))
        count += kind == "novels"
    if not count:
        sys.stderr.write(f"get_texts: {directory} holds no .txt file, nor a .zip of them\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
