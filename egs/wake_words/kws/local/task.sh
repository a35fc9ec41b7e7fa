# Keyword spotting: what egs/common/task.sh needs to know about this task; its hooks are explained in
# egs/common/tasks/asr.sh.
# shellcheck shell=bash disable=SC2034,SC2154
train_program=(python kws_task.py)
inference_program=(python local/spot.py)
task_has_speech=true
default_inference_model=model.pt
speech_dir=
test_speech_dir=

task_setup() {
    data_items=(wav.scp,speech,sound text,text,text)
    inference_items=(wav.scp,speech,sound)
    key_file=wav.scp
    shape_names=() # batches are of one size
    decode_outputs=text
    decode_subdir=1best_recog/
    token_tag=
    local_data_opts+=" $(as_option --speech_dir "${speech_dir}") $(as_option --test_speech_dir "${test_speech_dir}")"
}

as_option() { # name, directories as the user gave them -> name and the same, seen from the recipe, with : between them
    local directory found=
    for directory in $2; do found+=:$(cd "${caller_dir}" && from_caller "${directory}"); done
    [[ -z ${found} ]] || echo "$1 ${found#:}"
}

task_format() { format_audio "$@"; }

task_filter() {
    python "${FUNASR_ROOT}/tools/filter_data_dir.py" --min_duration "${min_wav_duration}" \
        --max_duration "${max_wav_duration}" "$1"
}

task_tokens() { :; } # the keywords stand in the training configuration

task_train_options() { :; }

task_stats() { :; }

task_inference_options() { :; }

task_score() {
    python local/score.py "$1" "$2/text" --name "$(basename "$1")" --output "$2/score_kws/result.json"
}
