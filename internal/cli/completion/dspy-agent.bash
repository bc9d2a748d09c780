# bash completion for dspy-agent: source <(dspy-agent completion bash)
_dspy_agent() {
    # bash splits words at = and :, which ids and --flag=value contain, so the
    # line is split anew, and what precedes bash's own last word is cut off the
    # answers again.
    local line="${COMP_LINE:0:COMP_POINT}" words=() reply=() cur="" prefix
    read -ra words <<<"$line"
    if [[ $line == *[[:space:]] ]]; then
        words+=("")
    fi
    cur="${words[${#words[@]} - 1]}"
    mapfile -t reply < <(dspy-agent __complete -- "${words[@]:1}" 2>/dev/null)
    prefix="${cur%"${COMP_WORDS[COMP_CWORD]}"}"
    if [[ ${COMP_WORDS[COMP_CWORD]} == [=:] ]]; then
        prefix="$cur"
    fi
    COMPREPLY=("${reply[@]#"$prefix"}")
}
complete -o default -F _dspy_agent dspy-agent
