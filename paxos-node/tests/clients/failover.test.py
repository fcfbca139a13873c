"""A leader is paused, and another one killed, while clients hold, lose and take a lock: never two hold it, and fencing
numbers grow."""

import math
import os
import signal
import threading
import time
import uuid

import redis

NODES = [address.split(":") for address in os.environ["PAXOS_ADDRESSES"].split(",")]
PIDS = [int(pid) for pid in os.environ["PAXOS_PIDS"].split(",")]
LEASE_SECONDS = 2.0
WORKERS = 6
RELEASE = "if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('del', KEYS[1]) else return 0 end"


class Failing:
    """A client that goes on with the next node when one fails. It says whether a request was sent again."""

    def __init__(self, node):
        self.node, self.client = node, None

    def ask(self, *words):
        again = False
        while True:
            host, port = NODES[self.node % len(NODES)]
            try:
                if self.client is None:
                    self.client = redis.Redis(host=host, port=int(port), socket_timeout=2, retry=None)
                return self.client.execute_command(*words), again
            except (redis.ConnectionError, redis.TimeoutError, redis.ResponseError) as error:
                refusals = ("CLUSTERDOWN", "LOADING", "TIMEOUT")
                if isinstance(error, redis.ResponseError) and not str(error).startswith(refusals):
                    raise
                self.node, self.client, again = self.node + 1, None, True
                time.sleep(0.02)


def leader():
    for node, (host, port) in enumerate(NODES):
        if redis.Redis(host=host, port=int(port)).info()["paxos_role"] == "leader":
            return node
    raise AssertionError("nobody leads")


class Guarded:
    """What the lock guards: it notices two holders, and a number that does not grow."""

    def __init__(self):
        self.mutex, self.until, self.fence, self.grants = threading.Lock(), 0.0, 0, []

    def enter(self, until, fence):
        with self.mutex:
            now = time.monotonic()
            assert now >= self.until, "two hold the lock"
            assert fence > self.fence, f"the fence went from {self.fence} to {fence}"
            self.until, self.fence = until, fence
            self.grants.append(now)

    def leave(self):
        with self.mutex:
            self.until = 0.0


def work(place, guarded, end, failures):
    try:
        client = Failing(place)
        while time.monotonic() < end:
            token, began = uuid.uuid4().hex, time.monotonic()
            taken, again = client.ask("SET", "lock", token, "NX", "PX", int(LEASE_SECONDS * 1000))
            if taken is None and not (again and client.ask("GET", "lock")[0] == token.encode()):
                time.sleep(0.005)
                continue
            fence, _ = client.ask("PAXOS.FENCE", "lock")
            mine, _ = client.ask("GET", "lock")
            # Whoever took long may have lost it again.
            if mine != token.encode() or time.monotonic() > began + LEASE_SECONDS / 2:
                continue
            guarded.enter(began + LEASE_SECONDS, fence)
            time.sleep(0.005)
            guarded.leave()
            client.ask("EVAL", RELEASE, 1, "lock", token)
    except BaseException as error:
        failures.append(error)


guarded, failures = Guarded(), []
began = time.monotonic()
workers = [threading.Thread(target=work, args=(place, guarded, began + 11, failures)) for place in range(WORKERS)]
[worker.start() for worker in workers]
time.sleep(2)
paused, paused_at = PIDS[leader()], time.monotonic()
os.kill(paused, signal.SIGSTOP)
time.sleep(LEASE_SECONDS + 1)
os.kill(paused, signal.SIGCONT)
time.sleep(1)
killed, killed_at = PIDS[leader()], time.monotonic()
os.kill(killed, signal.SIGKILL)
[worker.join() for worker in workers]
assert not failures, failures
edges = [began, paused_at, killed_at, math.inf]
counts = [sum(first <= grant < end for grant in guarded.grants) for first, end in zip(edges, edges[1:])]
assert all(count > 2 for count in counts), counts
after = min(grant for grant in guarded.grants if grant >= killed_at)
print(f"a lock over redis-py {redis.__version__} while a leader is paused and the next one killed: {counts} grants, the "
      f"first {after - killed_at:.2f} s after its death")
