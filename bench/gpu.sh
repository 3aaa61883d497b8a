#!/usr/bin/env bash
# Everything that a person with one GPU runs; docs/gpu.md says more.
#
#   bench/gpu.sh [build|check|sanitize|micro|time|report|short|all]    (all)
#
# Each stage takes less than ten minutes, and is stopped where it takes more. check, sanitize, time
# and short go on where the call before stopped: call them until they say nothing of cases left.
# `short` is for a card that is at hand for twenty minutes: what decides most comes first. `all` does
# everything in one call.
#
#   OUT      folder of the results, JSON lines and logs (./gpu-results)
#   EARLIER  folder with results of earlier calls to go on from, where OUT is a new one
#   MINUTES  after which check, sanitize, time and short stop; 0: at the end (9, with all 0)
#   PYTHON   the interpreter (python)
#   WHEELS   folder of wheels that the image lacks; with one of fastrnn's nothing is built
set -euo pipefail

stage=${1:-all}
OUT=$(realpath -m "${OUT:-gpu-results}")
EARLIER=${EARLIER:+$(realpath "$EARLIER")}
WHEELS=${WHEELS:+$(realpath "$WHEELS")}
PYTHON=${PYTHON:-python}
export OUT EARLIER PYTHON WHEELS
script=$(realpath "$0")
cd "$(dirname "$script")/.."
began=$SECONDS

die() {
  echo "[gpu.sh] $*" >&2
  exit 1
}
require() { command -v "$1" >/dev/null || die "$1 must be on PATH, got no such command"; }
minutes() { echo "${MINUTES:-9}"; }
# Whether less than so many seconds are left.
over() { (($(minutes) > 0 && SECONDS - began > 60 * $(minutes) - ${1:-0})); }
# What is left of the minutes, for a part of a stage; 0 where there is no end.
minutes_left() {
  awk -v all="$(minutes)" -v gone="$((SECONDS - began))" \
    'BEGIN { left = all - gone / 60; print all ? (left > 0.1 ? left : 0.1) : 0 }'
}
# A command for so many seconds. It has a process group of its own, which is stopped as a whole, by
# force where a kernel that does not end keeps it; so signals to this script are passed on.
limited() {
  local child status=0
  timeout --kill-after=10 "$@" &
  child=$!
  trap 'kill -TERM "$child" 2>/dev/null' INT TERM
  wait "$child" || status=$?
  if kill -0 "$child" 2>/dev/null; then wait "$child" || status=$?; fi
  trap - INT TERM
  return "$status"
}

install_wheels() {
  if [ -z "$WHEELS" ]; then return; fi
  "$PYTHON" -m pip install --no-index --no-deps --find-links "$WHEELS" "$WHEELS"/*.whl
}
is_built() { "$PYTHON" -c 'import fastrnn.cuda as c; exit(not c.is_available())' 2>/dev/null; }

# For the card that is there, and of the CPU's kernels those that every processor runs.
build() {
  install_wheels
  if [ -n "$WHEELS" ] && is_built; then
    echo "fastrnn is one of the wheels: nothing to build"
    return
  fi
  require nvcc
  require cmake
  require ninja
  local module
  for module in numpy torch pybind11 scikit_build_core; do
    "$PYTHON" -c "import $module" || die "Python must have $module, got an error"
  done
  # The folder stays, so that a build that was stopped goes on.
  "$PYTHON" -m pip install -v --no-build-isolation --no-deps --no-index -C build-dir=build/gpu \
    -C cmake.define.FASTRNN_CUDA=ON -C cmake.define.FASTRNN_LEVELS=scalar .
}

check() { "$PYTHON" -m bench.gpu check --minutes "$(minutes)"; }

# One process for each cell and tool runs every kernel of the cell. Only fastrnn's kernels are looked
# at; with torch's cache of memory off, each array has an end that memcheck knows.
sanitize() {
  require compute-sanitizer
  local limit=300 cells cell tool log said name rows="$OUT/sanitize.jsonl"
  cells=$("$PYTHON" -c 'import fastrnn; print(*fastrnn.build_info()["cells"])')
  touch "$rows"
  for cell in $cells; do
    for tool in memcheck racecheck synccheck; do
      name="$cell $tool"
      if grep -q "\"$name\"" "$rows"; then continue; fi
      if over "$limit"; then
        echo "cases left: run it again"
        break 2
      fi
      echo "== $name"
      log="$OUT/sanitize-$cell-$tool.log"
      said='"ok": true'
      PYTORCH_NO_CUDA_MEMORY_CACHING=1 limited "$limit" compute-sanitizer --tool "$tool" \
        --error-exitcode 9 --kernel-regex kns=fastrnn --report-api-errors no \
        "$PYTHON" -m bench.gpu one --cell "$cell" >"$log" 2>&1 || said="\"failed\": \"$log\""
      grep -E ': (ran|skipped)|ERROR SUMMARY|RACECHECK SUMMARY' "$log" || true
      echo "{\"case\": \"$name\", $said}" >>"$rows"
    done
  done
  if grep '"failed"' "$rows"; then die "compute-sanitizer must find nothing, got these logs"; fi
}

# Numbers come as they are measured: what a run had before it was stopped stays.
micro() {
  require nvcc
  mkdir -p build
  nvcc -O3 -std=c++17 --fmad=false -arch=native -Icsrc bench/gpu/micro.cu -o build/gpu-micro
  limited 240 build/gpu-micro | tee "$OUT/micro.jsonl"
}

time_() { "$PYTHON" -m bench.gpu time --minutes "$(minutes)"; }

report() { "$PYTHON" -m bench.gpu report; }

# What a part has done is not done again, so a second call goes on.
short() {
  local status=0
  if ! is_built; then build; fi
  part() {
    if over; then
      echo "cases left: run it again"
      return
    fi
    echo "==== $*"
    "$@" || status=1
  }
  part small
  if ! grep -qs '"streamed_bytes_memory"' "$OUT/micro.jsonl"; then part micro; fi  # to its end
  part deciding
  part rest
  part report
  return $status
}
small() { "$PYTHON" -m bench.gpu check --part small --minutes "$(minutes_left)"; }
deciding() { "$PYTHON" -m bench.gpu time --part deciding --minutes "$(minutes_left)"; }
rest() { "$PYTHON" -m bench.gpu check --minutes "$(minutes_left)"; }

# A stage that fails does not keep the others from running.
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

# Every stage but `all`, whose stages have limits of their own, runs in a process that is stopped a
# minute after its time, or after six hours where it has none.
within_limits() {
  local limit=$((6 * 3600))
  if (($(minutes) > 0)); then limit=$((60 * $(minutes) + 55)); fi
  if [ "$stage" = all ] || [ -n "${GPU_SH_LIMITED:-}" ]; then
    "$@"
  else
    GPU_SH_LIMITED=1 limited "$limit" "$script" "$stage"
  fi
}

[[ $(minutes) =~ ^[0-9]+$ ]] || die "MINUTES must be a whole number, got $MINUTES"
if [ -n "$WHEELS" ] && ! compgen -G "$WHEELS/*.whl" >/dev/null; then
  die "WHEELS must be a folder of wheels, got $WHEELS"
fi
mkdir -p "$OUT"
if [ -n "$EARLIER" ]; then take_earlier; fi
case $stage in
  build | check | sanitize | micro | report | short | all) within_limits "$stage" ;;
  time) within_limits time_ ;;
  *) die "the stage must be build, check, sanitize, micro, time, report, short or all, got $stage" ;;
esac
