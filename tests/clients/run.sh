#!/usr/bin/env bash
# The clients that people already use, against a gateway: tritonclient (HTTP, gRPC), kserve, perf_analyzer. And schemathesis,
# which makes requests from the OpenAPI document of the ops API.
#
# Why: "speaks the protocol" means that these work unchanged. Who calls it: .ci/run, or a person.
# It makes its own virtual environment (cached by the digest of requirements.txt), starts $WEIR_BIN on a copy of the
# demo registry with a few fixtures beside it, runs every script, and stops the server by SIGTERM, which must exit 0.
#
# usage: tests/clients/run.sh [SCRIPT…]      e.g. tests/clients/run.sh triton_http; default: all
# environment: WEIR_BIN (target/debug/weir), PYTHON (python3), CHECKS_TRACE=1 for tracebacks
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
weir=${WEIR_BIN:-$root/target/debug/weir}
python=${PYTHON:-python3}
scripts=("$@")
[ ${#scripts[@]} -gt 0 ] || scripts=(triton_http triton_http_state triton_grpc triton_grpc_state kserve_client \
    triton_routes kserve_routes assignment perf ops_schema)
[ -x "$weir" ] || { echo "no server at $weir: build it or set WEIR_BIN" >&2; exit 2; }
weir=$(cd "$(dirname "$weir")" && pwd)/$(basename "$weir")

digest=$(sha256sum "$here/requirements.txt" | cut -c1-16)
export WEIR_CLIENTS_CACHE=${WEIR_CLIENTS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/weir-clients}
mkdir -p "$WEIR_CLIENTS_CACHE"
venv=$WEIR_CLIENTS_CACHE/venv-$digest
(
    flock 9
    if [ ! -e "$venv/complete" ]; then
        echo "making $venv"
        rm -rf "$venv"
        "$python" -m venv "$venv"
        "$venv/bin/python" -m pip install --quiet --disable-pip-version-check -r "$here/requirements.txt"
        touch "$venv/complete"
    fi
) 9>"$WEIR_CLIENTS_CACHE/lock"
# The wire is what is tested here, not which of two engines is faster on this machine.
export WEIR_ONNXRUNTIME_LIB=off
export WEIR_BIN=$weir PYTHON_CLIENTS=$venv/bin/python PYTHONDONTWRITEBYTECODE=1

work=$(mktemp -d)
server=
finish() {
    [ -z "$server" ] || kill -KILL "$server" 2>/dev/null || true
    rm -rf "$work"
}
trap finish EXIT

registry=$work/models
mkdir "$registry"
for version in "$root"/models/*/1; do cp -R "$(dirname "$version")" "$registry/"; done
for route in "$root"/models/*/route.toml; do
    mkdir "$registry/$(basename "$(dirname "$route")")"
    cp "$route" "$registry/$(basename "$(dirname "$route")")/"
done
for name in identity-{fp16,fp32,fp64,int8,int16,int32,int64,uint8,bool,string} two-in-two-out no-batch \
    no-batch-dim-vector nan-out slow unknown-op; do
    cp -R "$root/tests/fixtures/$name" "$registry/"
done

(cd "$work" && exec "$weir" serve "$registry" --http-port 0 --grpc-port 0 --ops-port 0 --ready-file "$work/ready.json" \
    >"$work/stdout.log" 2>"$work/stderr.log") &
server=$!
for _ in $(seq 600); do
    [ -s "$work/ready.json" ] && break
    kill -0 "$server" 2>/dev/null || break
    sleep 0.1
done
if [ ! -s "$work/ready.json" ]; then
    echo "the server did not become ready; its last words:" >&2
    tail -n 20 "$work/stdout.log" "$work/stderr.log" >&2
    exit 1
fi
echo "server: $(cat "$work/ready.json")"

failed=0
: >"$work/results"
for script in "${scripts[@]}"; do
    script=${script%.py}
    script=${script%.sh}
    if [ -x "$here/$script.sh" ]; then
        run=("$here/$script.sh")
    else
        run=("$PYTHON_CLIENTS" "$here/$script.py")
    fi
    timeout 600 "${run[@]}" --ready "$work/ready.json" --registry "$registry" | tee -a "$work/results" || failed=1
done

kill -TERM "$server"
for _ in $(seq 400); do
    kill -0 "$server" 2>/dev/null || break
    sleep 0.1
done
kill -KILL "$server" 2>/dev/null || true # only a server that hung in its drain for 40 s is still there
status=0
wait "$server" || status=$?
server=
if [ "$status" = 0 ]; then
    echo "ok   server: SIGTERM, exit 0" | tee -a "$work/results"
else
    echo "FAIL server: exit $status after SIGTERM, expected 0" | tee -a "$work/results"
    tail -n 20 "$work/stderr.log"
fi

passed=$(grep -c '^ok   ' "$work/results" || true)
wrong=$(grep -c '^FAIL ' "$work/results" || true)
skipped=$(grep -c '^skip ' "$work/results" || true)
[ "$failed" = 0 ] || [ "$wrong" != 0 ] || { echo "FAIL a script ended early"; wrong=1; }
[ "$skipped" = 0 ] || echo "$skipped skipped"
echo "$passed passed, $wrong failed"
[ "$wrong" = 0 ]
