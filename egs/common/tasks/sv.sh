# Speaker verification: what egs/common/task.sh needs to know about this task (its hooks: see tasks/asr.sh).
#
# Options besides those of task.sh:
#   --noise_scp, --rir_scp   lists for augmentation (default: DATADIR/noise.scp and DATADIR/rir.scp if they exist)
#   --most_trials            trials of either kind at most, in a test set that brings none (file `trials`)
# shellcheck shell=bash disable=SC2034,SC2154
task_has_speech=true
use_cmvn=false # features are normalised utterance by utterance
default_inference_model=valid.loss.ave.pt
average_criterion=valid,loss,min
noise_scp=
rir_scp=
most_trials=200000

task_setup() {
    data_items=(wav.scp,speech,sound utt2spk,speaker,text)
    inference_items=(wav.scp,speech,sound)
    key_file=wav.scp
    shape_names=() # crops are of one length
    validate_opts=(--no_text)
    decode_outputs=embedding
    decode_subdir=1best_recog/
    token_tag=
}

task_format() { format_audio "$@"; }

task_filter() {
    python "${FUNASR_ROOT}/tools/filter_data_dir.py" --min_duration "${min_wav_duration}" \
        --max_duration "${max_wav_duration}" "$1"
}

task_tokens() { # no tokens here: the trials
    local set
    for set in ${test_sets}; do
        if [[ -f ${datadir}/${set}/trials ]]; then
            cp "${datadir}/${set}/trials" "${dumpdir}/${set}/trials"
        else
            python -m funasr.bin.make_trials --speakers "${dumpdir}/${set}/utt2spk" --most "${most_trials}" \
                --output "${dumpdir}/${set}/trials"
        fi
    done
}

task_train_options() {
    local kind file
    for kind in noise rir; do
        file=${kind}_scp
        file=${!file:-${datadir}/${kind}.scp}
        [[ ! -f ${file} ]] || train_opts+=("--${kind}_scp" "${file}")
    done
}

task_stats() { :; }

task_inference_options() { :; }

task_score() {
    python -m funasr.bin.score_sv --trials "$1/trials" --embeddings "$2"/logdir/output.*/embedding.npz \
        --output_dir "$2/score_sv" --name "$(basename "$1")"
}
