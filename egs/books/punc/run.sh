#!/usr/bin/env bash
# Punctuation of novels: three English ones (Project Gutenberg) or three Chinese ones (Ming and Qing classics).
#   run.sh --lang en|zh [--corpus_dir DIR]     DIR holds the texts (.txt, or .zip of them); else they are downloaded
#   run.sh --lang en --train_config conf/train_en_streaming.yaml --inference_config conf/decode_streaming.yaml
# All options: ../../common/task.sh --help
set -euo pipefail
here=$(dirname "${BASH_SOURCE[0]}")
lang=en
words=()
while [[ $# -gt 0 ]]; do
    case $1 in
        --lang) lang=${2:-} && [[ $# -lt 2 ]] || shift ;;
        --lang=*) lang=${1#--lang=} ;;
        *) words+=("$1") ;;
    esac
    shift
done
case ${lang} in
    en) sets=(--test_sets test --cutoff 2 --local_data_opts "--lang en --passes 2") ;;
    zh) sets=(--test_sets "test modern" --cutoff 2 --local_data_opts "--lang zh --passes 1") ;;
    *)
        echo "run.sh: --lang is en or zh, not '${lang}'" >&2
        exit 1
        ;;
esac
exec "${here}/../../common/task.sh" --recipe_dir "${here}" --task punc \
    --datadir "data/${lang}" --dumpdir "dump/${lang}" --train_config "conf/train_${lang}.yaml" "${sets[@]}" \
    ${words[@]+"${words[@]}"}
