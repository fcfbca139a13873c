#!/usr/bin/env bash
# Python clients of Redis, with their default settings, when a server that ends its start answers the first command of a
# pipeline with LOADING, and the commands behind it, which it now can carry out, with their results.
#
# Guessed: the caller gets the three replies, one of which is an error; nothing is sent again.
# Seen:    redis-py 8.1.0, its asyncio client as well, connects anew and sends the *whole* pipeline again, with the commands
#          that were carried out and answered: INCR happens twice, and the caller sees ordinary answers. With
#          raise_on_error=False, too. If LOADING stays, it sends all of it 11 times within some four seconds.
#          valkey-py 6.2.0, which began as a copy of redis-py, and coredis 6.9.0 send a pipeline once. No other error makes
#          redis-py do so (tried: CLUSTERDOWN, TRYAGAIN, TIMEOUT, READONLY, MASTERDOWN, OOM, BUSY, NOREPLICAS, MISCONF).
#
# What follows for a server: once a connection was told LOADING, it must carry out nothing that the client sent in the same
# breath, even if it could by then.
#
# Needs python3 with venv. Prints what it saw; exits 1 if any of it has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv python
python/bin/pip install --quiet --disable-pip-version-check redis==8.1.0 valkey==6.2.0 coredis==6.9.0

cat > try.py <<'PYTHON'
import asyncio, socket, sys, threading
import coredis, redis, redis.asyncio, valkey


class Server:
    """Answers the first increments with an error, and the others with 1."""

    def __init__(self, error, failing):
        self.error, self.failing, self.arrived = error, failing, 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            connection, _ = self.listener.accept()
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection):
        stream = connection.makefile("rb")
        try:
            while head := stream.readline():
                taken = []
                for _ in range(int(head[1:])):
                    length = int(stream.readline()[1:])
                    taken.append(stream.read(length + 2)[:-2])
                connection.sendall(self.answer(taken[0].upper(), taken[1:]))
        except OSError:
            pass

    def answer(self, verb, rest):
        if verb in (b"INCR", b"INCRBY"):
            self.arrived += 1
            return f"-{self.error} later\r\n".encode() if self.arrived <= self.failing else b":1\r\n"
        if verb == b"HELLO":
            fields = {"server": "redis", "version": "7.2.0", "mode": "standalone", "role": "master"}
            words = [word for pair in fields.items() for word in pair]
            text = "".join(f"${len(word)}\r\n{word}\r\n" for word in words)
            protocol = int(rest[0]) if rest else 2
            head = f"%{len(fields) + 2}" if protocol == 3 else f"*{2 * len(fields) + 4}"
            return f"{head}\r\n{text}$5\r\nproto\r\n:{protocol}\r\n$2\r\nid\r\n:1\r\n".encode()
        return b"+OK\r\n"


def keep_quiet(client):
    pipeline = client.pipeline(transaction=False)
    for key in "abc":
        pipeline.incr(key)
    return pipeline.execute(raise_on_error=False)


def sync_redis(port):
    return keep_quiet(redis.Redis(port=port))


def sync_valkey(port):
    return keep_quiet(valkey.Valkey(port=port))


def async_redis(port):
    async def run():
        client = redis.asyncio.Redis(port=port)
        return await keep_quiet(client)
    return asyncio.run(run())


def core(port):
    async def run():
        async with coredis.Redis(host="127.0.0.1", port=port) as client:
            async with client.pipeline(transaction=False, raise_on_error=False) as pipeline:
                replies = [pipeline.incr(key) for key in "abc"]
            return [await reply for reply in replies]
    return asyncio.run(run())


def attempt(name, client, error, failing):
    server = Server(error, failing)
    try:
        outcome = [type(reply).__name__ for reply in client(server.port)]
    except BaseException as failure:
        while isinstance(failure, BaseExceptionGroup):
            failure = failure.exceptions[0]
        outcome = type(failure).__name__
    print(f"{name}, {failing} x {error}: of 3 commands arrived {server.arrived}, the caller gets {outcome}", flush=True)


attempt("redis-py", sync_redis, "LOADING", 1)
attempt("redis-py", sync_redis, "LOADING", 1000)
attempt("redis-py asyncio", async_redis, "LOADING", 1)
attempt("valkey-py", sync_valkey, "LOADING", 1)
attempt("coredis", core, "LOADING", 1)
for error in ["CLUSTERDOWN", "TRYAGAIN", "TIMEOUT", "READONLY", "MASTERDOWN", "OOM", "BUSY", "NOREPLICAS", "MISCONF"]:
    attempt("redis-py", sync_redis, error, 1)
PYTHON
python/bin/python try.py > seen.txt
cat seen.txt
diff - seen.txt <<'EXPECTED'
redis-py, 1 x LOADING: of 3 commands arrived 6, the caller gets ['int', 'int', 'int']
redis-py, 1000 x LOADING: of 3 commands arrived 33, the caller gets BusyLoadingError
redis-py asyncio, 1 x LOADING: of 3 commands arrived 6, the caller gets ['int', 'int', 'int']
valkey-py, 1 x LOADING: of 3 commands arrived 3, the caller gets BusyLoadingError
coredis, 1 x LOADING: of 3 commands arrived 3, the caller gets BusyLoadingError
redis-py, 1 x CLUSTERDOWN: of 3 commands arrived 3, the caller gets ['ClusterDownError', 'int', 'int']
redis-py, 1 x TRYAGAIN: of 3 commands arrived 3, the caller gets ['TryAgainError', 'int', 'int']
redis-py, 1 x TIMEOUT: of 3 commands arrived 3, the caller gets ['ResponseError', 'int', 'int']
redis-py, 1 x READONLY: of 3 commands arrived 3, the caller gets ['ReadOnlyError', 'int', 'int']
redis-py, 1 x MASTERDOWN: of 3 commands arrived 3, the caller gets ['MasterDownError', 'int', 'int']
redis-py, 1 x OOM: of 3 commands arrived 3, the caller gets ['OutOfMemoryError', 'int', 'int']
redis-py, 1 x BUSY: of 3 commands arrived 3, the caller gets ['ResponseError', 'int', 'int']
redis-py, 1 x NOREPLICAS: of 3 commands arrived 3, the caller gets ['ResponseError', 'int', 'int']
redis-py, 1 x MISCONF: of 3 commands arrived 3, the caller gets ['ResponseError', 'int', 'int']
EXPECTED
echo "all libraries are as described"
