#!/usr/bin/env bash
# Speakers of LibriSpeech (CC BY 4.0) for training and trials, and of other corpora beside it.
#   --corpus_dir DIR     holds LibriSpeech/SUBSET; without it the two subsets are downloaded
#   --train_subsets "train-clean-100 ..."
#   --an4_dir, --aishell3_dir DIR    more training speakers: one folder of audio for each
#   --mix_dir DIR        LibriSpeechMix with flac/ and rttm/: gives test_mix
#   --fsdd_dir DIR       Free Spoken Digit Dataset, unpacked or fsdd.zip in it: gives test_fsdd
#   --noise_dir DIR      audio files to mix in;  --rir_dir DIR   impulse responses (default: simple ones are made)
#   --datadir DIR        where train, dev, test_other, ... go
set -euo pipefail
corpus_dir=
datadir=data
nj=2
train_subsets=train-clean-100
an4_dir=
aishell3_dir=
mix_dir=
fsdd_dir=
noise_dir=
rir_dir=
url=https://www.openslr.org/resources/12
common_dir=$(dirname "${BASH_SOURCE[0]}")/../../../common
. "${common_dir}/path.sh"
. "${common_dir}/parse_options.sh"

if [[ -z ${corpus_dir} ]]; then
    corpus_dir=downloads
    for subset in ${train_subsets} test-other; do
        python "${FUNASR_ROOT}/tools/download_and_extract.py" "${url}/${subset}.tar.gz" "${corpus_dir}/${subset}"
    done
fi
if [[ -n ${fsdd_dir} && -f ${fsdd_dir}/fsdd.zip ]]; then
    rm -rf downloads/fsdd_given
    python "${FUNASR_ROOT}/tools/download_and_extract.py" "${fsdd_dir}/fsdd.zip" downloads/fsdd_given
    fsdd_dir=downloads/fsdd_given
fi
options=()
for name in an4_dir aishell3_dir mix_dir fsdd_dir noise_dir rir_dir; do
    [[ -z ${!name} ]] || options+=("--${name}" "${!name}")
done
read -r -a subsets <<<"${train_subsets}"
python "$(dirname "${BASH_SOURCE[0]}")/prepare.py" --corpus_dir "${corpus_dir}" --train_subsets "${subsets[@]}" \
    --output_dir "${datadir}" ${options[@]+"${options[@]}"}
