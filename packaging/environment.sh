#!/bin/sh
# Make a virtual environment ready, and say what is done:
#
#   sh packaging/environment.sh FOLDER EXTRA
#
# EXTRA is an extra of pyproject.toml, or "package" for the package alone. Nothing is
# installed where the last installation was made of the same pyproject.toml. PYTHON names
# the Python to take; where it is not set, an environment that works keeps its own.
set -eu
cd "$(dirname "$0")/.."
venv=$1
python=$venv/bin/python
log=$venv/install.log
minor=$(sed -n 's/^requires-python = ">=3\.\([0-9]*\)"$/\1/p' pyproject.toml)

say() { printf '%s\n' "$*"; }

give_up() {
    say "make: $*" >&2
    exit 1
}

version() { "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null; }

new_enough() {
    "$1" -c "import sys; sys.exit(sys.version_info < (3, $minor))" 2>/dev/null
}

# Why an environment cannot be made with a Python; nothing if it can.
obstacle() {
    if ! version "$1" >/dev/null; then
        say "$1 does not run"
    elif ! new_enough "$1"; then
        say "$1 is Python $(version "$1"), and 3.$minor or later is needed"
    elif ! "$1" -c 'import ensurepip, venv' 2>/dev/null; then
        say "$1 has no venv (on Debian and Ubuntu: apt install python3-venv)"
    fi
}

# The Python to make an environment with.
choose() {
    if [ -z "${PYTHON:-}" ]; then
        for name in python3 python3.14 python3.13 python3.12 python3.11; do
            [ -n "$(obstacle "$name")" ] || { say "$name" && return; }
        done
    fi
    reason=$(obstacle "${PYTHON:-python3}")
    [ -z "$reason" ] || give_up "$reason. Name another: PYTHON=python3.12 make ..."
    say "$PYTHON"
}

# Why an environment must be made anew; nothing if it is well.
flaw() {
    if ! new_enough "$python"; then
        say "its Python does not run or is too old"
    elif [ -n "${PYTHON:-}" ] && [ "$(version "$PYTHON")" != "$(version "$python")" ]; then
        say "it has Python $(version "$python")"
    else
        for package in "$venv"/lib/python*/site-packages/*.dist-info; do
            # pip signs what it has installed to the end.
            if [ -d "$package" ] && [ ! -e "$package/INSTALLER" ]; then
                say "an installation in it was interrupted"
                return
            fi
        done
    fi
}

make_environment() {
    chosen=$(choose)
    if [ ! -e "$venv" ]; then
        say "Making $venv with Python $(version "$chosen")."
    elif [ -e "$venv/pyvenv.cfg" ] || [ -z "$(find "$venv" -type f)" ]; then
        say "Making $venv anew with Python $(version "$chosen"): $1."
    else
        give_up "$venv is no virtual environment: remove it, or name another: VENV=..."
    fi
    said=$(mktemp)
    made=0
    "$chosen" -m venv --clear "$venv" 2>"$said" || made=$?
    # What Python prints when it is interrupted tells nobody anything.
    [ "$made" = 0 ] || grep -q KeyboardInterrupt "$said" || cat "$said" >&2
    rm -f "$said"
    [ "$made" = 0 ] || give_up "$venv was not made; run the command again."
}

# What an installation is made of: this folder, and what it declares.
state() {
    pwd
    cat pyproject.toml
}

# Whether all that an extra asks for is installed: itself, or what contains it.
installed() {
    case $1 in
    package) holders="package julia docs test" ;;
    *) holders="$1 test" ;;
    esac
    for holder in $holders; do
        if state | cmp -s - "$venv/.installed-$holder"; then return; fi
    done
    false
}

install() {
    case $1 in
    package) what="hybrid_nds" from=. ;;
    *) what="hybrid_nds with what \"$1\" needs" from=".[$1]" ;;
    esac
    say "Installing $what into $venv; the first time takes some minutes."
    started=$(date +%s)
    "$python" -m pip --version >/dev/null 2>&1 || "$python" -m ensurepip >"$log" 2>&1 ||
        give_up "$venv has no pip: remove it."
    "$python" -m pip install --disable-pip-version-check --no-input --no-compile \
        --progress-bar off --editable "$from" >"$log" 2>&1 || {
        cat "$log" >&2
        give_up "pip failed; what it printed is above and in $log."
    }
    state >"$venv/.installed-$1"
    say "Installed in $(($(date +%s) - started)) s."
}

reason=$(flaw)
[ -z "$reason" ] || make_environment "$reason"
installed "$2" || install "$2"

# Where a Julia is configured it is used, and that takes the bridge to it.
if [ "$2" = package ] && ! installed julia && "$python" -c \
    'import sys; from hybrid_nds.runtime import configured; sys.exit(not configured())'; then
    install julia
fi
