"""`python -m funasr.bin.vad_train --config conf/train.yaml ...`: train a voice activity detector."""

from __future__ import annotations

from funasr.tasks.vad import VADTask


def main() -> None:
    """Entry point; options are those of `VADTask`."""
    VADTask.main()


if __name__ == "__main__":
    main()
