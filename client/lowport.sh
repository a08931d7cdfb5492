#!/bin/sh
# The `lowport` command.
here=$(readlink -f "$0")
here=${here%/*}
. "$here/note-inherited.sh"
main=cli.js
[ "${1-}" != exec ] || main=exec/main.js
exec node "$here/$main" "$@"
