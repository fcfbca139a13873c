"""redis-py, asyncio: pipelines, WATCH, publish and subscribe, Lock."""

import asyncio
import os

import redis
import redis.asyncio

NODES = [address.split(":") for address in os.environ["PAXOS_ADDRESSES"].split(",")]


def client(node, **options):
    host, port = NODES[node]
    return redis.asyncio.Redis(host=host, port=int(port), decode_responses=True, **options)


async def check(protocol):
    one, two, three = (client(node, protocol=protocol) for node in range(3))
    await one.flushall()
    assert await one.set("a", "1") and await two.get("a") == "1"
    async with one.pipeline() as pipeline:
        assert await pipeline.incr("n").incr("n").execute() == [1, 2]

    await one.set("sum", 0)

    async def add(connection):
        async def once(pipeline):
            value = int(await pipeline.get("sum"))
            pipeline.multi()
            pipeline.set("sum", value + 1)

        for _ in range(25):
            await connection.transaction(once, "sum")

    await asyncio.gather(add(one), add(two))
    assert await three.get("sum") == "50"

    async with two.pubsub() as listening:
        await listening.psubscribe("new*")
        await listening.get_message(timeout=5)
        await one.publish("news", "hello")
        heard = await listening.get_message(timeout=5)
        assert heard["type"] == "pmessage" and heard["data"] == "hello", heard

    async with one.lock("lock"):
        assert not await two.lock("lock").acquire(blocking=False)
    assert await three.get("lock") is None
    for connection in (one, two, three):
        await connection.aclose()


for protocol in (2, 3):
    asyncio.run(check(protocol))
print(f"redis-py {redis.__version__} asyncio, RESP2 and RESP3")
