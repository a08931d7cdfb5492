#!/bin/sh
# Builds the addon: dist/shared/native/lowport.node, one binary for every Node from 20 on (Node-API version 8).
# CC, CFLAGS and LDFLAGS add to the command; the result does not depend on the folder it is built in.
set -eu
cd "$(dirname "$0")/../.."
out=${1:-dist/shared/native/lowport.node}
cc=${CC:-cc}
if [ "$(uname -s)" != Linux ]; then
    echo "lowport: the addon is built on Linux only; without it the client can listen directly, but not ask the helper" >&2
    exit 0
fi
if ! command -v "$cc" >/dev/null; then
    echo "lowport: $cc not found; a C compiler is needed (Debian: apt-get install build-essential; Alpine: apk add build-base)" >&2
    exit 69
fi
mkdir -p "$(dirname "$out")"
# shellcheck disable=SC2086 # the flags are lists
"$cc" -std=c11 -O2 -fPIC -shared -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Werror \
    -fvisibility=hidden -fstack-protector-strong -D_FORTIFY_SOURCE=2 -fno-strict-overflow "-ffile-prefix-map=$PWD=." \
    -Wl,-z,relro -Wl,-z,now -Wl,-z,noexecstack -Wl,--build-id=none \
    -DNAPI_VERSION=8 -isystem node_modules/node-api-headers/include ${CFLAGS:-} \
    -o "$out" shared/native/*.c ${LDFLAGS:-}
