#!/bin/bash
# In a container, by Slurm's plugin pyxis (with enroot). "image" is a file such as /images/torch.sqsh, or an
# address such as nvcr.io#nvidia/pytorch:24.08-py3:
#
#   dspy-agent submit --class gpu_slurm --payload '{"template": "pyxis", "image": "/images/torch.sqsh"}' -- python train.py
#
# The task's folder is there under its own path, and so are the files of its payload and its result.
#SBATCH --nodes=1 --ntasks=1
#SBATCH --gres=gpu:${GPUS:-1}
#SBATCH --cpus-per-task=${CPUS_PER_TASK:-8}
#SBATCH --mem=${MEMORY_GB:-32}G
#SBATCH --time=${TIME_LIMIT:-1-00:00:00}

if [ -z "${IMAGE:-}" ]; then
	echo "the payload has to name the image: {\"template\": \"pyxis\", \"image\": \"/images/torch.sqsh\"}" >&2
	exit 2
fi
files=${DSPY_RESULT_FILE%/*}
exec srun --cpus-per-task="$SLURM_CPUS_PER_TASK" --container-image="$IMAGE" \
	--container-mounts="$PWD:$PWD,$files:$files" --container-workdir="$PWD" "$@"
