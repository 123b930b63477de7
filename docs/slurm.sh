#!/usr/bin/env bash
# A campaign on the nodes of a SLURM job, requeued when the job is preempted or out of time: see docs/clusters.md.
#
#   sbatch --export=ALL,RUN=runs/mine docs/slurm.sh
#
#SBATCH --job-name=evo
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=16
#SBATCH --time=04:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=B:TERM@60
set -u
: "${RUN:?set RUN to a folder with a recipe.yaml, on a file system that all nodes share}"
bin=${EVO_BIN:-.venv/bin}                # where evo and ray are, on all nodes
port=${RAY_PORT:-6379}
cpus=${SLURM_CPUS_PER_TASK:-1}
nodes=${SLURM_JOB_NUM_NODES:-1}
restarts=${SLURM_RESTART_COUNT:-0}
head=${SLURMD_NODENAME:-$(hostname)}     # this script runs on the first node
export RAY_memory_monitor_refresh_ms=0   # when memory runs out, the kernel ends the training, not Ray its supervisor
export RAY_AUTH_MODE="${RAY_AUTH_MODE:-disabled}"   # token: see docs/clusters.md
options=(--object-store-memory=$((100 * 1024 * 1024)) --disable-usage-stats --block)

campaign=
trap '[ -z "$campaign" ] || kill -TERM "$campaign"' TERM    # preempted, or soon out of time: it saves and ends with 75

"$bin/ray" start --head --port="$port" --include-dashboard=false --num-cpus=$((cpus > 1 ? cpus - 1 : 1)) \
    "${options[@]}" &
ray=$!
trap 'kill $ray 2>/dev/null; wait' EXIT
for _ in $(seq 60); do
    (exec 3<>"/dev/tcp/$head/$port") 2>/dev/null && break
    sleep 1
done
if [ "$nodes" -gt 1 ]; then              # they may come late, or be lost: the campaign goes on with the others
    srun --overlap --no-kill --nodes=$((nodes - 1)) --ntasks=$((nodes - 1)) --exclude="$head" \
        "$bin/ray" start --address="$head:$port" --num-cpus="$cpus" "${options[@]}" &
    ray="$ray $!"
fi

verb=launch
[ -e "$RUN/out/ledger.sqlite" ] && verb=resume
"$bin/evo" "$verb" "$RUN" --cluster "$head:$port" &
campaign=$!
while true; do
    wait "$campaign"
    code=$?
    kill -0 "$campaign" 2>/dev/null || break     # else a signal ended the wait, not the campaign
done
campaign=
echo "$(date -Is) evo $verb $RUN on $head: exit code $code, restart $restarts"
# 75: stopped, to go on. Above 128: killed. The rest is done, or for a person to mend.
if [ "$code" -eq 75 ] || { [ "$code" -gt 128 ] && [ "$restarts" -lt "${MOST_RESTARTS:-100}" ]; }; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
