#!/usr/bin/env bash
# The marks of the embedded corpus' language, learned from texts that its grammar writes.  No sentence of three or more
# words is in two sets.  All options: ../../common/task.sh --help
set -euo pipefail
here=$(dirname "${BASH_SOURCE[0]}")
exec "${here}/../../common/task.sh" --recipe_dir "${here}" --task punc "$@"
