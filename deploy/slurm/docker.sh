#!/bin/bash
# In a container, by Docker, where users of the nodes may call it. "image" is one that Docker knows, or fetches:
#
#   dspy-agent submit --class gpu_slurm --payload '{"template": "docker", "image": "pytorch/pytorch:2.4.0"}' -- python train.py
#
# The container gets the GPUs that Slurm gave the job, and ends with it. It runs as its owner; the task's folder is
# there under its own path, and so are the files of its payload and its result.
#SBATCH --nodes=1 --ntasks=1
#SBATCH --gres=gpu:${GPUS:-1}
#SBATCH --cpus-per-task=${CPUS_PER_TASK:-8}
#SBATCH --mem=${MEMORY_GB:-32}G
#SBATCH --time=${TIME_LIMIT:-1-00:00:00}

case ${IMAGE:-} in
'' | -*)
	echo "the payload has to name the image: {\"template\": \"docker\", \"image\": \"pytorch/pytorch:2.4.0\"}" >&2
	exit 2
	;;
esac
files=${DSPY_RESULT_FILE%/*}
gpus=()
[ -z "${CUDA_VISIBLE_DEVICES:-}" ] || gpus=(--gpus "\"device=$CUDA_VISIBLE_DEVICES\"")
name=dspy-slurm-$SLURM_JOB_ID
# Docker's engine is not below the job, so Slurm would not end what it runs. The client hands SIGTERM on to the program. What goes
# on is killed by the engine before the task's grace is over; a second SIGTERM is not sent to it (--stop-signal).
grace=$((TASK_GRACE > 2 ? TASK_GRACE - 2 : 1))
trap 'docker stop --time "$grace" "$name" >/dev/null 2>&1 &' TERM INT
# A warning (--signal=B:USR1@300) comes to this script alone.
for word in USR1 USR2 HUP; do
	# shellcheck disable=SC2064 # the name of the signal is put in now
	trap "docker kill --signal $word \"\$name\" >/dev/null 2>&1 &" "$word"
done
docker run --rm --name "$name" --stop-signal CONT "${gpus[@]}" --cpus "$SLURM_CPUS_PER_TASK" --memory "${SLURM_MEM_PER_NODE:-0}m" --user "$(id -u):$(id -g)" \
	--volume "$PWD:$PWD" --volume "$files:$files" --workdir "$PWD" \
	--env DSPY_TASK_ID --env DSPY_TASK_CLASS --env DSPY_TASK_ATTEMPT --env DSPY_PAYLOAD_FILE --env DSPY_RESULT_FILE \
	"$IMAGE" "$@" &
child=$!
while :; do
	wait "$child"
	code=$?
	[ "$code" -gt 128 ] && kill -0 "$child" 2>/dev/null || exit "$code"
done
