# For a script that is about to start the `lowport` command by $node, sourced with the command's words as they are: sets $flags. In
# a service of systemd's (INVOCATION_ID) memory may be forbidden to be both written and executed (MemoryDenyWriteExecute=), where
# Node aborts unless it compiles nothing. That makes `audit` half as fast, so not there; elsewhere it would only delay the start.
flags=''
if [ -n "${INVOCATION_ID-}" ] && [ "${1-}" != audit ]; then
    flags=--jitless
    # Up to Node 22 V8 says on stderr that there is no WebAssembly then, unless it is told; from 24 on it does not know the option.
    ! "$node" --no-expose-wasm --version </dev/null >/dev/null 2>&1 || flags="$flags --no-expose-wasm"
fi
# What starts a program compiles little: no threads for that.
[ "${1-}" != exec ] || flags="$flags --v8-pool-size=0"
