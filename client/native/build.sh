#!/bin/sh
# Builds the client's addon for `lowport exec`: dist/client/native/exec.node, one binary for every Node from 20 on (Node-API
# version 8). The helper never loads it. CC, CFLAGS and LDFLAGS add to the command. Puts the scripts of the command beside it.
set -eu
cd "$(dirname "$0")/../.."
out=${1:-dist/client/native/exec.node}
cc=${CC:-cc}
if [ $# = 0 ]; then
    cp client/*.sh dist/client/
fi
[ "$(uname -s)" = Linux ] || exit 0 # shared/native/build.sh has said so
mkdir -p "$(dirname "$out")"
# shellcheck disable=SC2086 # the flags are lists
"$cc" -std=c11 -O2 -fPIC -shared -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Werror \
    -fvisibility=hidden -fstack-protector-strong -D_FORTIFY_SOURCE=2 -fno-strict-overflow "-ffile-prefix-map=$PWD=." \
    -Wl,-z,relro -Wl,-z,now -Wl,-z,noexecstack -Wl,--build-id=none \
    -DNAPI_VERSION=8 -isystem node_modules/node-api-headers/include ${CFLAGS:-} \
    -o "$out" client/native/*.c shared/native/arguments.c -lpthread ${LDFLAGS:-}
