#!/usr/bin/env bash
# The stages of every recipe.  A recipe's run.sh sets options and calls this; egs/common/tasks/TASK.sh says what is
# particular to a task (which data it reads, its tokens, its outputs, how they are scored).
#
#   run.sh [--stage N] [--stop_stage N] [--option value ...]
#
#   0 data        local/data.sh makes data/SET with wav.scp, text, utt2spk, spk2utt
#   1 format      dump/SET: pipes and segments become files, too short and too long audio leaves training; validated
#   2 cmvn        mean and variance of the features of the training set
#   3 tokens      token list, or BPE model; labels for recordings without (vad)
#   4 stats       lengths of all utterances, in parallel jobs
#   5 train       the experiment directory; started again, it goes on from its checkpoint
#   6 average     mean of the best epochs
#   7 decode      each test set in parallel jobs
#   8 score       error rates and aligned reports per speaker, RESULTS.md
#   9 pack        a model directory in one archive, for AutoModel
#
# Options (defaults are in this file and in tasks/TASK.sh)
#   --task                  tasks/TASK.sh; a recipe's own local/task.sh goes before it
#   --stage, --stop_stage   first and last stage
#   --train_set, --valid_set, --test_sets "a b"
#   --corpus_dir            a corpus that is on this machine (else local/data.sh fetches or makes it)
#   --local_data_opts       more options for local/data.sh
#   --datadir, --dumpdir, --expdir   where things go, in the recipe's directory if not absolute
#   --nj, --inference_nj    parallel jobs (default: number of cores)
#   --ngpu, --nproc         training processes: GPUs, or CPU processes
#   --num_threads           CPU threads of each training process (default: cores / processes)
#   --num_workers           loader processes of each training process
#   --gpu_inference         decode on GPU (true, false)
#   --train_config, --train_args "--max_epoch 3 ..."
#   --inference_config, --inference_args, --inference_model   decoding options; weights (in the experiment)
#   --fs                    sample rate in Hz of formatted audio
#   --audio_format          wav, flac, or auto: write audio only where there are segments, archives or commands
#   --allow_pipes           run the commands (`... |`) that stand in a wav.scp (true, false)
#   --min_wav_duration, --max_wav_duration   seconds, for the training and validation sets
#   --use_cmvn              normalise features by the training set's statistics (true, false)
#   --num_average           how many best epochs stage 6 averages, e.g. "5 10"; empty: as the training options say
#   --average_criterion     phase,key,mode of stage 6
#   --token_type, --nbpe    char, word or bpe; size of the BPE vocabulary
#   --tag, --inference_tag  names of the experiment and of the decoding directory (default: from the configs)
# Relative paths of --corpus_dir and the two configs are looked up from where you are, then in the recipe.
set -euo pipefail

common_dir=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
recipe_dir=.
task=asr
stage=0
stop_stage=9
train_set=train
valid_set=dev
test_sets=test
corpus_dir=
local_data_opts=
datadir=data
dumpdir=dump
expdir=exp
nj=
inference_nj=
ngpu=0
nproc=1
num_threads=
num_workers=1
gpu_inference=false
train_config=conf/train.yaml
train_args=
inference_config=conf/decode.yaml
inference_args=
inference_model=
fs=16000
audio_format=auto
allow_pipes=false
min_wav_duration=0.1
max_wav_duration=30
use_cmvn=true
num_average=
average_criterion=valid,acc,max
token_type=word
nbpe=500
tag=
inference_tag=

run_args=("$@")
# --task and --recipe_dir decide which files are read before the options are.
for ((i = 1; i < $#; i++)); do
    next=$((i + 1))
    case "${!i}" in
        --task) task=${!next} ;;
        --recipe_dir) recipe_dir=${!next} ;;
    esac
done
task_script=${recipe_dir}/local/task.sh # a task of the recipe's own
[[ -f ${task_script} ]] || task_script=${common_dir}/tasks/${task}.sh
if [[ ! -f ${task_script} ]]; then
    echo "task.sh: no task '${task}', and no ${recipe_dir}/local/task.sh; there are: $(cd "${common_dir}/tasks" && echo *.sh | sed 's/\.sh//g')" >&2
    exit 1
