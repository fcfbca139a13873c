// redlock over ioredis: several locks at once, with the cluster as its only server.
import assert from "node:assert";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { Redis } from "ioredis";

const require = createRequire(import.meta.url);
const { default: Redlock } = require("redlock");
const { version } = JSON.parse(readFileSync(new URL("node_modules/redlock/package.json", import.meta.url)));
const nodes = process.env.PAXOS_ADDRESSES.split(",").map((address) => address.split(":"));
const clients = nodes.map(([host, port]) => new Redis({ host, port: Number(port) }));
const [one, two, three] = clients;
const settings = { retryCount: 0 };
const [redlock, other] = [new Redlock([one], settings), new Redlock([two], settings)];

await one.flushall();
const lock = await redlock.acquire(["a", "b"], 60_000);
await assert.rejects(other.acquire(["b", "c"], 60_000));
assert.equal(await three.exists("c"), 0);
const longer = await lock.extend(120_000);
assert.ok((await three.pttl("b")) > 60_000);
await longer.release();
assert.equal(await three.dbsize(), 0);
await redlock.acquire(["a"], 100);
await new Promise((resolve) => setTimeout(resolve, 300));
await (await other.acquire(["a"], 60_000)).release();
for (const client of clients) client.disconnect();
console.log(`redlock ${version}`);
