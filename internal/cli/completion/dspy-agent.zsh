#compdef dspy-agent
# zsh completion for dspy-agent: source <(dspy-agent completion zsh)
_dspy_agent() {
    local -a reply
    reply=("${(@f)$(dspy-agent __complete -- "${(@Q)words[2,CURRENT]}" 2>/dev/null)}")
    if [[ -n ${reply[1]} ]]; then
        compadd -a reply
    else
        _files
    fi
}
if [[ $funcstack[1] == _dspy_agent ]]; then
    _dspy_agent "$@" # loaded by compinit from a folder of $fpath
else
    compdef _dspy_agent dspy-agent
fi
