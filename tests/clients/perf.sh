#!/usr/bin/env bash
# perf_analyzer, the load generator of the Triton project, against a running gateway: short runs, closed and open loop.
#
# Why: it asks for metadata, configuration and statistics before and after each window and checks their sums, so it is the
# client that most easily finds what is missing. The figures are printed, not judged. Who calls it: run.sh.
# The binary comes from the tritonclient 2.51.0 wheel (later ones need a newer glibc or have none) with the two libraries
# it wants; all of it is kept in $WEIR_CLIENTS_CACHE. PERF_ANALYZER names another binary.
#
# usage: perf.sh --ready FILE --registry DIR
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
while [ $# -gt 0 ]; do
    case $1 in
    --ready) ready=$2 ;;
    --registry) registry=$2 ;;
    *) echo "usage: perf.sh --ready FILE --registry DIR" >&2; exit 2 ;;
    esac
    shift 2
done
python=${PYTHON_CLIENTS:-python3}
cache=${WEIR_CLIENTS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/weir-clients}/perf-2.51.0

if [ "$(uname -sm)" != "Linux x86_64" ]; then
    echo "skip perf_analyzer: there is a binary for Linux x86_64 only"
    exit 0
fi

# An old wheel beside the newer client cannot be installed, so the pieces are unpacked side by side.
fetch() {
    rm -rf "$cache" && mkdir -p "$cache/wheels"
    "$python" -m pip download --quiet --disable-pip-version-check --no-deps --dest "$cache/wheels" \
        --platform manylinux1_x86_64 --platform manylinux2014_x86_64 --only-binary :all: \
        tritonclient==2.51.0 nvidia-cuda-runtime-cu12==12.9.79
    for wheel in "$cache"/wheels/*.whl; do "$python" -m zipfile -e "$wheel" "$cache/unpacked"; done
    cp "$cache"/unpacked/tritonclient-2.51.0.data/data/bin/perf_analyzer "$cache/perf_analyzer"
    chmod +x "$cache/perf_analyzer"
    mkdir "$cache/lib"
    cp "$cache"/unpacked/nvidia/cuda_runtime/lib/libcudart.so.12 "$cache/lib/"
    if ! ldconfig -p | grep -q 'libb64\.so\.0d'; then
        (
            cd "$cache"
            apt-get download -qq libb64-0d 2>/dev/null || { apt-get update -qq && apt-get download -qq libb64-0d; }
            dpkg-deb -x libb64-0d_*.deb b64
            cp b64/usr/lib/*/libb64.so.0d lib/
        )
    fi
    rm -rf "$cache/unpacked" "$cache/wheels"
    LD_LIBRARY_PATH=$cache/lib "$cache/perf_analyzer" --version >/dev/null
    touch "$cache/complete"
}

analyzer=${PERF_ANALYZER:-$cache/perf_analyzer}
if [ -z "${PERF_ANALYZER:-}" ] && [ ! -e "$cache/complete" ]; then
    echo "fetching perf_analyzer"
    mkdir -p "$(dirname "$cache")"
    fetch || { echo "FAIL perf_analyzer: could not be fetched"; exit 1; }
fi
export LD_LIBRARY_PATH=$cache/lib:${LD_LIBRARY_PATH:-}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
http=$("$python" -c 'import json,sys; print(json.load(open(sys.argv[1]))["http"])' "$ready")
grpc=$("$python" -c 'import json,sys; print(json.load(open(sys.argv[1]))["grpc"])' "$ready")
"$python" "$here/perf_data.py" "$registry" "$work"

passed=0 failed=0
measure() {
    local log=$1
    shift
    timeout 120 "$analyzer" --measurement-interval 1000 --max-trials 10 -s 100000 "$@" >"$log" 2>&1
}
# run TITLE [ARGUMENT…]: one short measurement; passes when the tool ends well and has counted answers and no errors. How steady the
# machine is (-s, in percent) says nothing about the gateway.
run() {
    local title=$1 log=$work/log
    shift
    # The tool may abort in its own threads on a busy machine (134: SIGABRT); a second run shows whether the gateway had a part in it.
    if { measure "$log" "$@" || { [ $? -eq 134 ] && measure "$log" "$@"; }; } &&
        grep -q 'Throughput: [1-9]' "$log" && ! grep -qiE 'failed|mismatch|doesn.t match' "$log"; then
        passed=$((passed + 1))
        echo "ok   perf_analyzer: $title ($(sed -n 's/.*Concurrency: .*throughput: \(.*infer\/sec\), latency \([0-9]* usec\)/\1, \2/p; s/.*Request Rate: .*throughput: \(.*infer\/sec\), latency \([0-9]* usec\)/\1, \2/p' "$log" | tail -1))"
    else
        failed=$((failed + 1))
        echo "FAIL perf_analyzer: $title: $(grep -iE 'fail|error|mismatch|match' "$log" | head -2 | tr '\n' ' ' | cut -c1-300)"
        [ -z "${CHECKS_TRACE:-}" ] || tail -n 40 "$log"
    fi
}

digits=(-m digits-linear --shape pixels:64 --input-data "$work/digits-linear.json")
cnn=(-m digits-cnn --shape pixels:64 --input-data "$work/digits-cnn.json")
digits_answers=(-m digits-linear --input-data "$work/digits-linear-answers.json")
cnn_answers=(-m digits-cnn --input-data "$work/digits-cnn-answers.json")
over_grpc=(-u "$grpc" -i grpc)
over_http=(-u "$http" -i http)
run "gRPC, 4 callers, answers compared" "${over_grpc[@]}" "${digits_answers[@]}" --concurrency-range 4:4
run "HTTP, 4 callers" "${over_http[@]}" "${digits[@]}" --concurrency-range 4:4
run "gRPC, 16 callers, asynchronous, answers compared" "${over_grpc[@]}" "${cnn_answers[@]}" --concurrency-range 16:16 --async
run "HTTP, 16 callers, asynchronous" "${over_http[@]}" "${cnn[@]}" --concurrency-range 16:16 --async
run "gRPC, 8 rows a request" "${over_grpc[@]}" -m breast-cancer-mlp --shape features:30 -b 8 --concurrency-range 2:2
run "gRPC, stream" "${over_grpc[@]}" "${cnn[@]}" --streaming --async --concurrency-range 4:4
run "gRPC, gzip, answers compared" "${over_grpc[@]}" "${cnn_answers[@]}" --grpc-compression-algorithm gzip --concurrency-range 2:2
run "HTTP, JSON in and out" "${over_http[@]}" "${cnn[@]}" --input-tensor-format json --output-tensor-format json --concurrency-range 2:2
run "gRPC, 200 requests/s, Poisson" "${over_grpc[@]}" "${digits[@]}" --request-rate-range 200 --request-distribution poisson
run "HTTP, 200 requests/s, constant" "${over_http[@]}" "${digits[@]}" --request-rate-range 200 --request-distribution constant
run "gRPC, no configuration of shapes" "${over_grpc[@]}" -m wine-forest --concurrency-range 1:1
run "gRPC, model without batch dimension" "${over_grpc[@]}" -m no-batch --concurrency-range 1:1

echo "perf_analyzer: $passed passed, $failed failed"
[ "$failed" = 0 ]
