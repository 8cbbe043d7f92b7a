#!/usr/bin/env bash
# start.sh REPOSITORY [tritonserver flags]: a real Triton in the foreground, until it is told to stop. It loads nothing by
# itself: models are loaded and unloaded by whoever asks its repository API. It listens on loopback, which has no keys and
# lets everyone load models; other addresses by --http-address and so on, behind something that asks who it is.
# Ports: HTTP_PORT 8000, GRPC_PORT 8001, METRICS_PORT 8002. TRITON_HOME: where install.sh put it.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
home=${TRITON_HOME:-$here/../../.triton}
(($#)) || { echo "usage: start.sh REPOSITORY [tritonserver flags]" >&2; exit 2; }
repository=$1
shift
[[ -e $home/installed ]] || { echo "start.sh: no Triton in $home; run: make triton-install" >&2; exit 1; }
env=$(cd "$home/env" && pwd)

# Nothing of the caller's own Python may reach the stubs, which run the models with numpy below 2.
unset PYTHONHOME VIRTUAL_ENV
export PYTHONPATH=$env/packages PYTHONNOUSERSITE=1 PATH=$env/bin:$PATH
export LD_LIBRARY_PATH=$env/lib/shared:$env/packages/nvidia_pytriton.libs
exec "$env/bin/tritonserver" --model-repository="$repository" --model-control-mode=explicit \
  --backend-directory="$env/backends" --cache-directory="$env/caches" \
  --http-address=127.0.0.1 --grpc-address=127.0.0.1 --metrics-address=127.0.0.1 \
  --http-port="${HTTP_PORT:-8000}" --grpc-port="${GRPC_PORT:-8001}" --metrics-port="${METRICS_PORT:-8002}" "$@"
