#!/bin/bash
# A search on nodes that Slurm gives: submit it from the project's folder, with what the search is asked for:
#
#     sbatch docker/slurm.sh --dataset cifar10 --name cifar10
#     sbatch docker/slurm.sh --resume --name cifar10               # goes on when the time was up
#
# The folder must lie on a file system that all nodes share, with an environment in it (make, on a login node).
#
# FILL IN: nodes, what to take of each, and for how long.
#SBATCH --job-name=adaloss
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=16
#SBATCH --gpus-per-node=1
#SBATCH --time=08:00:00
#SBATCH --signal=B:TERM@120
set -euo pipefail

cd "${SLURM_SUBMIT_DIR:-.}"
export PATH="$PWD/.venv/bin:$PATH"
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH="$PWD/.ray-token-$SLURM_JOB_ID" # others use these nodes' network, too
(umask 077 && python -c 'import secrets; print(secrets.token_hex(32), end="")' > "$RAY_AUTH_TOKEN_PATH")
trap 'rm -f "$RAY_AUTH_TOKEN_PATH"' EXIT

# The batch script runs on the first node: that is the head. Others may have a cluster on the same node.
hosts=$(scontrol show hostnames "$SLURM_JOB_NODELIST")
head=${hosts%%$'\n'*}
port=$((20000 + SLURM_JOB_ID % 10000))
export RAY_ADDRESS="$head:$port"
export RAY_prestart_worker_first_driver=0 # Ray would start a Python process a core, of which a search uses none
common=(--num-cpus "$SLURM_CPUS_PER_TASK" --num-gpus "${SLURM_GPUS_ON_NODE:-0}" --block)

srun --nodes=1 --ntasks=1 --nodelist="$head" env -u RAY_ADDRESS \
    ray start --head --port "$port" --dashboard-port $((port + 10000)) "${common[@]}" &
until ray health-check --address "$RAY_ADDRESS" > /dev/null 2>&1; do sleep 2; done
if [ "$SLURM_JOB_NUM_NODES" -gt 1 ]; then
    srun --nodes=$((SLURM_JOB_NUM_NODES - 1)) --ntasks=$((SLURM_JOB_NUM_NODES - 1)) --exclude="$head" \
        ray start --address "$RAY_ADDRESS" "${common[@]}" &
fi

# Two minutes before the time is up Slurm tells this script, which tells the search: its trials then wait for --resume.
python tune/run_search.py --address "$RAY_ADDRESS" "$@" &
search=$!
trap 'kill -TERM "$search"' TERM
code=0
wait "$search" || code=$?
if kill -0 "$search" 2> /dev/null; then wait "$search" || code=$?; fi # it was told, and now it ends
exit "$code"
