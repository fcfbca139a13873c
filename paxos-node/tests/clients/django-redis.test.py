"""django-redis, as Django's cache and store of sessions: time-outs, counters, patterns, locks."""

import os
import time

import django
import django_redis
from django.conf import settings

FIRST, SECOND = (f"redis://{address}/0" for address in os.environ["PAXOS_ADDRESSES"].split(",")[:2])
BACKEND = "django_redis.cache.RedisCache"
settings.configure(
    CACHES={
        "default": {"BACKEND": BACKEND, "LOCATION": FIRST},
        "other": {"BACKEND": BACKEND, "LOCATION": SECOND},
    },
    SESSION_ENGINE="django.contrib.sessions.backends.cache",
)
django.setup()

from django.contrib.sessions.backends.cache import SessionStore  # noqa: E402
from django.core.cache import caches  # noqa: E402

one, other = caches["default"], caches["other"]
one.clear()
one.set("a", {"deep": [1, 2]}, timeout=60)
assert other.get("a") == {"deep": [1, 2]} and 50 < other.ttl("a") <= 60
assert not one.add("a", 1) and one.add("n", 1, timeout=None) and other.incr("n", 4) == 5 and other.decr("n") == 4
assert one.ttl("n") is None and one.expire("n", 30) and one.persist("n") and one.ttl("n") is None
assert one.touch("n", 20) and 15 < one.ttl("n") <= 20
one.set_many({"x": 1, "y": 2}, timeout=30)
assert other.get_many(["x", "y", "z"]) == {"x": 1, "y": 2}
assert sorted(other.keys("[xy]")) == ["x", "y"] and sorted(other.iter_keys("[xy]")) == ["x", "y"]
assert one.delete_pattern("[xy]") == 2 and not other.has_key("x")
assert one.get_or_set("late", lambda: 7, timeout=10) == 7 and one.has_key("late") and one.delete("late")

one.set("short", 1, timeout=0.2)
time.sleep(0.3)
assert one.get("short") is None and other.get("short") is None

with one.lock("held", timeout=5):
    assert not other.lock("held", timeout=5).acquire(blocking=False)
assert other.lock("held", timeout=5).acquire(blocking=False)

session = SessionStore()
session["user"] = 7
session.save()
assert SessionStore(session.session_key)["user"] == 7
session.delete()
assert "user" not in SessionStore(session.session_key)

print(f"django-redis {'.'.join(map(str, django_redis.VERSION))} with Django {django.__version__}")
