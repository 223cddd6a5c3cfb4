// node bench/scan.mjs [DUMP] [--mib N] [--runs N] [--dir FOLDER]: how fast `vmcs list` scans a host's memory beside
// `cat FILE >/dev/null` of the same file in the same run. Without DUMP a vmcore of N MiB (2048) is made, of random,
// repetitive and zero pages and some that begin like a VMCS. volatility3's vmscan runs too where
// GUESTCORE_BENCH_VOLATILITY names its command.
import { spawnSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { closeSync, mkdtempSync, openSync, rmSync, statSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { parseArgs } from "node:util";

const guestcore = [process.execPath, join(resolve(import.meta.dirname, ".."), "bin/guestcore.js")];
const MIB = 2 ** 20;

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    dir: { type: "string", default: tmpdir() },
    mib: { type: "string", default: "2048" },
    runs: { type: "string", default: "5" },
  },
});

const folder = mkdtempSync(join(values.dir, "guestcore-bench-"));
process.once("exit", () => rmSync(folder, { recursive: true, force: true }));
const dump = positionals[0] ?? makeDump(join(folder, "host.vmcore"), Number(values.mib));

/** An ELF64 core: one PT_LOAD from 1 MiB on. Every 64th page begins with a revision that a layout has. */
function makeDump(path, mib) {
  const header = Buffer.alloc(4096);
  header.write("\x7fELF\x02\x01\x01", 0, "latin1");
  header.writeUInt16LE(4, 16);
  header.writeUInt16LE(62, 18);
  header.writeUInt32LE(1, 20);
  header.writeBigUInt64LE(64n, 32);
  header.writeUInt16LE(64, 52);
  header.writeUInt16LE(56, 54);
  header.writeUInt16LE(1, 56);
  header.writeUInt32LE(1, 64);
  for (const [at, value] of [
    [72, 4096n],
    [80, 0xffff_8880_0010_0000n],
    [88, 0x10_0000n],
    [96, BigInt(mib * MIB)],
    [104, BigInt(mib * MIB)],
  ]) {
    header.writeBigUInt64LE(value, at);
  }
  const fd = openSync(path, "w");
  writeSync(fd, header);
  const chunk = randomBytes(16 * MIB);
  for (let page = 0; page < chunk.length; page += 4096) {
    const kind = (page / 4096) % 4;
    if (kind === 0) chunk.fill(0, page, page + 4096);
    if (kind === 1) chunk.fill("guestcore ", page, page + 4096);
    if ((page / 4096) % 64 === 2) chunk.writeUInt32LE(0x12, page);
  }
  for (let written = 0; written < mib * MIB; written += chunk.length) {
    writeSync(fd, chunk, 0, Math.min(chunk.length, mib * MIB - written));
  }
  closeSync(fd);
  return path;
}

/** Seconds of wall and CPU time, and peak memory in MiB. */
function timed(command, args) {
  const began = process.hrtime.bigint();
  const { status, stderr } = spawnSync("/usr/bin/time", ["-f", "%U %S %M", command, ...args], {
    stdio: ["ignore", "ignore", "pipe"],
    encoding: "utf8",
  });
  const wall = Number(process.hrtime.bigint() - began) / 1e9;
  if (status !== 0) throw new Error(`${command}: exit status ${status}: ${stderr}`);
  const [user, system, kib] = stderr.trim().split("\n").at(-1).split(" ").map(Number);
  return { wall, cpu: user + system, mib: kib / 1024 };
}

const median = (numbers) => numbers.toSorted((a, b) => a - b)[Math.floor(numbers.length / 2)];

const contenders = [
  ["cat", "sh", ["-c", 'exec cat "$0" >/dev/null', dump]],
  ["guestcore vmcs list", guestcore[0], [guestcore[1], "vmcs", "list", dump, "--progress", "none"]],
];
const volatility = process.env.GUESTCORE_BENCH_VOLATILITY;
if (volatility !== undefined)
  contenders.push(["volatility3 vmscan", "sh", ["-c", `${volatility} -f "$0" vmscan`, dump]]);

const results = new Map(contenders.map(([name]) => [name, []]));
for (let run = 0; run <= Number(values.runs); run++) {
  for (const [name, command, args] of contenders) {
    const result = timed(command, args);
    // The first run fills the page cache.
    if (run > 0) results.get(name).push(result);
  }
}
const size = statSync(dump).size;
const base = results.get("cat");
console.log(`${dump}: ${(size / MIB).toFixed(0)} MiB, ${values.runs} runs, medians`);
for (const [name, runs] of results) {
  const of = (key) => median(runs.map((result) => result[key]));
  const ratio = median(runs.map(({ wall }, i) => wall / base[i].wall));
  const rate = size / MIB / of("wall");
  console.log(
    `${name.padEnd(20)} wall ${of("wall").toFixed(2)} s (${ratio.toFixed(2)} × cat)  cpu ${of("cpu").toFixed(2)} s  ${rate.toFixed(0)} MiB/s  peak ${of("mib").toFixed(0)} MiB`,
  );
}
