"""valkey-py: commands, WATCH, publish and subscribe, Lock."""

import os

import valkey

NODES = [address.split(":") for address in os.environ["PAXOS_ADDRESSES"].split(",")]
one, two, three = (valkey.Valkey(host=host, port=int(port), decode_responses=True) for host, port in NODES)
one.flushall()
assert one.set("a", "1") and two.get("a") == "1"
with one.pipeline() as pipeline:
    pipeline.watch("a")
    two.set("a", "2")
    pipeline.multi()
    pipeline.set("a", "3")
    try:
        pipeline.execute()
        raise AssertionError("a change was missed")
    except valkey.WatchError:
        pass
listening = two.pubsub()
listening.subscribe("news")
listening.get_message(timeout=5)
three.publish("news", "hello")
assert listening.get_message(timeout=5)["data"] == "hello"
with one.lock("lock"):
    assert not two.lock("lock").acquire(blocking=False)
assert three.get("lock") is None
with one.lock("lock", timeout=60) as held:
    assert held.extend(60) and held.reacquire() and 50_000 < three.pttl("lock") <= 60_000
print(f"valkey-py {valkey.__version__}")
