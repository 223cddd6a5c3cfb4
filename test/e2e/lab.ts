import { type ChildProcess, spawn } from "node:child_process";
import { createHash } from "node:crypto";
import {
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { basename, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { gzipSync } from "node:zlib";
import { knownRegisters, type Recipe, readiness, recipes } from "./guests.ts";
import { findKernel, labFolder as folder, type Kernel } from "./lab-kernel.ts";
import { Qmp } from "./qmp.ts";
import { parseInfoRegisters } from "./registers.ts";
import { missing, required, run, runWell } from "./tools.ts";

/** A guest that ran, was paused, told what it is, and left cores of its QEMU. Everything is a plain value. */
export interface LabGuest {
  readonly name: string;
  readonly recipe: Recipe;
  /** Version of the QEMU that ran it. */
  readonly qemu: string;
  /** QEMU's own dump of the paused guest: the truth about its memory. */
  readonly dump: string;
  /** `info registers -a` of the paused guest. */
  readonly registers: string;
  /** `info mtree -f` of the paused guest: what lies where. */
  readonly memoryTree: string;
  /** First serial line: the kernel's log. */
  readonly console: string;
  /** Second serial line: what the first process says. */
  readonly guestLog: string;
  readonly vmlinux: string | undefined;
  readonly ramFile: string | undefined;
  readonly cores: ReadonlyArray<{ readonly kind: "gcore" | "kernel"; readonly path: string }>;
}

export interface Lab {
  readonly guests: readonly LabGuest[];
  /** Where results go. */
  readonly results: string;
  /** What could not be built and why. */
  readonly notes: readonly string[];
}

const sources = join(import.meta.dirname, "guest");
const builders = ["qemu-system-x86_64", "gdb", "as", "ld"];

interface Qemu {
  readonly version: string;
  /** Another Debian's root folder, or undefined for this machine's QEMU. */
  readonly root: string | undefined;
}

/**
 * Builds whatever the cache does not have: boots every guest under TCG, pauses it, asks QEMU for the truth, then takes
 * a core with gdb and, by SIGABRT, one from the kernel. The folder is `GUESTCORE_LAB`, `.lab` in the repository by
 * default; `GUESTCORE_E2E_ROOTS` may list root folders of other Debian releases (PATH-like), whose QEMU is tried too.
 */
export async function buildLab(say: (line: string) => void): Promise<Lab> {
  const notes: string[] = [];
  const note = (line: string) => {
    notes.push(line);
    say(line);
  };
  mkdirSync(folder, { recursive: true });
  const results = join(folder, "results");
  rmSync(results, { recursive: true, force: true });
  mkdirSync(results);
  const guests: LabGuest[] = [];
  const absent = missing(builders);
  if (absent.length > 0) {
    note(`no guests: not installed: ${absent.join(", ")}`);
  } else {
    const kernel = findKernel(note);
    await withCorePattern(note, async (kernelCores) => {
      for (const qemu of qemus(note)) {
        for (const recipe of recipes) {
          if (recipe.system === "linux" && kernel === undefined) continue;
          if (qemu.root !== undefined && recipe.everyQemu !== true) continue;
          try {
            guests.push(await cached(recipe, qemu, kernel, kernelCores, say));
          } catch (error) {
            note(`no ${recipe.name} of QEMU ${qemu.version}: ${(error as Error).message}`);
          }
        }
      }
    });
  }
  // A guest that did not boot on a busy machine, or a release that could not be had, is a skipped test with its
  // reason; without a Linux guest and one of the boot sector there is nothing to judge.
  const kinds = new Set(
    guests.map(({ recipe }) => (typeof recipe.system === "string" ? recipe.system : "boot sector")),
  );
  if (required && !(kinds.has("linux") && kinds.has("boot sector")))
    throw new Error(`the laboratory is not enough:\n${notes.join("\n")}`);
  return { guests, results, notes };
}

function qemus(note: (line: string) => void): Qemu[] {
  const roots = (process.env.GUESTCORE_E2E_ROOTS ?? "").split(":").filter((root) => root !== "");
  return [undefined, ...roots].flatMap((root) => {
    const [command, ...args] = inRoot(root, ["/usr/bin/qemu-system-x86_64", "--version"]);
    const ran = run(command!, args);
    const version = /version (\d+\.\d+\.\d+)/.exec(ran.stdout)?.[1];
    if (version === undefined) note(`no QEMU in ${root ?? "/"}: ${ran.stderr.trim()}`);
    return version === undefined ? [] : [{ version, root }];
  });
}

const inRoot = (root: string | undefined, command: readonly string[]): readonly string[] =>
  root === undefined ? command : ["chroot", root, ...command];

/** The kernel writes a core where its process stands only when core_pattern is a plain name. */
async function withCorePattern(note: (line: string) => void, body: (kernelCores: boolean) => Promise<void>) {
  const file = "/proc/sys/kernel/core_pattern";
  const pattern = readFileSync(file, "utf8").trim();
  if (!/[|/]/.test(pattern)) return await body(true);
  try {
    writeFileSync(file, "core");
  } catch {
    note(`no cores from the kernel: core_pattern is "${pattern}" and only root can change it`);
    return await body(false);
  }
  try {
    await body(true);
  } finally {
    writeFileSync(file, pattern);
  }
}

async function cached(
  recipe: Recipe,
  qemu: Qemu,
  kernel: Kernel | undefined,
  kernelCores: boolean,
  say: (line: string) => void,
): Promise<LabGuest> {
  const key = createHash("sha256").update(JSON.stringify([recipe, qemu, kernel?.release, kernelCores]));
  const recipeFiles = [import.meta.filename, ...readdirSync(sources).map((name) => join(sources, name))];
  for (const path of recipeFiles) key.update(readFileSync(path));
  const digest = key.digest("hex");
  const name = `${recipe.name}-qemu${qemu.version}`;
  // A QEMU in another root writes into that root.
  const inside = join(qemu.root === undefined ? folder : "/guestcore-lab", name);
  const place = join(qemu.root ?? "", inside);
  const manifest = join(place, "manifest.json");
  if (existsSync(manifest)) {
    const known = JSON.parse(readFileSync(manifest, "utf8")) as { digest: string; guest: LabGuest };
    if (known.digest === digest) return known.guest;
  }
  const started = performance.now();
  const attempt = () => {
    rmSync(place, { recursive: true, force: true });
    mkdirSync(place, { recursive: true });
    return runGuest({ recipe, qemu, kernel, kernelCores, name, inside, place });
  };
  // Whether a guest boots under emulation on a busy machine is not what is tested here.
  const guest = await attempt().catch((error: Error) => {
    say(`${name}: once more, after ${error.message}`);
    return attempt();
  });
  writeFileSync(manifest, JSON.stringify({ digest, guest }, undefined, 2));
  say(
    `${name}: ${guest.cores.map(({ kind }) => kind).join(", ")} in ${seconds(performance.now() - started)}`,
  );
  return guest;
}

const seconds = (milliseconds: number) => `${(milliseconds / 1000).toFixed(1)} s`;

interface Run {
  readonly recipe: Recipe;
  readonly qemu: Qemu;
  readonly kernel: Kernel | undefined;
  readonly kernelCores: boolean;
  readonly name: string;
  /** The guest's folder as QEMU sees it, and as we do. */
  readonly inside: string;
  readonly place: string;
}

async function runGuest(the: Run): Promise<LabGuest> {
  const { recipe, place, name } = the;
  const file = (leaf: string) => join(place, leaf);
  const qemu = startQemu(the, systemOf(the));
  const { text, line } = readiness(recipe);
  try {
    await appears(file(line === 0 ? "console.log" : "guest.log"), text, qemu);
    await sleep(1000); // what that interrupted comes to rest
    const qmp = await Qmp.open(`/proc/${qemu.pid}/cwd/qmp.sock`);
    writeFileSync(file("registers.txt"), await pauseAtRest(qmp, recipe));
    writeFileSync(file("memory-tree.txt"), await qmp.monitor("info mtree -f"));
    await qmp.command("dump-guest-memory", { paging: false, protocol: "file:dump.elf" });
    qmp.close();
    const gcore = { kind: "gcore", path: takeGcore(qemu, place) } as const;
    const cores = [
      gcore,
      ...(the.kernelCores ? [{ kind: "kernel", path: await abort(qemu, place) } as const] : []),
    ];
    return {
      name,
      recipe,
      qemu: the.qemu.version,
      dump: file("dump.elf"),
      registers: file("registers.txt"),
      memoryTree: file("memory-tree.txt"),
      console: file("console.log"),
      guestLog: file("guest.log"),
      vmlinux: recipe.system === "linux" ? the.kernel?.vmlinux : undefined,
      ramFile: recipe.fileBacked === undefined ? undefined : file("ram.bin"),
      cores,
    };
  } finally {
    qemu.kill("SIGKILL");
    running.delete(qemu);
  }
}

/**
 * Pauses the guest while the values it keeps in its registers can be seen: an interrupt may just be taking that vCPU
 * through the kernel, so it is let go and paused again.
 * @returns `info registers -a`
 */
async function pauseAtRest(qmp: Qmp, recipe: Recipe): Promise<string> {
  const known = knownRegisters(recipe);
  for (let attempt = 0; attempt < 100; attempt++) {
    await qmp.command("stop");
    const text = await qmp.monitor("info registers -a");
    const cpu = known === undefined ? undefined : parseInfoRegisters(text)[known.vcpu];
    if ([...(known?.values ?? [])].every(([name, value]) => cpu?.get(name) === value)) return text;
    await qmp.command("cont");
    await sleep(50);
  }
  throw new Error(`vCPU ${known?.vcpu} never showed the values that the guest puts into its registers`);
}

const running = new Set<ChildProcess>();
process.once("exit", () => {
  for (const qemu of running) qemu.kill("SIGKILL");
});

function startQemu(the: Run, system: readonly string[]): ChildProcess {
  const shell = ["/bin/sh", "-c", 'cd "$0" && ulimit -c unlimited && exec "$@"', the.inside];
  const [command, ...args] = inRoot(the.qemu.root, [
    ...shell,
    ...[
      `/usr/bin/${the.recipe.emulator ?? "qemu-system-x86_64"}`,
      "-name",
      the.name,
      "-accel",
      "tcg,tb-size=16",
    ],
    ...["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"],
    ...["-serial", "file:console.log", "-qmp", "unix:qmp.sock,server=on,wait=off"],
    ...["-chardev", "file,id=second,path=guest.log", "-device", "isa-serial,index=1,chardev=second"],
    ...the.recipe.qemu,
    ...system,
  ]);
  const said = openSync(join(the.place, "qemu.log"), "w");
  const qemu = spawn(command!, args, { stdio: ["ignore", said, said] });
  closeSync(said);
  running.add(qemu);
  return qemu;
}

function systemOf(the: Run): string[] {
  const { system } = the.recipe;
  if (system === "linux") return linuxSystem(the);
  return system === "firmware" ? [] : nanoSystem(system, the.place);
}

function nanoSystem({ low, high }: { low: number; high: number }, place: string): string[] {
  const symbols = ["--defsym", `LOW_MIB=${low}`, "--defsym", `HIGH_MIB=${high}`];
  runWell("as", [...symbols, "-o", "nano.o", join(sources, "nano.S")], { cwd: place });
  runWell("ld", ["-Ttext", "0x7c00", "--oformat", "binary", "-o", "nano.img", "nano.o"], { cwd: place });
  truncateSync(join(place, "nano.img"), 1 << 20); // SeaBIOS does not see an AHCI disk of one sector
  return ["-drive", "file=nano.img,format=raw,if=ide"];
}

function linuxSystem(the: Run): string[] {
  const kernel = the.kernel!;
  const tree = join(the.place, "initramfs");
  mkdirSync(join(tree, "bin"), { recursive: true });
  // The shell knows where busybox is; its own path is what the guest's #! line says.
  runWell("sh", ["-c", 'cp "$(command -v busybox)" bin/busybox'], { cwd: tree });
  runWell("install", ["-m", "755", join(sources, "init"), "init"], { cwd: tree });
  runWell("install", ["-m", "644", kernel.fwCfgModule, "qemu_fw_cfg.ko"], { cwd: tree });
  runWell("as", ["-o", "../spin.o", join(sources, "spin.S")], { cwd: tree });
  runWell("ld", ["-o", "gc-spin", "../spin.o"], { cwd: tree });
  const names = ["bin", "bin/busybox", "gc-spin", "init", "qemu_fw_cfg.ko"].join("\n");
  runWell("sh", ["-c", "cpio -o -H newc >../initramfs.cpio"], { cwd: tree, input: `${names}\n` });
  writeFileSync(join(the.place, "initramfs.gz"), gzipSync(readFileSync(join(the.place, "initramfs.cpio"))));
  runWell("cp", [kernel.vmlinuz, join(the.place, "vmlinuz")]);
  const append = `console=ttyS0 tsc=unstable clocksource=jiffies panic=-1 ${the.recipe.append ?? ""}`.trim();
  return ["-kernel", "vmlinuz", "-initrd", "initramfs.gz", "-append", append];
}

async function appears(path: string, text: string, qemu: ChildProcess): Promise<void> {
  const limit = performance.now() + 120_000;
  const said = () => (existsSync(path) ? readFileSync(path, "latin1") : "");
  while (!said().includes(text)) {
    const ended = qemu.exitCode !== null || qemu.signalCode !== null;
    if (ended || performance.now() > limit) {
      const why = ended ? "QEMU ended, see qemu.log beside it" : "two minutes passed";
      throw new Error(`no ${text} in ${path}: ${why}: ${said().slice(-500)}`);
    }
    await sleep(250);
  }
}

function takeGcore(qemu: ChildProcess, place: string): string {
  const path = join(place, "core.gcore");
  const commands = ["-iex", "set debuginfod enabled off", "-ex", `gcore ${path}`];
  const ran = run("gdb", ["-nx", "-batch", "-p", String(qemu.pid), ...commands], { timeout: 300_000 });
  if (!existsSync(path))
    throw new Error(`gdb wrote no core: ${ran.stdout.slice(-1000)}${ran.stderr.slice(-1000)}`);
  // Two thirds of it are zeros, which a disk need not keep; the kernel's core stays as dense as it was written.
  run("fallocate", ["--dig-holes", path]);
  return path;
}

async function abort(qemu: ChildProcess, place: string): Promise<string> {
  const ended = new Promise((resolve) => qemu.once("exit", resolve));
  qemu.kill("SIGABRT");
  await ended;
  const written = readdirSync(place).find((name) => /^core(?!\.gcore)/.test(basename(name)));
  if (written === undefined) throw new Error(`the kernel wrote no core of ${qemu.pid} into ${place}`);
  const path = join(place, "core.kernel");
  renameSync(join(place, written), path);
  return path;
}
