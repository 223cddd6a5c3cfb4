// node bench/console.mjs [LOG] [--mib N] [--runs N]: how fast `triage console` reads a log beside grep -E, which looks for a
// handful of the same words and joins nothing. LOG is repeated until it has N MiB (256); without it a clean boot and one
// that panics are made of the sample. CPU time, the median of several runs, and peak memory.
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { MIB } from "./dumps.mjs";
import { measure, median, table } from "./measure.mjs";

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { mib: { type: "string", default: "256" }, runs: { type: "string", default: "3" } },
});
const PATTERNS = [
  "Kernel panic - not syncing",
  "BUG: (unable to handle|kernel NULL|KASAN|soft lockup)",
  "general protection fault",
  "kernel BUG at",
  "INFO: (task|rcu)",
  "Out of memory",
  "Call Trace:",
];
const folder = mkdtempSync(join(tmpdir(), "guestcore-bench-"));
process.once("exit", () => rmSync(folder, { recursive: true, force: true }));

const guestcore = resolve(import.meta.dirname, "../bin/guestcore.js");
const sample = readFileSync(
  positionals[0] ?? resolve(import.meta.dirname, "../samples/triage/console-null-deref-panic.log"),
);
const crash = sample.indexOf("BUG: ");
const logs =
  positionals[0] === undefined && crash > 0
    ? [
        ["clean boots", sample.subarray(0, sample.lastIndexOf("\n", crash) + 1)],
        ["a panic in each boot", sample],
      ]
    : [[positionals[0] ?? "the sample", sample]];

function makeLog(name, piece) {
  const path = join(folder, name);
  const block = Buffer.concat(Array(Math.ceil(MIB / piece.length)).fill(piece));
  const fd = openSync(path, "w");
  let size = 0;
  for (; size < Number(values.mib) * MIB; size += block.length) writeSync(fd, block);
  closeSync(fd);
  return { path, size };
}

const rows = [["", "MB/s", "peak MiB", "grep MB/s", "ratio"]];
for (const [index, [title, piece]] of logs.entries()) {
  const { path, size } = makeLog(`${index}.log`, piece);
  const commands = [
    [process.execPath, guestcore, "triage", "console", path, "--progress", "none", "-q"],
    ["grep", "-cE", PATTERNS.join("|"), path],
  ].map((command) => ["sh", "-c", '"$@" || [ $? = 1 ]', "sh", ...command]);
  const runs = Array.from({ length: Number(values.runs) }, () => commands.map(measure));
  const [ours, theirs] = commands.map((_, i) => median(runs.map((run) => run[i].cpu)));
  rows.push([
    title,
    (size / 1e6 / ours).toFixed(0),
    Math.max(...runs.map(([run]) => run.rss)).toFixed(0),
    (size / 1e6 / theirs).toFixed(0),
    (theirs / ours).toFixed(2),
  ]);
  rmSync(path);
}
console.log(table(rows));
