"""valkey-glide for Python, whose core is one of Rust: commands, expiry, transactions, scripts."""

import os
import time
from importlib.metadata import version

from glide_sync import (
    Batch,
    ConditionalChange,
    ExpirySet,
    ExpiryType,
    GlideClient,
    GlideClientConfiguration,
    NodeAddress,
    ProtocolVersion,
    Script,
)


def client(node, protocol):
    host, port = os.environ["PAXOS_ADDRESSES"].split(",")[node].split(":")
    return GlideClient.create(GlideClientConfiguration([NodeAddress(host, int(port))], protocol=protocol))


for protocol in (ProtocolVersion.RESP2, ProtocolVersion.RESP3):
    one, two = client(0, protocol), client(1, protocol)
    one.flushall()
    assert one.set("a", "1") == "OK" and two.get("a") == b"1"
    assert two.set("a", "2", conditional_set=ConditionalChange.ONLY_IF_DOES_NOT_EXIST) is None
    assert one.set("b", "1", expiry=ExpirySet(ExpiryType.MILLSEC, 150)) == "OK" and 0 < two.pttl("b") <= 150
    time.sleep(0.25)
    assert two.get("b") is None and two.ttl("a") == -1 and two.ttl("b") == -2
    assert one.incrby("n", 4) == 4 and two.mget(["n", "none"]) == [b"4", None]
    batch = Batch(is_atomic=True)
    batch.set("t", "1")
    batch.incr("t")
    assert one.exec(batch, raise_on_error=True) == ["OK", 2]
    one.watch(["t"])
    two.set("t", "9")
    batch = Batch(is_atomic=True)
    batch.set("t", "10")
    assert one.exec(batch, raise_on_error=True) is None and two.get("t") == b"9"
    release = Script("if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('del', KEYS[1]) else return 0 end")
    one.set("lock", "mine")
    assert one.invoke_script(release, keys=["lock"], args=["theirs"]) == 0
    assert two.invoke_script(release, keys=["lock"], args=["mine"]) == 1
    assert b"role:master" in one.info()
    one.close()
    two.close()

print(f"valkey-glide {version('valkey-glide-sync')} for Python, RESP2 and RESP3")
