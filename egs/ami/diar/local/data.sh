#!/usr/bin/env bash
# Recordings whose speakers are known: AMI excerpts of 30 s (CC BY 4.0, the "Debug" protocol of pyannote-audio) and
# LibriSpeechMix, pairs of readers that overlap (CC BY 4.0, the test data of NeMo).
#   --corpus_dir DIR   holds ami_debug/ and libri_speech_mix/, each as upstream has it; without it they are downloaded
#   --datadir DIR      gets ami_train, ami_dev and libri_mix, each with wav.scp, ref.rttm and, but for the last, all.uem
set -euo pipefail
corpus_dir=
datadir=data
common_dir=$(dirname "${BASH_SOURCE[0]}")/../../../common
. "${common_dir}/path.sh"
. "${common_dir}/parse_options.sh"

if [[ -z ${corpus_dir} ]]; then
    corpus_dir=downloads
    github=https://github.com
    fetch() { python "${FUNASR_ROOT}/tools/download_and_extract.py" "${github}/$1" "${corpus_dir}/$2"; }
    fetch pyannote/pyannote-audio/archive/refs/tags/3.1.1.zip ami_debug # tests/data
    fetch NVIDIA/NeMo-text-processing/archive/abcaa91e.zip libri_speech_mix # tests/.data/asr/diarizer
fi

one_file() { # a file of this name below a directory
    find "$1" -name "$2" | head -n 1 | grep . || { echo "data.sh: there is no $2 below $1" >&2 && exit 1; }
}
audio_of() { # recording ids on standard input, directory -> lines of wav.scp
    local id
    while read -r id; do
        echo "${id} $(find "$1" -name "${id}.flac" -o -name "${id}.wav" | head -n 1)"
    done
}

for part in train development; do
    set=${datadir}/ami_$([[ ${part} == train ]] && echo train || echo dev)
    mkdir -p "${set}"
    cp "$(one_file "${corpus_dir}/ami_debug" "debug.${part}.rttm")" "${set}/ref.rttm"
    cp "$(one_file "${corpus_dir}/ami_debug" "debug.${part}.uem")" "${set}/all.uem"
    cut -d' ' -f1 "${set}/all.uem" | LC_ALL=C sort -u | audio_of "${corpus_dir}/ami_debug" >"${set}/wav.scp"
done
set=${datadir}/libri_mix
mkdir -p "${set}"
first=$(one_file "${corpus_dir}/libri_speech_mix" "*2mix-0000.rttm")
cat "$(dirname "${first}")"/*.rttm >"${set}/ref.rttm"
cut -d' ' -f2 "${set}/ref.rttm" | LC_ALL=C sort -u | audio_of "${corpus_dir}/libri_speech_mix" >"${set}/wav.scp"
wc -l "${datadir}"/*/wav.scp
