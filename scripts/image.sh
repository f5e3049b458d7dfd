#!/usr/bin/env bash
# Builds the image with buildah and without a registry: OUT, a docker-archive under REFERENCE.
#   scripts/image.sh OUT REFERENCE
#   BASE=docker.io/library/debian:bookworm-slim   a base from a registry; default: made here by debootstrap of this machine's Debian or Ubuntu release
# Base and layers are kept outside the tree, so that only what changed is built.
set -euo pipefail
shopt -s inherit_errexit # own_base runs in a substitution: what fails in it must end it.
cd "$(dirname "$0")/.."
readonly OUT=$1 REFERENCE=$2 CONTEXT=build/image LIMIT_MB=300
readonly CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/tortie

say() { printf '  IMAGE   %s\n' "$*"; }
die() { printf 'tortie: image: %s\n' "$*" >&2; exit 1; }

[ "$(id -u)" = 0 ] || die "root is needed: layers are unpacked with their owners"
command -v buildah >/dev/null || die "buildah is missing: apt-get install buildah"

# vfs and chroot: no mounts and no user namespaces, so it also works inside a container.
storage() { buildah --storage-driver vfs --root "$CACHE/image-storage" --runroot "$CACHE/image-storage-run" "$@"; }

# One build at a time: they share the storage.
mkdir -p "$CACHE"
exec 9>"$CACHE/image.lock"
flock 9

# The packages that the Containerfile asks for.
packages() { sed -n 's/^ARG PACKAGES="\(.*\)"$/\1/p' Containerfile; }

# The mirror of this machine: the first one that apt gets the distribution's main component from.
mirror() {
	apt-get indextargets --format '$(REPO_URI) $(COMPONENT) $(ORIGIN)' | awk '$2 == "main" && ($3 == "Debian" || $3 == "Ubuntu") {print $1; exit}'
}

# A minimal system of this machine's own release, as that is what dist/ was linked against, with the packages; made anew after two weeks.
own_base() {
	local suite names tar work name components
	# shellcheck source=/dev/null
	suite=$(. /etc/os-release && [[ ${ID:-} =~ ^(debian|ubuntu)$ ]] && printf %s "${VERSION_CODENAME:-}") || suite=
	[ -n "$suite" ] || die "this is neither Debian nor Ubuntu: give a base, such as BASE=docker.io/library/debian:bookworm-slim"
	# Ubuntu has some of the packages in universe.
	components=$(. /etc/os-release && [ "$ID" = debian ] && echo main || echo main,universe)
	names=$(packages)
	name=$suite-$(printf %s "$names" | sha256sum | cut -c1-12)
	tar=$CACHE/image-base-$name.tar
	if [ -z "$(find "$tar" -mtime -14 2>/dev/null)" ]; then
		command -v debootstrap >/dev/null || die "debootstrap is missing: apt-get install debootstrap, or give a base by BASE="
		say "$tar (debootstrap $suite)" >&2
		work=$(mktemp -d "$CACHE/work.XXXXXX")
		# shellcheck disable=SC2064
		trap "rm -rf --one-file-system '$work'" EXIT
		debootstrap --variant=minbase --components="$components" --include="${names// /,}" "$suite" "$work" "$(mirror)" >build/image-debootstrap.log 2>&1 ||
			die "debootstrap failed, see build/image-debootstrap.log"
		tar -C "$work" --exclude=./var/cache/apt/archives/'*.deb' --exclude=./dev/'*' -cf "$tar.tmp" . && mv "$tar.tmp" "$tar"
		rm -rf --one-file-system "$work"
		trap - EXIT
	fi
	local image=localhost/tortie-base:$name-$(stat -c %Y "$tar")
	if ! storage inspect --type image "$image" >/dev/null 2>&1; then
		local container
		container=$(storage from scratch)
		storage add -q "$container" "$tar" / >/dev/null
		storage commit -q --rm "$container" "$image" >/dev/null
	fi
	printf %s "$image"
}

# Context: the runtime without its symbol tables (33 MB), and of dist/ what runs on a node.
rm -rf "$CONTEXT"
mkdir -p "$CONTEXT/dist/bin" "$(dirname "$OUT")"
strip -o "$CONTEXT/node" dist/bin/node
cp -a dist/bin/tortie "$CONTEXT/dist/bin/"
cp -a dist/lib dist/bpf "$CONTEXT/dist/"
mkdir "$CONTEXT/dist/cni" && cp -a dist/cni/tortie "$CONTEXT/dist/cni/"
strip --strip-unneeded "$CONTEXT"/dist/lib/*.node
chmod -R u=rwX,go=rX "$CONTEXT"

base=${BASE:-}
[ -n "$base" ] || base=$(own_base)
say "$OUT ($REFERENCE)"
# Few open files and processes: buildah of Debian 13 asks for a million of each, which a container or a small machine refuses; that of Debian 12 keeps to 32,768.
limit() {
	local hard
	hard=$(ulimit "-H$1")
	if [ "$hard" = unlimited ] || [ "$hard" -gt 32768 ]; then hard=32768; fi
	printf '%s' "$hard:$hard"
}
storage bud -q --isolation chroot --ulimit nofile="$(limit n)" --ulimit nproc="$(limit u)" --layers --timestamp 0 --build-arg BASE="$base" -t "$REFERENCE" -f Containerfile "$CONTEXT" >/dev/null
rm -f "$OUT.tmp"
storage push -q "$REFERENCE" "docker-archive:$OUT.tmp:$REFERENCE" >/dev/null
mv -f "$OUT.tmp" "$OUT"
# Layers of earlier builds that nothing names any more.
storage rmi --prune --force >/dev/null 2>&1 || true

# Layers are stored unpacked in a docker-archive: their sizes are what a node needs on disk.
tar -tvf "$OUT" | awk -v limit="$LIMIT_MB" '/\.tar$/ && !/^l/ {bytes += $3; printf "  IMAGE   layer %7.1f MB\n", $3 / 1e6}
	END {printf "  IMAGE   unpacked %.1f MB, at most %d\n", bytes / 1e6, limit; exit bytes > limit * 1e6}' ||
	{ rm -f "$OUT"; die "over $LIMIT_MB MB unpacked"; }
