#!/usr/bin/env bash
# AMI excerpts with speaker turns (CC BY 4.0), with open noise, music and clean speech around them; see prepare.py.
#   --corpus_dir DIR   corpora on this machine, in folders below DIR; without it they are downloaded
#   --datadir DIR      where train, valid, dev, noise and the lists of mix/ go
#   --num_made         made sounds (egs/mini/vad) beside the real noise
#   --ami_copies, --max_clean_s   see prepare.py
set -euo pipefail
corpus_dir=
datadir=data
nj=2
num_made=480
ami_copies=16
max_clean_s=900
common_dir=$(dirname "${BASH_SOURCE[0]}")/../../../common
. "${common_dir}/path.sh"
. "${common_dir}/parse_options.sh"
local_dir=$(dirname "${BASH_SOURCE[0]}")

if [[ -z ${corpus_dir} ]]; then
    corpus_dir=downloads
    github=https://github.com
    fetch() { python "${FUNASR_ROOT}/tools/download_and_extract.py" "${github}/$1" "${corpus_dir}/$2"; }
    fetch pyannote/pyannote-audio/archive/refs/tags/3.1.1.zip ami_debug                  # tests/data
    fetch karolpiczak/ESC-10/archive/553c8f1743b9dba6b282e1323c3ca8fa76923448.zip esc10  # CC BY 3.0
    fetch librosa/data/archive/refs/heads/main.zip music                                 # CC BY, public domain
    fetch resemble-ai/Resemblyzer/archive/refs/heads/master.zip librispeech              # CC BY 4.0, audio_data/
fi
python "${local_dir}/../../../mini/vad/local/make_noise.py" --output_dir "${datadir}/mix/made" --count "${num_made}" \
    --nj "${nj}"
cut -d' ' -f2- "${datadir}/mix/made/wav.scp" >"${datadir}/mix/made.list"
python "${local_dir}/prepare.py" --corpus_dir "${corpus_dir}" --output_dir "${datadir}" --ami_copies "${ami_copies}" \
    --max_clean_s "${max_clean_s}"
