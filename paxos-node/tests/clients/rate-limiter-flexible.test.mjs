// rate-limiter-flexible, over ioredis and node-redis.
import assert from "node:assert";
import { createRequire } from "node:module";
import { Redis } from "ioredis";
import { RateLimiterRedis } from "rate-limiter-flexible";
import { createClient } from "redis";

const version = createRequire(import.meta.url)("./node_modules/rate-limiter-flexible/package.json").version;
const nodes = process.env.PAXOS_ADDRESSES.split(",");
const [host, port] = nodes[0].split(":");
const ioredis = new Redis({ host, port });
const nodeRedis = await createClient({ url: `redis://${nodes[1]}` }).connect();
await ioredis.flushall();

for (const [prefix, clients] of Object.entries({ io: [ioredis, ioredis], node: [nodeRedis, nodeRedis] })) {
  const [here, there] = clients.map((storeClient) => new RateLimiterRedis({
    storeClient,
    useRedisPackage: storeClient === nodeRedis,
    keyPrefix: prefix,
    points: 3,
    duration: 1,
    blockDuration: 0,
  }));
  assert.equal((await here.consume("a")).remainingPoints, 2);
  assert.equal((await there.consume("a", 2)).remainingPoints, 0);
  const refused = await here.consume("a").then(() => assert.fail("too many"), (refused) => refused);
  assert.ok(refused.msBeforeNext > 0 && refused.msBeforeNext <= 1_000, refused);
  assert.equal((await there.get("a")).consumedPoints, 4);
  await here.penalty("b", 2);
  await here.reward("b", 1);
  assert.equal((await there.get("b")).consumedPoints, 1);
  await here.block("c", 30);
  await assert.rejects(there.consume("c").then(() => {}, (refused) => { throw new Error(refused.msBeforeNext); }));
  assert.equal(await here.delete("c"), true);
  await new Promise((resolve) => setTimeout(resolve, 1_100));
  assert.equal((await there.consume("a")).remainingPoints, 2);
}
console.log(`rate-limiter-flexible ${version}, over ioredis and node-redis`);
process.exit(0);
