#!/bin/sh
# The mounts and namespaces of a machine that real-init.ts starts: a copy-on-write view of this one's root file system,
# with a real init as its process 1. Its parts:
#   probe    outside: whether all of this is allowed here
#   hold     outside, in a mount namespace of its own; it has the machine's disk (a tmpfs), and lives until its stdin ends.
#            "boot" on stdin starts the init, again too, so that a machine can be booted a second time from the same disk.
#   furnish  in a chroot of that disk, once: takes away what of this machine must not start or be seen in there
#   join, init  as process 1 of the new namespaces: mounts what an init expects to find, and becomes it
# The threat: root in there is the real root. So its capabilities are cut, and what would reach the kernel is read-only.
set -eu

# Where a disk is mounted while the machine is made: a folder that each Linux has, and nothing is read from.
disk=/run
# Not for the root of such a machine; systemd-nspawn holds these back too.
bounding=-sys_module,-sys_rawio,-sys_time,-syslog,-audit_control,-mac_admin,-mac_override,-wake_alarm

say() { echo "real-init: $*"; }

# ---------------------------------------------------------------------------------------------------------------- outside

remove_cgroup() {
    find "$1" -depth -type d -exec rmdir {} + 2>/dev/null || true
}

# What a holder left that was killed itself: its cgroup, for all else of it went with its namespaces.
remove_left_cgroups() {
    for left in "${cgroup%-*}"-*; do
        [ ! -d "$left" ] || [ -d "/proc/${left##*-}" ] || remove_cgroup "$left"
    done
}

mount_disk() {
    mount -t tmpfs -o "mode=0755,size=$size,nr_inodes=0" disk "$disk"
    mkdir "$disk/upper" "$disk/work" "$root"
    mount -t overlay -o "lowerdir=/,upperdir=$disk/upper,workdir=$disk/work" disk "$root"
}

# Whether this machine lets us: all that may be forbidden is tried.
probe() {
    cgroup=$1-$$ size=1m root=$disk/root
    trap 'remove_cgroup "$cgroup"' EXIT
    mkdir "$cgroup"
    mount_disk
    echo 0 >"$cgroup/cgroup.procs"
    unshare --cgroup --net --uts --ipc --pid --fork mount -t cgroup2 cgroup "$root/mnt"
    echo 0 >"${cgroup%/*}/cgroup.procs"
}

# Root's alone, and open to all: else a copy that is must stand in for it. Given are names in the current folder.
is_roots_alone() {
    [ -z "$(find "$@" \( ! -user 0 -o -perm /022 -o ! -perm -004 -o -type d ! -perm -001 \) ! -type l -print -quit)" ]
}

show_read_only() {
    mount --bind "$1" "$2"
    mount -o remount,bind,ro "$2"
}

# Shows the checkout and the node to the machine, so that both and all folders above them are root's alone.
show_program() {
    there=$root/opt/lowport bin=$root/opt/node/bin
    mkdir -p "$there" "$bin"
    cd "$checkout"
    if is_roots_alone "$@"; then
        show_read_only "$checkout" "$there"
    else
        tar -c --owner=0 --group=0 --mode=u+rwX,go+rX,go-w -- "$@" | tar -x -p -C "$there"
        show_read_only "$there" "$there"
    fi
    cd "$(dirname "$node")"
    if is_roots_alone "$(basename "$node")"; then
        : >"$bin/node"
        show_read_only "$node" "$bin/node"
    else
        cp "$node" "$bin/node"
        chmod 755 "$bin/node"
        show_read_only "$bin" "$bin"
    fi
    cd /
}

# Kills the init, and with it all that runs in there; unshare, its parent, reaps it.
power_off() {
    [ -n "$parent" ] || return 0
    kill -KILL $(cat "/proc/$parent/task/$parent/children") 2>/dev/null || true
    wait "$parent" || true
    parent=
}

hold() {
    kind=$1 cgroup=$2-$$ size=$3 debs=$4 checkout=$5 node=$6
    shift 6
    root=$disk/root parent=
    trap 'power_off; while [ -d "$cgroup" ]; do remove_cgroup "$cgroup"; done' EXIT
    trap 'exit 143' INT TERM HUP
    remove_left_cgroups
    mkdir "$cgroup" "$cgroup/visitors"
    mount_disk
    if [ -n "$debs" ]; then
        # Their files are enough: their scripts would talk to an init that runs. /sbin and the like are links here.
        for deb in "$debs"/*.deb; do
            dpkg-deb --fsys-tarfile "$deb" | tar -x -C "$root" --keep-directory-symlink
        done
    fi
    show_program "$@"
    chroot "$root" /bin/sh /opt/lowport/test/e2e/real-init.sh furnish "$kind"
    say held "$cgroup"
    while read -r word; do
        [ "$word" = boot ] || exit 1
        power_off
        # The init has the cgroup to itself, which it joins on its own.
        setpriv --pdeathsig KILL unshare --mount --propagation private --pid --net --uts --ipc --fork --kill-child \
            /bin/sh "$root/opt/lowport/test/e2e/real-init.sh" join "$kind" "$cgroup" </dev/null &
        parent=$!
    done
}

# ------------------------------------------------------------------------------------------------------- in a chroot, once

# The users of the machine, as in box.ts; www-data and adm are Debian's.
add_user() {
    sed -i "/^$1:/d; /^[^:]*:[^:]*:$2:/d" /etc/passwd /etc/group
    echo "$1:x:$2:$2::/nonexistent:/bin/sh" >>/etc/passwd
    echo "$1:x:$2:" >>/etc/group
}

furnish() {
    umask 022
    : >/etc/fstab
    echo box >/etc/hostname
    printf '%s: files\n' passwd group shadow gshadow hosts >/etc/nsswitch.conf
    # A lowport that this machine has itself.
    rm -rf /etc/lowport /usr/local/lib/lowport /var/log/lowport /etc/init.d/lowport /etc/logrotate.d/lowport \
        /etc/sysusers.d/lowport.conf /usr/local/bin/lowport /usr/local/sbin/lowportd
    sed -i '/^lowport:/d' /etc/passwd /etc/group
    add_user alice 2001
    add_user olaf 2004
    add_user mallory 2005
    sed -i 's/^\(adm:.*\)/\1,olaf/; s/:,/:/' /etc/group
    # Nothing of this machine starts in there, and no service is kept from starting.
    rm -rf /etc/rc?.d/* /usr/sbin/policy-rc.d /etc/runlevels/*/*
    "furnish_$1"
}

