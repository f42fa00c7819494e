#!/bin/sh
# Build the wheel and, with each Python that is named, install it outside of the checkout, compile a shipped model there
# and run it:
#     sh requirements/wheel.sh python3.10 python3.13
set -e
checkout=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$1" -m pip --disable-pip-version-check -qq wheel --no-deps -w "$work" "$checkout"
cd "$work"
for python in "$@"; do
    rm -rf venv package
    "$python" -m venv venv
    venv/bin/python -m pip --disable-pip-version-check -qq install ./*.whl
    venv/bin/embbert-tvm compile embbert-snips --target host -o package
    venv/bin/embbert-tvm run package "play some jazz" | grep PlayMusic
    venv/bin/python --version
done
