# fish completion for dspy-agent
function __dspy_agent_complete
    set -l words (commandline -opc)
    set -e words[1]
    dspy-agent __complete -- $words (commandline -ct) 2>/dev/null
end
complete -c dspy-agent -a '(__dspy_agent_complete)'
