# Punctuation: what egs/common/task.sh needs to know about this task (see tasks/asr.sh for the functions).
#   local/data.sh writes DATADIR/SET/{text,punc}, as `python -m funasr.bin.prepare_punc` does.
#   --cutoff        tokens seen at most so often in the training windows are left out of the token list
#   --punc_list     file of `mark` or `mark:weight` lines (default: the marks of the training options)
#   --jieba_usr_dict   cut Chinese into words by jieba with this dictionary
#   --rules true    score the best simple rules beside the model
# shellcheck shell=bash disable=SC2034,SC2154
task_has_speech=false
default_inference_model=model.pt
cutoff=0
punc_list=
jieba_usr_dict=
rules=true

task_setup() {
    data_items=(text,text,text punc,punc,text)
    inference_items=(text,text,text)
    key_file=text
    shape_names=(text_shape)
    decode_outputs="text punc"
    decode_subdir=1best_recog/
    token_tag=$([[ -n ${jieba_usr_dict} ]] && echo jieba || echo word)
    token_dir=${datadir}/token_list/${token_tag}
    validate_program=(python -m funasr.bin.prepare_punc)
    [[ -z ${punc_list} ]] || validate_opts+=(--punc_list "${punc_list}")
    validate_opts+=(--check)
}

task_format() { cp "$1/text" "$1/punc" "$2"; }

task_filter() { :; }

task_tokens() {
    mkdir -p "${token_dir}"
    local cut=()
    [[ -z ${jieba_usr_dict} ]] || cut=(--jieba_usr_dict "${jieba_usr_dict}")
    python -m funasr.bin.punc_tokens --text "${dumpdir}/${train_set}/text" --cutoff "${cutoff}" \
        --output "${token_dir}/tokens.json" ${cut[@]+"${cut[@]}"}
}

task_train_options() {
    train_opts+=(--token_list "${token_dir}/tokens.json")
    [[ -z ${punc_list} ]] || train_opts+=(--punc_list "${punc_list}")
    [[ -z ${jieba_usr_dict} ]] || train_opts+=(--jieba_usr_dict "${jieba_usr_dict}")
}

task_stats() { :; }

task_inference_options() { :; }

task_score() {
    local opts=()
    [[ ${rules} != true ]] || opts+=(--rules_from "${dumpdir}/${train_set}")
    python -m funasr.bin.score_punc --ref "$1" --hyp "$2" --output_dir "$2/score" --name "$(basename "$1")" \
        ${opts[@]+"${opts[@]}"}
}
