#!/bin/sh
# Runs Tortie with the runtime that lies beside this file, whatever `node` is on PATH.
here=$(dirname "$(readlink -f "$0")")
exec "$here/node" --disable-warning=ExperimentalWarning "$here/../lib/tortie.mjs" "$@"
