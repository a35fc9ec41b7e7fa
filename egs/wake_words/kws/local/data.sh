#!/usr/bin/env bash
# Wake words (Picovoice, Apache-2.0; more than 50 speakers, one keyword in each file) and other speech.
#   --corpus_dir DIR             has the folders alexa, computer, jarvis; without it they are downloaded
#   --speech_dir DIR:DIR...      other speech; without it LibriSpeech dev-clean-2 (CC BY 4.0) is downloaded
#   --test_speech_dir DIR:DIR... more of it, for the test alone
#   --halves true                half a keyword counts as other speech in training, see prepare.py
#   --datadir DIR                where train, dev and test go
set -euo pipefail
corpus_dir=
speech_dir=
test_speech_dir=
halves=false
datadir=data
nj=2
wake_words_url=https://github.com/Picovoice/wake-word-benchmark/archive/refs/heads/master.zip
speech_url=https://www.openslr.org/resources/31/dev-clean-2.tar.gz
common_dir=$(dirname "${BASH_SOURCE[0]}")/../../../common
. "${common_dir}/path.sh"
. "${common_dir}/parse_options.sh"

if [[ -z ${corpus_dir} ]]; then
    corpus_dir=downloads/wake_words
    python "${FUNASR_ROOT}/tools/download_and_extract.py" "${wake_words_url}" "${corpus_dir}"
fi
if [[ -z ${speech_dir} ]]; then
    speech_dir=downloads/speech
    python "${FUNASR_ROOT}/tools/download_and_extract.py" "${speech_url}" "${speech_dir}"
fi
options=()
[[ ${halves} == false ]] || options+=(--halves)
IFS=: read -r -a speech <<<"${speech_dir}"
IFS=: read -r -a test_speech <<<"${test_speech_dir}"
python "$(dirname "${BASH_SOURCE[0]}")/prepare.py" --corpus_dir "${corpus_dir}" --output_dir "${datadir}" \
    ${options[@]+"${options[@]}"} --speech_dir "${speech[@]}" --test_speech_dir ${test_speech[@]+"${test_speech[@]}"}
