#!/bin/sh
# Becomes a node's first process: makes what a node has for itself, in the network, mount and UTS namespace it was started in, and
# then only holds them. Nothing it mounts is seen outside.
#   node.sh NAME DIR CGROUP2-MOUNT-POINT CGROUP
set -eu
name=$1 dir=$2 cgroup2=$3 group=$4

hostname "$name"
# As on any node: what a pod mounts is seen by the others, if the pod asks for it.
mount --make-rshared /

# Directories that a node writes, on a disk; what isn't named here is the machine's and is only read.
own() { # own PATH-IN-DIR TARGET
	mkdir -p "$dir/$1" "$2"
	mount --bind "$dir/$1" "$2"
}
mount -t overlay overlay -o "lowerdir=/etc,upperdir=$dir/etc,workdir=$dir/etc.work" /etc
# What a pod mounts and the machine lacks, a runtime makes; it must not make it on the machine.
[ -d /lib/modules ] || mount -t overlay overlay -o "lowerdir=/usr/lib,upperdir=$dir/lib,workdir=$dir/lib.work" /usr/lib
for path in /run /opt /var/lib /var/log; do mount -t tmpfs -o mode=0755,size=64m tmpfs "$path"; done
mkdir -p /run/netns /opt/cni/bin /etc/cni/net.d
for path in kubelet containerd cni; do own "$path" "/var/lib/$path"; done
own logs/pods /var/log/pods
own logs/containers /var/log/containers

# The kubelet sets these for the whole machine: it gets files of its own to write to.
for path in vm/overcommit_memory vm/panic_on_oom kernel/panic kernel/panic_on_oops kernel/keys/root_maxkeys kernel/keys/root_maxbytes; do
	[ -e "/proc/sys/$path" ] || continue
	mkdir -p "/run/sysctl/${path%/*}"
	cat "/proc/sys/$path" >"/run/sysctl/$path"
	mount --bind "/run/sysctl/$path" "/proc/sys/$path"
done

mount -t bpf bpf /sys/fs/bpf
mount --bind "$group" "$cgroup2"

touch "$dir/made"
exec sleep infinity
