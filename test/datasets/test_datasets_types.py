"""Every data type gives the value that its line describes, and a wrong file or type is named."""

from __future__ import annotations

import json
import pickle
import tracemalloc

import kaldiio
import numpy as np
import pytest
import soundfile

from funasr.datasets.data_types import check_triplets, open_reader
from funasr.datasets.table import IndexedTable
from funasr.utils.errors import ConfigError, DamagedUtteranceError, DataError


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return str(path)


def wave(seconds=0.5, fs=16000):
    return np.sin(2 * np.pi * 440 * np.arange(int(seconds * fs)) / fs).astype(np.float32) * 0.5


@pytest.mark.parametrize(
    ("type_name", "line", "expected"),
    [
        ("text", "a 你好  world", "你好  world"),
        ("text", "a", ""),
        ("text_int", "a 1 2 -3", np.array([1, 2, -3])),
        ("text_float", "a 1 2.5", np.array([1, 2.5], np.float32)),
        ("csv_int", "a 100,80", np.array([100, 80])),
        ("csv_float", "a 1e-3,2", np.array([1e-3, 2], np.float32)),
        ("text_int", "a", np.array([], np.int64)),
    ],
)
def test_values(tmp_path, type_name, line, expected):
    value = open_reader(write(tmp_path / "f", line + "\n"), type_name)["a"]
    if isinstance(expected, str):
        assert value == expected
    else:
        assert value.dtype == expected.dtype
        np.testing.assert_array_equal(value, expected)


def test_random_types_keep_shape_range_and_value(tmp_path):
    path = write(tmp_path / "f", "a 3,4\nb 3,4\n")
    ints = open_reader(path, "rand_int_2_5")
    assert ints["a"].shape == (3, 4) and set(np.unique(ints["a"])) <= {2, 3, 4}
    floats = open_reader(path, "rand_float")
    assert floats["a"].dtype == np.float32
    np.testing.assert_array_equal(floats["a"], open_reader(path, "rand_float")["a"])
    assert not np.array_equal(floats["a"], floats["b"])


def test_npy_and_ark(tmp_path):
    matrix = np.arange(6, dtype=np.float32).reshape(3, 2)
    np.save(tmp_path / "m.npy", matrix)
    np.testing.assert_array_equal(open_reader(write(tmp_path / "n.scp", f"a {tmp_path}/m.npy\n"), "npy")["a"], matrix)
    with kaldiio.WriteHelper(f"ark,scp:{tmp_path}/f.ark,{tmp_path}/f.scp") as writer:
        writer("a", matrix)
    reader = open_reader(str(tmp_path / "f.scp"), "kaldi_ark")
    np.testing.assert_array_equal(reader["a"], matrix)
    with pytest.raises(DamagedUtteranceError, match="kaldi_ark"):
        open_reader(str(tmp_path / "f.scp"), "sound")["a"]


def test_sound_from_file_ark_and_segment_agree(tmp_path):
    samples = wave()
    soundfile.write(tmp_path / "r.wav", samples, 16000)
    expected = soundfile.read(tmp_path / "r.wav", dtype="float32")[0]
    with kaldiio.WriteHelper(f"ark,scp:{tmp_path}/w.ark,{tmp_path}/w.scp") as writer:
        writer("r", (16000, (expected * 32768).astype(np.int16)))
    from_ark = open_reader(str(tmp_path / "w.scp"), "sound")
    np.testing.assert_allclose(from_ark["r"], expected, atol=1e-7)
    assert from_ark.num_samples("r") == 8000
    scp = write(tmp_path / "wav.scp", f"r {tmp_path}/r.wav\n")
    np.testing.assert_allclose(open_reader(scp, "sound")["r"], expected)
    write(tmp_path / "segments", "u1 r 0.1 0.2\nu2 r 0.25 -1\nu3 r 0.6 0.9\nu4 lost 0 1\n")
    cut = open_reader(scp, "sound")
    assert list(cut) == ["u1", "u2", "u3", "u4"]
    np.testing.assert_allclose(cut["u1"], expected[1600:3200])
    np.testing.assert_allclose(cut["u2"], expected[4000:])
    assert cut.num_samples("u1") == 1600
    for uid in ("u3", "u4"):
        with pytest.raises(DamagedUtteranceError):
            cut[uid]


def test_sound_is_resampled_once_told(tmp_path):
    soundfile.write(tmp_path / "a.wav", wave(0.5, 8000), 8000)
    scp = write(tmp_path / "x.scp", f"a {tmp_path}/a.wav\nb {tmp_path}/a.wav\n")
    reader = open_reader(scp, "sound", fs=16000)
    assert abs(len(reader["a"]) - 8000) <= 1 and reader.num_samples("b") == len(reader["b"])
    assert reader.pop_notices() == {(8000, 16000): f"{tmp_path}/a.wav"}
    assert reader.pop_notices() == {}
    middle = slice(1000, 7000)
    np.testing.assert_allclose(reader["a"][middle], wave(0.5)[middle], atol=5e-3)


