// node-redis: commands, MULTI with WATCH, publish and subscribe, and its cache of RESP3.
import assert from "node:assert";
import { createRequire } from "node:module";
import { createClient, WatchError } from "redis";

const version = createRequire(import.meta.url)("redis/package.json").version;
const nodes = process.env.PAXOS_ADDRESSES.split(",");
const connect = (node, options) =>
  createClient({ url: `redis://${nodes[node]}`, ...options })
    .on("error", (error) => { throw error; })
    .connect();

for (const RESP of [2, 3]) {
  const [one, two, three, listening] = await Promise.all([0, 1, 2, 1].map((node) => connect(node, { RESP })));
  await one.flushAll();
  assert.equal(await one.set("a", "1"), "OK");
  assert.equal(await two.get("a"), "1");
  assert.equal(await two.set("a", "2", { condition: "NX" }), null);
  assert.deepEqual(await one.multi().incr("n").get("n").exec(), [1, "1"]);
  assert.equal((await one.clientInfo()).id, await one.clientId());
  assert.equal((await one.commandInfo(["get"]))[0].name, "get");
  assert.deepEqual(await one.commandGetKeys(["SET", "k", "v"]), ["k"]);

  await one.watch("a");
  await two.set("a", "2");
  await assert.rejects(one.multi().set("a", "3").exec(), WatchError);

  const heard = new Promise((resolve) => listening.pSubscribe("ne*", (message, channel) => resolve([channel, message])));
  while (!(await two.pubSubNumPat())) await new Promise((resolve) => setTimeout(resolve, 10));
  await three.publish("news", "hello");
  assert.deepEqual(await heard, ["news", "hello"]);

  const keys = [];
  for await (const page of one.scanIterator()) keys.push(...page);
  assert.deepEqual(keys.sort(), ["a", "n"]);
  for (const client of [one, two, three, listening]) client.destroy();
}

const [cached, other] = await Promise.all([
  connect(0, { RESP: 3, clientSideCache: { ttl: 0, maxEntries: 0, evictPolicy: "LRU" } }),
  connect(1),
]);
await other.set("cached", "1");
assert.equal(await cached.get("cached"), "1");
await other.set("cached", "2");
let value;
for (let attempt = 0; attempt < 100 && value !== "2"; attempt++) {
  value = await cached.get("cached");
  await new Promise((resolve) => setTimeout(resolve, 50));
}
assert.equal(value, "2");
cached.destroy();
other.destroy();
console.log(`node-redis ${version}, RESP2 and RESP3`);
