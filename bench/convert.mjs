// node bench/convert.mjs [DUMP] [--mib N] [--runs N] [--only WORD] [--dir FOLDER]: what `convert` costs beside the tools
// of the field, in the same run. DUMP is an ELF vmcore; without it one of N MiB (1024) is made of real pages. WORD picks
// conversions by their titles. Each kind has one peer:
//
// - kdump to ELF: makedumpfile writes no ELF from it ("-E option is disable"), so its peer is a copy by makedumpfile
//   without compression, which reads, decompresses and writes the same pages.
// - ELF to kdump: makedumpfile with the same compression. One built without snappy or zstd writes pages as they are and
//   says nothing; the header tells, and the row says so.
// - flattened to ELF: makedumpfile -R, and for a kdump that copy as well.
// - reading all of a kdump: drgn (libkdumpfile), against `convert` to a pipe.
import { spawnSync } from "node:child_process";
import {
  closeSync,
  existsSync,
  mkdtempSync,
  openSync,
  readSync,
  rmSync,
  statfsSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { freemem, tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { MIB, makeVmcore, memoryOf, realPages, sameMemory } from "./dumps.mjs";
import { isInstalled, measure, median, table } from "./measure.mjs";

const MAX_RSS = 256;
const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    mib: { type: "string", default: "1024" },
    runs: { type: "string", default: "3" },
    only: { type: "string", default: "" },
    dir: { type: "string" },
  },
});
const guestcore = [
  process.execPath,
  join(resolve(import.meta.dirname, ".."), "bin/guestcore.js"),
  "convert",
  "-q",
];
const folder = mkdtempSync(join(values.dir ?? roomy("/dev/shm") ?? tmpdir(), "guestcore-bench-"));
const file = (name) => join(folder, name);
process.once("exit", () => rmSync(folder, { recursive: true, force: true }));
for (const signal of ["SIGINT", "SIGTERM"]) process.once(signal, () => process.exit(1));

/** The tmpfs, when it and the machine's memory hold all files: it takes the disk out of the figures. */
function roomy(path) {
  if (!existsSync(path)) return undefined;
  const { bavail, bsize } = statfsSync(path);
  return Math.min(bavail * bsize, freemem()) > 8 * Number(values.mib) * MIB ? path : undefined;
}

const quoted = (command) => command.map((word) => `'${word}'`).join(" ");
const shell = (script) => ["sh", "-c", script];

/** Runs a command; whether it ended well. */
const ran = (command) => spawnSync(command[0], command.slice(1), { stdio: "ignore" }).status === 0;

/** Compressions by name: makedumpfile's option, and the bit of the dump's header and page descriptors. */
const COMPRESSIONS = {
  zlib: { option: "-c", bit: 1 },
  lzo: { option: "-l", bit: 2 },
  snappy: { option: "-p", bit: 4 },
  zstd: { option: "-z", bit: 0x20 },
};

/** Whether a kdump says that its pages are compressed so. */
function isCompressed(path, { bit }) {
  const status = Buffer.alloc(4);
  const fd = openSync(path, "r");
  readSync(fd, status, 0, 4, 424);
  closeSync(fd);
  return (status.readUInt32LE(0) & bit) !== 0;
}

const out = file("out");
const elf = positionals[0] === undefined ? file("vmcore.elf") : resolve(positionals[0]);
if (positionals[0] === undefined) makeVmcore(elf, Number(values.mib), await realPages(folder, 1e5));
const size = memoryOf(elf).reduce((sum, range) => sum + range.size, 0);
const hasMakedumpfile = isInstalled("makedumpfile");
const help = spawnSync(guestcore[0], [...guestcore.slice(1), "--help"], { encoding: "utf8" }).stdout;
const writesKdump = help.includes("--compress");
const makedumpfile = (...args) => ["makedumpfile", "-d", "0", ...args];
const remarks = [];
if (!hasMakedumpfile) remarks.push("makedumpfile: not installed");
if (!writesKdump) remarks.push("ELF to kdump: this guestcore has no --compress");

/** A kdump of the vmcore in each compression that something here writes. */
const inputs = Object.entries(COMPRESSIONS).flatMap(([name, compression]) => {
  const path = file(`${name}.kdump`);
  const by = [
    ...(hasMakedumpfile ? [makedumpfile(compression.option, elf, path)] : []),
    ...(writesKdump ? [[...guestcore, elf, path, "--format", "kdump", "--compress", name]] : []),
  ];
  for (const command of by) {
    rmSync(path, { force: true });
    if (ran(command) && isCompressed(path, compression)) return [{ name, path }];
  }
  remarks.push(`a kdump compressed with ${name}: nothing here writes it`);
  return [];
});

/** What drgn runs: reads every byte of the memory. */
const reader = file("read.py");
writeFileSync(
  reader,
  `for start, size in ${JSON.stringify(memoryOf(elf).map(({ address, size }) => [address, size]))}:
    for at in range(start, start + size, 1 << 20):
        prog.read(at, min(1 << 20, start + size - at), physical=True)
`,
);

