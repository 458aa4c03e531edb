#!/bin/sh
# One lab host. `keep` boots it, and again after a reboot, until it powers off or is killed; `nspawn` and `qemu` are
# one boot, of a container or of a virtual machine. Everything that a container's boot makes (network namespace, veth,
# mounts) lives in a mount namespace of its own, so the kernel clears it away when the last process ends, however it
# ends. The settings are in the environment.

keep() {
    trap '' HUP
    exec 9>>"$record"
    flock -n 9 || exit 0 # another keeper was faster
    stat=$(cat "/proc/$$/stat")
    # shellcheck disable=SC2086 # the fields of proc(5), from the third on: a name may hold blanks and brackets
    set -- ${stat##*) }
    echo "$$ ${20}" >"$record"
    while :; do
        ip link del "$device" 2>/dev/null
        rm -rf "/run/systemd/nspawn/propagate/$device"
        rm -f "/run/systemd/nspawn/locks/inode-$(cat "$dir/inode" 2>/dev/null)"
        for cgroup in $cgroups; do
            # What the last boot left behind; cAdvisor spends seconds on each.
            find "$cgroup" -mindepth 1 -depth -type d -exec rmdir {} + 2>/dev/null
        done
        unshare --mount --propagation private sh "$0" "$kind" 9>&-
        code=$?
        [ "$code" -eq 133 ] || break # 133 is a reboot, for a --keep-unit container; a virtual machine reboots by itself
        echo "lab: reboot"
    done
    ip link del "$device" 2>/dev/null
    exit "$code"
}

enter() {
    for cgroup in $cgroups; do
        echo $$ >"$cgroup/cgroup.procs"
    done
    cd "$dir"
}

plug() {
    ip link set "$device" alias "hardway lab: $name" master "$bridge" up
}

qemu() {
    set -eu
    enter
    ip tuntap add dev "$device" mode tap
    plug
    boot="console=ttyS0 root=/dev/vda rw net.ifnames=0 systemd.hostname=$name"
    case $accelerator in
    kvm) set -- -accel kvm -cpu host ;;
    *) # A processor of 2010: what is newer, such as wide vectors, programs take for fast, and emulated it is slower than plain
        # instructions. Its flaws are not emulated; the kernel's remedies would cost a flush of the page tables at each system call.
        set -- -accel tcg,thread=multi -cpu Westmere
        boot="$boot mitigations=off" ;;
    esac
    # A guest's sync does not wait for this machine's disk: what is written outlives the guest, not a power cut here.
    exec qemu-system-x86_64 "$@" -name "$name" -uuid "$uuid" -smp "$cpus" -m "$memory" -nodefaults -display none -serial stdio \
        -kernel vm/vmlinuz -initrd vm/initrd -append "$boot" \
        -drive file=vm/disk,format=raw,if=virtio,cache=unsafe,discard=unmap -drive file=files.tar,format=raw,if=virtio,readonly=on \
        -netdev tap,id=net,ifname="$device",script=no,downscript=no -device virtio-net-pci,netdev=net,mac="$mac" \
        -device virtio-rng-pci
}

nspawn() {
    set -eu
    enter

    : >net
    unshare --net=net true
    ip link add "$device" type veth peer name eth0 address "$mac" netns ./net
    plug
    nsenter --net=net ip -batch - <<-end
		link set lo up
		link set eth0 up
		address add $address dev eth0
		route add default via $gateway
	end

    # The names are relative: a path may hold a comma or a colon, which mean something to overlayfs.
    ln -sfn "$image" image
    if ! mount -t overlay overlay -o lowerdir=image,upperdir=upper,workdir=work root 2>/dev/null; then
        # The directory itself lies on an overlay, as in a container: a plain copy.
        if [ ! -e copy ]; then
            rm -rf copy.part
            cp -a --reflink=auto "$image" copy.part
            mv copy.part copy
        fi
        mount --bind copy root
    fi
    cp -a files/. root/
    mount --bind containerd root/var/lib/containerd # containerd's own overlays do not stand on an overlay

    stat --format=%d:%i root >inode # names nspawn's lock, which a killed one leaves behind

    # nspawn mounts the host's /sys before it enters the network namespace, and /sys/class/net shows that of its mounter.
    # shellcheck disable=SC2086 # a list of options
    SYSTEMD_NSPAWN_API_VFS_WRITABLE=1 exec nsenter --net=net systemd-nspawn --quiet --directory=root --boot --register=no --keep-unit \
        --machine="$device" --hostname="$name" --network-namespace-path="$dir/net" \
        --capability=all --system-call-filter='add_key keyctl bpf perf_event_open @keyring' \
        --resolv-conf=off --timezone=off --link-journal=no $devices
}

"$1"