fi
. "${common_dir}/path.sh"
train_program=(python -m "funasr.bin.${task}_train") # a task's script may name others
inference_program=(python -m "funasr.bin.${task}_inference")
validate_program=(python -m funasr.bin.validate_data_dir)
. "${task_script}"
. "${common_dir}/parse_options.sh"
if [[ $# -gt 0 ]]; then
    echo "task.sh: unexpected argument '$1'; options begin with --, see --help" >&2
    exit 1
fi

log() { echo "$(date '+%F %T') $*"; }
die() {
    echo "task.sh: $*" >&2
    exit 1
}
from_caller() { # path given by the user -> as seen from the recipe
    local given=$1
    if [[ -z ${given} || ${given} == /* ]]; then
        echo "${given}"
    elif [[ -e ${given} ]]; then
        realpath --relative-to="${recipe_dir}" "${given}"
    else
        echo "${given}"
    fi
}
in_range() { [[ ${stage} -le $1 && $1 -le ${stop_stage} ]]; }
# Repeats one stage with the options of this call, from wherever it is started; `$1` is a directory, `$2` the stage.
write_run_sh() {
    local words=() word skip=false
    for word in ${run_args[@]+"${run_args[@]}"}; do
        if ${skip}; then
            skip=false
        elif [[ ${word} == --recipe_dir || ${word} == --stage || ${word} == --stop_stage ]]; then
            skip=true
        elif [[ ${word} != --recipe_dir=* && ${word} != --stage=* && ${word} != --stop_stage=* ]]; then
            words+=("${word}")
        fi
    done
    {
        echo "#!/usr/bin/env bash"
        echo "# Repeats stage $2 of this recipe."
        echo "cd \"\$(dirname \"\$0\")/$(realpath --relative-to="$1" .)\" || exit 1"
        printf 'exec %q' "$(realpath --relative-to=. "${common_dir}")/task.sh"
        [[ ${#words[@]} -eq 0 ]] || printf ' %q' "${words[@]}"
        printf ' --train_config %q --inference_config %q' "${train_config}" "${inference_config}"
        echo " --stage $2 --stop_stage $2 \"\$@\""
    } >"$1/run.sh"
    chmod +x "$1/run.sh"
}
split_keys() { # table, number of parts, prefix -> prefix.1.scp ... with every n-th id each
    awk -v n="$2" -v prefix="$3" '{ print $1 > (prefix "." ((NR - 1) % n + 1) ".scp") }' "$1"
}
format_audio() { # data directory, output directory: plain files stay where they are
    local name
    for name in "$1"/*; do
        case $(basename "${name}") in
            wav.scp | segments) ;;
            *) [[ ! -f ${name} ]] || cp "${name}" "$2" ;;
        esac
    done
    if [[ ${audio_format} == auto && ! -f $1/segments ]] && ! grep -qE '\|[[:space:]]*$|:[0-9]+$' "$1/wav.scp"; then
        cp "$1/wav.scp" "$2"
    else
        python -m funasr.bin.format_wav_scp "$1/wav.scp" "$2" --fs "${fs}" --nj "${nj}" --allow_pipes "${allow_pipes}" \
            --audio_format "$([[ ${audio_format} == auto ]] && echo flac || echo "${audio_format}")"
    fi
}
run_jobs() { # a launcher; a signal that ends this script ends its jobs too
    "$@" &
    jobs_pid=$!
    trap 'kill -TERM "${jobs_pid}" 2>/dev/null; wait "${jobs_pid}"; exit 143' TERM INT HUP
    wait "${jobs_pid}"
    trap - TERM INT HUP
}
replace_dir() { # finished directory $1 takes the place of $2
    rm -rf "$2"
    mv "$1" "$2"
}
data_options() { # prefix, directory, entries "file,name,type" -> array data_opts
    local prefix=$1 directory=$2 item
    shift 2
    data_opts=()
    for item in "$@"; do
        data_opts+=("--${prefix}data_path_and_name_and_type" "${directory}/${item}")
    done
}

[[ -d ${recipe_dir} ]] || die "no recipe directory '${recipe_dir}'"
corpus_dir=$(from_caller "${corpus_dir}")
train_config=$(from_caller "${train_config}")
inference_config=$(from_caller "${inference_config}")
caller_dir=${PWD}
cd "${recipe_dir}"
[[ -f ${train_config} ]] || die "--train_config '${train_config}' does not exist"
if [[ -f cmd.sh ]]; then . ./cmd.sh; else . "${common_dir}/cmd.sh"; fi

cores=$(env -u OMP_NUM_THREADS nproc 2>/dev/null || getconf _NPROCESSORS_ONLN)
nj=${nj:-${cores}}
inference_nj=${inference_nj:-${nj}}
processes=$((ngpu > 0 ? ngpu : nproc))
num_threads=${num_threads:-$((cores / processes > 0 ? cores / processes : 1))}
read -r -a train_arg_words <<<"${train_args}"
read -r -a inference_arg_words <<<"${inference_args}"
validate_opts=() # of validate_program
cmvn_opts=()     # of compute_cmvn
task_setup       # the task's own names: data_items, inference_items, decode_outputs, token_tag, shape_names
if [[ -z ${tag} ]]; then
    tag=$(basename "${train_config%.*}")${token_tag:+_${token_tag}}
    tag+=$(echo "${train_args}" | sed -e 's/--//g' -e 's/[^A-Za-z0-9.=+-]\+/_/g' -e 's/^_*/_/' -e 's/_*$//')
fi
exp=${expdir}/${task}_${tag}
stats=${expdir}/${task}_stats_$(basename "${train_config%.*}")${token_tag:+_${token_tag}}
cmvn_file=${dumpdir}/${train_set}/am.mvn
inference_model=${inference_model:-${default_inference_model}}
if [[ -z ${inference_tag} ]]; then
    inference_tag=$(basename "${inference_config%.*}")_${inference_model%.*}
    inference_tag+=$(echo "${inference_args}" | sed -e 's/--//g' -e 's/[^A-Za-z0-9.=+-]\+/_/g' -e 's/^_*/_/' -e 's/_*$//')
fi

if in_range 0; then
    [[ -z ${corpus_dir} || -d ${corpus_dir} ]] || die "--corpus_dir '${corpus_dir}' is neither here nor in the recipe"
    log "stage 0: data (local/data.sh -> ${datadir})"
    read -r -a words <<<"${local_data_opts}"
    [[ -z ${corpus_dir} ]] || words+=(--corpus_dir "${corpus_dir}")
    local/data.sh --datadir "${datadir}" --nj "${nj}" ${words[@]+"${words[@]}"}
fi

if in_range 1; then
    for set in ${train_set} ${valid_set} ${test_sets}; do
        log "stage 1: format ${datadir}/${set} -> ${dumpdir}/${set}"
        [[ -d ${datadir}/${set} ]] || die "${datadir}/${set} does not exist; run stage 0"
        part=${dumpdir}/.${set}.part
        rm -rf "${part}"
        mkdir -p "${part}"
        task_format "${datadir}/${set}" "${part}"
        if [[ " ${test_sets} " != *" ${set} "* ]]; then
            task_filter "${part}"
        fi
        "${validate_program[@]}" ${validate_opts[@]+"${validate_opts[@]}"} "${part}"
        if [[ ${task_has_speech} == true ]]; then # formatted audio moves with its directory
            sed -i "s#^\([^ ]* \)${part}/#\1${dumpdir}/${set}/#" "${part}/wav.scp"
        fi
        replace_dir "${part}" "${dumpdir}/${set}"
    done
fi

if in_range 2 && [[ ${use_cmvn} == true && ${task_has_speech} == true ]]; then
    log "stage 2: mean and variance of ${dumpdir}/${train_set} -> ${cmvn_file}"
    run_jobs "${prep_cmd[@]}" --num-threads "${nj}" "${dumpdir}/log/cmvn.log" \
        python -m funasr.bin.compute_cmvn --wav_scp "${dumpdir}/${train_set}/wav.scp" --train_config "${train_config}" \
        --nj "${nj}" --output "${cmvn_file}" ${cmvn_opts[@]+"${cmvn_opts[@]}"}
fi

if in_range 3; then
    log "stage 3: tokens (${token_tag:-none})"
    task_tokens
fi

train_opts=(--config "${train_config}")
if [[ ${use_cmvn} == true && ${task_has_speech} == true ]]; then
    train_opts+=(--cmvn_file "${cmvn_file}")
fi
task_train_options # adds to train_opts
data_options train_ "${dumpdir}/${train_set}" "${data_items[@]}"
train_opts+=("${data_opts[@]}")
data_options valid_ "${dumpdir}/${valid_set}" "${data_items[@]}"
train_opts+=("${data_opts[@]}")

if in_range 4 && [[ ${#shape_names[@]} -eq 0 ]]; then
    log "stage 4: nothing to do, batches need no lengths"
elif in_range 4; then
    log "stage 4: lengths and statistics -> ${stats} (${nj} jobs)"
    part=${stats}.part
    rm -rf "${part}"
    mkdir -p "${part}/log"
    jobs=$(wc -l <"${dumpdir}/${valid_set}/${key_file}")
    jobs=$((jobs < nj ? jobs : nj))
    for set in train valid; do
        name=${set}_set
        split_keys "${dumpdir}/${!name}/${key_file}" "${jobs}" "${part}/log/${set}"
    done
    write_run_sh "${part}" 4
    run_jobs "${prep_cmd[@]}" JOB=1:"${jobs}" "${part}/log/stats.JOB.log" \
        "${train_program[@]}" --collect_stats true --output_dir "${part}/log/stats.JOB" \
        --train_shape_file "${part}/log/train.JOB.scp" --valid_shape_file "${part}/log/valid.JOB.scp" \
        "${train_opts[@]}" ${train_arg_words[@]+"${train_arg_words[@]}"}
    words=()
    for ((i = 1; i <= jobs; i++)); do words+=(--input_dir "${part}/log/stats.${i}"); done
    python -m funasr.bin.aggregate_stats_dirs "${words[@]}" --output_dir "${part}"
    task_stats "${part}"
    replace_dir "${part}" "${stats}"
fi

if in_range 5; then
    log "stage 5: train ${exp} (log: ${exp}/log/train.log)"
    mkdir -p "${exp}/log"
    write_run_sh "${exp}" 5
    shape_opts=()
    for name in ${shape_names[@]+"${shape_names[@]}"}; do
        shape_opts+=(--train_shape_file "${stats}/train/${name}" --valid_shape_file "${stats}/valid/${name}")
    done
    run_jobs "${train_cmd[@]}" --gpu "${ngpu}" --num-threads "$((num_threads * processes))" "${exp}/log/train.console.log" \
        "${train_program[@]}" --output_dir "${exp}" --resume true --ngpu "${ngpu}" --nproc "${nproc}" \
        --num_threads "${num_threads}" --num_workers "${num_workers}" "${train_opts[@]}" \
        ${shape_opts[@]+"${shape_opts[@]}"} \
        ${train_arg_words[@]+"${train_arg_words[@]}"}
fi

if in_range 6 && [[ -n ${num_average} ]]; then
    for n in ${num_average}; do
        log "stage 6: mean of the ${n} best epochs (${average_criterion})"
        python -m funasr.bin.average_checkpoints "${exp}" --mode nbest --criterion "${average_criterion}" -n "${n}"
    done
fi

if in_range 7; then
    inference_opts=("--${task}_train_config" "${exp}/config.yaml" "--${task}_model_file" "${exp}/${inference_model}")
    task_inference_options # may replace inference_opts
    [[ -f ${exp}/${inference_model} ]] || die "${exp}/${inference_model} does not exist; train first (stages 5 and 6)"
    for set in ${test_sets}; do
        result=${exp}/${inference_tag}/${set}
        part=${exp}/${inference_tag}/.${set}.part
        log "stage 7: decode ${dumpdir}/${set} with ${inference_model} -> ${result}"
        [[ ! -d ${result} ]] || log "an earlier result is there and will be replaced"
        rm -rf "${part}"
        mkdir -p "${part}/logdir"
        write_run_sh "${part}" 7
        jobs=$(wc -l <"${dumpdir}/${set}/${key_file}")
        [[ ${jobs} -gt 0 ]] || die "${dumpdir}/${set}/${key_file} is empty"
        jobs=$((jobs < inference_nj ? jobs : inference_nj))
        split_keys "${dumpdir}/${set}/${key_file}" "${jobs}" "${part}/logdir/keys"
        data_options "" "${dumpdir}/${set}" "${inference_items[@]}"
        gpu=$([[ ${gpu_inference} == true ]] && echo 1 || echo 0)
        run_jobs "${decode_cmd[@]}" --gpu "${gpu}" --max-jobs-run "${inference_nj}" JOB=1:"${jobs}" \
            "${part}/logdir/${task}_inference.JOB.log" \
            "${inference_program[@]}" --output_dir "${part}/logdir/output.JOB" --ngpu "${gpu}" \
            --key_file "${part}/logdir/keys.JOB.scp" --config "${inference_config}" \
            "${data_opts[@]}" "${inference_opts[@]}" ${inference_arg_words[@]+"${inference_arg_words[@]}"}
        for name in ${decode_outputs}; do
            for ((i = 1; i <= jobs; i++)); do
                cat "${part}/logdir/output.${i}/${decode_subdir}${name}"
            done | LC_ALL=C sort -s -k1,1 >"${part}/${name}"
        done
        missing=$(($(wc -l <"${dumpdir}/${set}/${key_file}") - $(wc -l <"${part}/${decode_outputs%% *}")))
        [[ ${missing} -eq 0 ]] || log "warning: ${missing} utterances of ${set} have no result; see ${result}/logdir"
        replace_dir "${part}" "${result}"
    done
fi

if in_range 8; then
    for set in ${test_sets}; do
        result=${exp}/${inference_tag}/${set}
        [[ -d ${result} ]] || die "${result} does not exist; decode first (stage 7)"
        log "stage 8: score ${result}"
        task_score "${dumpdir}/${set}" "${result}"
    done
    python -m funasr.bin.write_results --exp "${exp}" --output "${exp}/RESULTS.md"
    log "results: $(realpath --relative-to="${caller_dir}" "${exp}/RESULTS.md")"
fi

if in_range 9; then
    archive=${exp}/${task}_${tag}.tar.gz
    log "stage 9: pack ${exp} with ${inference_model} -> ${archive}"
    python -m funasr.bin.pack --expdir "${exp}" --model_file "${inference_model}" --output "${archive}"
fi
