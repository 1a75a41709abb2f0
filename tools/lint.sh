#!/usr/bin/env bash
# All static checks; every one runs, and the script fails when one of them did.
set -uo pipefail
cd "$(dirname "$0")/.."
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}"
failed=()
check() {
  echo "== $*"
  "$@" || failed+=("$1 ${2:-}")
}
check ruff format --check .
check ruff check .
check mypy
check lint-imports
check python tools/check_package_xml.py
if command -v ament_xmllint >/dev/null; then check ament_xmllint package.xml; fi
if [ ${#failed[@]} -gt 0 ]; then
  printf 'failed: %s\n' "${failed[@]}" >&2
  exit 1
fi
echo "all checks passed"
