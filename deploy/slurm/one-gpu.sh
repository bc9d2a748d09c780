#!/bin/bash
# One node, and as many of its GPUs as are asked for: one, unless the payload's "gpus" or --gpus says more.
#
#   dspy-agent submit --class gpu_slurm --payload '{"template": "one-gpu"}' -- python train.py
#
#SBATCH --nodes=1 --ntasks=1
#SBATCH --gres=gpu:${GPUS:-1}
#SBATCH --cpus-per-task=${CPUS_PER_TASK:-8}
#SBATCH --mem=${MEMORY_GB:-32}G
#SBATCH --time=${TIME_LIMIT:-1-00:00:00}

export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$SLURM_CPUS_PER_TASK}
exec "$@"
