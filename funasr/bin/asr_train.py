"""`python -m funasr.bin.asr_train --config conf/train.yaml ...`: train a speech recogniser."""

from __future__ import annotations

from funasr.tasks.asr import ASRTask


def main() -> None:
    """Entry point; options are those of `ASRTask`."""
    ASRTask.main()


if __name__ == "__main__":
    main()
