#!/usr/bin/env bash
# Make recordings of synthetic voices with known pauses, and made noise (see make_recordings.py, make_noise.py).
#   --datadir DIR   where train, dev, test, noise, the audio and the list of training noises go
#   --nj N          processes
#   --num_train, --num_dev, --num_test   recordings in each set; noise has as many as test
#   --num_noise     training noises
#   --fs            sample rate in Hz
set -euo pipefail
datadir=data
nj=2
num_train=220
num_dev=12
num_test=24
num_noise=240
fs=16000
local_dir=$(dirname "${BASH_SOURCE[0]}")
. "${local_dir}/../../../common/path.sh"
. "${local_dir}/../../../common/parse_options.sh"

python "${local_dir}/make_recordings.py" --output_dir "${datadir}" --nj "${nj}" --fs "${fs}" \
    --num_train "${num_train}" --num_dev "${num_dev}" --num_test "${num_test}"
python "${local_dir}/make_noise.py" --output_dir "${datadir}/made" --count "${num_noise}" --fs "${fs}" --nj "${nj}"
cut -d' ' -f2- "${datadir}/made/wav.scp" >"${datadir}/noise.list"
