// rate-limit-redis, the store of express-rate-limit.
import assert from "node:assert";
import { createRequire } from "node:module";
import { Redis } from "ioredis";
import { RedisStore } from "rate-limit-redis";

const version = createRequire(import.meta.url)("./node_modules/rate-limit-redis/package.json").version;
const clients = process.env.PAXOS_ADDRESSES.split(",").map((address) => {
  const [host, port] = address.split(":");
  return new Redis({ host, port });
});
await clients[0].flushall();
const [here, there] = clients.map((client) => {
  const store = new RedisStore({ sendCommand: (...words) => client.call(...words) });
  store.init({ windowMs: 1_000 });
  return store;
});
assert.equal((await here.increment("a")).totalHits, 1);
const second = await there.increment("a");
assert.equal(second.totalHits, 2);
assert.ok(second.resetTime - Date.now() <= 1_000 && second.resetTime > Date.now() - 1_000);
assert.equal((await here.get("a")).totalHits, 2);
await there.decrement("a");
assert.equal((await here.get("a")).totalHits, 1);
await here.resetKey("a");
assert.equal((await there.increment("a")).totalHits, 1);
await new Promise((resolve) => setTimeout(resolve, 1_100));
assert.equal((await here.increment("a")).totalHits, 1);
console.log(`rate-limit-redis ${version}`);
process.exit(0);
