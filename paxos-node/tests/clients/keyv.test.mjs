// keyv with @keyv/redis: a cache with expiry and namespaces.
import assert from "node:assert";
import { createRequire } from "node:module";
import KeyvRedis from "@keyv/redis";
import { Keyv } from "keyv";

const require = createRequire(import.meta.url);
const [version, store] = ["keyv", "@keyv/redis"].map((name) => require(`./node_modules/${name}/package.json`).version);
const [one, two] = process.env.PAXOS_ADDRESSES.split(",").map((address) => `redis://${address}`);
const [here, there] = [one, two].map((url) => new Keyv({ store: new KeyvRedis(url), namespace: "app" }));
const other = new Keyv({ store: new KeyvRedis(one), namespace: "other" });

await here.clear();
await other.clear();
assert.equal(await here.set("a", { deep: [1, 2] }, 60_000), true);
assert.deepEqual(await there.get("a"), { deep: [1, 2] });
assert.equal(await other.get("a"), undefined);
await here.set("short", 1, 150);
await new Promise((resolve) => setTimeout(resolve, 300));
assert.equal(await there.get("short"), undefined);
await here.setMany([{ key: "x", value: 1 }, { key: "y", value: 2 }]);
assert.deepEqual(await there.get(["x", "y", "z"]), [1, 2, undefined]);
assert.equal(await there.has("x"), true);
const keys = [];
for await (const [key] of here.iterator()) keys.push(key);
assert.deepEqual(keys.sort(), ["a", "x", "y"]);
assert.equal(await here.delete("x"), true);
await other.set("stays", 1);
await here.clear();
assert.equal(await there.get("y"), undefined);
assert.equal(await other.get("stays"), 1);
console.log(`keyv ${version} with @keyv/redis ${store}`);
process.exit(0);
