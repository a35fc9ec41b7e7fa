#!/usr/bin/env bash
# LibriSpeech: a speaker model from train-clean-100, trials between the speakers of test-other.
#   run.sh [--corpus_dir DIR]     DIR holds LibriSpeech/{train-clean-100,test-other}; else they are downloaded (6.6 GB)
#   --local_data_opts "--an4_dir DIR --aishell3_dir DIR --noise_dir DIR ..."   more speakers, noise: local/data.sh
# The default configuration is a small one; conf/train_campplus.yaml and conf/train_eres2netv2.yaml have the full size.
# All options: ../../common/task.sh --help
set -euo pipefail
here=$(dirname "${BASH_SOURCE[0]}")
exec "${here}/../../common/task.sh" --recipe_dir "${here}" --task sv --test_sets test_other "$@"
