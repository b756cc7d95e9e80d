#!/usr/bin/env bash
# Resolve pyproject.toml into requirements/{run,dev}.txt. Torch and its GPU packages are left out: torch is
# installed first, by pip, with the build that suits the platform (requirements/torch.txt).
set -euo pipefail
uv=$(realpath "$1")
cd "$(dirname "$0")/.."
resolve() {
    local out=$1 head=$2
    shift 2
    {
        echo "# $head"
        echo "# Made by requirements/lock.sh; installed with --no-deps after torch (see Makefile)."
        "$uv" pip compile -q pyproject.toml requirements/build.in "$@" --python-version 3.11 --no-header --no-annotate -c "$out" |
            grep -vE '^(nvidia-|triton==|cuda-|torch==)'
    } >"$out.new"
    mv "$out.new" "$out"
}
resolve requirements/run.txt "Every package of a running lake, pinned."
resolve requirements/dev.txt "requirements/run.txt plus the checks, the tests and the extras snapdragon, viewer and legacy, pinned." --extra dev --extra snapdragon --extra viewer --extra legacy
