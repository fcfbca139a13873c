# redis-rs: a program of its own, which cargo builds.
set -euo pipefail
cd "$(dirname "$0")/redis-rs"
cargo build --quiet --target-dir "$PAXOS_KEPT/redis-rs"
exec "$PAXOS_KEPT/redis-rs/debug/redis-rs-test"
