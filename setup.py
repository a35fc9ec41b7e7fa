"""Packaging: a plain install is enough to use a model; extras bring what training and development need."""

from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION = (HERE / "funasr" / "utils" / "version.py").read_text().split('"')[-2]

EXTRAS = {
    "train": ["tensorboard>=2.12", "matplotlib>=3.7"],
    "g2p": ["g2p_en>=2.1", "pypinyin>=0.50"],
    "hdf5": ["h5py>=3.8"],
    "punc": ["jieba>=0.42"],
    "whisper": ["tiktoken>=0.7"],
    "llm": ["transformers>=4.45"],
    "media": ["av>=12"],
    "hub": ["huggingface_hub>=0.23"],
    "modelscope": ["modelscope>=1.20"],
    "speaker": ["scipy>=1.10"],
    "silero": ["silero-vad>=6.2.3"],
    "bench": ["silero-vad>=6.2.3", "webrtcvad-wheels>=2.0.14"],  # voice activity detectors to compare with
    "demo": ["espeakng-loader>=0.2.4"],
}
EXTRAS["dev"] = [
    *EXTRAS["train"],
    *EXTRAS["demo"],
    *EXTRAS["punc"],
    *EXTRAS["whisper"],
    *EXTRAS["llm"],
    *EXTRAS["speaker"],
    *EXTRAS["media"],
    *EXTRAS["hub"],
    *EXTRAS["modelscope"],
    *EXTRAS["hdf5"],
    "pypinyin>=0.50",
    "scikit-learn>=1.3",
    "pytest>=8.0",
    "pytest-xdist>=3.5",
    "ruff==0.17.6",
    "mypy==2.4.1",
    "import-linter==2.16",
    "types-PyYAML",
    "types-tqdm",
]

setup(
    name="funasr",
    version=VERSION,
    description="Speech recognition you can read, train and ship",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    python_requires=">=3.10",
    packages=find_packages(include=["funasr", "funasr.*"]),
    install_requires=(HERE / "requirements.txt").read_text().split(),
    extras_require=EXTRAS,
    entry_points={"console_scripts": ["funasr = funasr.cli:main"]},
)
