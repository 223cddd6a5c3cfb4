import { type ChildProcess, spawn } from "node:child_process";
import { closeSync, existsSync, mkdirSync, openSync, readFileSync, rmSync } from "node:fs";
import { dirname, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { LabGuest } from "./lab.ts";
import { Qmp } from "./qmp.ts";
import { runWell } from "./tools.ts";

/** One guest that is saved in one way. */
export interface SaveRecipe {
  readonly name: string;
  readonly qemu: readonly string[];
  /** Migration capabilities to set. */
  readonly capabilities?: readonly string[];
  /** Into a file with room in front, instead of through a pipe. */
  readonly offset?: number;
  /** While it runs: pages come more than once. */
  readonly live?: boolean;
  /** The first release of QEMU that can. */
  readonly since?: number;
  /** The last release of QEMU that can. */
  readonly until?: number;
}

/** A guest's migration stream, and QEMU's own dump of it in the same moment. */
export interface Saved {
  readonly stream: string;
  readonly dump: string;
  remove(): void;
}

/** Where a guest of the laboratory lies, and the root folder that its QEMU runs in. */
function placeOf({ dump }: LabGuest): { readonly root: string | undefined; readonly folder: string } {
  const folder = dirname(dump);
  const at = folder.indexOf("/guestcore-lab/");
  return { root: at < 0 ? undefined : folder.slice(0, at), folder };
}

/** Boots the kernel of a Linux guest of the laboratory anew, in another machine, and saves it. */
export async function saveGuest(guest: LabGuest, recipe: SaveRecipe): Promise<Saved> {
  const { root, folder } = placeOf(guest);
  const place = join(folder, `saved-${recipe.name}`);
  rmSync(place, { recursive: true, force: true });
  mkdirSync(place);
  const qemu = start(place, root, recipe);
  try {
    const file = (name: string) => join(place, name);
    await appears(file("guest.log"), "READY", qemu);
    await sleep(1000);
    const qmp = await Qmp.open(`/proc/${qemu.pid}/cwd/qmp.sock`);
    await (recipe.live === true ? saveLive(qmp, recipe, place) : saveStopped(qmp, recipe, place));
    qmp.close();
    return {
      stream: file("stream"),
      dump: file("dump.elf"),
      remove: () => rmSync(place, { recursive: true }),
    };
  } catch (error) {
    rmSync(place, { recursive: true, force: true });
    throw error;
  } finally {
    qemu.kill("SIGKILL");
  }
}

function start(place: string, root: string | undefined, recipe: SaveRecipe): ChildProcess {
  const inside = root === undefined ? place : place.slice(root.length);
  const command = [
    ...["/bin/sh", "-c", 'cd "$0" && exec "$@"', inside],
    ...["/usr/bin/qemu-system-x86_64", "-accel", "tcg,tb-size=32"],
    ...["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"],
    ...["-serial", "file:console.log", "-qmp", "unix:qmp.sock,server=on,wait=off"],
    ...["-chardev", "file,id=second,path=guest.log", "-device", "isa-serial,index=1,chardev=second"],
    ...["-kernel", "../vmlinuz", "-initrd", "../initramfs.gz", "-cpu", "qemu64", "-smp", "2"],
    ...["-append", "console=ttyS0 tsc=unstable clocksource=jiffies panic=-1"],
    ...recipe.qemu,
  ];
  const [program, ...args] = root === undefined ? command : ["chroot", root, ...command];
  const said = openSync(join(place, "qemu.log"), "w");
  const qemu = spawn(program!, args, { stdio: ["ignore", said, said] });
  closeSync(said);
  return qemu;
}

async function appears(path: string, text: string, qemu: ChildProcess): Promise<void> {
  const limit = performance.now() + 180_000;
  while (!(existsSync(path) && readFileSync(path, "latin1").includes(text))) {
    if (qemu.exitCode !== null || performance.now() > limit) throw new Error(`no ${text} in ${path}`);
    await sleep(250);
  }
}

async function saveStopped(qmp: Qmp, recipe: SaveRecipe, place: string): Promise<void> {
  await qmp.command("stop");
  await dump(qmp, place);
  await migrate(qmp, recipe);
  await finished(qmp);
}

/** Slowly, so that it takes several rounds. */
async function saveLive(qmp: Qmp, recipe: SaveRecipe, place: string): Promise<void> {
  await qmp.command("migrate-set-parameters", { "max-bandwidth": 20_000_000, "downtime-limit": 1 });
  await migrate(qmp, recipe);
  await sleep(12_000);
  await qmp.command("stop");
  await qmp.command("migrate-set-parameters", { "max-bandwidth": 10_000_000_000 });
  await finished(qmp);
  await dump(qmp, place);
}

async function migrate(qmp: Qmp, { capabilities = [], offset }: SaveRecipe): Promise<void> {
  const list = capabilities.map((capability) => ({ capability, state: true }));
  await qmp.command("migrate-set-capabilities", { capabilities: list });
  const uri = offset === undefined ? "exec:cat > stream" : `file:stream,offset=${offset}`;
  await qmp.command("migrate", { uri });
}

async function finished(qmp: Qmp): Promise<void> {
  for (let i = 0; i < 600; i++) {
    const { status } = (await qmp.command("query-migrate")) as { status: string };
    if (status === "completed") return;
    if (status === "failed") throw new Error("the migration failed");
    await sleep(200);
  }
  throw new Error("the migration did not end");
}

/** Through a pipe that makes the file sparse: QEMU writes every page of zeros. */
async function dump(qmp: Qmp, place: string): Promise<void> {
  runWell("mkfifo", [join(place, "dump.fifo")]);
  const output = `of=${join(place, "dump.elf")}`;
  const options = ["bs=64k", "conv=sparse", "iflag=fullblock", "status=none"];
  const dd = spawn("dd", [`if=${join(place, "dump.fifo")}`, output, ...options], { stdio: "inherit" });
  const ended = new Promise((resolve) => dd.once("exit", resolve));
  await qmp.command("dump-guest-memory", { paging: false, protocol: "file:dump.fifo" });
  await ended;
}
