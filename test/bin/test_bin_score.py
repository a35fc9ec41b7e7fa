"""score writes reports that agree with each other; write_results puts them into RESULTS.md and touches nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from funasr.bin import score, write_results
from funasr.bin.write_results import BEGIN, END

WER = "%WER 50.00 [ 2 / 4, 0 ins, 1 del, 1 sub ]"


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    (tmp_path / "ref").write_text("a x y\nb z\nc\nd w\n", encoding="utf-8")
    (tmp_path / "hyp").write_text("b z\na X q\nc\ne w\n", encoding="utf-8")
    (tmp_path / "utt2spk").write_text("a s1\nb s1\nc s2\nd s2\n", encoding="utf-8")
    return tmp_path


def run(texts: Path, *options: str) -> int:
    return score.main(["--ref", str(texts / "ref"), "--hyp", str(texts / "hyp"), "--bootstrap", "50", *options])


def test_prints_the_rates_and_names_ids_that_do_not_match(texts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(texts) == 0
    out, err = capsys.readouterr()
    assert out.splitlines() == [WER, "%SER 50.00 [ 2 / 4 ]", "Scored 4 sentences, 1 not present in hyp."]
    assert "counted as deletions (1): d" in err and "not scored (1): e" in err


def test_writes_all_reports(texts: Path) -> None:
    out = texts / "score"
    assert run(texts, "--utt2spk", str(texts / "utt2spk"), "--output_dir", str(out), "--name", "test") == 0
    assert sorted(path.name for path in out.iterdir()) == ["report.html", "report.txt", "result.json", "result.txt"]
    for name in ("result.txt", "report.txt", "report.html"):
        assert WER in (out / name).read_text(encoding="utf-8")
    result = json.loads((out / "result.json").read_text(encoding="utf-8"))
    assert (result["name"], result["errors"], sorted(result["speakers"])) == ("test", 2, ["s1", "s2"])
    assert "s1" in (out / "result.txt").read_text(encoding="utf-8")


def test_characters_of_0x_output(texts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (texts / "ref").write_text("a 今天 Good\n", encoding="utf-8")
    (texts / "hyp").write_text("a 今 天 go@@ od </s>\n", encoding="utf-8")
    assert run(texts, "--unit", "char") == 0
    assert capsys.readouterr().out.startswith("%WER 0.00 [ 0 / 6,")


def test_cleaner_on_both_sides(texts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (texts / "ref").write_text("a Mr. X\n")
    (texts / "hyp").write_text("a mister x\n")
    assert run(texts, "--cleaner", "tacotron", "--case_sensitive") == 0
    assert capsys.readouterr().out.startswith("%WER 0.00")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("hyp", b"a x\na y\n", "hyp:2: id 'a' was given before, on line 1"),
        ("ref", b"a x\n\nb y\na y\n", "ref:4: id 'a' was given before, on line 1"),
        ("ref", b"", "there is no reference"),
        ("hyp", b"a \xff\n", "hyp:1: not UTF-8"),
        ("utt2spk", b"a s1\n", "no speaker for 'b'"),
    ],
)
def test_wrong_files(texts: Path, capsys: pytest.CaptureFixture[str], name: str, content: bytes, message: str) -> None:
    (texts / name).write_bytes(content)
    assert run(texts, "--utt2spk", str(texts / "utt2spk"), "--output_dir", str(texts / "out")) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not (texts / "out").exists()


def test_missing_file(texts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (texts / "hyp").unlink()
    assert run(texts) == 2
    assert "hyp does not exist" in capsys.readouterr().err


@pytest.fixture
def exp(texts: Path) -> Path:
    for place, options in [
        ("m1/decode_greedy/test/score_wer", []),
        ("m1/decode_greedy/test/score_cer", ["--unit", "char"]),
        ("m2/decode_beam/test", []),
    ]:
        assert run(texts, "--output_dir", str(texts / "exp" / place), "--name", "test", *options) == 0
    return texts / "exp"


def test_tables(exp: Path, tmp_path: Path) -> None:
    output = tmp_path / "RESULTS.md"
    assert write_results.main(["--exp", str(exp), "--output", str(output)]) == 0
    lines = output.read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if line.startswith("#")] == [
        "# RESULTS", "## Environment", "## m1", "### WER", "### CER", "## m2", "### WER"
    ]  # fmt: skip
    assert "|dataset|Snt|Wrd|Corr|Sub|Del|Ins|Err|S.Err|" in lines
    assert "|decode_greedy/test|4|4|50.0|25.0|25.0|0.0|50.0|50.0|" in lines
    assert any(line.startswith("- pytorch version: `2") for line in lines)


def test_one_experiment(exp: Path, tmp_path: Path) -> None:
    (exp / "m1/config.yaml").write_text("{}")
    assert write_results.main(["--exp", str(exp / "m1"), "--output", str(tmp_path / "R.md")]) == 0
    text = (tmp_path / "R.md").read_text()
    assert "## m1\n" in text and "|decode_greedy/test|" in text


def test_the_rest_of_the_file_stays(exp: Path, tmp_path: Path) -> None:
    output = tmp_path / "RESULTS.md"
    output.write_text(f"# Mine\n\nabove\n\n{BEGIN}\nold\n{END}\n\nbelow\n", encoding="utf-8")
    for _ in range(2):
        assert write_results.main(["--exp", str(exp), "--output", str(output)]) == 0
    text = output.read_text(encoding="utf-8")
    assert text.startswith("# Mine\n\nabove\n\n" + BEGIN) and text.endswith(END + "\n\nbelow\n")
    assert "old" not in text and text.count("## Environment") == 1
    output.write_text("# Mine\n")
    assert write_results.main(["--exp", str(exp), "--output", str(output)]) == 0
    assert output.read_text().startswith(f"# Mine\n\n{BEGIN}\n")


def test_wrong_results(exp: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "RESULTS.md"
    output.write_text(f"{BEGIN}\nno end\n")
    command = ["--exp", str(exp), "--output", str(output)]
    assert write_results.main(command) == 2
    assert output.read_text() == f"{BEGIN}\nno end\n"
    (exp / "m2/decode_beam/test/result.json").write_text('{"name": "x"}')
    assert write_results.main(command) == 2
    (tmp_path / "empty").mkdir()
    assert write_results.main(["--exp", str(tmp_path / "empty"), "--output", str(output)]) == 2
    assert "no result.json below" in capsys.readouterr().err