furnish_systemd() {
    rm -rf /etc/systemd /usr/local/lib/systemd /lib/systemd/system-generators
    find /lib/systemd/system/ \( -path '*.wants/*' -o -path '*.requires/*' \) ! -name 'systemd-journald.s*' \
        ! -name systemd-journald-dev-log.socket ! -name systemd-tmpfiles-setup.service ! -name dbus.socket \
        ! -name systemd-user-sessions.service -delete
    mkdir -p /etc/systemd/system/multi-user.target.wants /etc/systemd/journald.conf.d
    ln -s /lib/systemd/system/multi-user.target /etc/systemd/system/default.target
    printf '[Journal]\nStorage=volatile\nRateLimitIntervalSec=0\n' >/etc/systemd/journald.conf.d/box.conf
    cat >/etc/systemd/system/box-ready.service <<'unit'
[Unit]
DefaultDependencies=no
After=multi-user.target
[Service]
Type=oneshot
ExecStart=/bin/touch /run/box-ready
unit
    ln -s ../box-ready.service /etc/systemd/system/multi-user.target.wants/
}

furnish_openrc() {
    mkdir -p /etc/runlevels/sysinit /etc/runlevels/boot /etc/runlevels/default /etc/runlevels/shutdown
    cat >/etc/init.d/box-ready <<'script'
#!/sbin/openrc-run
depend() { after *; }
start() { touch /run/box-ready; }
script
    chmod 755 /etc/init.d/box-ready
    ln -s /etc/init.d/box-ready /etc/runlevels/default/
    printf '%s\n' 'rc_sys="lxc"' 'rc_logger="YES"' 'rc_log_path="/run/rc.log"' 'unicode="NO"' >>/etc/rc.conf
}

furnish_sysv() {
    {
        echo id:2:initdefault:
        echo si::sysinit:/etc/init.d/rcS
        for level in 0 1 2 3 6; do echo "l$level:$level:wait:/etc/init.d/rc $level"; done
        echo rd:2345:once:/bin/touch /run/box-ready
    } >/etc/inittab
}

# ------------------------------------------------------------------------------------------------------------- as process 1

# Joins the cgroup, so that the cgroup namespace begins there, and tells by which number this machine knows process 1.
join() {
    echo 0 >"$2/cgroup.procs"
    read -r pid rest </proc/self/stat
    say init "$pid"
    exec unshare --cgroup /bin/sh "$0" init "$1"
}

mount_kernel() {
    mount -t proc -o nosuid,nodev,noexec proc proc
    for name in sys sys/net; do mount --bind "proc/$name" "proc/$name"; done # the network's are its own
    mount -o remount,bind,ro,nosuid,nodev,noexec proc/sys
    [ ! -e proc/sysrq-trigger ] || mount --bind -o ro proc/sysrq-trigger proc/sysrq-trigger
    mount -t sysfs -o ro,nosuid,nodev,noexec sysfs sys
    mount -t cgroup2 -o nosuid,nodev,noexec cgroup sys/fs/cgroup
}

mount_devices() {
    mount -t tmpfs -o mode=0755,nosuid,noexec,size=4m devices dev
    while read -r name minor; do mknod -m 666 "dev/$name" c 1 "$minor"; done <<devices
null 3
zero 5
full 7
random 8
urandom 9
devices
    mknod -m 666 dev/tty c 5 0
    mkdir dev/pts dev/shm
    mount -t devpts -o newinstance,nosuid,noexec,ptmxmode=0666,mode=0620,gid=5 devpts dev/pts
    mount -t tmpfs -o mode=1777,nosuid,nodev shm dev/shm
    ln -s pts/ptmx dev/ptmx
    ln -s /proc/self/fd dev/fd
    ln -s /proc/self/fd/0 dev/stdin
    ln -s /proc/self/fd/1 dev/stdout
    ln -s /proc/self/fd/2 dev/stderr
}

init() {
    cd "$disk/root"
    hostname box
    mount_kernel
    mount_devices
    mount -t tmpfs -o mode=0755,nosuid,nodev run run
    mount -t tmpfs -o mode=1777,nosuid,nodev tmp tmp
    mkdir run/outside
    pivot_root . run/outside
    umount -l /run/outside
    rmdir /run/outside
    mount --make-rshared / # as after a real boot; systemd's mounts for a service need it
    ip link set lo up
    path=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
    case $1 in
        systemd) set -- container=box /lib/systemd/systemd --system --log-target=journal --show-status=0 ;;
        openrc) set -- container=lxc /sbin/openrc-init ;;
        sysv) set -- container=lxc INIT_VERSION=sysvinit /sbin/init ;;
    esac
    exec setpriv --bounding-set="$bounding" env -i PATH="$path" LANG=C.UTF-8 "$@"
}

"$@"
