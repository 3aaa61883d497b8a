#!/usr/bin/env bash
# Everything that a person with one GPU runs; docs/gpu.md says more.
#
#   bench/gpu.sh [build|check|sanitize|micro|time|report|all]    (all)
#
# Each stage takes less than ten minutes. check, sanitize and time go on where the call before
# stopped: call them until they say nothing of cases left. `all` does everything in one call.
#
#   OUT      folder of the results, JSON lines and logs (./gpu-results)
#   EARLIER  folder with results of earlier calls to go on from, where OUT is a new one
#   MINUTES  after which check, sanitize and time stop; 0: at the end (9, with all 0)
#   PYTHON   the interpreter (python)
set -euo pipefail

stage=${1:-all}
OUT=$(realpath -m "${OUT:-gpu-results}")
EARLIER=${EARLIER:+$(realpath "$EARLIER")}
PYTHON=${PYTHON:-python}
export OUT EARLIER PYTHON
script=$(realpath "$0")
cd "$(dirname "$script")/.."

die() {
  echo "[gpu.sh] $*" >&2
  exit 1
}
require() { command -v "$1" >/dev/null || die "$1 must be on PATH, got no such command"; }
minutes() { echo "${MINUTES:-9}"; }

build() {
  require nvcc
  require cmake
  require ninja
  local module
  for module in numpy torch pybind11 scikit_build_core; do
    "$PYTHON" -c "import $module" || die "Python must have $module, got an error"
  done
  # The folder stays, so that a build that was stopped goes on.
  "$PYTHON" -m pip install -v --no-build-isolation --no-deps --no-index \
    -C build-dir=build/gpu -C cmake.define.FASTRNN_CUDA=ON .
}

check() { "$PYTHON" -m bench.gpu check --minutes "$(minutes)"; }

# One process for each cell and tool runs every kernel of the cell. Only fastrnn's kernels are looked
# at; with torch's cache of memory off, each array has an end that memcheck knows.
sanitize() {
  require compute-sanitizer
  local began=$SECONDS limit cells cell tool log said rows="$OUT/sanitize.jsonl"
  limit=$(minutes)
  cells=$("$PYTHON" -c 'import fastrnn; print(*fastrnn.build_info()["cells"])')
  touch "$rows"
  for cell in $cells; do
    for tool in memcheck racecheck synccheck; do
      if grep -q "\"$cell $tool\"" "$rows"; then continue; fi
      if ((limit > 0 && SECONDS - began > 60 * limit)); then
        echo "cases left: run it again"
        break 2
      fi
      echo "== $cell $tool"
      log="$OUT/sanitize-$cell-$tool.log"
      said='"ok": true'
      PYTORCH_NO_CUDA_MEMORY_CACHING=1 compute-sanitizer --tool "$tool" --error-exitcode 9 \
        --kernel-regex kns=fastrnn --report-api-errors no \
        "$PYTHON" -m bench.gpu one --cell "$cell" >"$log" 2>&1 || said="\"failed\": \"$log\""
      grep -E ': (ran|skipped)|ERROR SUMMARY|RACECHECK SUMMARY' "$log" || true
      echo "{\"case\": \"$cell $tool\", $said}" >>"$rows"
    done
  done
  if grep '"failed"' "$rows"; then die "compute-sanitizer must find nothing, got these logs"; fi
}

micro() {
  require nvcc
  mkdir -p build
  nvcc -O3 -std=c++17 --fmad=false -arch=native -Icsrc bench/gpu/micro.cu -o build/gpu-micro
  build/gpu-micro >"$OUT/micro.part"
  mv "$OUT/micro.part" "$OUT/micro.jsonl"
  cat "$OUT/micro.jsonl"
}

time_() { "$PYTHON" -m bench.gpu time --minutes "$(minutes)"; }

report() { "$PYTHON" -m bench.gpu report; }

# A process for each stage, so that one that fails does not keep the others from running.
all() {
  local status=0 each
  "$script" build
  for each in check sanitize micro time report; do
    echo "==== $each"
    MINUTES=${MINUTES:-0} "$script" "$each" || status=1
  done
  return $status
}

take_earlier() {
  local file
  for file in "$EARLIER"/*.jsonl; do
    if [ -e "$file" ] && [ ! -e "$OUT/${file##*/}" ]; then cp "$file" "$OUT"; fi
  done
}

mkdir -p "$OUT"
if [ -n "$EARLIER" ]; then take_earlier; fi
case $stage in
  build | check | sanitize | micro | report | all) "$stage" ;;
  time) time_ ;;
  *) die "the stage must be build, check, sanitize, micro, time, report or all, got $stage" ;;
esac
