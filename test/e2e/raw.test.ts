import { type ChildProcess, spawn } from "node:child_process";
import { closeSync, ftruncateSync, mkdtempSync, openSync, rmSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, describe, expect } from "vitest";
import { Qmp } from "./qmp.ts";
import { guestcore, testWith } from "./tools.ts";
import { compareMemory, VmcoreFile } from "./vmcore-file.ts";

/** Memory files of QEMU, whose layout its own monitor knows. */
const folder = mkdtempSync(join(tmpdir(), "guestcore-raw-"));
const running = new Set<ChildProcess>();
afterAll(() => {
  for (const qemu of running) qemu.kill("SIGKILL");
  rmSync(folder, { recursive: true, maxRetries: 5 });
});

const MIB = 2 ** 20;
const QEMU = "qemu-system-x86_64";

/** A machine whose RAM is a shared file, which keeps what it held before. */
async function start(machine: string, ram: string, size: number, ...more: string[]): Promise<Qmp> {
  const socket = join(folder, `${running.size}.sock`);
  const qemu = spawn(
    QEMU,
    [
      ...["-machine", `${machine},memory-backend=ram`, "-accel", "tcg,tb-size=16", "-m", `${size / MIB}M`],
      ...["-object", `memory-backend-file,id=ram,size=${size / MIB}M,share=on,mem-path=${ram}`],
      ...["-nodefaults", "-no-user-config", "-display", "none", "-qmp", `unix:${socket},server=on,wait=off`],
      ...more,
    ],
    { stdio: "ignore" },
  );
  running.add(qemu);
  return await Qmp.open(socket);
}

function convert(image: string, map: string): VmcoreFile {
  const out = `${image}.vmcore`;
  const { status, stdout, stderr } = guestcore("convert", image, out, "--map", map, "--force");
  if (status !== 0) throw new Error(`convert --map ${map}: exit status ${status}\n${stdout}${stderr}`);
  return new VmcoreFile(out);
}

describe.each(["pc", "q35"])("the memory file of a small %s that ran its firmware", (machine) => {
  testWith([QEMU], "is what QEMU dumps, but for what is not RAM", async () => {
    const ram = join(folder, `${machine}.small`);
    const qmp = await start(machine, ram, 32 * MIB);
    await sleep(5000);
    await qmp.command("stop");
    await qmp.command("dump-guest-memory", { paging: false, protocol: `file:${ram}.dump` });
    const truth = new VmcoreFile(`${ram}.dump`);
    const file = convert(ram, machine);
    await qmp.command("quit").catch(() => undefined);
    qmp.close();
    const { different, absent, beyond, compared, zero, pages } = compareMemory(truth, file);
    truth.close();
    file.close();
    // The firmware at the end of 4 GiB is in a file of its own.
    expect(absent.every((address) => address >= 0xfffc0000)).toBe(true);
    // What the chipset shows there instead of RAM: option ROMs and the firmware's copy.
    expect(different.every((address) => address >= 0xc0000 && address < 0x100000)).toBe(true);
    expect(beyond).toEqual([]);
    expect(compared).toBe((32 * MIB) / 4096);
    expect(zero).toBeLessThan(pages - 50);
  });
});

describe.each([
  ["pc", 3 * 1024, 3 * 1024],
  ["pc", 5 * 1024, 3 * 1024],
  ["q35", 2560, 2560],
  ["q35", 5 * 1024, 2 * 1024],
  ["microvm", 5 * 1024, 3 * 1024],
])("the memory file of a %s with %d MiB of RAM", (machine, mebibytes, low) => {
  testWith([QEMU], `lies where QEMU has it: ${low} MiB of it below 4 GiB`, async () => {
    const ram = join(folder, `${machine}.${mebibytes}`);
    const size = mebibytes * MIB;
    const offsets = [
      MIB,
      2048 * MIB - 4096,
      2048 * MIB,
      2304 * MIB,
      3072 * MIB - 4096,
      3072 * MIB,
      4096 * MIB,
      size - 4096,
    ];
    const marks = [...new Set(offsets)].filter((offset) => offset < size);
    const fd = openSync(ram, "w");
    ftruncateSync(fd, size);
    for (const offset of marks)
      writeSync(fd, Buffer.from(`MARK${String(offset).padStart(12, "0")}`), 0, 16, offset);
    closeSync(fd);
    const file = convert(ram, machine);
    const qmp = await start(machine, ram, size, "-S");
    const page = Buffer.alloc(4096);
    let found = 0;
    for (const { paddr, filesz, offset } of file.loads) {
      for (const mark of marks) {
        const address = mark < low * MIB ? mark : mark - low * MIB + 2 ** 32;
        if (address < paddr || address >= paddr + filesz) continue;
        file.read(page, offset + address - paddr);
        expect(page.toString("latin1", 0, 16)).toBe(`MARK${String(mark).padStart(12, "0")}`);
        const shown = await qmp.monitor(`xp /16bx 0x${address.toString(16)}`);
        const bytes = [...shown.matchAll(/0x([0-9a-f]{2})\b/g)].map(([, byte]) => Number.parseInt(byte!, 16));
        expect(Buffer.from(bytes).toString("latin1")).toBe(page.toString("latin1", 0, 16));
        found++;
      }
    }
    await qmp.command("quit").catch(() => undefined);
    qmp.close();
    expect(found).toBe(marks.length);
    expect(file.loads.reduce((total, { filesz }) => total + filesz, 0)).toBe(size);
    file.close();
    rmSync(file.path);
    rmSync(ram);
  });
});
