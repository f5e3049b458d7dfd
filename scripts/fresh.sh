#!/usr/bin/env bash
# Proves the two commands of the README where nothing is prepared: a debootstrap of Debian 12, then 13, that holds only Node,
# npm and Go, and a clean clone of this repository's HEAD. Slow; needs root and debootstrap.
#   scripts/fresh.sh [SUITE...]            default: bookworm trixie
#   TORTIE_FRESH_COMMANDS='npm run setup'  other commands than `npm start` and `npm test`, separated by newlines
# This machine's own way to the registries (mirror, proxy, certificates, npm and Go settings) is copied at run time.
set -euo pipefail
cd "$(dirname "$0")/.."
readonly SOURCE=$PWD LOGS=$PWD/build/fresh
readonly CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/tortie

say() { printf 'fresh: %s\n' "$*"; }
die() { printf 'fresh: %s\n' "$*" >&2; exit 1; }

# Runs in namespaces of its own, with the new system as its root: what the tests mount or start ends with it.
inside() {
	local top=$1 commands=$2 failed=0 command
	mount --bind "$top" "$top"
	mount --make-private "$top"
	mount --rbind /sys "$top/sys"
	mount --rbind /dev "$top/dev"
	mount -t tmpfs -o mode=0755 tmpfs "$top/run"
	mkdir -p "$top/old-root"
	cd "$top"
	pivot_root . old-root
	mount -t proc proc /proc # before umount, which reads it
	umount -l /old-root
	rmdir /old-root
	# What a mount inside `ip netns add` relies on: mounts are seen in namespaces made later.
	mount --make-rshared /
	cd /root/tortie
	while read -r command; do
		printf '\n=== %s\n' "$command"
		if bash -c "$command" </dev/null; then printf '=== %s: ok\n' "$command"; else
			printf '=== %s: FAILED (status %d)\n' "$command" $?
			failed=1
		fi
	done <<<"$commands"
	return "$failed"
}
if [ "${1:-}" = --inside ]; then
	inside "$2" "$3"
	exit
fi

[ "$(id -u)" = 0 ] || die "root is needed"
for tool in debootstrap git unshare pivot_root node npm go; do
	command -v "$tool" >/dev/null || die "$tool is missing; it comes with the package that \`apt-cache search $tool\` names"
done
readonly COMMANDS=${TORTIE_FRESH_COMMANDS:-$'npm start\nnpm test'}

# The mirror of this machine: the first one that apt gets Debian's main component from.
mirror() {
	apt-get indextargets --format '$(REPO_URI) $(COMPONENT) $(ORIGIN)' | awk '$2 == "main" && $3 == "Debian" {print $1; exit}'
}

# base SUITE: a tar file of the minimal system, kept for two weeks.
base() {
	local suite=$1 tar=$CACHE/debootstrap-$1.tar work
	if [ -n "$(find "$tar" -mtime -14 2>/dev/null)" ]; then return; fi
	say "$suite: debootstrap" >&2
	mkdir -p "$CACHE"
	work=$(mktemp -d "$CACHE/work.XXXXXX")
	debootstrap --variant=minbase "$suite" "$work" "$(mirror)" >"$LOGS/debootstrap-$suite.log" 2>&1 ||
		{ rm -rf --one-file-system "$work"; die "$suite: debootstrap failed, see $LOGS/debootstrap-$suite.log"; }
	tar -C "$work" -cf "$tar.tmp" . && mv "$tar.tmp" "$tar"
	rm -rf --one-file-system "$work"
}

# toolchains TOP: Node with its npm and Go, as they are here.
toolchains() {
	local top=$1 npm
	install -D "$(readlink -f "$(command -v node)")" "$top/usr/local/bin/node"
	npm=$(dirname "$(dirname "$(readlink -f "$(command -v npm)")")")
	mkdir -p "$top/usr/local/lib/node_modules"
	cp -a "$npm" "$top/usr/local/lib/node_modules/npm"
	ln -s ../lib/node_modules/npm/bin/npm-cli.js "$top/usr/local/bin/npm"
	ln -s ../lib/node_modules/npm/bin/npx-cli.js "$top/usr/local/bin/npx"
	mkdir -p "$top/usr/local/go"
	cp -a "$(go env GOROOT)/." "$top/usr/local/go/"
	ln -s ../go/bin/go "$top/usr/local/bin/go"
}

# access TOP: what this machine needs to reach its registries.
access() {
	local top=$1 file
	for file in /etc/resolv.conf /etc/hosts /etc/ssl/certs/ca-certificates.crt "$HOME/.npmrc" "$(npm config get globalconfig)"; do
		[ -f "$file" ] || continue
		mkdir -p "$top$(dirname "$file")"
		cp -L "$file" "$top$file"
	done
	for file in /usr/local/share/ca-certificates /etc/apt/apt.conf.d /etc/apt/auth.conf.d; do
		[ -d "$file" ] && mkdir -p "$top$file" && cp -rL "$file/." "$top$file/"
	done
	mkdir -p "$top$HOME"
	[ ! -f "$(go env GOENV)" ] || install -D -m 0600 "$(go env GOENV)" "$top$(go env GOENV)"
}

# The variables that say how to reach a registry; nothing else of the environment goes in.
environment() {
	env -0 | grep -zE '^((HTTPS?|NO|ALL)_PROXY|(https?|no|all)_proxy|GO(PROXY|NOPROXY|SUMDB|NOSUMDB|PRIVATE|INSECURE|FLAGS)|SSL_CERT_(FILE|DIR)|NODE_EXTRA_CA_CERTS|npm_config_(registry|cafile|proxy|https_proxy)|TORTIE_[A-Z_]+)=' || true
}

top=
cleanup() {
	[ -n "$top" ] && rm -rf --one-file-system "$top"
	return 0
}
trap cleanup EXIT
trap 'exit 130' INT TERM

mkdir -p "$LOGS"
failed=0
summary=
[ $# -gt 0 ] || set -- bookworm trixie
for suite in "$@"; do
	base "$suite"
	top=$(mktemp -d "${TMPDIR:-/tmp}/tortie-fresh.XXXXXX")
	chmod 0755 "$top"
	tar -C "$top" -xf "$CACHE/debootstrap-$suite.tar"
	toolchains "$top"
	access "$top"
	git clone -q --no-hardlinks "$SOURCE" "$top/root/tortie"
	say "$suite: $(git -C "$top/root/tortie" log -1 --format='%h %s'); log in $LOGS/$suite.log"
	mapfile -d '' -t variables < <(environment)
	if unshare --mount --propagation private --pid --fork --kill-child --uts --ipc \
		env -i "${variables[@]}" HOME="$HOME" LANG=C.UTF-8 PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
		bash "$SOURCE/scripts/fresh.sh" --inside "$top" "$COMMANDS" 2>&1 | tee "$LOGS/$suite.log"; then result=ok; else
		result=FAILED
		failed=1
	fi
	summary+=$(printf '\nfresh: %s: %s; %s' "$suite" "$result" "$(grep -E '^[0-9]+ passed, ' "$LOGS/$suite.log" | tail -1 || true)")
	cleanup
	top=
done
printf '%s\n' "$summary"
exit "$failed"
