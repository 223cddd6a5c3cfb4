// node bench/guests.mjs HOST [--vmlinux FILE] [--runs N] [--dir FOLDER]: what `guests` and `extract` cost on a host's
// vmcore, beside `cp --sparse=always` of what extract writes and, with the host's vmlinux, beside what crash and drgn
// take to start on the same dump. GUESTCORE_BENCH_HOST and GUESTCORE_BENCH_VMLINUX name both too; without a dump
// nothing is measured. No other tool lists a host's guests.
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { isInstalled, measure, median, table } from "./measure.mjs";

const guestcore = [process.execPath, join(resolve(import.meta.dirname, ".."), "bin/guestcore.js")];

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    dir: { type: "string", default: tmpdir() },
    runs: { type: "string", default: "5" },
    vmlinux: { type: "string" },
  },
});
const host = positionals[0] ?? process.env.GUESTCORE_BENCH_HOST;
const vmlinux = values.vmlinux ?? process.env.GUESTCORE_BENCH_VMLINUX;
if (host === undefined) {
  console.log("guests: no dump of a host was named (GUESTCORE_BENCH_HOST), nothing measured");
  process.exit(0);
}

const folder = mkdtempSync(join(values.dir, "guestcore-bench-"));
process.once("exit", () => rmSync(folder, { recursive: true, force: true }));
const guest = join(folder, "guest.vmcore");
const copy = join(folder, "copy");
const script = join(folder, "start.py");
writeFileSync(script, "print(prog['init_task'].comm.string_().decode())\n");

const { stdout } = spawnSync(guestcore[0], [guestcore[1], "guests", host, "--json"], {
  encoding: "utf8",
  maxBuffer: 2 ** 30,
});
const guests = JSON.parse(stdout).result.guests;
const first = String(guests[0].id);

const jobs = [
  ["guests", [...guestcore, "guests", host]],
  [`extract --guest ${first}`, [...guestcore, "extract", host, "--guest", first, "-o", guest, "--force"]],
  ["cp --sparse=always of what it wrote", ["cp", "--sparse=always", guest, copy]],
  ["cat HOST", ["cat", host]],
  ...(vmlinux === undefined || !isInstalled("crash")
    ? []
    : [["crash, start and quit", ["sh", "-c", `echo quit | crash -s '${vmlinux}' '${host}'`]]]),
  ...(vmlinux === undefined || !isInstalled("drgn")
    ? []
    : [["drgn, start and read a task", ["drgn", "-q", "-c", host, "-s", vmlinux, script]]]),
];

const runs = Number(values.runs);
const results = jobs.map(([name]) => ({ name, runs: [] }));
for (let run = 0; run < runs; run++) {
  for (const [i, [, command]] of jobs.entries()) {
    const cost = measure(command);
    if (cost !== undefined) results[i].runs.push(cost);
  }
}
const of = (list, key) => (list.length === 0 ? "failed" : median(list.map((cost) => cost[key])).toFixed(2));
const wall = (name) =>
  median(results.find((result) => result.name === name)?.runs.map((cost) => cost.wall) ?? [NaN]);
console.log(`${host}: ${guests.length} guests, ${runs} runs, medians`);
console.log(
  table([
    ["", "wall s", "CPU s", "MiB"],
    ...results.map(({ name, runs: list }) => [name, of(list, "wall"), of(list, "cpu"), of(list, "rss")]),
  ]),
);
const extract = wall(jobs[1][0]);
console.log(`extract / cp: ${(extract / wall(jobs[2][0])).toFixed(2)}`);
for (const { name, runs: list } of results.slice(4)) {
  if (list.length > 0) console.log(`guests / ${name}: ${(wall("guests") / wall(name)).toFixed(2)}`);
}
