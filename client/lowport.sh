#!/bin/sh
# The `lowport` command.
here=$(readlink -f "$0")
here=${here%/*} node=node
. "$here/note-inherited.sh"
. "$here/node-flags.sh"
main=cli.js
[ "${1-}" != exec ] || main=exec.cjs
# shellcheck disable=SC2086 # the flags are a list
exec "$node" $flags "$here/$main" "$@"
