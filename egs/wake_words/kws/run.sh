#!/usr/bin/env bash
# Wake words (alexa, computer, jarvis): keyword spotting, a task that is defined here, see ../../../docs/new_task.md
#   run.sh [--corpus_dir DIR]     DIR has the folders alexa, computer, jarvis; else they are downloaded
#   --speech_dir "DIR ..."        other speech, 16 kHz; else a part of LibriSpeech is downloaded
#   --test_speech_dir "DIR ..."   more of it, for the false alarms of the test
# All options: ../../common/task.sh --help
set -euo pipefail
here=$(dirname "${BASH_SOURCE[0]}")
exec "${here}/../../common/task.sh" --recipe_dir "${here}" --task kws "$@"
