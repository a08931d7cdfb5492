# Completions of lowport(1) and lowportd(8) for bash. Held to the programs by test/documents.test.ts.

_lowport_reply() {
    mapfile -t COMPREPLY < <(compgen "$@")
}

_lowport() {
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} program=${COMP_WORDS[0]##*/}
    local command='' words=() flags='' i
    COMPREPLY=()

    for ((i = 1; i < COMP_CWORD; i++)); do
        case ${COMP_WORDS[i]} in
        --config | --pid-file | --ready-fd | --allow | --init | --node | --socket | --uid | --reach | --wait | --user | \
            --lines | -n | --method | --decision | --port | --event | --hold | --listen)
            # Colons and equals signs are words of their own.
            ((i++))
            if [[ ${COMP_WORDS[i]-} == = ]]; then ((i++)); fi
            while ((i + 1 < COMP_CWORD)) && [[ ${COMP_WORDS[i + 1]} == : ]]; do ((i += 2)); done
            ;;
        -* | : | =) ;;
        *)
            words+=("${COMP_WORDS[i]}")
            # What follows the program's name is the program's.
            if [[ $program/${words[0]} == lowport/exec && ${#words[@]} == 2 ]]; then break; fi
            ;;
        esac
    done
    command=${words[0]-}
    if [[ $command == audit && -n ${words[1]-} ]]; then command=audit-${words[1]}; fi
    if [[ $program/$command == lowport/exec && ${#words[@]} == 2 ]]; then
        compopt -o filenames 2>/dev/null
        _lowport_reply -f -- "$cur"
        return
    fi

    case $prev in
    --config | --pid-file | --node | --socket)
        compopt -o filenames 2>/dev/null
        _lowport_reply -f -- "$cur"
        return
        ;;
    --init)
        _lowport_reply -W 'systemd openrc sysv' -- "$cur"
        return
        ;;
    --allow)
        compopt -o nospace 2>/dev/null
        _lowport_reply -S : -u -- "$cur"
        return
        ;;
    --user)
        _lowport_reply -u -- "$cur"
        return
        ;;
    --method)
        _lowport_reply -W 'bind release list check revoke status' -- "$cur"
        return
        ;;
    --decision)
        _lowport_reply -W 'allow deny invalid error' -- "$cur"
        return
        ;;
    --event)
        _lowport_reply -W 'call connect disconnect start stop reload lease-end rotate' -- "$cur"
        return
        ;;
    --listen)
        compopt -o nospace 2>/dev/null
        _lowport_reply -W 'tcp: udp:' -- "$cur"
        return
        ;;
    --ready-fd | --uid | --reach | --wait | --lines | -n | --port | --hold) return ;;
    esac

    case $program/$command in
    lowportd/ | lowportd/run) flags='--config --pid-file --ready-fd --syslog --daemon' ;;
    lowportd/check-config | lowportd/doctor | lowport/doctor) flags='--config --json' ;;
    lowportd/install) flags='--allow --init --node --hardened --dry-run --json' ;;
    lowportd/uninstall) flags='--purge --dry-run --json' ;;
    lowport/status) flags='--wait --socket --json' ;;
    lowport/list | lowport/revoke) flags='--socket --json' ;;
    lowport/check) flags='--uid --user --ipv6-only --socket --json' ;;
    lowport/audit-tail) flags='--follow --lines --uid --user --method --decision --port --event --json' ;;
    lowport/audit-verify) flags='--reach --json' ;;
    lowport/exec) flags='--hold --listen --socket' ;;
    lowport/ | lowport/help) flags='--json' ;;
    esac
    if [[ $cur == -* ]]; then
        if [[ $program/$command == lowport/exec ]]; then flags+=' --help'; else flags+=' --help --version'; fi
        _lowport_reply -W "$flags" -- "$cur"
        return
    fi

    case $program/${words[*]} in
    lowportd/) _lowport_reply -W 'run check-config doctor install uninstall' -- "$cur" ;;
    lowport/) _lowport_reply -W 'status doctor list check exec revoke audit help' -- "$cur" ;;
    lowport/check) _lowport_reply -W 'tcp udp' -- "$cur" ;;
    lowport/revoke) _lowport_reply -W "$("${COMP_WORDS[0]}" list 2>/dev/null | awk 'NR > 1 { print $1 }')" -- "$cur" ;;
    lowport/exec) _lowport_reply -c -- "$cur" ;;
    lowport/help) _lowport_reply -W 'status doctor list check exec revoke audit register' -- "$cur" ;;
    lowport/audit | 'lowport/help audit') _lowport_reply -W 'tail verify' -- "$cur" ;;
    'lowport/audit verify'* | 'lowport/audit tail')
        compopt -o filenames 2>/dev/null
        _lowport_reply -f -- "$cur"
        ;;
    esac
}

complete -F _lowport lowport lowportd
