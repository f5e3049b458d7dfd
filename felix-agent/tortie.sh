#!/bin/sh
# Runs Tortie with the runtime that lies beside this file, whatever `node` is on PATH.
# Small new space and one malloc arena: chosen by measurement (docs/performance.md), as are the flags that
# start.ts and the agent's command set later.
here=$(dirname "$(readlink -f "$0")")
MALLOC_ARENA_MAX=1 exec "$here/node" --max-semi-space-size=1 --disable-warning=ExperimentalWarning "$here/../lib/start.cjs" "$@"
