#!/bin/sh
# Lint, types and tests, in the virtual environment VENV (by default .venv):
#
#     packaging/check.sh --lint          lint and types alone
#     packaging/check.sh [OPTION ...]    and the tests, with options of pytest
#
# Types are checked while the tests run, on a core that would often be idle.
set -eu
VENV="${VENV:-.venv}"
PYTHON="$VENV/bin/python"

"$PYTHON" -m ruff check .
"$PYTHON" -m ruff format --check .
if [ "${1:-}" = --lint ]; then
    exec "$PYTHON" -m pyright --pythonpath "$PYTHON"
fi

TYPES="$(mktemp)"
"$PYTHON" -m pyright --pythonpath "$PYTHON" > "$TYPES" 2>&1 &
CHECKER=$!
trap 'kill "$CHECKER" 2> /dev/null || true; rm -f "$TYPES"' EXIT
trap 'exit 130' INT TERM

STATUS=0
"$PYTHON" -m pytest -n auto --dist loadgroup --no-loadscope-reorder \
    "$@" || STATUS=$?
wait "$CHECKER" || { STATUS=1; echo "pyright found errors:"; }
cat "$TYPES"
exit "$STATUS"
