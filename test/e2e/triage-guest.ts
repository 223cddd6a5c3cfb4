import { type ChildProcess, spawn } from "node:child_process";
import {
  appendFileSync,
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { gzipSync } from "node:zlib";
import type { Kernel } from "./lab-kernel.ts";
import { Qmp, type QmpMessage } from "./qmp.ts";
import { runWell } from "./tools.ts";

/** What all machines share. */
export interface Bench {
  readonly kernel: Kernel;
  /** Programs and modules, as the beginning of an initramfs. */
  readonly tree: Buffer;
  /** Folder of it all: `vms/NAME` has what a machine leaves, `work/NAME` what it is made of. */
  readonly folder: string;
}

/** A machine that fails, or does not, and what whoever runs it does meanwhile. */
export interface Failing {
  readonly name: string;
  /** What this machine must have. */
  readonly needs?: "core" | "ovmf" | "kexec";
  /** What the first process runs, a shell's words; where there are none and nothing in `append`, there is no Linux. */
  readonly deed?: string;
  /** More of the kernel's command line. */
  readonly append?: string;
  /** More of QEMU's command line, which runs in the machine's place. */
  readonly qemu?: readonly string[] | ((work: string) => readonly string[]);
  /** MiB of memory, 144 where it does not matter. */
  readonly memory?: number;
  /** Lays down what QEMU is to find in `place`, and the guest at `/`, from `files`. */
  readonly before?: (
    where: Bench & { readonly place: string; readonly work: string; readonly files: string },
  ) => void;
  /** What is done from outside; QEMU's end is waited for in any case. */
  readonly host?: (machine: Running) => Promise<void>;
  /** What is left is brought into the shape that people find it in. */
  readonly afterwards?: (place: string, work: string) => void;
  /** QMP as a client may log it: what QEMU says a line each, or both sides with times. */
  readonly log?: "plain" | "transcript";
}

/** What a machine left: QEMU's own word is the truth that reports are held against. */
export interface Left {
  /** Holds console.log, qmp.jsonl, qemu.log and what else the case has QEMU write. */
  readonly place: string;
  readonly work: string;
  /** QEMU's events as they came: `SHUTDOWN guest-panic`, `GUEST_PANICKED pause`, `STOP`. */
  readonly events: readonly string[];
  readonly console: string;
  /** How QEMU ended. */
  readonly ended: number | NodeJS.Signals | null;
}

/** A machine at work. */
export interface Running {
  readonly qmp: Qmp;
  readonly qemu: ChildProcess;
  /** Waits for what the guest writes. */
  readonly says: (text: RegExp) => Promise<void>;
  /** Waits for an event, as in `Left.events`. */
  readonly hears: (event: string) => Promise<void>;
  /** Waits until the human monitor answers so. */
  readonly shows: (command: string, answer: RegExp) => Promise<void>;
}

/** Milliseconds that a machine may take for anything. */
const LIMIT = 120_000;

/** An initramfs whose first process runs that deed. */
export function initramfs(tree: Buffer, deed: string, files: string): Buffer {
  mkdirSync(files, { recursive: true });
  writeFileSync(join(files, "deed"), `${deed}\n`);
  return Buffer.concat([tree, gzipSync(packed(files), { level: 1 })]);
}

/** A folder as a cpio archive. */
export function packed(folder: string): Buffer {
  const out = `${folder}.cpio`;
  runWell("sh", ["-c", `find . | cpio -o -H newc --quiet >"${out}"`], { cwd: folder });
  return readFileSync(out);
}

const running = new Set<ChildProcess>();
process.once("exit", () => {
  for (const qemu of running) qemu.kill("SIGKILL");
});

/** Runs a machine until its QEMU ends. @throws Error when it does not do what its case is for */
export async function runMachine(failing: Failing, bench: Bench): Promise<Left> {
  const { name, host, afterwards, log = "plain" } = failing;
  const [place, work] = ["vms", "work"].map((part) => join(bench.folder, part, name)) as [string, string];
  for (const folder of [place, work]) {
    rmSync(folder, { recursive: true, force: true });
    mkdirSync(folder, { recursive: true });
  }
  const socket = join(work, "qmp.sock");
  const qemu = startQemu(commandLine(failing, bench, { place, work, socket }), place);
  const isOver = () => qemu.exitCode !== null || qemu.signalCode !== null;
  const events: string[] = [];
  const started = performance.now();
  const console = () => textIn(join(place, "console.log"));
  const until = async (what: unknown, isThere: () => boolean | Promise<boolean>): Promise<void> => {
    for (const limit = performance.now() + LIMIT; ; await sleep(100)) {
      const [wasOver, isThereNow] = [isOver(), await isThere()];
      if (isThereNow) return;
      if (!wasOver && performance.now() < limit) continue;
      const said = [textIn(join(place, "qemu.log")), events.join(", "), console().slice(-1500)].join("\n");
      throw new Error(`${name}: no ${what}, ${wasOver ? "QEMU ended" : "too late"}: ${said}`);
    }
  };
  let qmp: Qmp | undefined;
  try {
    qmp = await Qmp.open(socket, (direction, message) => {
      if ("event" in message) events.push(eventText(message));
      if (log === "plain" && direction === ">") return;
      const t = Number(((performance.now() - started) / 1000).toFixed(6));
      const entry = log === "plain" ? message : { t, dir: direction, msg: message };
      appendFileSync(join(place, "qmp.jsonl"), `${JSON.stringify(entry)}\n`);
    });
    const client = qmp;
    await host?.({
      qmp: client,
      qemu,
      says: (text) => until(text, () => text.test(console())),
      hears: (event) => until(event, () => events.includes(event)),
      shows: (command, answer) => until(answer, async () => answer.test(await client.monitor(command))),
    });
    await until("end", isOver);
  } finally {
    qemu.kill("SIGKILL");
    running.delete(qemu);
    qmp?.close();
  }
  afterwards?.(place, work);
  return { place, work, events, console: console(), ended: qemu.signalCode ?? qemu.exitCode };
}

const textIn = (path: string): string => (existsSync(path) ? readFileSync(path, "latin1") : "");

function commandLine(
  { name, deed, append = "", qemu = [], memory = 144, before }: Failing,
  bench: Bench,
  { place, work, socket }: { readonly place: string; readonly work: string; readonly socket: string },
): string[] {
  const files = join(work, "files");
  mkdirSync(files);
  before?.({ ...bench, place, work, files });
  const linux = ["-kernel", bench.kernel.vmlinuz];
  if (deed !== undefined) {
    writeFileSync(join(work, "initrd"), initramfs(bench.tree, deed, files));
    linux.push("-initrd", join(work, "initrd"));
  }
  linux.push("-append", `console=ttyS0 ignore_loglevel tsc=unstable clocksource=jiffies ${append}`.trim());
  return [
    ...["qemu-system-x86_64", "-name", name, "-accel", "tcg,tb-size=64"],
    ...["-nodefaults", "-no-user-config", "-display", "none", "-m", `${memory}M`],
    ...["-serial", "file:console.log", "-qmp", `unix:${socket},server=on,wait=on`],
    ...(deed === undefined && append === "" ? [] : linux),
    ...(typeof qemu === "function" ? qemu(work) : qemu),
  ];
}

function startQemu(line: readonly string[], place: string): ChildProcess {
  const said = openSync(join(place, "qemu.log"), "w");
  const qemu = spawn("/bin/sh", ["-c", 'ulimit -c unlimited && exec "$@"', "sh", ...line], {
    cwd: place,
    stdio: ["ignore", said, said],
  });
  closeSync(said);
  running.add(qemu);
  return qemu;
}

/** An event and the word that tells it from its like. */
function eventText({ event, data }: QmpMessage): string {
  const { reason, action } = (data ?? {}) as { reason?: string; action?: string };
  return [event, reason ?? action].filter((word) => word !== undefined).join(" ");
}
