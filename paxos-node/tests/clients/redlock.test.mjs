// redlock, in both of the versions that are used: locks on several resources, extended and released.
import assert from "node:assert";
import { createRequire } from "node:module";
import { Redis } from "ioredis";

const require = createRequire(import.meta.url);
const nodes = process.env.PAXOS_ADDRESSES.split(",").map((address) => address.split(":"));
// All nodes keep the same state: a lock is taken on one of them.
const [one, two] = nodes.map(([host, port]) => new Redis({ host, port }));
await one.flushall();
const settings = { retryCount: 0, automaticExtensionThreshold: 100 };
const versions = [];
for (const name of ["redlock", "redlock5"]) {
  versions.push(require(`./node_modules/${name}/package.json`).version);
  const module = require(name);
  const Redlock = module.default ?? module;
  const [here, there] = [one, two].map((client) => new Redlock([client], settings));
  const acquire = (redlock, keys, time) => (redlock.acquire ?? redlock.lock).call(redlock, keys, time);
  let lock = await acquire(here, ["a", "b"], 2_000);
  await assert.rejects(acquire(there, ["b", "c"], 2_000));
  lock = await lock.extend(5_000);
  assert.ok((await two.pttl("a")) > 2_000 && (await two.pttl("b")) > 2_000);
  await (lock.release ?? lock.unlock).call(lock);
  const short = await acquire(there, ["b", "c"], 200);
  await new Promise((resolve) => setTimeout(resolve, 300));
  await assert.rejects(short.extend(200));
  const next = await acquire(here, ["c"], 2_000);
  await assert.rejects((short.release ?? short.unlock).call(short), "it is another's by now");
  assert.equal(await one.exists("c"), 1);
  await (next.release ?? next.unlock).call(next);
}
console.log(`redlock ${versions.join(" and ")} over ioredis`);
process.exit(0);
