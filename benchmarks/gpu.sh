#!/usr/bin/env bash
# All that this project measures on a GPU, in parts of under ten minutes each:
#
#   bash benchmarks/gpu.sh environment | parity | throughput | latency | tf32 | calibration | campaign | comparison | all
#   bash benchmarks/gpu.sh lease        the most telling parts in one call of SECONDS_LEFT (480) seconds
#
# `lease` looks whether every package is there, runs the tests that are not slow, measures throughput at depths 4 and 18,
# runs a campaign (RUN, by default runs/gpu) and compares its champion on fresh instances at all depths; each part has a
# limit of its own and writes its results before the next begins.
# Results and pictures go to benchmarks/results/ (commit them), and to $OUT where that is set. DEVICE=cpu is a dry run
# in small: it shows that everything starts, and measures nothing worth keeping, so it writes to a folder in /tmp and
# installs nothing.
# A machine without package registries: put wheels of what it lacks into .whl/ beforehand, for its Python. Beside torch,
# numpy, pyyaml, typer, rich, matplotlib, scipy and pytest this is deap (which wants moocore, cffi, pycparser, platformdirs),
# pydantic (pydantic-core, annotated-types, typing-inspection, typing-extensions) and jinja2. For example
#   pip download --no-deps -d .whl --python-version 3.12 --only-binary=:all: --platform manylinux2014_x86_64 deap moocore ...
set -euo pipefail
cd "$(dirname "$0")/.."
device=${DEVICE:-cuda}
python=${PYTHON:-$([ -x .venv/bin/python ] && echo .venv/bin/python || echo python3)}
results=benchmarks/results
[ "$device" = cpu ] && results=${RESULTS:-$(mktemp -d /tmp/evo-gpu-dry-run.XXXX)}
begun=$(mktemp)
export PYTHONUNBUFFERED=1

