"""limits, on which Flask-Limiter and slowapi stand: fixed and sliding windows. Moving windows need lists, and
reset() a script that deletes by a pattern."""

import os
import time
from importlib.metadata import version

from limits import RateLimitItemPerSecond, parse
from limits.storage import storage_from_string
from limits.strategies import FixedWindowRateLimiter, SlidingWindowCounterRateLimiter

one, other = (storage_from_string(f"redis://{address}/0") for address in os.environ["PAXOS_ADDRESSES"].split(",")[:2])
assert one.check()
for strategy in (FixedWindowRateLimiter, SlidingWindowCounterRateLimiter):
    name, rate = strategy.__name__, parse("3/minute")
    here, there = strategy(one), strategy(other)
    here.clear(rate, name)
    assert [limiter.hit(rate, name) for limiter in (here, there, here)] == [True, True, True], name
    assert not here.test(rate, name) and not there.hit(rate, name), name
    window = there.get_window_stats(rate, name)
    assert window.remaining == 0 and 0 < window.reset_time - time.time() <= 120, (name, window)
    here.clear(rate, name)
    assert there.hit(rate, name), name
    assert there.hit(rate, name, cost=2) and not there.hit(rate, name), name
    here.clear(rate, name)

# A window of a second is over after a second.
second, limiter = RateLimitItemPerSecond(1), FixedWindowRateLimiter(one)
assert limiter.hit(second, "quick")
time.sleep(1.1)
assert limiter.hit(second, "quick")

print(f"limits {version('limits')}, fixed and sliding windows")
