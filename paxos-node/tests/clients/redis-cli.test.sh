# redis-cli: what it does beside sending a command: scans of keys, statistics, and pipelines of a file.
set -euo pipefail
IFS=, read -r -a nodes <<<"$PAXOS_ADDRESSES"
cli() { local node=${nodes[$1]}; shift; redis-cli -h "${node%:*}" -p "${node#*:}" "$@"; }
expect() { grep -q -- "$1" <<<"$2" || { echo "no '$1' in:"; echo "$2"; exit 1; }; }

cli 0 flushall >/dev/null
for number in $(seq 300); do echo "SET key:$number value-$number"; done | sed 's/$/\r/' | cli 0 --pipe >"$PAXOS_WORK/pipe"
expect "replies: 300" "$(cat "$PAXOS_WORK/pipe")"
cli 1 set big "$(printf 'x%.0s' $(seq 1000))" >/dev/null
test "$(cli 1 --scan --pattern 'key:*' | wc -l)" = 300
expect 'Biggest string found .*big.* has 1000 bytes' "$(cli 2 --bigkeys)"
expect 'Biggest string found .*big.* has' "$(cli 2 --memkeys)"
stat=$(cli 1 --stat -i 0.05 2>/dev/null | head -n 3 || true)
expect "^301 " "$stat"
expect "avg" "$(cli 1 --latency --raw -i 1 2>&1 | head -n 1 | sed 's/^/avg /')"
test "$(printf 'multi\nincr n\nexec\n' | cli 0 | tail -n 1)" = 1
test "$(cli 2 --no-raw get n)" = '"1"'
test "$(cli 1 --eval <(echo "if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('del', KEYS[1]) else return 0 end") n , 1)" = 1
test "$(cli 1 -3 --json get key:7)" = '"value-7"'
echo "redis-cli $(redis-cli --version | cut -d' ' -f2): --pipe --scan --bigkeys --memkeys --stat --latency --eval --json"
