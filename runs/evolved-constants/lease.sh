#!/usr/bin/env bash
# Both campaigns of this folder at once on one GPU, for MINUTES (4.4), then their strategies' means beside as_evaluated_adam,
# calibrated_adam, cautious AdanW and Adam on 64 instances per depth and init that nothing has touched. Ends within
# SECONDS_LEFT (570) seconds and writes to $OUT (or a folder in /tmp): judge.jsonl and a .tar.gz of each campaign.
# DEVICE=cpu DEPTHS=2 is a dry run in small. Wheels that a machine may lack: see benchmarks/gpu.sh.
set -uo pipefail
cd "$(dirname "$0")/../.."
device=${DEVICE:-cuda}
python=${PYTHON:-$([ -x .venv/bin/python ] && echo .venv/bin/python || echo python3)}
end=$((SECONDS + ${SECONDS_LEFT:-570}))
out=${OUT:-$(mktemp -d /tmp/evo-lease.XXXX)}
work=$(mktemp -d /tmp/evo-campaigns.XXXX)
export PYTHONUNBUFFERED=1 OMP_NUM_THREADS=2
small=() label=champions ranges="0:32 32:64"
if [ "$device" = cpu ]; then
    small=(--set population=7 --set generations=3 --set epochs=2 --set 'difficulty.depths=[2]' --set instances.search=1)
    label=dry-run ranges="0:1"
else
    if compgen -G ".whl/*.whl" >/dev/null; then
        "$python" -m pip install -q --no-index --no-deps --no-compile --no-cache-dir --upgrade --target /tmp/evo-site .whl/*.whl
        export PYTHONPATH=/tmp/evo-site
    fi
    # several processes with small batches: without this service the GPU takes turns between them
    export CUDA_MPS_PIPE_DIRECTORY=/tmp/mps CUDA_MPS_LOG_DIRECTORY=/tmp/mps-log
    mkdir -p /tmp/mps /tmp/mps-log
    nvidia-cuda-mps-control -d
    if timeout 20 "$python" -c "import torch; torch.ones(3, device='cuda').sum().item()"; then
        trap 'echo quit | timeout 5 nvidia-cuda-mps-control' EXIT
    else
        echo quit | timeout 5 nvidia-cuda-mps-control
        unset CUDA_MPS_PIPE_DIRECTORY CUDA_MPS_LOG_DIRECTORY
        echo "no MPS here"
    fi
fi

campaign() {  # campaign NAME RECIPE WORKERS
    mkdir -p "$work/$1"
    cp "runs/evolved-constants/$2" "$work/$1/recipe.yaml"
    timeout -s INT 330 "$python" -m evo launch "$work/$1" --device "$device" --workers "$3" --max-minutes "${MINUTES:-4.4}" \
        "${small[@]}" >"$work/$1.log" 2>&1
    "$python" runs/evolved-constants/mean.py "$work/$1" "$1" "$work/$1.yaml"
    tail -n 3 "$work/$1.log"
    tar -C "$work" -czf "$out/$1.tar.gz" "$1" "$1.log"
}

judge() {  # judge DEPTH
    local found=() range
    [ -f "$work/evolved_all.yaml" ] && found+=("$work/evolved_all.yaml")
    [ "$1" -gt 10 ] && [ -f "$work/evolved_deep.yaml" ] && found+=("$work/evolved_deep.yaml")
    for range in $ranges; do
        "$python" benchmarks/frozen_readout.py --loop batched --device "$device" --alone --label "$label" --depths "$1" \
            --instances "$range" --results "$work/judge_$1.jsonl" \
            --optimizers "$(IFS=,; echo "${found[*]:+${found[*]},}as_evaluated_adam,calibrated_adam,cautious_adanw,adam")" \
            >"$work/judge_$1.log" 2>&1
    done
    echo "depth $1 is judged after $SECONDS s"
}

campaign evolved_all recipe.yaml 5 &
campaign evolved_deep deep.yaml 2 &
wait
echo "campaigns took $SECONDS s"
for depth in ${DEPTHS:-18 14 10 7 4}; do judge "$depth" & done
while [ -n "$(jobs -r)" ]; do
    [ $SECONDS -gt "$end" ] && { echo "time is out"; jobs -p | xargs -r -n 1 pkill -P; break; }
    sleep 1
done
cat "$work"/judge_*.jsonl >"$out/judge.jsonl"
cp "$work"/*.yaml "$out"
wc -l "$out/judge.jsonl"
