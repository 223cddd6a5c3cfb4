import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { dirname, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { Qmp } from "./qmp.ts";
import { runWell } from "./tools.ts";

const EMULATOR = "qemu-system-x86_64";
/** What a guest that loads a kdump kernel, and crashes when it is told to, takes beside the laboratory. */
export const kdumpTools = [EMULATOR, "kexec", "busybox", "cpio", "gzip", "ldd"];

/** Dumps of one machine: at rest, and while its kdump kernel runs. */
export interface KdumpGuest {
  readonly steady: string;
  readonly crashed: string;
}

/** First process of both kernels; it speaks on ttyS1 and listens there. */
const INIT = `#!/bin/busybox sh
bb=/bin/busybox
$bb mkdir -p /proc /sys /dev
$bb mount -t proc proc /proc
$bb mount -t sysfs sysfs /sys
$bb mount -t devtmpfs dev /dev
exec >/dev/ttyS1 2>&1 </dev/ttyS1
if $bb grep -q elfcorehdr= /proc/cmdline; then
  echo IN KDUMP
  while :; do $bb sleep 1000; done
fi
/gc-spin &
/sbin/kexec -c -p /vmlinuz --initrd=/initrd.gz \\
  --command-line="console=ttyS0 tsc=unstable clocksource=jiffies nr_cpus=1 irqpoll reset_devices" || echo FAILED
echo STEADY
read go
echo c >/proc/sysrq-trigger
`;

/**
 * Boots a kernel without KASLR (makedumpfile wants a KASLR kernel to lie far from where it was linked), dumps it, has
 * it crash into its kdump kernel and dumps it again.
 * @param lab a Linux guest of the laboratory, whose kernel and programs are taken
 */
export async function bootKdumpGuest(lab: { readonly dump: string }, place: string): Promise<KdumpGuest> {
  const parts = dirname(lab.dump);
  const tree = join(place, "initramfs");
  mkdirSync(join(tree, "sbin"), { recursive: true });
  runWell("cp", ["-a", join(parts, "initramfs/bin"), join(parts, "initramfs/gc-spin"), tree]);
  runWell(
    "sh",
    [
      "-c",
      `kexec=$(command -v kexec) && cp "$kexec" sbin/ && for lib in $(ldd "$kexec" | grep -o '/[^ ]*'); do cp -L --parents "$lib" .; done`,
    ],
    { cwd: tree },
  );
  writeFileSync(join(tree, "init"), INIT, { mode: 0o755 });
  const pack = (out: string) =>
    runWell("sh", ["-c", `find . | cpio -o -H newc --quiet | gzip -1 >"${out}"`], { cwd: tree });
  pack(join(place, "inner.gz"));
  runWell("cp", [join(parts, "vmlinuz"), join(tree, "vmlinuz")]);
  runWell("mv", [join(place, "inner.gz"), join(tree, "initrd.gz")]);
  pack(join(place, "outer.gz"));
  const qemu = spawn(
    EMULATOR,
    [
      ...["-accel", "tcg,tb-size=64", "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"],
      ...["-machine", "q35", "-cpu", "qemu64", "-m", "448M", "-smp", "2"],
      ...["-serial", "file:console.log", "-qmp", "unix:qmp.sock,server=on,wait=off"],
      ...["-chardev", "socket,id=second,path=second.sock,server=on,wait=on"],
      ...["-device", "isa-serial,index=1,chardev=second"],
      ...["-kernel", join(parts, "vmlinuz"), "-initrd", "outer.gz"],
      ...["-append", "console=ttyS0 tsc=unstable clocksource=jiffies panic=-1 nokaslr crashkernel=160M"],
    ],
    { cwd: place, stdio: "ignore" },
  );
  try {
    return await dumpTwice(qemu, place);
  } finally {
    qemu.kill("SIGKILL");
  }
}

async function dumpTwice(qemu: ChildProcess, place: string): Promise<KdumpGuest> {
  const guest = await speaking(join(place, "second.sock"));
  const qmp = await Qmp.open(join(place, "qmp.sock"));
  const dump = async (name: string): Promise<string> => {
    await qmp.command("stop");
    const path = join(place, `${name}.elf`);
    await qmp.command("dump-guest-memory", { paging: false, protocol: `file:${path}` });
    return path;
  };
  const appears = async (text: string) => {
    for (const limit = performance.now() + 240_000; !guest.said().includes(text); await sleep(250)) {
      if (qemu.exitCode === null && performance.now() < limit) continue;
      throw new Error(
        `no ${text}: ${guest.said()}${readFileSync(join(place, "console.log"), "latin1").slice(-800)}`,
      );
    }
  };
  await appears("STEADY");
  const steady = await dump("steady");
  await qmp.command("cont");
  guest.say("go\n");
  await appears("IN KDUMP");
  const crashed = await dump("crashed");
  qmp.close();
  return { steady, crashed };
}

/** The guest's second serial line. */
async function speaking(path: string) {
  for (let attempt = 0; ; attempt++) {
    const socket = connect(path);
    try {
      await once(socket, "connect");
      let text = "";
      socket.on("data", (bytes) => {
        text += bytes.toString("latin1");
      });
      return { said: () => text, say: (line: string) => socket.write(line) };
    } catch (error) {
      socket.destroy();
      if (attempt >= 100) throw error;
      await sleep(100);
    }
  }
}
