#!/usr/bin/env bash
# Free Spoken Digit Dataset (real speakers, 8 kHz; CC BY-SA 4.0): strings of digits joined from one speaker's clips.
#   --corpus_dir DIR  holds fsdd.zip or an unpacked tree; without it the corpus is downloaded
#   --datadir DIR     where train, dev, test and the audio go
#   --num_train, --num_dev   strings in these sets; test holds each official test clip --test_groupings times
set -euo pipefail
corpus_dir=
datadir=data
nj=2
num_train=3000
num_dev=200
test_groupings=8
url=https://github.com/Jakobovski/free-spoken-digit-dataset/archive/refs/heads/master.zip
common_dir=$(dirname "${BASH_SOURCE[0]}")/../../../common
. "${common_dir}/path.sh"
. "${common_dir}/parse_options.sh"

if [[ -z ${corpus_dir} ]]; then
    corpus_dir=downloads/fsdd
    python "${FUNASR_ROOT}/tools/download_and_extract.py" "${url}" "${corpus_dir}"
elif [[ -f ${corpus_dir}/fsdd.zip ]]; then
    rm -rf downloads/fsdd_given
    python "${FUNASR_ROOT}/tools/download_and_extract.py" "${corpus_dir}/fsdd.zip" downloads/fsdd_given
    corpus_dir=downloads/fsdd_given
fi
python "$(dirname "${BASH_SOURCE[0]}")/make_strings.py" --corpus_dir "${corpus_dir}" --output_dir "${datadir}" \
    --num_train "${num_train}" --num_dev "${num_dev}" --test_groupings "${test_groupings}"
