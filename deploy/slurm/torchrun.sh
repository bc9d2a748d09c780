#!/bin/bash
# PyTorch on several nodes: torchrun on each of them, and a rendezvous on the first. The command is what
# torchrun runs, so without "python":
#
#   dspy-agent submit --class gpu_slurm --payload '{"template": "torchrun", "nodes": 4, "gpus": 8}' -- train.py --lr 1e-4
#
# "gpus" is for each node. The whole ends when one node's part fails.
#SBATCH --nodes=${NODES:-2} --ntasks-per-node=1
#SBATCH --gres=gpu:${GPUS:-8}
#SBATCH --cpus-per-task=${CPUS_PER_TASK:-16}
#SBATCH --mem=${MEMORY_GB:-64}G
#SBATCH --time=${TIME_LIMIT:-1-00:00:00}

set -u
first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
# Jobs on one node must not meet at one port.
port=$((20000 + SLURM_JOB_ID % 20000))
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-4}
# srun does not take over --cpus-per-task of the job by itself, from 22.05 on.
exec srun --kill-on-bad-exit=1 --cpus-per-task="$SLURM_CPUS_PER_TASK" \
	torchrun --nnodes="$SLURM_JOB_NUM_NODES" --nproc-per-node="${SLURM_GPUS_ON_NODE:-gpu}" \
	--rdzv-id="$SLURM_JOB_ID" --rdzv-backend=c10d --rdzv-endpoint="$first:$port" "$@"
