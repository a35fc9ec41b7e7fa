# Voice activity detection: what egs/common/task.sh needs to know about this task.
#
# Sourced by task.sh before it reads its options, so the variables set here are options as well (see tasks/asr.sh for
# the functions).  A data directory holds wav.scp and either speech_segments, a label table that funasr.bin.vad_labels
# writes, or rttm or ctm, or none of them: then the labels come from the energy of the audio, which must be clean.
# shellcheck shell=bash disable=SC2034,SC2154
task_has_speech=true
default_inference_model=valid.loss.ave.pt
average_criterion=valid,loss,min
max_wav_duration=600
label_opts=     # more options of vad_labels
mix=            # lists in datadir that training mixes in, "LIST,PROB,LOW_HIGH LIST,..." (noise, music; dB)
rir_list=       # list in datadir of impulse responses
baselines=false # score silero-vad and webrtcvad beside this detector (pip install "funasr[bench]")

task_setup() {
    data_items=(wav.scp,speech,sound speech_segments,segments,text)
    inference_items=(wav.scp,speech,sound)
    key_file=wav.scp
    decode_outputs="text segments rttm speech_prob"
    decode_subdir=1best_recog/
    token_tag=
    shape_names=() # batches are of mixed samples of one length
    validate_opts=(--no_text)
    cmvn_opts=(--frontend wav_frontend) # the same features, not as a stream
}

task_format() { format_audio "$@"; }

task_filter() {
    python "${FUNASR_ROOT}/tools/filter_data_dir.py" --min_duration "${min_wav_duration}" \
        --max_duration "${max_wav_duration}" "$1"
}

task_tokens() {
    local set source more
    read -r -a more <<<"${label_opts}"
    for set in ${train_set} ${valid_set} ${test_sets}; do
        local dir=${dumpdir}/${set}
        [[ ! -f ${dir}/speech_segments ]] || continue
        source=(--energy)
        [[ ! -f ${dir}/ctm ]] || source=(--ctm "${dir}/ctm")
        [[ ! -f ${dir}/rttm ]] || source=(--rttm "${dir}/rttm")
        python -m funasr.bin.vad_labels --wav_scp "${dir}/wav.scp" "${source[@]}" ${more[@]+"${more[@]}"} \
            --output "${dir}/speech_segments"
    done
}

task_train_options() {
    local words word
    read -r -a words <<<"${mix}"
    for word in ${words[@]+"${words[@]}"}; do train_opts+=(--mix "${datadir}/${word}"); done
    [[ -z ${rir_list} ]] || train_opts+=(--rir_scp "${datadir}/${rir_list}")
}

task_stats() { :; }

task_inference_options() { inference_opts+=(--write_probabilities true); }

task_score() {
    local systems=(--hyp "fsmn=$2/text" --scores "fsmn=$2/speech_prob") file name
    if [[ ${baselines} == true ]]; then
        python "${FUNASR_ROOT}/tools/vad_baselines.py" --wav_scp "$1/wav.scp" --output_dir "$1/baselines"
        for file in "$1"/baselines/*/text; do
            name=$(basename "$(dirname "${file}")")
            systems+=(--hyp "${name}=${file}")
            [[ ! -f ${file%text}speech_prob ]] || systems+=(--scores "${name}=${file%text}speech_prob")
        done
    fi
    python -m funasr.bin.score_vad --ref "$1/speech_segments" --wav_scp "$1/wav.scp" "${systems[@]}" \
        --output_dir "$2/score_vad" --name "$(basename "$1")"
}
