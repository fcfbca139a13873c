#!/usr/bin/env bash
# Redis client libraries, with their default settings, when a server has taken a command and the answer is lost: the
# connection closes, or stalls for a second (the only option set is a socket time-out).
#
# Guessed: a command that is not idempotent, such as INCR, is not sent again behind the caller's back; the caller gets an
#          error and decides.
# Seen:    redis-py 8.1.0, coredis 6.9.0 (when the connection closes) and ioredis 6.0.0 connect anew and send it again:
#          the server counts it twice, and the caller gets an ordinary answer. valkey-py 6.2.0, which began as a copy of
#          redis-py, and node-redis 6.3.1 send it once and report an error.
#
# What follows: with the first three, INCR and APPEND happen at least once, not exactly once, whatever the server
# promises. redis-py: Redis(retry=Retry(NoBackoff(), 0)); ioredis: maxRetriesPerRequest: 0. The script shows these, too.
#
# Needs python3 with venv, and node with npm. Prints what it saw; exits 1 if any of it has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv python
python/bin/pip install --quiet --disable-pip-version-check redis==8.1.0 valkey==6.2.0 coredis==6.9.0
npm init --yes >/dev/null
npm install --silent --no-fund --no-audit ioredis@6.0.0 redis@6.3.1 >/dev/null

# Runs a client, its command line given, against a server that loses the answer to the first increment, and prints how
# many increments arrived.
cat > server.py <<'PYTHON'
import os, socket, subprocess, sys, threading

loss, name, command = sys.argv[1], sys.argv[2], sys.argv[3:]
arrived = 0


def words(stream):
    count = stream.readline()
    if not count:
        raise EOFError
    taken = []
    for _ in range(int(count[1:])):
        length = int(stream.readline()[1:])
        taken.append(stream.read(length + 2)[:-2])
    return taken


def greeting(protocol):
    pairs = [b"$6\r\nserver\r\n$5\r\nredis\r\n", b"$7\r\nversion\r\n$5\r\n7.2.0\r\n", b"$5\r\nproto\r\n:%d\r\n" % protocol,
             b"$2\r\nid\r\n:1\r\n", b"$4\r\nmode\r\n$10\r\nstandalone\r\n", b"$4\r\nrole\r\n$6\r\nmaster\r\n",
             b"$7\r\nmodules\r\n*0\r\n"]
    head = b"%7\r\n" if protocol == 3 else b"*14\r\n"
    return head + b"".join(pairs)


def serve(connection):
    global arrived
    stream = connection.makefile("rb")
    try:
        while True:
            verb, *rest = words(stream)
            verb = verb.upper()
            if verb in (b"INCR", b"INCRBY"):
                arrived += 1
                if arrived > 1:
                    connection.sendall(b":%d\r\n" % arrived)
                elif loss == "closes":
                    connection.shutdown(socket.SHUT_RDWR)
                    return
            elif verb == b"HELLO":
                connection.sendall(greeting(int(rest[0]) if rest else 2))
            elif verb == b"INFO":
                text = b"redis_version:7.2.0\r\nloading:0\r\n"
                connection.sendall(b"$%d\r\n%s\r\n" % (len(text), text))
            elif verb == b"COMMAND":
                connection.sendall(b"*0\r\n")
            else:
                connection.sendall(b"+OK\r\n")
    except (EOFError, OSError):
        pass


listener = socket.create_server(("127.0.0.1", 0))


def accept():
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=serve, args=(connection,), daemon=True).start()


threading.Thread(target=accept, daemon=True).start()
port = str(listener.getsockname()[1])
outcome = subprocess.run([*command, port], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, timeout=60)
print(f"{name}, the connection {loss}: sent {arrived}, the caller gets {outcome.stdout.strip()}", flush=True)
os._exit(0)
PYTHON
cat > sync.py <<'PYTHON'
import importlib, sys
library, retries, port = sys.argv[1:]
module = importlib.import_module(library)
options = {}
if retries == "none":
    from redis.backoff import NoBackoff
    from redis.retry import Retry
    options["retry"] = Retry(NoBackoff(), 0)
maker = module.Redis if library == "redis" else module.Valkey
client = maker(host="127.0.0.1", port=int(port), socket_timeout=1, **options)
try:
    print("answer", client.incr("counter"))
except Exception as error:
    print(type(error).__name__)
PYTHON
cat > core.py <<'PYTHON'
import asyncio, coredis, sys


async def main():
    async with coredis.Redis(host="127.0.0.1", port=int(sys.argv[1]), stream_timeout=1) as client:
        print("answer", await client.incr("counter"))

asyncio.run(main())
PYTHON
cat > io.mjs <<'JS'
import { Redis } from "ioredis";
const [retries, port] = process.argv.slice(2);
const options = retries === "none" ? { maxRetriesPerRequest: 0 } : {};
const client = new Redis({ host: "127.0.0.1", port: Number(port), socketTimeout: 1000, ...options });
client.on("error", () => {});
try {
  console.log("answer", await client.incr("counter"));
} catch (error) {
  console.log(error.constructor.name);
}
client.disconnect();
JS
cat > node.mjs <<'JS'
import { createClient } from "redis";
const client = createClient({ socket: { host: "127.0.0.1", port: Number(process.argv[2]), socketTimeout: 1000 } });
client.on("error", () => {});
await client.connect();
try {
  console.log("answer", await client.incr("counter"));
} catch (error) {
  console.log(error.constructor.name);
}
process.exit(0);
JS

lose() { python/bin/python server.py "$@" >> seen.txt; }
for loss in closes stalls; do
    lose $loss "redis-py" python/bin/python sync.py redis default
    lose $loss "redis-py without retries" python/bin/python sync.py redis none
    lose $loss "valkey-py" python/bin/python sync.py valkey default
    lose $loss "ioredis" node io.mjs default
    lose $loss "ioredis without retries" node io.mjs none
    lose $loss "node-redis" node node.mjs
done
lose closes "coredis" python/bin/python core.py
cat seen.txt
diff - seen.txt <<'EXPECTED'
redis-py, the connection closes: sent 2, the caller gets answer 2
redis-py without retries, the connection closes: sent 1, the caller gets ConnectionError
valkey-py, the connection closes: sent 1, the caller gets ConnectionError
ioredis, the connection closes: sent 2, the caller gets answer 2
ioredis without retries, the connection closes: sent 1, the caller gets MaxRetriesPerRequestError
node-redis, the connection closes: sent 1, the caller gets SocketClosedUnexpectedlyError
redis-py, the connection stalls: sent 2, the caller gets answer 2
redis-py without retries, the connection stalls: sent 1, the caller gets TimeoutError
valkey-py, the connection stalls: sent 1, the caller gets TimeoutError
ioredis, the connection stalls: sent 2, the caller gets answer 2
ioredis without retries, the connection stalls: sent 1, the caller gets MaxRetriesPerRequestError
node-redis, the connection stalls: sent 1, the caller gets SocketTimeoutError
coredis, the connection closes: sent 2, the caller gets answer 2
EXPECTED
echo "all libraries are as described"
