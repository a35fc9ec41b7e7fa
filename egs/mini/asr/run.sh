#!/usr/bin/env bash
# The embedded corpus: digit strings and short sentences in 140 synthetic voices, made on the spot.  Test voices and test
# sentences are never heard in training.
# All options: ../../common/task.sh --help
set -euo pipefail
here=$(dirname "${BASH_SOURCE[0]}")
exec "${here}/../../common/task.sh" --recipe_dir "${here}" --task asr --nproc 2 --token_type word --score_cer false "$@"
