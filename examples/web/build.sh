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
busybox=$(command -v busybox) || { echo "busybox not found: apt-get install busybox-static" >&2; exit 1; }
if ldd "$busybox" >/dev/null 2>&1; then
    echo "$busybox is not static: apt-get install busybox-static" >&2
    exit 1
fi

context=$(mktemp -d)
trap 'rm -rf "$context"' EXIT INT TERM
root=$context/rootfs
mkdir -p "$root/bin" "$root/www/cgi-bin" "$root/etc" "$root/tmp" "$root/proc" "$root/sys" "$root/dev"
chmod 1777 "$root/tmp"
cp "$busybox" "$root/bin/busybox"
for applet in $(busybox --list); do
    [ "$applet" = busybox ] || ln -s busybox "$root/bin/$applet"
done
install -m 755 "$here/server" "$root/server"
install -m 755 "$here/index.cgi" "$root/www/cgi-bin/index.cgi"
echo 'root:x:0:0:root:/:/bin/sh' >"$root/etc/passwd"
echo 'root:x:0:' >"$root/etc/group"

# One COPY and no RUN: chroot isolation and a fixed time are enough for the same image anywhere.
buildah build --quiet --isolation chroot --timestamp 0 --tag "$image" \
    --file "$here/Containerfile" "$context"
