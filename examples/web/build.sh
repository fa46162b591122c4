#!/bin/sh
# Builds the example image from nothing but this folder and a static busybox.
#
#   examples/web/build.sh [IMAGE]          default: localhost/web:1
#
# The image lands in buildah's storage (CONTAINERS_STORAGE_CONF chooses another one); its id is
# printed. Needs: buildah, busybox-static. No network.
set -eu

image=${1:-localhost/web:1}
here=$(cd "$(dirname "$0")" && pwd)
context=$(mktemp -d)
trap 'rm -rf "$context"' EXIT INT TERM
"$here/context" "$context"

# One COPY and no RUN: chroot isolation and a fixed time are enough for the same image anywhere.
buildah build --quiet --isolation chroot --timestamp 0 --tag "$image" \
    "$context"
