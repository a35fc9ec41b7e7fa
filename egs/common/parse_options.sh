# Sourced by a script after its defaults: `--name value` or `--name=value` sets the variable `name`.
#
# Every lower-case variable set before this file is sourced is an option; `-` in an option's name is `_` in the
# variable's.  Anything else that begins with `--` is an error which names the nearest option.  `--help` prints the
# comment at the head of the script.  A variable that is `true` or `false` takes only these two.  What is left of the
# arguments (the first word without `--` and all after it, or what follows `--`) stays in "$@".
# shellcheck shell=bash
__script=${BASH_SOURCE[1]}
__name=$(basename "${__script}")

__usage() {
    awk 'NR > 1 { if (!/^#/) exit; sub(/^# ?/, ""); print }' "${__script}"
}

__unknown() {
    local near
    near=$(compgen -v | grep -E '^[a-z][a-z0-9_]*$' | python3 -c '
import difflib, sys
print(*difflib.get_close_matches(sys.argv[1], sys.stdin.read().split(), n=3, cutoff=0.5), sep=" or --")' "$1") || near=
    echo "${__name}: unknown option --$1.${near:+ Did you mean --${near}?} See --help." >&2
}

while [[ $# -gt 0 ]]; do
    case "$1" in
        --help | -h)
            __usage
            exit 0
            ;;
        --)
            shift
            break
            ;;
        --*)
            __option=${1#--}
            __variable=${__option%%=*}
            __variable=${__variable//-/_}
            if [[ ! ${__variable} =~ ^[a-z][a-z0-9_]*$ || -z ${!__variable+set} ]]; then
                __unknown "${__variable}"
                exit 1
            fi
            if [[ ${__option} == *=* ]]; then
                __value=${__option#*=}
            elif [[ $# -ge 2 ]]; then
                __value=$2
                shift
            else
                echo "${__name}: option --${__variable} needs a value" >&2
                exit 1
            fi
            if [[ ${!__variable} =~ ^(true|false)$ && ! ${__value} =~ ^(true|false)$ ]]; then
                echo "${__name}: --${__variable} is true or false, not '${__value}'" >&2
                exit 1
            fi
            printf -v "${__variable}" '%s' "${__value}"
            shift
            ;;
        *) break ;;
    esac
done
unset -f __usage __unknown
unset __script __name __option __variable __value
