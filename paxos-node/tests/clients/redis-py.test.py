"""redis-py, blocking, with the parser of hiredis and with its own: commands, pipelines, WATCH, publish and subscribe,
Lock, and its cache of RESP3."""

import os
import threading
import time
from importlib.metadata import version

import redis
from redis._parsers import _HiredisParser, _RESP2Parser
from redis.cache import CacheConfig
from redis.exceptions import LockNotOwnedError, ResponseError

NODES = [address.split(":") for address in os.environ["PAXOS_ADDRESSES"].split(",")]


def client(node, **options):
    host, port = NODES[node]
    return redis.Redis(host=host, port=int(port), decode_responses=True, **options)


def check(protocol, parser):
    one, two, three = (client(node, protocol=protocol) for node in range(3))
    for node in (one, two, three):
        node.connection_pool.connection_kwargs["parser_class"] = parser
    one.flushall()
    assert one.set("a", "1") and two.get("a") == "1"
    assert two.set("a", "2", nx=True) is None
    assert two.set("a", "2", get=True) == "1"
    assert three.incrbyfloat("f", 0.1) == 0.1 and three.incrbyfloat("f", 0.2) == 0.3
    assert one.mset({"x": "1", "y": "2"}) and two.mget("x", "none", "y") == ["1", None, "2"]
    assert not one.msetnx({"x": "1", "z": "2"})
    assert one.setrange("x", 2, "ab") == 4 and two.getrange("x", 2, -1) == "ab"
    assert three.rename("x", "w") and one.copy("w", "v") and not one.exists("x")
    assert sorted(two.scan_iter(match="[vw]")) == ["v", "w"] and sorted(two.keys("[vw]")) == ["v", "w"]
    assert one.type("w") == "string" and one.object("encoding", "a") == "int" and one.memory_usage("a") > 0
    assert one.touch("v", "w") == 2 and one.randomkey() is not None

    # What monitoring and shells ask for.
    info = one.info()
    assert info["role"] == "master" and info["connected_slaves"] == 0 and info["db0"]["keys"] > 0
    assert "used_memory" in one.info("memory") and one.role()[0] in ("master", b"master")
    me = one.client_id()
    assert any(int(other["id"]) == me for other in one.client_list())
    assert one.client_info()["lib-name"].startswith("redis-py")
    assert "get" in one.command() and one.command_count() > 50
    assert one.command_getkeys("MSET", "a", "1", "b", "2") == ["a", "b"]
    assert one.config_get("maxmemory*")["maxmemory-policy"] == "noeviction"
    assert one.slowlog_get() == [] and one.wait(1, 100) == 1

    with one.pipeline() as pipeline:
        assert pipeline.incr("n").incr("n").get("n").execute() == [1, 2, "2"]

    # Both nodes add by WATCH, and nothing is lost.
    one.set("sum", 0)

    def add(connection):
        def once(pipeline):
            value = int(pipeline.get("sum"))
            pipeline.multi()
            pipeline.set("sum", value + 1)

        for _ in range(25):
            connection.transaction(once, "sum")

    threads = [threading.Thread(target=add, args=[connection]) for connection in (one, two)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert one.get("sum") == "50", one.get("sum")

    listening = two.pubsub()
    listening.subscribe("news", "__keyevent@0__:set")
    assert [listening.get_message(timeout=5)["type"] for _ in range(2)] == ["subscribe", "subscribe"]
    one.publish("news", "hello")
    three.set("told", "1")
    heard = [listening.get_message(timeout=5) for _ in range(2)]
    assert [message["data"] for message in heard] == ["hello", "told"], heard
    listening.close()

    # A lock without a time, and one that expires.
    held, other = one.lock("lock"), two.lock("lock")
    assert held.acquire() and not other.acquire(blocking=False)
    three.set("lock", "somebody else")
    try:
        held.release()
        raise AssertionError("a lock of somebody else was released")
    except LockNotOwnedError:
        assert one.get("lock") == "somebody else"
    one.delete("lock")
    assert held.acquire() and held.release() is None and other.acquire(blocking=False)
    other.release()
    held, other = one.lock("lock", timeout=60), two.lock("lock", timeout=60)
    assert held.acquire() and not other.acquire(blocking=False)
    assert held.extend(60) and 61_000 < three.pttl("lock") <= 120_000
    assert held.extend(90, replace_ttl=True) and 61_000 < three.pttl("lock") <= 90_000
    assert held.reacquire() and 50_000 < three.pttl("lock") <= 60_000
    held.release()
    assert three.pttl("lock") == -2
    assert one.set("short", "1", px=50) and one.expire("short", 100, lt=True) == 0
    time.sleep(0.2)
    assert two.get("short") is None and two.setex("long", 100, "1") and 99 <= three.ttl("long") <= 100
    assert one.getex("long", persist=True) == "1" and one.ttl("long") == -1
    assert one.delete("long") == 1

    script = one.register_script("return redis.call('get', KEYS[1])")
    try:
        script(keys=["a"])
        raise AssertionError("a script that is not known was run")
    except ResponseError as error:
        assert "IFEQ" in str(error), error


for protocol in (2, 3):
    for parser in (_HiredisParser, _RESP2Parser):
        check(protocol, parser)

# The cache of the client drops what another node's client changes.
cached = client(0, protocol=3, cache_config=CacheConfig())
other = client(1)
cached.set("cached", "1")
assert cached.get("cached") == "1" and cached.get("cached") == "1"
other.set("cached", "2")
for _ in range(100):
    if cached.get("cached") == "2":
        break
    threading.Event().wait(0.05)
assert cached.get("cached") == "2"

print(f"redis-py {redis.__version__}, RESP2 and RESP3, with hiredis {version('hiredis')} and alone")