const groups = [
  ...inputs.map(({ name, path }) => ({
    title: `${name} kdump to ELF`,
    check: () => sameMemory(elf, out),
    ours: [...guestcore, path, out],
    peer: hasMakedumpfile && {
      name: "makedumpfile, to an uncompressed kdump",
      command: makedumpfile(path, out),
    },
  })),
  ...(writesKdump
    ? Object.entries(COMPRESSIONS).map(([name, compression]) => ({
        title: `ELF to ${name} kdump`,
        check: () => isCompressed(out, compression),
        ours: [...guestcore, elf, out, "--format", "kdump", "--compress", name],
        peer: hasMakedumpfile && {
          name: `makedumpfile ${compression.option}`,
          command: makedumpfile(compression.option, elf, out),
          remark: () => (isCompressed(out, compression) ? "" : ", which wrote uncompressed pages"),
        },
      }))
    : []),
  ...(hasMakedumpfile ? [flattened("ELF", "-E"), flattened("lzo kdump", "-l")] : []),
  ...inputs.map(({ name, path }) => ({
    title: `all of a ${name} kdump read`,
    ours: shell(`${quoted([...guestcore, path, "-"])} >/dev/null`),
    peer: isInstalled("drgn") && { name: "drgn", command: ["drgn", "-q", "-c", path, reader] },
  })),
];
if (!isInstalled("drgn")) remarks.push("drgn: not installed");

function flattened(name, option) {
  const path = file(`${option.slice(1)}.flat`);
  const plain = file("plain");
  if (!ran(shell(`${quoted(makedumpfile("-F", option, elf))} >'${path}'`)))
    throw new Error("makedumpfile -F failed");
  const rearranged = (target) => `makedumpfile -R '${target}' <'${path}'`;
  // It does not decompress while it rearranges.
  const both = `rm -f '${plain}' && ${rearranged(plain)} && ${quoted(makedumpfile(plain, out))}`;
  return {
    title: `flattened ${name} to ELF`,
    check: () => sameMemory(elf, out),
    ours: [...guestcore, path, out],
    peer:
      option === "-E"
        ? { name: "makedumpfile -R", command: shell(rearranged(out)) }
        : { name: "makedumpfile -R, then to an uncompressed kdump", command: shell(both) },
  };
}

/** Each side's runs; undefined where it fails. */
function run({ title, ours, peer, check }) {
  const samples = { ours: [], peer: [] };
  let remark = "";
  for (let round = 0; round < Number(values.runs); round++) {
    rmSync(out, { force: true });
    const sample = measure(ours);
    if (sample === undefined || (round === 0 && check !== undefined && !check())) {
      throw new Error(`${title}: ${ours.join(" ")} failed, or wrote something else`);
    }
    samples.ours.push(sample);
    if (!peer || samples.peer === undefined) continue;
    rmSync(out, { force: true });
    const theirs = measure(peer.command);
    remark = theirs === undefined ? ", which cannot" : (peer.remark?.() ?? "");
    if (theirs === undefined) samples.peer = undefined;
    else samples.peer.push(theirs);
  }
  return { ...samples, remark };
}

const rows = [["", "wall s", "CPU s", "RSS MiB", "MiB/s", "wall ratio", "CPU ratio"]];
const warnings = [];
for (const group of groups.filter(({ title }) => title.includes(values.only))) {
  const { ours, peer, remark } = run(group);
  const of = (samples, key) => median(samples.map((sample) => sample[key]));
  const cells = (samples) => [
    of(samples, "wall").toFixed(2),
    of(samples, "cpu").toFixed(2),
    of(samples, "rss").toFixed(0),
    (size / MIB / of(samples, "wall")).toFixed(0),
  ];
  const hasPeer = group.peer && peer !== undefined;
  const ratio = (key) => (hasPeer ? (of(ours, key) / of(peer, key)).toFixed(2) : "–");
  rows.push([group.title, ...cells(ours), ratio("wall"), ratio("cpu")]);
  if (group.peer)
    rows.push([`  ${group.peer.name}${remark}`, ...(hasPeer ? cells(peer) : ["–", "–", "–", "–"]), "", ""]);
  if (hasPeer && of(ours, "wall") > of(peer, "wall"))
    warnings.push(`${group.title}: ${ratio("wall")} times the peer's time`);
  const rss = Math.max(...ours.map((sample) => sample.rss));
  if (rss >= MAX_RSS) warnings.push(`${group.title}: ${rss.toFixed(0)} MiB of memory`);
}

console.log(
  `${positionals[0] ?? "a vmcore"} of ${(statSync(elf).size / MIB).toFixed(0)} MiB; median of ${values.runs} alternating runs; files in ${folder}`,
);
for (const remark of remarks) console.log(remark);
console.log(table(rows));
console.log(`aim: wall ratio <= 1, RSS < ${MAX_RSS} MiB`);
for (const warning of warnings) console.warn(`warning: ${warning}`);
