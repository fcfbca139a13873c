"""pottery: Redlock, with the cluster as its only master."""

import os
from importlib.metadata import version

from pottery import Redlock
from redis import Redis

NODES = [address.split(":") for address in os.environ["PAXOS_ADDRESSES"].split(",")]
one, two, three = (Redis(host=host, port=int(port)) for host, port in NODES)
one.flushall()
held = Redlock(key="printer", masters={one}, auto_release_time=60)
other = Redlock(key="printer", masters={two}, auto_release_time=60)
assert held.acquire() and held.locked() > 50 and not other.acquire(blocking=False)
held.extend()
held.release()
assert other.acquire(blocking=False)
other.release()
assert three.dbsize() == 0
print(f"pottery {version('pottery')}")
