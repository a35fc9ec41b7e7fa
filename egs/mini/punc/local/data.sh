#!/usr/bin/env bash
# Write punctuated texts of the embedded corpus' language (see ../local/grammar.py) and make training pairs of them.
#   --datadir DIR   where texts, train, dev and test go
#   --nj N          not used: it takes seconds
#   --num_train, --num_dev, --num_test   texts in each set
set -euo pipefail
datadir=data
nj=1
num_train=1500
num_dev=100
num_test=100
local_dir=$(dirname "${BASH_SOURCE[0]}")
. "${local_dir}/../../../common/path.sh"
. "${local_dir}/../../../common/parse_options.sh"

mkdir -p "${datadir}/texts"
for set in train dev test; do
    num=num_${set}
    python "${local_dir}/../../local/grammar.py" --set "${set}" --num "${!num}" >"${datadir}/texts/${set}.txt"
done
prepare=(python -m funasr.bin.prepare_punc --output_dir "${datadir}" --lines paragraphs --min_window 4 --max_window 60)
"${prepare[@]}" "${datadir}/texts/train.txt" --valid_share 0 --test_share 0
"${prepare[@]}" "${datadir}/texts/dev.txt" --valid_share 1 --test_share 0
"${prepare[@]}" "${datadir}/texts/test.txt" --valid_share 0 --test_share 1
