#!/bin/sh
# The `lowport` command.
here=$(readlink -f "$0")
here=${here%/*}
. "$here/note-inherited.sh"
exec node "$here/cli.js" "$@"
