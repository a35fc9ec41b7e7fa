# Sourced by task.sh: how jobs are started.  A recipe may hold its own cmd.sh, which is then used instead.
#
#   cmd_backend   local (this machine), slurm (sbatch) or queue (SGE qsub); also from the environment: FUNASR_CMD_BACKEND
#   cmd_config    maps the launcher's options to scheduler flags, e.g. conf/slurm.conf (see funasr/bin/launch.py)
#
# prep_cmd runs data preparation, train_cmd training, decode_cmd decoding jobs.
# shellcheck shell=bash disable=SC2034
cmd_backend=${cmd_backend:-${FUNASR_CMD_BACKEND:-local}}
cmd_config=${cmd_config:-}

launcher=(python -m funasr.bin.launch --backend "${cmd_backend}")
if [[ ${cmd_backend} != local && -n ${cmd_config} ]]; then
    launcher+=(--config "${cmd_config}")
fi
prep_cmd=("${launcher[@]}" --mem 4G)
train_cmd=("${launcher[@]}" --mem 16G)
decode_cmd=("${launcher[@]}" --mem 4G)
