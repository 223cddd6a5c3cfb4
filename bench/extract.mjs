// npm run bench [-- CORE] [--dir FOLDER] [--mib N] [--runs N]: what `extract` costs beside `cp --sparse=always` of the
// same memory. Without CORE, QEMU makes one: a boot sector fills N MiB of guest RAM (2560) with zero, repetitive and
// random pages, and the kernel (or gdb) takes a core of it. GUESTCORE_BENCH_CORE names a core too. FOLDER holds all
// files, four times the guest's RAM; a tmpfs, the default where one has room, takes the disk out of the figures.
//
// Against QEMU's dump-guest-memory.py, where its symbols can be had: GUESTCORE_BENCH_QEMU_SCRIPT names the script, and
// GUESTCORE_BENCH_QEMU_SYMBOLS the qemu-system-x86_64 with debug information that made the core.
import { spawn, spawnSync } from "node:child_process";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statfsSync,
  statSync,
  truncateSync,
} from "node:fs";
import { freemem, tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";

const repository = resolve(import.meta.dirname, "..");
const guestcore = [process.execPath, join(repository, "bin/guestcore.js"), "extract", "--progress", "none"];
const WARN_CPU = 1.6;
const AIM = { cpu: 1.4, wall: 1.0, rss: 256 };

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    dir: { type: "string" },
    mib: { type: "string", default: "2560" },
    runs: { type: "string", default: "5" },
  },
});
const place = values.dir ?? roomy("/dev/shm", Number(values.mib)) ?? tmpdir();
mkdirSync(place, { recursive: true });
const folder = mkdtempSync(join(place, "guestcore-bench-"));
const file = (name) => join(folder, name);
let qemu;
process.once("exit", () => {
  qemu?.kill("SIGKILL");
  rmSync(folder, { recursive: true, force: true });
});
for (const signal of ["SIGINT", "SIGTERM"]) process.once(signal, () => process.exit(1));

/** The tmpfs, when it and the machine's memory hold all files. */
function roomy(path, mib) {
  if (!isTmpfs(path)) return undefined;
  const { bavail, bsize } = statfsSync(path);
  return Math.min(bavail * bsize, freemem()) > 4.5 * mib * 2 ** 20 ? path : undefined;
}

function isTmpfs(path) {
  return existsSync(path) && statfsSync(path).type === 0x01021994;
}

/** Runs a program and stops the bench when it fails. */
function must(command, args, options = {}) {
  const ran = spawnSync(command, args, { stdio: ["ignore", "pipe", "pipe"], encoding: "utf8", ...options });
  if (ran.status === 0) return ran;
  console.error(`${command} ${args.join(" ")}: ${ran.error?.message ?? ran.stderr}`);
  process.exit(1);
}

/** A core of QEMU whose guest has written all of its RAM; undefined, with the reason, when it cannot be made. */
async function makeCore(mib) {
  const absent = ["qemu-system-x86_64", "as", "ld"].filter((tool) => spawnSync(tool, ["--version"]).error);
  if (absent.length > 0) {
    console.log(`no core given and none can be made: not installed: ${absent.join(", ")}`);
    return undefined;
  }
  const low = Math.min(mib, 2048);
  const symbols = ["--defsym", `LOW_MIB=${low}`, "--defsym", `HIGH_MIB=${mib - low}`];
  const source = join(repository, "test/e2e/guest/nano.S");
  must("as", [...symbols, "-o", "nano.o", source], { cwd: folder });
  must("ld", ["-Ttext", "0x7c00", "--oformat", "binary", "-o", "nano.img", "nano.o"], { cwd: folder });
  truncateSync(file("nano.img"), 1 << 20);
  const machine = [
    "-machine",
    "q35,max-ram-below-4g=2G",
    "-cpu",
    "max",
    "-m",
    `${mib}M`,
    "-accel",
    "tcg,tb-size=16",
  ];
  const bare = ["-nodefaults", "-no-user-config", "-display", "none", "-serial", "file:console.log"];
  const disk = ["-drive", "file=nano.img,format=raw,if=ide"];
  const shell = ["-c", 'ulimit -c unlimited; exec qemu-system-x86_64 "$@"', "sh"];
  qemu = spawn("sh", [...shell, ...machine, ...bare, ...disk], { cwd: folder, stdio: "ignore" });
  const said = () => (existsSync(file("console.log")) ? readFileSync(file("console.log"), "latin1") : "");
  for (let waited = 0; !said().includes("READY"); waited++) {
    if (qemu.exitCode !== null || waited > 1200) {
      console.log("no core given and none can be made: QEMU did not fill its memory");
      return undefined;
    }
    await sleep(250);
  }
  const name = kernelCore() ? await abort() : attach();
  qemu.kill("SIGKILL");
  if (name === undefined) {
    console.log("no core given and none can be made: neither the kernel nor gdb wrote one");
    return undefined;
  }
  renameSync(file(name), file("core"));
  return file("core");
}

/** Whether the kernel writes cores where their process stands. */
function kernelCore() {
  return !/[|/]/.test(readFileSync("/proc/sys/kernel/core_pattern", "utf8"));
}

async function abort() {
  const ended = new Promise((done) => qemu.once("exit", done));
  qemu.kill("SIGABRT");
  await ended;
  return readdirSync(folder).find((name) => name.startsWith("core"));
}

function attach() {
  const commands = ["-iex", "set debuginfod enabled off", "-ex", `gcore ${file("core.gdb")}`];
  spawnSync("gdb", ["-nx", "-batch", "-p", String(qemu.pid), ...commands], { stdio: "ignore" });
  return existsSync(file("core.gdb")) ? "core.gdb" : undefined;
}

