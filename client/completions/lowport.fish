# Completions of lowport(1) and lowportd(8) for fish. Held to the programs by test/documents.test.ts.

complete -c lowport -f
complete -c lowportd -f

set -l commands status list check revoke audit doctor
set -l none "not __fish_seen_subcommand_from $commands"
complete -c lowport -n $none -a status -d 'whether the helper runs'
complete -c lowport -n $none -a list -d leases
complete -c lowport -n $none -a check -d 'whether a port may be had'
complete -c lowport -n $none -a revoke -d 'take a socket back'
complete -c lowport -n $none -a audit -d 'verify the audit log'
complete -c lowport -n $none -a doctor -d 'what an admin would check'
complete -c lowport -l help -d 'say how it is used'
complete -c lowport -l version -d 'say which version it is'
complete -c lowport -n '__fish_seen_subcommand_from status' -l wait -x -d 'seconds to look again until it runs'
complete -c lowport -n '__fish_seen_subcommand_from status list check revoke' -l socket -r -F -d 'the control socket'
complete -c lowport -n '__fish_seen_subcommand_from status list check revoke audit doctor' -l json -d 'the answer as JSON'
complete -c lowport -n '__fish_seen_subcommand_from check' -l uid -x -d 'check for that user'
complete -c lowport -n '__fish_seen_subcommand_from check' -l ipv6-only -d 'for a socket that IPv4 does not reach'
complete -c lowport -n '__fish_seen_subcommand_from check; and not __fish_seen_subcommand_from tcp udp' -a 'tcp udp'
complete -c lowport -n '__fish_seen_subcommand_from revoke' -a "(lowport list 2>/dev/null | awk 'NR > 1 { print \$1 }')"
complete -c lowport -n '__fish_seen_subcommand_from audit' -l reach -x -d 'the log goes at least to that record'
complete -c lowport -n '__fish_seen_subcommand_from audit; and not __fish_seen_subcommand_from verify' -a verify
complete -c lowport -n '__fish_seen_subcommand_from verify' -F
complete -c lowport -n '__fish_seen_subcommand_from doctor' -l config -r -F -d 'the configuration'

set -l commands run check-config doctor install uninstall
set -l none "not __fish_seen_subcommand_from $commands"
set -l run 'not __fish_seen_subcommand_from check-config doctor install uninstall'
complete -c lowportd -n $none -a run -d serve
complete -c lowportd -n $none -a check-config -d 'tell each fault of the configuration'
complete -c lowportd -n $none -a doctor -d 'what an admin would check'
complete -c lowportd -n $none -a install -d 'install it as a service, or upgrade it'
complete -c lowportd -n $none -a uninstall -d 'remove all of it but the audit log'
complete -c lowportd -l help -d 'say how it is used'
complete -c lowportd -l version -d 'say which version it is'
complete -c lowportd -n 'not __fish_seen_subcommand_from install uninstall' -l config -r -F -d 'the configuration'
complete -c lowportd -n $run -l pid-file -r -F -d 'write the process id there'
complete -c lowportd -n $run -l ready-fd -x -d 'write there when it serves'
complete -c lowportd -n $run -l syslog -d 'log to syslog as soon as it serves'
complete -c lowportd -n $run -l daemon -d 'serve in the background'
complete -c lowportd -n '__fish_seen_subcommand_from check-config doctor install uninstall' -l json -d 'the answer as JSON'
complete -c lowportd -n '__fish_seen_subcommand_from install' -l allow -x -a '(__fish_complete_users)' -d 'let a user or %group have ports'
complete -c lowportd -n '__fish_seen_subcommand_from install' -l init -x -a 'systemd openrc sysv' -d 'the init to install for'
complete -c lowportd -n '__fish_seen_subcommand_from install' -l node -r -F -d 'the Node that it gets a copy of'
complete -c lowportd -n '__fish_seen_subcommand_from install' -l hardened -d 'no memory that is both written and run (systemd)'
complete -c lowportd -n '__fish_seen_subcommand_from install uninstall' -l dry-run -d 'tell every change, and make none'
complete -c lowportd -n '__fish_seen_subcommand_from uninstall' -l purge -d 'remove the audit log too'
