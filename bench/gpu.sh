#!/usr/bin/env bash
# Everything a CUDA machine is asked, in one run of under eight minutes, without network: build, self-check,
# compute-sanitizer, benchmarks. Leaves one folder of results.
#
#   bench/gpu.sh --carry WHEELS [--out DIR] [--device cuda|cpu] [--quick] [--site DIR] [PART ...]
#
#   --carry   folder of wheels the machine lacks; `pip download scikit-build-core pybind11 safetensors tqdm -d WHEELS`
#             makes it (cmake and ninja too, where the machine has none). torch and numpy must be there.
#   --out     result folder, default bench/results/<date>-<device>. Parts that are done in it are not run again, so a run
#             that was cut short goes on where it stopped; naming parts runs just these, again.
#   --device  cpu walks the same flow without a GPU (no compute-sanitizer)
#   --quick   small cases only
#   --site    use the ecgcore importable from this folder instead of building one
#
# Parts: environment build check sanitize bench. Exit code 0 only if every part that ran passed.
set -uo pipefail
cd "$(dirname "$0")/.."

PARTS=(environment build check sanitize bench)
device=cuda carry="" out="" quick="" site=""
chosen=()
while [ $# -gt 0 ]; do
  case "$1" in
    --device) device="${2:?}"; shift ;;
    --carry) carry="$(realpath "${2:?}")"; shift ;;
    --out) out="${2:?}"; shift ;;
    --site) site="$(realpath "${2:?}")"; shift ;;
    --quick) quick=--quick ;;
    -h | --help) sed -n '2,/^set/{s/^# \{0,1\}//;/^set/d;p}' "$0"; exit 0 ;;
    environment | build | check | sanitize | bench) chosen+=("$1") ;;
    *) echo "bench/gpu.sh: unknown argument '$1'; parts are ${PARTS[*]}" >&2; exit 2 ;;
  esac
  shift
done
case "$device" in cuda | cpu) ;; *) echo "bench/gpu.sh: --device must be cuda or cpu, got '$device'" >&2; exit 2 ;; esac
out="${out:-bench/results/$(date -u +%Y-%m-%d)-$device}"
mkdir -p "$out"
out="$(realpath "$out")"
python="${PYTHON:-python3}"
built="$PWD/build/gpu-$device"  # the package built here; not a result
export PYTHONPATH="${site:-$built}${PYTHONPATH:+:$PYTHONPATH}"

part_environment() {
  date -u +%Y-%m-%dT%H:%M:%SZ
  git log -1 --format='commit %H %s' 2>/dev/null || echo "commit unknown: not a git checkout"
  uname -srm
  "$python" -c 'import sys, torch; print("python", sys.version.split()[0], "torch", torch.__version__, "CUDA", torch.version.cuda)' || return
  if [ "$device" = cuda ]; then
    nvidia-smi --query-gpu=name,compute_cap,driver_version,memory.total,clocks.max.sm --format=csv,noheader || return
    nvcc --version | tail -2
  fi
}

part_build() {
  if [ -z "$site" ]; then
    # The isolated build takes its tools from the carried wheels, as pip does by itself; only the GPU at hand is built for.
    local options=(--no-deps --upgrade --target "$built")
    [ -n "$carry" ] && options+=(--no-index --find-links "$carry")
    if [ "$device" = cuda ]; then
      local capability
      capability="$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader | head -1 | tr -d .)" || return
      ECGCORE_CUDA=on "$python" -m pip install "${options[@]}" \
        --config-settings "cmake.define.CMAKE_CUDA_ARCHITECTURES=$capability-real" . || return
    else
      ECGCORE_CUDA=off "$python" -m pip install "${options[@]}" . || return
    fi
    for module in safetensors tqdm; do
      "$python" -c "import $module" 2>/dev/null || "$python" -m pip install "${options[@]}" "$module" || return
    done
  fi
  "$python" -c 'import ecgcore; from ecgcore import _C; print(ecgcore.__file__); print(_C.build_info())'
}

part_check() {
  "$python" -m ecgcore.testing --device "$device" $quick --json "$out/check.json"
}

part_sanitize() {
  if [ "$device" = cpu ]; then
    echo "compute-sanitizer needs a GPU; the small cases run without it"
    "$python" -m ecgcore.testing --device cpu --quick --dtype float32
    return
  fi
  local tool="${COMPUTE_SANITIZER:-compute-sanitizer}" failed=0
  command -v "$tool" || { echo "no compute-sanitizer: it comes with the CUDA toolkit, COMPUTE_SANITIZER names another path"; return 1; }
  # Without torch's caching every tensor is an allocation of its own, so that memcheck sees where it ends.
  for check in memcheck racecheck; do
    echo "== $check"
    PYTORCH_NO_CUDA_MEMORY_CACHING=1 timeout 70 "$tool" --tool "$check" --error-exitcode 9 \
      --kernel-regex kns=run_blocks "$python" -m ecgcore.testing --device cuda --quick --dtype float32 || failed=1
  done
  return $failed
}

part_bench() {
  "$python" bench/ops.py --device "$device" --no-keops $quick --json "$out/bench.json" &&
    "$python" bench/step.py --device "$device" --json "$out/step.json"
}

# A function, so that bash has read all of it before any part runs.
run_parts() {
  # Seconds. Without a GPU nobody waits for the machine.
  declare -A LIMIT=([environment]=20 [build]=150 [check]=60 [sanitize]=150 [bench]=95)
  # A result folder may have come from another machine; what was built there has not.
  [ -z "$site" ] && [ ! -d "$built/ecgcore" ] && rm -f "$out/build.done"
  status=0
  for part in "${PARTS[@]}"; do
    if [ ${#chosen[@]} -gt 0 ]; then
      [[ " ${chosen[*]} " == *" $part "* ]] || continue
    elif [ -e "$out/$part.done" ]; then
      echo "== $part: done before"
      continue
    fi
    rm -f "$out/$part.done"
    echo "== $part"
    begin=$SECONDS
    export -f "part_$part"
    export device carry out quick site python built
    limit=${LIMIT[$part]}
    [ "$device" = cpu ] && limit=$((10 * limit))
    timeout "$limit" bash -uo pipefail -c "part_$part" 2>&1 | tee "$out/$part.txt"
    code=${PIPESTATUS[0]}
    [ "$code" -eq 124 ] && echo "stopped after $limit s" | tee -a "$out/$part.txt"
    if [ "$code" -eq 0 ]; then touch "$out/$part.done"; word=passed; else status=1; word="FAILED ($code)"; fi
    echo "$part: $word, $((SECONDS - begin)) s" | tee -a "$out/summary.txt"
    # Without a package nothing below can run.
    [ "$part" = build ] && [ "$code" -ne 0 ] && break
  done
  echo "results: $out"
  return $status
}

run_parts; exit $?
