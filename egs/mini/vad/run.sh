#!/usr/bin/env bash
# Where somebody speaks, for the embedded corpus: synthetic voices, made noise, and labels that are known.
# All options: ../../common/task.sh --help
set -euo pipefail
here=$(dirname "${BASH_SOURCE[0]}")
exec "${here}/../../common/task.sh" --recipe_dir "${here}" --task vad --nproc 2 --test_sets "test noise" \
    --mix noise.list,0.75,0_25 "$@"
