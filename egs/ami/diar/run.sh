#!/usr/bin/env bash
# Diarization error rate of the pipeline (speech, speaker embeddings, clustering) on meetings and on mixed readers.
#   run.sh [--corpus_dir DIR] [--spk_model DIR] [--vad_model DIR]
#
#   0 data      local/data.sh makes data/SET with wav.scp, ref.rttm and, for the meetings, all.uem
#   1 diarize   who speaks when, once for each system
#   2 score     DER with collars of 0.25 and 0 s, with and without overlapping speech; EXPDIR/RESULTS.md
#
# A system is SPEECH.SPEAKERS: SPEECH is `true` (of the reference) or `found` (by --vad_model), SPEAKERS their number:
# `one` (everybody is the same), `true` (of the reference) or `found`.
#
# Options
#   --stage, --stop_stage   first and last stage
#   --corpus_dir            holds ami_debug and libri_speech_mix; without it they are downloaded
#   --spk_model             a speaker model (default: what egs/librispeech/sv trains)
#   --vad_model             a detector (default: what egs/ami/vad trains; none: only the reference's speech)
#   --merge_thr             cosine from which two speakers are one, where their number is found out
#   --sets, --systems "a b"
#   --datadir, --expdir     where things go
set -euo pipefail
stage=0
stop_stage=2
corpus_dir=
spk_model=../../librispeech/sv/exp/sv_train
vad_model=../vad/exp/vad_train
merge_thr=0.35 # chosen on ami_train for the small model of egs/librispeech/sv; 0.78 is for the released CAM++
sets="ami_train ami_dev libri_mix"
systems="true.one true.true true.found found.true found.found"
datadir=data
expdir=exp
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
common_dir=${here}/../../common
caller_dir=${PWD}
. "${common_dir}/path.sh"
. "${common_dir}/parse_options.sh"

from_caller() { # path given by the user -> as it is seen from the recipe
    if [[ -n $1 && $1 != /* && -e ${caller_dir}/$1 ]]; then realpath "${caller_dir}/$1"; else echo "$1"; fi
}
corpus_dir=$(from_caller "${corpus_dir}")
spk_model=$(from_caller "${spk_model}")
vad_model=$(from_caller "${vad_model}")
cd "${here}"
in_range() { [[ ${stage} -le $1 && $1 -le ${stop_stage} ]]; }
log() { echo "$(date '+%F %T') $*"; }

if in_range 0; then
    log "stage 0: data (local/data.sh -> ${datadir})"
    local/data.sh --datadir "${datadir}" ${corpus_dir:+--corpus_dir "${corpus_dir}"}
fi

if in_range 1; then
    for system in ${systems}; do
        options=(--spk_model "${spk_model}" --merge_thr "${merge_thr}")
        case ${system} in
            true.*) ;;
            found.*)
                if [[ ! -e ${vad_model} ]]; then
                    log "stage 1: ${system} is left out: there is no ${vad_model}"
                    continue
                fi
                options+=(--vad_model "${vad_model}")
                ;;
            *) echo "run.sh: no system '${system}'; see --help" >&2 && exit 1 ;;
        esac
        for set in ${sets}; do
            ref=${datadir}/${set}/ref.rttm
            own=("${options[@]}")
            [[ ${system} != true.* ]] || own+=(--speech_rttm "${ref}")
            case ${system} in
                *.one) own+=(--num_speakers 1) ;;
                *.true) own+=(--speakers_rttm "${ref}") ;;
            esac
            log "stage 1: ${system} on ${set}"
            python -m funasr.bin.diarize --input "${datadir}/${set}/wav.scp" --output "${expdir}/${system}/${set}/hyp.rttm" \
                "${own[@]}"
        done
    done
fi

if in_range 2; then
    for hyp in "${expdir}"/*/*/hyp.rttm; do
        result=$(dirname "${hyp}")
        set=$(basename "${result}")
        log "stage 2: score ${hyp}"
        uem=()
        [[ ! -f ${datadir}/${set}/all.uem ]] || uem=(--uem "${datadir}/${set}/all.uem")
        python -m funasr.bin.score_diarization --ref_rttm "${datadir}/${set}/ref.rttm" --hyp_rttm "${hyp}" \
            ${uem[@]+"${uem[@]}"} --output_dir "${result}" --name "${set}"
    done
    python -m funasr.bin.write_results --exp "${expdir}" --output "${expdir}/RESULTS.md"
fi
