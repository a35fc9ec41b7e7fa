"""The texts of egs/books/punc: whatever form they come in, clean sets with the last chapters held back."""

from __future__ import annotations

import os
import subprocess
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RECIPE = ROOT / "egs" / "books" / "punc"


def chapters(heading: str, sentence: str, count: int = 20) -> str:
    return "".join(f"{heading.format(n)}\n\n{sentence.format(n) * 12}\n\n" for n in range(1, count + 1))


def make_data(corpus: Path, base: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = ["bash", str(RECIPE / "local" / "data.sh"), "--corpus_dir", str(corpus), "--datadir", str(base), *words]
    return subprocess.run(command, cwd=base, capture_output=True, text=True, check=False)


def words(path: Path) -> set[str]:
    return set(path.read_text(encoding="utf-8").split())


def test_english_books_without_their_licence(tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    book = chapters("Chapter {}", "In chapter number{},\nhe slept. ")
    licence = "*** START OF THE PROJECT GUTENBERG EBOOK X ***", "*** END OF THE PROJECT GUTENBERG EBOOK X ***"
    (corpus / "a.txt").write_text(f"Licensed words.\n{licence[0]}\n{book}{licence[1]}\nMore legal words.\n")
    done = make_data(corpus, tmp_path, "--lang", "en", "--passes", "1")
    assert done.returncode == 0, done.stderr
    seen = {name: words(tmp_path / name / "text") for name in ("train", "dev", "test")}
    numbers = {name: {word for word in found if word.startswith("number")} for name, found in seen.items()}
    assert numbers["dev"] == {"number18"} and numbers["test"] == {"number19", "number20"}
    assert len(numbers["train"]) == 17 and not numbers["train"] & (numbers["dev"] | numbers["test"])
    assert not {"licensed", "legal"} & set().union(*seen.values())
    assert {"_", "，", "。"} < words(tmp_path / "test" / "punc")


def test_chinese_books_in_old_encodings_and_with_damaged_lines(tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    book = chapters("第{}回　说梦", "说到第{}梦，走了。")
    damaged = "    自是曹操械交?⒎鸭洌?毕哪┣锍酰?笥曛柚粒?坏猛兑。\n"
    with zipfile.ZipFile(corpus / "novels.zip", "w") as archive:
        archive.writestr("梦.txt", (book + damaged).encode("gb18030"))
    (corpus / "zh_gsdsimp-dev.txt").write_text("今天天气好。\n你去吗？\n", encoding="utf-8")
    done = make_data(corpus, tmp_path, "--lang", "zh")
    assert done.returncode == 0, done.stderr
    assert "1 damaged lines" in done.stderr
    assert {"梦", "说"} <= words(tmp_path / "train" / "text") and "械" not in words(tmp_path / "test" / "text")
    assert "天" in words(tmp_path / "modern" / "text") and "天" not in words(tmp_path / "train" / "text")


@pytest.mark.parametrize(("lang", "said"), [("en", "holds no .txt file"), ("fr", "--lang is en or zh")])
def test_a_wrong_call_is_explained(tmp_path: Path, lang: str, said: str) -> None:
    (tmp_path / "empty").mkdir()
    if lang == "fr":
        command = ["bash", str(RECIPE / "run.sh"), "--lang", lang]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ})
    else:
        done = make_data(tmp_path / "empty", tmp_path, "--lang", lang)
    assert done.returncode != 0 and said in done.stderr
