#!/bin/sh
# Runs Tortie with the runtime that lies beside this file, whatever `node` is on PATH.
# Small new space, compact heap, no Turbofan (Maglev stays), one malloc arena: chosen by measurement (docs/performance.md).
here=$(dirname "$(readlink -f "$0")")
MALLOC_ARENA_MAX=1 exec "$here/node" --max-semi-space-size=1 --optimize-for-size --no-opt --disable-warning=ExperimentalWarning \
	"$here/../lib/tortie.mjs" "$@"
