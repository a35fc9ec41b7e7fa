# Sourced by recipes: where the toolkit is, and an environment in which results do not depend on the user's own.
# shellcheck shell=bash
FUNASR_ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
export FUNASR_ROOT
if [[ -x ${FUNASR_ROOT}/.venv/bin/python ]]; then
    export PATH="${FUNASR_ROOT}/.venv/bin:${PATH}"
fi
export PYTHONPATH="${FUNASR_ROOT}${PYTHONPATH:+:${PYTHONPATH}}"
export PYTHONUTF8=1
export LC_ALL=C.UTF-8
# Parallel jobs share the cores among them; the training stage sets its own number.
export OMP_NUM_THREADS=1
# A thread that has nothing to do sleeps soon instead of spinning: with the loader, or anything else, on the same cores,
# spinning made training several times slower, and on idle cores the difference is small.
export GOMP_SPINCOUNT=${GOMP_SPINCOUNT:-100}
