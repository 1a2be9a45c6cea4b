#!/usr/bin/env bash
# schemathesis against the ops API of a gateway of its own: requests made from the OpenAPI document that the gateway serves.
#
# Why: the document is what programs are written against. Whatever fits it must be taken, whatever does not must be refused,
# every answer must be one that it describes, and nothing may ask for less than the token. Who calls it: run.sh.
#
# usage: ops_schema.sh --ready FILE --registry DIR     (the server there is left alone; WEIR_BIN is started beside it)
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
while [ $# -gt 0 ]; do
    case $1 in
    --ready) shift 2 ;;
    --registry) registry=$2; shift 2 ;;
    *) echo "usage: ops_schema.sh --ready FILE --registry DIR" >&2; exit 2 ;;
    esac
done
st=$(dirname "${PYTHON_CLIENTS:?}")/schemathesis
work=$(mktemp -d)
server=
finish() {
    [ -z "$server" ] || kill -KILL "$server" 2>/dev/null || true
    rm -rf "$work"
}
trap finish EXIT
cd "$work"

mkdir -p models/checkout
cp -R "$registry/digits-linear" models/fraud
cat >models/checkout/route.toml <<'ROUTE'
kind = "split"
key = ["parameter:user_id"]
[[variant]]
name = "control"
model = "fraud"
version = 1
weight = 90
[[variant]]
name = "candidate"
model = "fraud"
version = 2
weight = 10
ROUTE
echo "operator:s3cret" >tokens
"$WEIR_BIN" serve models --http-port 0 --grpc-port 0 --ops-port 0 --ops-token-file tokens --ready-file ready.json \
    >log 2>&1 &
server=$!
for _ in $(seq 600); do
    [ -s ready.json ] && break
    kill -0 "$server" 2>/dev/null || break
    sleep 0.1
done
[ -s ready.json ] || { echo "FAIL ops_schema: the server did not become ready: $(tail -n 3 log)"; exit 1; }
ops=$("$PYTHON_CLIENTS" -c 'import json; print(json.load(open("ready.json"))["ops"])')

failed=0
# run TITLE CONFIG MODE: one run with every check.
run() {
    if timeout 300 "$st" --config-file "$here/ops_schema/$2.toml" --no-color run "http://$ops/ops/openapi.json" \
        --url "http://$ops" --header "Authorization: Bearer s3cret" --mode "$3" --max-examples 25 --checks all \
        --phases examples,coverage,fuzzing --continue-on-failure --warnings off >out 2>&1; then
        echo "ok   ops_schema: $1 ($(sed -n 's/^ *\([0-9]* generated\).*/\1/p' out))"
    else
        failed=1
        echo "FAIL ops_schema: $1: $(grep -E '^- |Test Case ID|^\[[0-9]+\]' out | head -5 | tr '\n' ' ' | cut -c1-300)"
        [ -z "${CHECKS_TRACE:-}" ] || cat out
    fi
}
run "requests about anything" anything all
run "requests about what is there" existing positive

kill -TERM "$server" 2>/dev/null || true
status=0
wait "$server" || status=$?
server=
if [ "$status" = 0 ] && ! grep -q panicked log; then
    echo "ok   ops_schema: nothing panicked; SIGTERM, exit 0"
else
    failed=1
    echo "FAIL ops_schema: exit $status: $(grep -m1 panicked log || tail -n 1 log)"
fi
exit "$failed"
