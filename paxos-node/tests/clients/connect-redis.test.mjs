// connect-redis: sessions of Express, over node-redis.
import assert from "node:assert";
import { createRequire } from "node:module";
import { RedisStore } from "connect-redis";
import { createClient } from "redis";

const version = createRequire(import.meta.url)("./node_modules/connect-redis/package.json").version;
const connect = (address) => createClient({ url: `redis://${address}` }).connect();
const [one, two] = await Promise.all(process.env.PAXOS_ADDRESSES.split(",").slice(0, 2).map(connect));
const [here, there] = [one, two].map((client) => new RedisStore({ client, prefix: "session:", ttl: 60 }));

await here.clear();
await here.set("a", { cookie: {}, user: 7 });
assert.deepEqual(await there.get("a"), { cookie: {}, user: 7 });
const expires = new Date(Date.now() + 300);
await here.set("short", { cookie: { expires, originalMaxAge: 300 }, user: 8 });
await here.touch("a", { cookie: { expires: new Date(Date.now() + 90_000) } });
assert.ok((await one.ttl("session:a")) > 60, "it was prolonged");
assert.equal(await there.length(), 2);
assert.deepEqual((await there.ids()).sort(), ["a", "short"]);
assert.equal((await there.all()).length, 2);
await new Promise((resolve) => setTimeout(resolve, 1_100));
assert.equal(await there.get("short"), undefined);
await there.destroy("a");
assert.equal(await here.get("a"), undefined);
console.log(`connect-redis ${version} over node-redis`);
process.exit(0);
