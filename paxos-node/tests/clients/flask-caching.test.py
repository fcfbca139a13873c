"""Flask-Caching: cached views and functions, whose entries expire and are shared by all nodes."""

import os
import time
from importlib.metadata import version

from flask import Flask
from flask_caching import Cache


def app(node):
    host, port = os.environ["PAXOS_ADDRESSES"].split(",")[node].split(":")
    app = Flask(__name__)
    cache = Cache(app, config={"CACHE_TYPE": "RedisCache", "CACHE_REDIS_HOST": host, "CACHE_REDIS_PORT": int(port)})
    return app, cache


(flask, one), (_, other) = app(0), app(1)
calls = []
with flask.app_context():
    one.clear()
    assert one.set("a", [1, 2], timeout=60) and one.get("a") == [1, 2]
    assert not one.add("a", 1) and one.has("a")
    assert one.set_many({"x": 1, "y": 2}) and one.get_many("x", "y", "z") == [1, 2, None]
    assert one.get_dict("x", "y") == {"x": 1, "y": 2}
    assert one.delete_many("x", "y") and one.get("x") is None and one.delete("a")
    assert one.set("short", 1, timeout=1)
    time.sleep(1.1)
    assert one.get("short") is None

    @one.memoize(timeout=30)
    def double(number):
        calls.append(number)
        return 2 * number

    assert [double(4), double(4), double(5)] == [8, 8, 10] and calls == [4, 5]
    one.delete_memoized(double, 4)
    assert double(4) == 8 and calls == [4, 5, 4]


@flask.route("/")
@one.cached(timeout=30)
def page():
    calls.append("page")
    return "hello"


browser = flask.test_client()
assert [browser.get("/").data for _ in range(2)] == [b"hello", b"hello"] and calls.count("page") == 1
with flask.app_context():
    one.set("shared", "yes")
with _.app_context():
    assert other.get("shared") == "yes"

print(f"Flask-Caching {version('Flask-Caching')}")
