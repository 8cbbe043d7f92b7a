#!/usr/bin/env bash
# perf_analyzer.sh [flags]: NVIDIA's load generator of 24.10, as `make triton-install` put it into .triton.
set -euo pipefail
perf=${TRITON_HOME:-$(dirname "$0")/../../.triton}/env/perf
[[ -x $perf/perf_analyzer ]] || { echo "perf_analyzer.sh: none in $perf; run: make triton-install" >&2; exit 1; }
export LD_LIBRARY_PATH=$perf${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
exec "$perf/perf_analyzer" "$@"
