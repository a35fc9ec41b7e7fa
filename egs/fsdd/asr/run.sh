#!/usr/bin/env bash
# Free Spoken Digit Dataset: strings of 1-7 digits by real people, the official split (clips 0-4 of each digit: test).
#   run.sh [--corpus_dir DIR]     DIR holds fsdd.zip or the unpacked corpus; else it is downloaded
# All options: ../../common/task.sh --help
set -euo pipefail
here=$(dirname "${BASH_SOURCE[0]}")
exec "${here}/../../common/task.sh" --recipe_dir "${here}" --task asr --fs 8000 --token_type word --score_cer false "$@"
