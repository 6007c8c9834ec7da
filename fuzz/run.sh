#!/bin/sh
# Builds the fuzz targets, runs one after another for $1 seconds each, and says of each in one line how many inputs it
# executed and what it found. A finding fails the run at its end. Logs and findings stay in target/fuzz. Further words name
# the targets to run: sh fuzz/run.sh 60 config
set -u
seconds=$1
shift
[ $# -gt 0 ] || set -- config weights tokenizer live_text request voice
cd "$(dirname "$0")/.." || exit
cargo +nightly --version >/dev/null 2>&1 || { echo "fuzzing needs nightly: rustup toolchain install nightly" >&2; exit 2; }
cargo +nightly fuzz --version >/dev/null 2>&1 || { echo "fuzzing needs cargo-fuzz: cargo install cargo-fuzz --locked" >&2; exit 2; }
out=$PWD/target/fuzz
mkdir -p "$out"
CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$out/build}
export CARGO_TARGET_DIR
cargo +nightly fuzz build || exit

# Model folders that inputs fill, in memory where there is such a place.
TMPDIR=$(mktemp -d -p /dev/shm 2>/dev/null || mktemp -d) || exit
export TMPDIR
trap 'rm -rf "$TMPDIR"' EXIT
trap 'exit 130' INT TERM
failed=0
for target in "$@"; do
    mkdir -p "$out/$target/corpus" "$out/$target/findings"
    dict=
    [ -f "fuzz/dict/$target.dict" ] && dict=-dict=fuzz/dict/$target.dict
    # An input takes milliseconds; a minute by the clock is a finding even where the machine has other work.
    cargo +nightly fuzz run "$target" "$out/$target/corpus" -- -max_total_time="$seconds" -max_len=1024 -len_control=0 \
        -timeout=60 -report_slow_units=60 -rss_limit_mb=2048 -malloc_limit_mb=256 -print_final_stats=1 \
        -artifact_prefix="$out/$target/findings/" $dict >"$out/$target/log" 2>&1
    status=$?
    executions=$(sed -n 's/^stat::number_of_executed_units: *//p' "$out/$target/log")
    findings=$(ls "$out/$target/findings" | wc -l)
    echo "fuzz $target: ${executions:-no} executions in $seconds s, $findings findings"
    if [ "$status" -ne 0 ] || [ "$findings" -ne 0 ]; then
        failed=1
        echo "    see target/fuzz/$target/log and target/fuzz/$target/findings"
    fi
done
exit $failed
