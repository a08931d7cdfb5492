# For a script that is about to start `lowport exec`: notes what Node changes in a process before its first line runs, for the
# program that it becomes (exec/inherited.ts): which signals were ignored and blocked, the limit of descriptors, which
# descriptors were inherited, which of stdio do not block, and the environment, byte for byte, for a shell does not keep all of it:
# its own variables may have the names of others, and names that are none of a shell's are lost. Meant to be sourced, with the
# command's words as they are. Where there is no base64, and where the environment is too large to be there twice, what the shell
# has left of it is passed on, without what the shell has added.
look_at() {
    while read -r name value rest; do
        [ "$name" = flags: ] && flags=$value
    done <"/proc/self/fdinfo/$1"
}

if [ "${1-}" = exec ] && [ -r /proc/self/limits ]; then
    lowport_parts=$(PATH=/usr/bin:/bin:$PATH base64 -w 120000 <"/proc/$$/environ" 2>/dev/null) || lowport_parts=''
    [ "${#lowport_parts}" -lt 600000 ] || lowport_parts='' # a program is given 2 MB (ARG_MAX), usually
    LOWPORT_EXEC_ENVIRON=0
    for lowport_part in $lowport_parts; do # one variable holds 128 KiB (MAX_ARG_STRLEN, execve(2))
        LOWPORT_EXEC_ENVIRON=$((LOWPORT_EXEC_ENVIRON + 1))
        export "LOWPORT_EXEC_ENVIRON_$LOWPORT_EXEC_ENVIRON=$lowport_part"
    done
    export LOWPORT_EXEC_ENVIRON
    unset lowport_parts lowport_part
    ignored='' blocked='' limit='' numbers='' nonblocking=''
    while read -r name value rest; do
        case $name in SigIgn:) ignored=$value ;; SigBlk:) blocked=$value ;; esac
    done </proc/self/status
    while read -r one two three soft rest; do
        [ "$one $two $three" = 'Max open files' ] && limit=$soft
    done </proc/self/limits
    for path in /proc/self/fd/*; do
        number=${path##*/} flags=''
        # What this shell has opened for itself is gone by now, or closes when it executes another program (02000000).
        [ -r "/proc/self/fdinfo/$number" ] || continue
        # `read` reads from 0 itself, which is looked at under another number meanwhile.
        if [ "$number" = 0 ]; then look_at 7 7<&0; else look_at "$number"; fi
        [ -n "$flags" ] && [ $((flags / 02000000 % 2)) = 0 ] && numbers=$numbers$number,
        [ -n "$flags" ] && [ "$number" -le 2 ] && [ $((flags / 04000 % 2)) = 1 ] && nonblocking=$nonblocking$number,
    done
    added=PWD,OLDPWD,SHLVL,_,
    # `read` leaves out the NULs between them. A name that seems to be there although it is not does no harm.
    while IFS= read -r rest || [ -n "$rest" ]; do
        for name in PWD OLDPWD SHLVL _; do
            case $rest in *"$name="*)
                case $added in "$name",*) added=${added#"$name",} ;; *",$name",*) added=${added%%",$name",*},${added##*",$name",} ;; esac
                ;;
            esac
        done
    done </proc/self/environ
    for name in NODE_OPTIONS NODE_CHANNEL_FD NODE_CHANNEL_SERIALIZATION_MODE NODE_UNIQUE_ID NODE_DEBUG NODE_V8_COVERAGE \
        NODE_EXTRA_CA_CERTS NODE_COMPILE_CACHE OPENSSL_CONF OPENSSL_MODULES; do
        eval "[ -z \"\${$name+set}\" ] || export LOWPORT_EXEC_$name=\"\$$name\""
        unset "$name"
    done
    ulimit -S -n "$(ulimit -H -n)" 2>/dev/null # Node needs some; the program gets what it had
    export LOWPORT_EXEC_INHERITED="$ignored:$blocked:$limit:$numbers:$nonblocking:$added"
fi