function bench(path, runs) {
  // The RAM alone, without holes: what a copy has to read and to test for zeros, as extract does.
  must(guestcore[0], [...guestcore.slice(1), path, "-o", file("sparse.raw"), "--format", "raw", "--quiet"]);
  const ranges = JSON.parse(must(guestcore[0], [...guestcore.slice(1), path, "--dry-run", "--json"]).stdout);
  const ram = file("ram");
  for (const [index, { start, end }] of ranges.result.ranges.entries()) {
    const at = index === 0 ? [] : ["conv=notrunc", "oflag=append"];
    const slice = ["iflag=skip_bytes,count_bytes", `skip=${start}`, `count=${end - start}`, ...at];
    must("dd", [`if=${file("sparse.raw")}`, `of=${ram}`, "bs=1M", ...slice]);
  }
  rmSync(file("sparse.raw"));

  const out = file("out");
  const synced = 'cp --sparse=always "$0" "$1" && sync "$1"';
  const jobs = [
    { name: "cp --sparse=always of the RAM", command: ["cp", "--sparse=always", ram, out] },
    { name: "guestcore extract", command: [...guestcore, path, "-o", out, "--quiet"] },
    // extract gives its file to the disk before it ends, cp does not.
    ...(isTmpfs(folder)
      ? []
      : [{ name: "cp, then sync of its file", command: ["sh", "-c", synced, ram, out] }]),
    ...peer(path, out),
  ];
  const samples = jobs.map(() => []);
  for (let run = -1; run < runs; run++) {
    for (const [index, { command }] of jobs.entries()) {
      rmSync(out, { force: true });
      const sample = measure(command);
      if (run >= 0) samples[index].push(sample); // the first round warms the page cache
    }
  }
  report(path, ram, jobs, samples);
}

/** QEMU's own script under gdb, when it and QEMU's symbols are at hand. */
function peer(path, out) {
  const { GUESTCORE_BENCH_QEMU_SCRIPT: script, GUESTCORE_BENCH_QEMU_SYMBOLS: symbols } = process.env;
  if (script === undefined || symbols === undefined) {
    console.log("QEMU's dump-guest-memory.py: not available (no script and symbols named)");
    return [];
  }
  const commands = ["-ex", `source ${script}`, "-ex", `dump-guest-memory ${out} X86_64`];
  const gdb = ["gdb", "-nx", "-batch", "-iex", "set debuginfod enabled off", symbols, path];
  return [{ name: "dump-guest-memory.py under gdb", command: [...gdb, ...commands] }];
}

// wait4() tells what Node does not: CPU time and peak memory of one child, all of its threads.
const meter = `
import os, sys, time
started = time.monotonic()
pid = os.posix_spawnp(sys.argv[1], sys.argv[1:], os.environ, file_actions=[(os.POSIX_SPAWN_OPEN, 1, "/dev/null", os.O_WRONLY, 0)])
_, status, usage = os.wait4(pid, 0)
wall = time.monotonic() - started
print(os.waitstatus_to_exitcode(status), wall, usage.ru_utime, usage.ru_stime, usage.ru_maxrss)
`;

function measure(command) {
  const { stdout } = must("python3", ["-c", meter, ...command]);
  const [status, wall, user, system, rss] = stdout.trim().split(" ").map(Number);
  if (status !== 0) {
    console.error(`${command.join(" ")}: exit status ${status}`);
    process.exit(1);
  }
  return { wall, cpu: user + system, rss: rss / 1024 };
}

function median(numbers) {
  const sorted = numbers.toSorted((left, right) => left - right);
  return (sorted[(sorted.length - 1) >> 1] + sorted[sorted.length >> 1]) / 2;
}

function report(path, ram, jobs, samples) {
  const of = (index, key) => median(samples[index].map((sample) => sample[key]));
  const mib = (bytes) => `${Math.round(bytes / 2 ** 20)} MiB`;
  const [coreFile, ramFile] = [statSync(path), statSync(ram)];
  console.log(
    `core ${mib(coreFile.size)}, ${mib(coreFile.blocks * 512)} on disk; guest RAM ${mib(ramFile.size)}`,
  );
  console.log(`median of ${samples[0].length} alternating runs; files in ${folder}`);
  console.log("                                   CPU s   wall s   RSS MiB   CPU ratio   wall ratio");
  for (const [index, { name }] of jobs.entries()) {
    const [cpu, wall, rss] = [of(index, "cpu"), of(index, "wall"), of(index, "rss")];
    const cells = [cpu.toFixed(2).padStart(8), wall.toFixed(2).padStart(9), rss.toFixed(0).padStart(10)];
    const ratios = [
      (cpu / of(0, "cpu")).toFixed(2).padStart(12),
      (wall / of(0, "wall")).toFixed(2).padStart(13),
    ];
    console.log(`${name.padEnd(32)}${cells.join("")}${ratios.join("")}`);
  }
  console.log(`aim: CPU ratio <= ${AIM.cpu}, wall ratio <= ${AIM.wall.toFixed(1)}, RSS < ${AIM.rss} MiB`);
  const ratio = of(1, "cpu") / of(0, "cpu");
  if (ratio > WARN_CPU) console.warn(`warning: extract takes ${ratio.toFixed(2)} times the CPU of cp`);
  if (of(1, "rss") >= AIM.rss) console.warn(`warning: extract used ${of(1, "rss").toFixed(0)} MiB of memory`);
}

const given = positionals[0] ?? process.env.GUESTCORE_BENCH_CORE;
const core = given === undefined ? await makeCore(Number(values.mib)) : resolve(given);
if (core !== undefined) bench(core, Number(values.runs));
