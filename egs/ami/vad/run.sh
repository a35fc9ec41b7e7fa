#!/usr/bin/env bash
# Voice activity detection trained on meetings, clean speech, noise and music; tested on meetings and on noise alone.
#   run.sh [--corpus_dir DIR]      DIR holds the corpora (local/prepare.py says which); else they are downloaded
#   run.sh --baselines true        scores silero-vad and webrtcvad on the same files
# All options: ../../common/task.sh --help
set -euo pipefail
here=$(dirname "${BASH_SOURCE[0]}")
exec "${here}/../../common/task.sh" --recipe_dir "${here}" --task vad --valid_set valid --test_sets "dev noise" \
    --mix "mix/noise.list,0.35,-3_20 mix/made.list,0.5,-3_20 mix/music.list,0.1,0_20" --rir_list mix/rir.list "$@"
