#!/bin/bash
# In a container, by Apptainer (or Singularity), which needs no daemon and no root. "image" is a file such as
# /images/torch.sif, or an address such as docker://pytorch/pytorch:2.4.0:
#
#   dspy-agent submit --class gpu_slurm --payload '{"template": "apptainer", "image": "/images/torch.sif"}' -- python train.py
#
# The task's folder is there under its own path, and so are the files of its payload and its result.
#SBATCH --nodes=1 --ntasks=1
#SBATCH --gres=gpu:${GPUS:-1}
#SBATCH --cpus-per-task=${CPUS_PER_TASK:-8}
#SBATCH --mem=${MEMORY_GB:-32}G
#SBATCH --time=${TIME_LIMIT:-1-00:00:00}

case ${IMAGE:-} in
'' | -*)
	echo "the payload has to name the image: {\"template\": \"apptainer\", \"image\": \"/images/torch.sif\"}" >&2
	exit 2
	;;
esac
program=$(command -v apptainer || command -v singularity) || {
	echo "there is neither apptainer nor singularity on $(hostname); a setup line in the configuration may load it: module load apptainer" >&2
	exit 127
}
exec "$program" exec --nv --bind "$PWD" --bind "${DSPY_RESULT_FILE%/*}" --pwd "$PWD" "$IMAGE" "$@"
