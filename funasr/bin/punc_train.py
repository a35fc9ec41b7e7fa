"""`python -m funasr.bin.punc_train --config conf/train.yaml ...`: train a punctuation model."""

from __future__ import annotations

from funasr.tasks.punc import PuncTask


def main() -> None:
    """Entry point; options are those of `PuncTask`."""
    PuncTask.main()


if __name__ == "__main__":
    main()
