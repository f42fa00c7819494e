#!/bin/sh
# Install the Debian packages that are missing, or say in one line which they are.
# Usage: system.sh PROGRAM=PACKAGE... ; PROGRAM may be a file that an installed compiler must find:
# arm-none-eabi-gcc:nano.specs=PACKAGE, or a Python module: python3:ensurepip=PACKAGE.

present() {
    program=${1%%:*} part=
    case $1 in *:*) part=${1#*:} ;; esac
    command -v "$program" >/dev/null 2>&1 || return 1
    case $program:$part in
    *:) ;;
    *python*:*) "$program" -c "import $part" >/dev/null 2>&1 ;;
    *) case $("$program" -print-file-name="$part" 2>/dev/null) in /*) ;; *) return 1 ;; esac ;;
    esac
}

missing=
for entry; do
    present "${entry%%=*}" || case " $missing " in
    *" ${entry#*=} "*) ;;
    *) missing="$missing ${entry#*=}" ;;
    esac
done
[ -z "$missing" ] && exit 0

if ! command -v apt-get >/dev/null 2>&1; then
    echo "missing:$missing (Debian's names): install them with this system's package manager" >&2
    exit 1
elif [ "$(id -u)" = 0 ]; then
    as_root=
elif sudo -n true 2>/dev/null || { command -v sudo >/dev/null 2>&1 && [ -t 0 ] && sudo -v; }; then
    as_root=sudo
else
    echo "missing:$missing: ask someone who may to run: apt-get install$missing" >&2
    exit 1
fi
echo "installing$missing"
log=$(mktemp)
# shellcheck disable=SC2086 # a list of words
if ! $as_root env DEBIAN_FRONTEND=noninteractive sh -c \
    "apt-get update -qq && apt-get install -qq -y --no-install-recommends $missing" >"$log" 2>&1; then
    echo "apt-get could not install$missing: $(grep -m 1 '^E:' "$log" || tail -n 1 "$log")" >&2
    rm -f "$log"
    exit 1
fi
rm -f "$log"
