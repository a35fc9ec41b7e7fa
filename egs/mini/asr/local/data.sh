#!/usr/bin/env bash
# Make the embedded corpus: digit strings and sentences spoken by eSpeak NG (see make_corpus.py), the same on every run.
#   --datadir DIR   where train, dev, test and the audio go
#   --nj N          processes
#   --num_train, --num_dev, --num_test   utterances in each set
#   --fs            sample rate in Hz
set -euo pipefail
datadir=data
nj=2
num_train=2500
num_dev=160
num_test=320
fs=16000
common_dir=$(dirname "${BASH_SOURCE[0]}")/../../../common
. "${common_dir}/path.sh"
. "${common_dir}/parse_options.sh"

python "$(dirname "${BASH_SOURCE[0]}")/make_corpus.py" --output_dir "${datadir}" --nj "${nj}" --fs "${fs}" \
    --num_train "${num_train}" --num_dev "${num_dev}" --num_test "${num_test}"
