# Speech recognition: what egs/common/task.sh needs to know about this task.
#
# Sourced by task.sh before it reads its options, so the variables set here are options as well.  task.sh calls
#   task_setup               sets data_items, inference_items, key_file, shape_names, decode_outputs, token_tag
#   task_format IN OUT       copies data directory IN to OUT
#   task_filter DIR          drops utterances that training cannot use
#   task_tokens              stage 3
#   task_train_options       adds to train_opts
#   task_stats DIR           what remains to be done with the merged statistics
#   task_inference_options   may change inference_opts
#   task_score DATA RESULT   scores one test set
# shellcheck shell=bash disable=SC2034,SC2154
task_has_speech=true
default_inference_model=valid.acc.ave.pt
bpe_train_text=
cleaner=none
score_cer=true

task_setup() {
    data_items=(wav.scp,speech,sound text,text,text)
    inference_items=(wav.scp,speech,sound)
    key_file=wav.scp
    decode_outputs="text token token_int score"
    decode_subdir=1best_recog/
    case ${token_type} in
        bpe) token_tag=bpe${nbpe} ;;
        char | word) token_tag=${token_type} ;;
        *) die "--token_type is char, word or bpe, not '${token_type}'" ;;
    esac
    token_dir=${datadir}/token_list/${token_tag}
    shape_names=(speech_shape "text_shape.${token_type}")
}

task_format() { format_audio "$@"; }

task_filter() {
    python "${FUNASR_ROOT}/tools/filter_data_dir.py" --min_duration "${min_wav_duration}" \
        --max_duration "${max_wav_duration}" "$1"
}

task_tokens() {
    local text=${bpe_train_text:-${dumpdir}/${train_set}/text}
    mkdir -p "${token_dir}"
    if [[ ${token_type} == bpe ]]; then
        python -m funasr.bin.train_bpe --input "${text}" --field 2- --cleaner "${cleaner}" --nbpe "${nbpe}" \
            --model_prefix "${token_dir}/bpe" --token_list "${token_dir}/tokens.txt"
    else
        python -m funasr.bin.tokenize_text --input "${text}" --field 2- --cleaner "${cleaner}" \
            --token_type "${token_type}" --write_vocabulary true --output "${token_dir}/tokens.txt" \
            --add_symbol "<blank>:0" --add_symbol "<s>:1" --add_symbol "</s>:2" --add_symbol "<unk>:-1"
    fi
    log "$(wc -l <"${token_dir}/tokens.txt") tokens in ${token_dir}/tokens.txt"
}

task_train_options() {
    train_opts+=(--token_list "${token_dir}/tokens.txt" --token_type "${token_type}")
    [[ ${token_type} != bpe ]] || train_opts+=(--bpemodel "${token_dir}/bpe.model")
    [[ ${cleaner} == none ]] || train_opts+=(--cleaner "${cleaner}")
}

task_stats() {
    # the vocabulary size beside the length, so that a sampler by elements counts the logits
    local size set
    size=$(wc -l <"${token_dir}/tokens.txt")
    for set in train valid; do
        awk -v n=",${size}" '{ sub(/,.*/, "", $2); print $1, $2 n }' "$1/${set}/text_shape" \
            >"$1/${set}/text_shape.${token_type}"
    done
}

task_inference_options() { :; }

task_score() {
    local units=word unit
    [[ ${score_cer} != true ]] || units="word char"
    for unit in ${units}; do
        local name=wer
        [[ ${unit} == word ]] || name=cer
        python -m funasr.bin.score --ref "$1/text" --hyp "$2/text" --unit "${unit}" --utt2spk "$1/utt2spk" \
            --output_dir "$2/score_${name}" --name "$(basename "$1")"
    done
}
