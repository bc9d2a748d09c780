# What follows is the same in every job of this scheduler. It makes the claim of the attempt, so that the task
# works once even if there are two jobs for it, notes start and end in the folder of the attempt, and runs the task.
# Above it are: dspy_dir, dspy_news, dspy_ref, dspy_limit and dspy_grace (seconds).

if ! [ -e "$dspy_dir/record" ]; then
	echo "dspy-agent: $dspy_dir is not to be seen on $(hostname): the folder of the queue has to be on a file system that the nodes share with the host of the scheduler" >&2
	exit 97
fi
dspy_me=$SLURM_JOB_ID.${SLURM_RESTART_COUNT:-0}
# link(2) lets one succeed, on every file system. One whose answer was lost finds its own name there.
printf '%s\n' "$dspy_me" >"$dspy_dir/claim.$dspy_me" && ln "$dspy_dir/claim.$dspy_me" "$dspy_dir/claim" 2>/dev/null
case $(cat "$dspy_dir/claim" 2>/dev/null) in
"$SLURM_JOB_ID".*) ;; # this job, or what it was before it was put back into the line
*) exit 0 ;;
esac

dspy_tell() {
	until printf '%s\n' "$*" >>"$dspy_dir/record" && printf '%s\n' "$dspy_ref" >>"$dspy_news"; do
		sleep 1 # the file server is away, or full
	done 2>/dev/null
}
dspy_now() { date +%s.%N; }

# Its own process group for the task, and one for the clock.
set -m
dspy_term=
trap 'dspy_term=$(dspy_now)' TERM
# What Slurm sends to the script alone (--signal=B:USR1@60) is for the task.
dspy_child=
for dspy_word in USR1 USR2 HUP; do
	# shellcheck disable=SC2064 # the name of the signal is put in now
	trap "kill -$dspy_word \"\$dspy_child\" 2>/dev/null" "$dspy_word"
done
dspy_tell start "$dspy_me" "${SLURMD_NODENAME:-$(hostname)}" "$(dspy_now)" "${SLURM_JOB_GPUS:--}"
(
	trap - TERM USR1 USR2 HUP
	while IFS= read -r -d '' dspy_pair; do export "$dspy_pair"; done <"$dspy_dir/env"
	# Lines of the owner's configuration.
	if [ -s "$dspy_dir/setup" ]; then . "$dspy_dir/setup" || { dspy_tell fault setup; exit 1; }; fi
	while IFS= read -r -d '' dspy_pair; do export "$dspy_pair"; done <"$dspy_dir/env.task"
	dspy_argv=()
	while IFS= read -r -d '' dspy_word; do dspy_argv+=("$dspy_word"); done <"$dspy_dir/argv"
	IFS= read -r -d '' dspy_cwd <"$dspy_dir/cwd"
	cd -- "$dspy_cwd" || { dspy_tell fault folder; exit 1; }
	if ! type -P -- "${dspy_argv[0]}" >/dev/null; then dspy_tell fault command; exit 127; fi
	exec -- "${dspy_argv[@]}"
) </dev/null &
dspy_child=$!
dspy_clock=
if [ "$dspy_limit" -gt 0 ]; then
	(
		trap - TERM USR1 USR2 HUP
		sleep "$dspy_limit"
		dspy_tell limit "$(dspy_now)"
		kill -TERM -- "-$dspy_child"
		sleep "$dspy_grace"
		kill -KILL -- "-$dspy_child"
	) >/dev/null 2>&1 </dev/null &
	dspy_clock=$!
fi
# A signal ends the wait and not the task.
while :; do
	wait "$dspy_child"
	dspy_code=$?
	[ "$dspy_code" -gt 128 ] && kill -0 "$dspy_child" 2>/dev/null || break
done
[ -z "$dspy_clock" ] || kill -KILL -- "-$dspy_clock" 2>/dev/null
dspy_tell exit "$dspy_me" "$dspy_code" "$(dspy_now)" "${dspy_term:--}"
exit "$dspy_code"