def test_mixed_rates_without_fs_are_an_error(tmp_path):
    soundfile.write(tmp_path / "a.wav", wave(0.1, 8000), 8000)
    soundfile.write(tmp_path / "b.wav", wave(0.1), 16000)
    reader = open_reader(write(tmp_path / "x.scp", f"a {tmp_path}/a.wav\nb {tmp_path}/b.wav\n"), "sound")
    reader["a"]
    with pytest.raises(DataError, match=r"16000 Hz.*8000 Hz"):
        reader["b"]


def test_columns_are_channels(tmp_path):
    for name, gain in (("a", 1.0), ("b", 0.5)):
        soundfile.write(tmp_path / f"{name}.wav", gain * wave(0.1), 16000, subtype="FLOAT")
    soundfile.write(tmp_path / "c.wav", wave(0.2), 16000)
    scp = write(
        tmp_path / "x.scp",
        f"u {tmp_path}/a.wav {tmp_path}/b.wav\nv {tmp_path}/a.wav {tmp_path}/c.wav\nw {tmp_path}/a.wav\n",
    )
    reader = open_reader(scp, "multi_columns_sound")
    np.testing.assert_allclose(reader["u"], np.stack([wave(0.1), 0.5 * wave(0.1)], 1), atol=1e-7)
    with pytest.raises(DamagedUtteranceError, match="differ"):
        reader["v"]
    with pytest.raises(DamagedUtteranceError, match="1 files"):
        reader["w"]


def test_pipes_only_when_allowed(tmp_path):
    soundfile.write(tmp_path / "a.wav", wave(0.1), 16000)
    scp = write(tmp_path / "x.scp", f"a cat {tmp_path}/a.wav | cat |\nb false |\n")
    with pytest.raises(DataError, match="format_wav_scp"):
        open_reader(scp, "sound")["a"]
    reader = open_reader(scp, "sound", allow_pipes=True)
    assert len(reader["a"]) == 1600
    with pytest.raises(DamagedUtteranceError, match="status 1"):
        reader["b"]


def test_jsonl_fields(tmp_path):
    soundfile.write(tmp_path / "a.wav", wave(0.1), 16000)
    rows = [
        {"key": "a", "source": f"{tmp_path}/a.wav", "target": "你好", "text_language": "<|zh|>"},
        {"key": "b", "text": "only text"},
    ]
    path = write(tmp_path / "t.jsonl", "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    assert len(open_reader(path, "sound")["a"]) == 1600
    text = open_reader(path, "text")
    assert dict(text) == {"a": "你好", "b": "only text"}
    assert open_reader(path + "#text_language", "text")["a"] == "<|zh|>"
    with pytest.raises(DamagedUtteranceError, match="source"):
        open_reader(path, "sound")["b"]
    with pytest.raises(DataError, match="line 2"):
        open_reader(write(tmp_path / "bad.jsonl", '{"key": "a"}\n{"key"\n'), "text")


def test_hdf5(tmp_path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "f.h5", "w") as file:
        file["a"] = np.arange(3)
        file["g/b"] = np.arange(4)
    reader = open_reader(str(tmp_path / "f.h5"), "hdf5")
    assert sorted(reader) == ["a", "g/b"] and len(reader["g/b"]) == 4


@pytest.mark.parametrize("name", ["sond", "text_typo", "rand_int_3", "pipe"])
def test_unknown_type(tmp_path, name):
    with pytest.raises(ConfigError, match="Unknown data type"):
        open_reader(write(tmp_path / "f", "a 1\n"), name)


def test_unknown_type_names_the_nearest(tmp_path):
    with pytest.raises(ConfigError, match="Did you mean sound"):
        open_reader(write(tmp_path / "f", "a 1\n"), "sond")


def test_triplet_names():
    with pytest.raises(ConfigError, match="twice"):
        check_triplets([("a", "speech", "sound"), ("b", "speech", "sound")])
    with pytest.raises(ConfigError, match="reserved"):
        check_triplets([("a", "speech_lengths", "text_int")])


class TestTable:
    def test_order_lookup_and_pickle(self, tmp_path):
        table = IndexedTable(write(tmp_path / "t", "\ufeffz 1 2\r\n\nа\u00a0b x\ny\nlast end"))
        assert list(table.items()) == [("z", "1 2"), ("а\u00a0b", "x"), ("y", ""), ("last", "end")]
        assert "q" not in table and pickle.loads(pickle.dumps(table))["last"] == "end"

    def test_duplicates_and_missing(self, tmp_path):
        with pytest.raises(DataError, match=r"'b' is on line 2 and again on line 4"):
            IndexedTable(write(tmp_path / "t", "a 1\nb 2\nc 3\nb 4\n"))
        with pytest.raises(DataError, match="does not exist"):
            IndexedTable(tmp_path / "none")
        assert len(IndexedTable(write(tmp_path / "empty", ""))) == 0

    def test_memory_per_line(self, tmp_path):
        count = 20_000
        lines = (
            f"speaker{i % 100:05d}-utterance{i:08d} /a/long/path/to/the/corpus/{i:08d}.wav\n" for i in range(count)
        )
        path = write(tmp_path / "t", "".join(lines))
        tracemalloc.start()
        table = IndexedTable(path)
        held, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert len(table) == count and held < 40 * count and peak < 100 * count
