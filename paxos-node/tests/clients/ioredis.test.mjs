// ioredis: commands, pipelines, MULTI with WATCH, publish and subscribe, and a script of its own.
import assert from "node:assert";
import { createRequire } from "node:module";
import { Redis } from "ioredis";

const version = createRequire(import.meta.url)("ioredis/package.json").version;
const nodes = process.env.PAXOS_ADDRESSES.split(",").map((address) => address.split(":"));
const connect = (node) => new Redis({ host: nodes[node][0], port: Number(nodes[node][1]) });
const [one, two, three, listening] = [connect(0), connect(1), connect(2), connect(1)];

await one.flushall();
assert.equal(await one.set("a", "1"), "OK");
assert.equal(await two.get("a"), "1");
assert.equal(await two.set("a", "2", "NX"), null);
assert.deepEqual(await one.mget("a", "none"), ["1", null]);
assert.equal(await one.incrbyfloat("f", 0.1), "0.1");
assert.deepEqual((await one.pipeline().incr("n").get("n").exec()).map(([error, reply]) => error ?? reply), [1, "1"]);
assert.deepEqual(await one.multi().incr("n").get("n").exec(), [[null, 2], [null, "2"]]);
assert.match(await one.info("replication"), /role:master/);

await one.watch("a");
await two.set("a", "2");
assert.equal(await one.multi().set("a", "3").exec(), null);
assert.equal(await three.get("a"), "2");

await listening.subscribe("news");
const heard = new Promise((resolve) => listening.once("message", (channel, message) => resolve([channel, message])));
assert.equal(await three.publish("news", "hello"), 0);
assert.deepEqual(await heard, ["news", "hello"]);

one.defineCommand("release", {
  numberOfKeys: 1,
  lua: `if redis.call("get", KEYS[1]) == ARGV[1] then return redis.call("del", KEYS[1]) else return 0 end`,
});
await one.set("lock", "mine");
assert.equal(await one.release("lock", "theirs"), 0);
assert.equal(await one.release("lock", "mine"), 1);

const keys = [];
for await (const page of one.scanStream({ match: "*" })) keys.push(...page);
assert.deepEqual(keys.sort(), ["a", "f", "n"]);
for (const client of [one, two, three, listening]) client.disconnect();
console.log(`ioredis ${version}`);
