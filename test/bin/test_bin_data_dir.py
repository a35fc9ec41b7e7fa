"""validate_data_dir names every fault with file and line; fix_data_dir mends them and keeps what was there before."""

from __future__ import annotations

from pathlib import Path

import pytest

from funasr.bin import fix_data_dir, validate_data_dir
from funasr.utils.data_dir import read_table
from funasr.utils.data_dir_check import check_data_dir
from funasr.utils.errors import DataError

SOUND = {
    "wav.scp": "s1-a a.wav\ns1-b sox b.sph -t wav - |\ns2-c c.wav\n",
    "text": "s1-a hello there\ns1-b 你 好\ns2-c x\n",
    "utt2spk": "s1-a s1\ns1-b s1\ns2-c s2\n",
    "spk2utt": "s1 s1-a s1-b\ns2 s2-c\n",
}


@pytest.fixture
def sound(tmp_path: Path) -> Path:
    for name, content in SOUND.items():
        (tmp_path / name).write_text(content, encoding="utf-8")
    return tmp_path


def faults(directory: Path) -> list[str]:
    return [str(fault).removeprefix(f"{directory}/") for fault in check_data_dir(directory)]


def test_sound_directory(sound: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert validate_data_dir.main([str(sound)]) == 0
    assert capsys.readouterr().out == f"{sound}: in order\n"
    assert fix_data_dir.main([str(sound)]) == 0
    assert not (sound / ".backup").exists()


@pytest.mark.parametrize(
    ("name", "content", "fault"),
    [
        ("text", "s1-a x\ns1-a y\ns1-b x\ns2-c x\n", "text:2: id 's1-a' was given before, on line 1"),
        ("text", "s1-b x\ns1-a x\ns2-c x\n", "text:2: id 's1-a' comes after 's1-b'; sort with LC_ALL=C"),
        ("text", "s1-a x\ns1-b\ns2-c x\n", "text:2: 's1-b' has an empty transcript"),
        ("text", "s1-a x\n\ns1-b x\ns2-c x\n", "text:2: empty line"),
        ("text", "s1-a x\ns1-b x\n", "text: 1 ids of wav.scp are missing: s2-c"),
        ("utt2spk", "s1-a s1\ns1-b s1\ns2-c s2\nt s\n", "wav.scp: 1 ids of utt2spk are missing: t"),
        ("utt2spk", "s1-a s1\ns1-b s1 s2\ns2-c s2\n", "utt2spk:2: 's1-b' has more than one value: 's1 s2'"),
        ("spk2utt", "s1 s1-a\ns2 s2-c\n", "spk2utt:1: the utterances of speaker 's1' are not those of utt2spk"),
        ("spk2utt", "s1 s1-a s1-b\n", "spk2utt: the utterances of speaker 's2' are not those of utt2spk"),
        ("spk2gender", "s1 f\n", "spk2gender: 1 speakers of utt2spk are missing: s2"),
    ],
)
def test_each_fault_is_named(sound: Path, name: str, content: str, fault: str) -> None:
    (sound / name).write_text(content, encoding="utf-8")
    assert fault in faults(sound)
    assert validate_data_dir.main([str(sound)]) == 1


def test_encoding(sound: Path) -> None:
    (sound / "text").write_bytes("s1-a x\ns1-b 你\n".encode("gb18030"))
    assert any(fault.startswith("text:2: not UTF-8 (byte 6 of the line)") for fault in faults(sound))
    assert fix_data_dir.main([str(sound)]) == 2


def test_ids_that_do_not_begin_with_the_speaker_are_only_a_warning(sound: Path) -> None:
    (sound / "utt2spk").write_text("s1-a s1\ns1-b s2\ns2-c s2\n")
    (sound / "spk2utt").write_text("s1 s1-a\ns2 s1-b s2-c\n")
    assert faults(sound) == [f"warning: {sound}/utt2spk: 1 ids do not begin with their speaker: s1-b"]
    assert validate_data_dir.main([str(sound)]) == 0


@pytest.mark.parametrize(
    ("segment", "message"),
    [
        ("r1 0.0 2.04", None),
        ("r1 0.0 2.5", "ends at 2.5 s, but recording 'r1' is 2.0 s long"),
        ("r1 1.0 1.0", "0 <= start < end"),
        ("r1 -1 1.0", "0 <= start < end"),
        ("r1 0 nan", "0 <= start < end"),
        ("r2 0.0 1.0", "recording 'r2' is not in wav.scp"),
        ("r1 0.0", "is not `RECORDING start_s end_s`"),
    ],
)
def test_segments(tmp_path: Path, segment: str, message: str | None) -> None:
    contents = {"wav.scp": "r1 r1.wav\n", "reco2dur": "r1 2.0\n", "text": "a x\nb y\n"}
    for name, content in contents.items():
        (tmp_path / name).write_text(content)
    (tmp_path / "segments").write_text(f"a {segment}\nb r1 0.5 1.0\n")
    found = faults(tmp_path)
    assert len(found) == (message is not None)
    if message is not None:
        assert found[0].startswith("segments:1: 'a'") and message in found[0]
        assert fix_data_dir.main([str(tmp_path)]) == 0
        assert read_table(tmp_path / "segments") == {"b": "r1 0.5 1.0"}
    assert faults(tmp_path) == []


def test_missing_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert faults(tmp_path) == [f"{tmp_path}: has neither wav.scp nor feats.scp", f"{tmp_path}: has no text"]
    assert fix_data_dir.main([str(tmp_path)]) == 2
    assert validate_data_dir.main([str(tmp_path / "none")]) == 2
    assert capsys.readouterr().err.endswith("none is not a directory\n")


def test_fix_keeps_the_common_ids_sorts_and_backs_up(sound: Path) -> None:
    text = "s2-c x\ns1-a y\ns1-a y\ns1-b\nt z\n"
    (sound / "text").write_text(text)
    (sound / "spk2utt").unlink()
    assert fix_data_dir.main([str(sound)]) == 0
    assert faults(sound) == []
    assert read_table(sound / "text") == {"s1-a": "y", "s2-c": "x"}
    assert (sound / "spk2utt").read_text() == "s1 s1-a\ns2 s2-c\n"
    assert (sound / ".backup/text").read_text() == text
    assert (sound / ".backup/wav.scp").read_text() == SOUND["wav.scp"]
    (sound / "text").write_text("s2-c x\ns1-a y\n")
    assert fix_data_dir.main([str(sound)]) == 0
    assert (sound / ".backup/text").read_text() == text, "the first backup stays"
    assert (sound / ".backup/text.1").read_text() == "s2-c x\ns1-a y\n"


def test_fix_can_keep_empty_transcripts(sound: Path) -> None:
    (sound / "text").write_text("s1-a x\ns1-b\ns2-c x\n")
    assert fix_data_dir.main([str(sound), "--keep_empty_text"]) == 0
    assert (sound / "text").read_text() == "s1-a x\ns1-b\ns2-c x\n"


@pytest.mark.parametrize("text", ["s1-a x\ns1-a y\n", "t x\n"])
def test_fix_changes_nothing_when_a_decision_is_needed(sound: Path, text: str) -> None:
    (sound / "text").write_text(text)
    assert fix_data_dir.main([str(sound)]) == 2
    assert (sound / "text").read_text() == text
    assert (sound / "wav.scp").read_text() == SOUND["wav.scp"]


def test_read_table(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_bytes("\ufeffa  x\ty \r\n\nb \u3000z\n".encode())
    assert read_table(path) == {"a": "x\ty", "b": "\u3000z"}
    path.write_text("a x\nb\na y\n")
    with pytest.raises(DataError, match=r"text:2: id 'b' has no value"):
        read_table(path)
    with pytest.raises(DataError, match=r"text:3: id 'a' was given before, on line 1"):
        read_table(path, value_optional=True)
    with pytest.raises(DataError, match="does not exist"):
        read_table(tmp_path / "none")
