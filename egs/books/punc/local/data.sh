#!/usr/bin/env bash
# Three novels of a language: the last chapters of each are the test set, those before them the validation set.
#   --lang en|zh
#   --corpus_dir DIR  holds the texts (.txt, or .zip of them); without it they are downloaded
#   --datadir DIR     where texts, train, dev and test go
#   --passes N        how often the training text is cut into windows
# Chinese has a second test set, `modern`: UD_Chinese-GSDSimp, sentences of today.
set -euo pipefail
lang=en
corpus_dir=
datadir=data
nj=1
passes=2
local_dir=$(dirname "${BASH_SOURCE[0]}")
. "${local_dir}/../../../common/path.sh"
. "${local_dir}/../../../common/parse_options.sh"

options=(--lang "${lang}" --output_dir "${datadir}/texts")
[[ -z ${corpus_dir} ]] || options+=(--corpus_dir "${corpus_dir}")
python "${local_dir}/get_texts.py" "${options[@]}"
prepare=(python -m funasr.bin.prepare_punc --output_dir "${datadir}")
"${prepare[@]}" "${datadir}"/texts/novels/*.txt --passes "${passes}"
if [[ ${lang} == zh ]]; then
    "${prepare[@]}" "${datadir}"/texts/modern/*.txt --lines paragraphs --test_set modern --valid_share 0 --test_share 1
fi
