# prometheus-redis-exporter (Debian's package of redis_exporter): what it reads of INFO and others.
set -euo pipefail
node=${PAXOS_ADDRESSES%%,*}
command -v prometheus-redis-exporter >/dev/null || { echo "prometheus-redis-exporter is not installed: left out"; exit 0; }
redis-cli -h "${node%:*}" -p "${node#*:}" set exported 1 >/dev/null
address=127.0.0.1:$((${node#*:} + 50))
prometheus-redis-exporter -redis.addr "redis://$node" -web.listen-address "$address" -check-single-keys exported 2>"$PAXOS_WORK/exporter" &
trap 'kill $!' EXIT
for attempt in $(seq 50); do metrics=$(curl --silent "http://$address/metrics") && break || sleep 0.1; done
for metric in '^redis_up 1' '^redis_exporter_last_scrape_error{err=""} 0' '^redis_connected_clients [1-9]' \
    '^redis_db_keys{db="db0"} [1-9]' '^redis_memory_used_bytes [1-9]' '^redis_uptime_in_seconds' \
    '^redis_commands_processed_total [1-9]' '^redis_instance_info{.*role="master"' '^redis_key_size{db="db0",key="exported"} 1'; do
    grep -q "$metric" <<<"$metrics" || { echo "no $metric in:"; grep '^redis' <<<"$metrics"; cat "$PAXOS_WORK/exporter"; exit 1; }
done
echo "redis_exporter $(prometheus-redis-exporter -version 2>&1 | grep -o 'v\?[0-9]\+\.[0-9.]\+' | head -n 1)"
