#!/bin/sh
# Runs the native unit tests with the addon built under AddressSanitizer and UndefinedBehaviorSanitizer, in a copy of dist.
# Exits non-zero on any report. Leaks are not looked for: node itself leaves memory to the kernel at exit.
set -eu
cd "$(dirname "$0")/.."
cc=${CC:-cc}
libasan=$("$cc" -print-file-name=libasan.so)
libubsan=$("$cc" -print-file-name=libubsan.so)
case $libasan in
/*) ;;
*)
    echo "sanitize: $cc has no libasan.so (Debian: it comes with gcc; Alpine: musl has none); not run" >&2
    exit 69
    ;;
esac
copy=node_modules/.cache/lowport/sanitize
rm -rf "$copy"
mkdir -p "$copy"
cp -r dist package.json "$copy"
CFLAGS="-fsanitize=address,undefined -fno-omit-frame-pointer -g -O1 -U_FORTIFY_SOURCE" \
    sh shared/native/build.sh "$copy/dist/shared/native/lowport.node"
CFLAGS="-fsanitize=address,undefined -fno-omit-frame-pointer -g -O1 -U_FORTIFY_SOURCE" \
    sh client/native/build.sh "$copy/dist/client/native/exec.node"

# Children of the tests inherit all this, so that each is watched; each writes its report into a file of its own.
export LD_PRELOAD="$libasan $libubsan"
export ASAN_OPTIONS="detect_leaks=0:abort_on_error=1:log_path=$PWD/$copy/report:log_exe_name=0"
export UBSAN_OPTIONS="print_stacktrace=1:halt_on_error=1:abort_on_error=1:log_path=$PWD/$copy/report"
status=0
node --test --test-timeout=120000 \
    "$copy/dist/test/shared/native.test.js" \
    "$copy/dist/test/shared/native-fds.test.js" \
    "$copy/dist/test/shared/poll.test.js" \
    "$copy/dist/test/client/exec/addon.test.js" "$@" || status=$?
unset LD_PRELOAD
for report in "$copy"/report*; do
    [ -e "$report" ] || continue
    cat "$report" >&2
    status=1
done
[ "$status" -eq 0 ] && echo "sanitize: no report"
exit "$status"
