"""`python -m funasr.bin.sv_train --config conf/train.yaml ...`: train a speaker model."""

from __future__ import annotations

from funasr.tasks.sv import SVTask


def main() -> None:
    """Entry point; options are those of `SVTask`."""
    SVTask.main()


if __name__ == "__main__":
    main()
