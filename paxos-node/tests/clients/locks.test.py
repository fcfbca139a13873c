"""Locks that expire: redis-py's own Lock, redlock-py and pottery, over RESP2 and RESP3."""

import os
import time
from importlib.metadata import version

import pottery
import redis
from redlock import Redlock

NODES = [address.split(":") for address in os.environ["PAXOS_ADDRESSES"].split(",")]


def refused(call, *errors):
    try:
        call()
    except errors:
        return True
    return False


for protocol in (2, 3):
    one, two, three = (redis.Redis(host=host, port=int(port), protocol=protocol) for host, port in NODES)
    one.flushall()
    held, other = one.lock("lock", timeout=5), two.lock("lock", timeout=0.4)
    assert held.acquire() and not other.acquire(blocking=False) and three.lock("lock").locked()
    assert 4 < three.pttl("lock") / 1000 <= 5
    assert held.extend(5) and 9 < three.pttl("lock") / 1000 <= 10
    assert held.extend(7, replace_ttl=True) and 6 < three.pttl("lock") / 1000 <= 7
    assert held.reacquire() and 4 < three.pttl("lock") / 1000 <= 5
    assert held.owned() and held.release() is None
    # Without a renewal it is another's after its time, and the first can do nothing about it.
    assert other.acquire(blocking=False)
    began = time.monotonic()
    assert held.acquire(blocking_timeout=10) and 0.1 < time.monotonic() - began < 5
    lost = redis.exceptions.LockNotOwnedError
    assert refused(other.release, lost) and one.get("lock") == held.local.token
    held.release()
    assert refused(lambda: held.reacquire(), redis.exceptions.LockError)

# The others take a lock on a majority of servers that know nothing of each other; here one cluster is enough.
host, port = NODES[0]
here, there = (Redlock([{"host": host, "port": int(port)}], retry_count=1) for host, port in NODES[:2])
taken = here.lock("resource", 10_000)
assert taken and not there.lock("resource", 300)
here.unlock(taken)
taken = there.lock("resource", 200)
time.sleep(0.3)
later = here.lock("resource", 2_000)
assert taken and later
there.unlock(taken)
assert three.get("resource") == later.key and here.unlock(later) is None

here, there = (pottery.Redlock(key="printer", masters={client}, auto_release_time=10) for client in (one, two))
assert here.acquire() and here.locked() > 0 and not there.acquire(blocking=False)
here.extend()
here.release()
with there:
    assert not here.acquire(blocking=False)
assert there.locked() == 0

names = ["redis", "redlock-py", "pottery"]
print("Lock of " + ", ".join(f"{name} {version(name)}" for name in names))
