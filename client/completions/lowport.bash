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
        --config | --pid-file | --ready-fd | --allow | --init | --node | --socket | --uid | --reach | --wait) ((i++)) ;;
        -* | : | =) ;;
        *) words+=("${COMP_WORDS[i]}") ;;
        esac
    done
    command=${words[0]-}

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
    --ready-fd | --uid | --reach | --wait) return ;;
    esac

    case $program/$command in
    lowportd/ | lowportd/run) flags='--config --pid-file --ready-fd --syslog --daemon' ;;
    lowportd/check-config | lowportd/doctor | lowport/doctor) flags='--config --json' ;;
    lowportd/install) flags='--allow --init --node --hardened --dry-run --json' ;;
    lowportd/uninstall) flags='--purge --dry-run --json' ;;
    lowport/status) flags='--wait --socket --json' ;;
    lowport/list | lowport/revoke) flags='--socket --json' ;;
    lowport/check) flags='--uid --ipv6-only --socket --json' ;;
    lowport/audit) flags='--reach --json' ;;
    esac
    if [[ $cur == -* ]]; then
        _lowport_reply -W "$flags --help --version" -- "$cur"
        return
    fi

    case $program/${words[*]} in
    lowportd/) _lowport_reply -W 'run check-config doctor install uninstall' -- "$cur" ;;
    lowport/) _lowport_reply -W 'status list check revoke audit doctor' -- "$cur" ;;
    lowport/check) _lowport_reply -W 'tcp udp' -- "$cur" ;;
    lowport/revoke) _lowport_reply -W "$("${COMP_WORDS[0]}" list 2>/dev/null | awk 'NR > 1 { print $1 }')" -- "$cur" ;;
    lowport/audit) _lowport_reply -W verify -- "$cur" ;;
    'lowport/audit verify'*)
        compopt -o filenames 2>/dev/null
        _lowport_reply -f -- "$cur"
        ;;
    esac
}

complete -F _lowport lowport lowportd
