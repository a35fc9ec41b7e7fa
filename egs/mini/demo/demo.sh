#!/usr/bin/env bash
# Train a small recogniser, detector of speech and punctuation model, then transcribe a long recording with all three.
# `make demo` calls this; options: --nproc N, training processes.
set -euo pipefail
nproc=2
demo_dir=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "${demo_dir}/../../common/path.sh"
. "${demo_dir}/../../common/parse_options.sh"
root=$(cd "${demo_dir}/../../.." && pwd)
cd "${root}"

SECONDS=0
stamp() { echo; echo "=== $((SECONDS / 60)) min $((SECONDS % 60)) s: $*"; }
model_of() { # recipe -> its experiment directory, the one that a training run finished last
    local models
    models=$(ls -t "$1"/exp/*/model.pt)
    dirname "${models%%$'\n'*}"
}

stamp "the recogniser (egs/mini/asr)"
bash egs/mini/asr/run.sh --nproc "${nproc}"
# Each keeps one core busy.
log=egs/mini/demo/exp/punc.log
mkdir -p "$(dirname "${log}")"
stamp "the detector of speech (egs/mini/vad); beside it the punctuation model (egs/mini/punc, log: ${log})"
set -m # a process group of its own, so that it goes with this script
bash egs/mini/punc/run.sh --num_threads 1 >"${log}" 2>&1 &
punc_job=$!
set +m
trap 'kill -- -"${punc_job}" 2>/dev/null || true' EXIT
bash egs/mini/vad/run.sh --num_threads 1
wait "${punc_job}" || { cat "${log}"; exit 1; }
stamp "the punctuation model has been trained beside it:"
tail -n 25 "${log}"
asr=$(model_of egs/mini/asr) vad=$(model_of egs/mini/vad) punc=$(model_of egs/mini/punc)

stamp "a long recording: voices and sentences that were not in training"
python egs/mini/demo/local/make_recording.py --output_dir egs/mini/demo/data
python egs/mini/demo/local/transcribe.py --asr "${asr}" --vad "${vad}" --punc "${punc}" --data egs/mini/demo/data
stamp "done.  Directories with configuration, log, curves, weights and RESULTS.md: ${asr} ${vad} ${punc}"
cat <<PYTHON

>>> from funasr import AutoModel
>>> pause = {"max_end_silence_time": 500}
>>> model = AutoModel(model="${asr}", vad_model="${vad}", vad_kwargs=pause, punc_model="${punc}")
>>> print(model.generate(input="egs/mini/demo/data/recording.wav")[0]["text"])
PYTHON