if [ "$device" != cpu ]; then  # the wheels are for the Python of the machine with the GPU
    if compgen -G ".whl/*.whl" >/dev/null && [ ! -d /tmp/evo-site ]; then
        "$python" -m pip install -q --no-index --no-deps --no-compile --target /tmp/evo-site .whl/*.whl
    fi
    [ -d /tmp/evo-site ] && export PYTHONPATH=/tmp/evo-site:${PYTHONPATH:-}
fi

environment() {  # the machine, and whether all packages of a campaign are there
    nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader 2>/dev/null || true
    "$python" -c 'import deap.gp, jinja2, matplotlib, pydantic, rich, scipy, torch, typer, yaml; print(torch.__version__)'
    "$python" -m evo doctor
}

parity() {  # kernels, lanes and whole trainings on the device against the reference and the literal loop
    if [ "$device" = cpu ]; then
        "$python" -m pytest -q -p no:cacheprovider tests/evo/training/test_gpu_lanes.py tests/harness/test_lanes.py
    else
        # the files that have such tests: others need packages that are only for them. -W: an unknown machine's packages
        # may warn of anything, and torch does of its own TF32 switch in some versions
        "$python" -m pytest -p no:cacheprovider -W default -m gpu -rA --durations=15 \
            tests/evo/training/test_gpu_lanes.py tests/test_benchmarks.py | tee "$results/gpu_parity.txt"
    fi
}

throughput() {  # trainings per second beside eager torch, torch.compile, CUDA graphs, vmap and the floors
    if [ "$device" = cpu ]; then
        "$python" benchmarks/throughput.py --device cpu --depths 4 --seconds 8 --results "$results"
    else
        "$python" benchmarks/throughput.py --device cuda --depths 4,10,18 --lanes 256,512,1024,2048 --seconds 90
    fi
}

latency() {  # until the kernels of 256 new genomes are ready
    "$python" benchmarks/compile_latency.py --genomes "$([ "$device" = cpu ] && echo 4 || echo 256)" --out "$results/compile_latency.json"
}

tf32() {  # whether TF32 ranks genomes as float32 does
    if [ "$device" = cpu ]; then
        "$python" benchmarks/tf32_ranking.py --device cpu --genomes 8 --instances 1 --depth 2 --epochs 3 --results "$results"
    else
        "$python" benchmarks/tf32_ranking.py
    fi
}

campaign() {  # a campaign of RUN (runs/gpu) for MINUTES (8), a worker per depth; its report, champion and ledger
    local run=${RUN:-runs/gpu} here small=()
    here=$(mktemp -d /tmp/evo-gpu-campaign.XXXX)
    [ "$device" = cpu ] && small=(--set population=6 --set search.islands=1 --set generations=1 --set epochs=2 --set 'difficulty.depths=[2]'
        --set 'instances={search: 1, selection: 1, final: 1}' --set 'gate.instances=0'
        --set 'start={catalogue: [adam, muon, lion], random: 2}')
    cp -r "$run"/. "$here"
    "$python" -m evo launch "$here" --device "$device" --workers "${WORKERS:-5}" --max-minutes "${MINUTES:-8}" \
        "${small[@]}" || [ $? = 75 ]
    "$python" -m evo status "$here" --json >"$results/gpu_campaign.json"
    "$python" -m evo export "$here" --format yaml --out "$results/gpu_champion.yaml" --force
    "$python" -m evo report "$here" >/dev/null
    cp "$here/out/report.html" "$results/gpu_campaign.html"
    tar -C "$here" -czf "$results/gpu_campaign.tar.gz" .  # to go on with: evo resume
}

comparison() {  # the champion beside OTHERS on INSTANCES fresh instances (LABEL:COUNT) per depth, in both inits
    local champion=$results/gpu_champion.yaml init small=(--depths 4,7,10,14,18)
    [ "$device" = cpu ] && small=(--depths 2 --epochs 3)
    [ -f "$champion" ] || champion=tuned_adam_depth10
    for init in per_layer shared; do
        # shellcheck disable=SC2086  # several names
        timeout -s INT "${LIMIT:-120}" "$python" -m evo compare "$champion" ${OTHERS:-calibrated_adam cautious_adanw adam} \
            --instances "${INSTANCES:-unseen:64}" --init "$init" --loop quick --device "$device" "${small[@]}" --json \
            >"$results/gpu_comparison_$init.json" || [ $? = 130 ] || [ $? = 124 ]
    done
}

calibration() {  # what calibrating the outputs' mean is worth: appends to the records of docs/frozen-readout.md
    "$python" benchmarks/frozen_readout.py --loop batched --device "$device" --instances "0:${INSTANCES:-32}"
}

lease() {  # what fails does not stop the rest
    local end=$((SECONDS + ${SECONDS_LEFT:-480})) tests=gpu
    [ "$device" = cpu ] && tests='not gpu'
    step() {  # step LIMIT NAME COMMAND...
        local limit=$1 name=$2 left=$((end - SECONDS)) start=$SECONDS
        shift 2
        [ "$left" -lt "$limit" ] && limit=$left
        [ "$limit" -lt 5 ] && { echo "== $name: no time left"; return; }
        echo "== $name (at most $limit s)"
        timeout -k 10 -s INT "$limit" "$@" || echo "== $name ended with $?"
        echo "== $name took $((SECONDS - start)) s"
        finish
    }
    export DEVICE=$device PYTHON=$python RESULTS=$results
    step 30 environment bash "$0" environment
    step 60 parity bash -c "set -o pipefail; '$python' -m pytest -p no:cacheprovider -W default -m '$tests and not slow' \
        -rfE --tb=short --durations=8 tests/evo/training/test_gpu_lanes.py tests/test_benchmarks.py | tee $results/gpu_parity.txt"
    step 110 throughput "$python" benchmarks/throughput.py --device "$device" --depths 4,18 --lanes 256,1024 \
        --seconds 20 --results "$results"
    MINUTES=$(((end - SECONDS) * 45 / 6000)).$(((end - SECONDS) * 45 / 600 % 10)) step 300 campaign bash "$0" campaign
    LIMIT=$(((end - SECONDS) / 2 - 5)) step 300 comparison bash "$0" comparison
}

finish() {
    echo "results: $results"
    if [ -n "${OUT:-}" ]; then find "$results" -type f -newer "$begun" -exec cp {} "$OUT"/ \;; fi
}

case "${1:-}" in
    environment | parity | throughput | latency | tf32 | calibration | campaign | comparison | lease) trap finish EXIT && "$1" ;;
    all) trap finish EXIT
        for part in environment parity throughput latency tf32 calibration campaign comparison; do echo "== $part" && "$part"; done ;;
    *) sed -n '2,/^set /s/^# \{0,1\}//p' "$0" | sed '$d'; exit 2 ;;
esac
