#!/usr/bin/env bash
# Build the package into install/, in an environment that is sourced already. Prints the compiler's words on failure.
set -euo pipefail
cd "$(dirname "$0")/.."
log=log/build.txt
mkdir -p log
start=$SECONDS
if ! colcon build --symlink-install --paths . --cmake-args -DBUILD_TESTING=OFF -Wno-dev \
    --event-handlers console_cohesion+ >"$log" 2>&1; then
  tail -n 60 "$log" >&2
  echo "error: the build failed; all of its output is in $log" >&2
  exit 1
fi
echo "built deepverse_ros in $((SECONDS - start)) s"
