#!/usr/bin/env bash
# The last step of `make demo`: transcribe a file through AutoModel, say how good the model is and where to look.
set -euo pipefail
recipe_dir=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
. "${recipe_dir}/../../common/path.sh"
cd "${recipe_dir}"
exp=exp/asr_train_word
result=${exp}/decode_valid.acc.ave/test

read -r key path <dump/test/wav.scp
echo
echo ">>> from funasr import AutoModel"
echo ">>> AutoModel(model=\"egs/mini/asr/${exp}\").generate(input=\"egs/mini/asr/${path}\")"
python - "${exp}" "${path}" <<'PYTHON'
import sys

from funasr import AutoModel

print(AutoModel(model=sys.argv[1]).generate(input=sys.argv[2]))
PYTHON
echo "what was said: $(grep "^${key} " dump/test/text | cut -d' ' -f2-)"
echo
grep -E '^%(WER|SER)' "${result}/score_wer/result.txt"
echo "voices that were not in training; report: egs/mini/asr/${result}/score_wer/report.html"
echo "experiment directory (config, log, curves, weights): egs/mini/asr/${exp}"
