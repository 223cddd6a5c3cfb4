import { spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { openAnyDump } from "../../src/dump/open.ts";
import { FileSource } from "../../src/io/file.ts";
import { Qmp } from "./qmp.ts";
import { guestcore, missing, run, testWith } from "./tools.ts";

/**
 * Dumps of machines that are no x86-64: the QEMU of each writes ELF and the kdump-compressed format of the same stopped
 * machine. Those that are not installed are skipped, also where other tools are required.
 */
const folder = mkdtempSync(join(tmpdir(), "guestcore-machines-"));
afterAll(() => rmSync(folder, { recursive: true }));
const PAGE = 4096;

/** What the memory begins with at `address`; the rest is as the machine's firmware leaves it. */
const pattern = Buffer.from(Array.from({ length: 64 * PAGE }, (_, i) => (i >>> 12) * 7 + i * 31));

const machines = [
  { target: "s390x", args: ["-M", "s390-ccw-virtio"], address: 0x10_0000, machine: 22, ident: [2, 2] },
  { target: "ppc64", args: ["-M", "pseries"], address: 0x100_0000, machine: 21, ident: [2, 2] },
  { target: "arm", args: ["-M", "virt"], address: 0x4010_0000, machine: 40, ident: [1, 1] },
  {
    target: "aarch64",
    args: ["-M", "virt", "-cpu", "cortex-a57"],
    address: 0x4010_0000,
    machine: 183,
    ident: [2, 1],
  },
  { target: "riscv64", args: ["-M", "virt"], address: 0x8010_0000, machine: 243, ident: [2, 1] },
  { target: "i386", args: ["-M", "pc"], address: 0x10_0000, machine: 3, ident: [2, 1] },
] as const;

describe.each(machines)("a dump of $target", ({ target, args, address, machine, ident }) => {
  const qemu = `qemu-system-${target}`;
  if (missing([qemu]).length > 0) {
    test.skip(`none was taken (not installed: ${qemu})`, () => {});
    return;
  }
  testWith(["readelf"], "is read as the ELF dump of the same machine is, and converted to one", async () => {
    const file = (name: string) => join(folder, `${target}.${name}`);
    writeFileSync(file("pattern"), pattern);
    const loader = `loader,file=${file("pattern")},addr=0x${address.toString(16)},force-raw=on`;
    // QEMUs of other roots have their firmware here.
    const words = [...args, "-m", "256", "-nodefaults", "-display", "none", "-L", "/usr/share/qemu", "-S"];
    words.push("-device", loader);
    const socket = file("qmp");
    const child = spawn(qemu, [...words, "-qmp", `unix:${socket},server=on,wait=off`], { stdio: "ignore" });
    try {
      const qmp = await Qmp.open(socket);
      for (const [format, name] of [
        ["elf", "elf"],
        ["kdump-zlib", "kdump"],
      ]) {
        await qmp.command("dump-guest-memory", { paging: false, format, protocol: `file:${file(name!)}` });
      }
      qmp.close();
    } finally {
      child.kill("SIGKILL");
    }
    expect(guestcore("convert", file("kdump"), file("converted")).status).toBe(0);
    const truth = await contentsOf(file("elf"));
    expect(truth.pages.get(address)).toBe(pattern.subarray(0, PAGE).toString("latin1"));
    for (const name of ["kdump", "converted"]) {
      const found = await contentsOf(file(name));
      expect([name, found.machine, found.notes]).toEqual([name, machine, truth.notes]);
      expect(found.ranges).toEqual(truth.ranges);
      expect(differences(truth.pages, found.pages)).toEqual([]);
    }
    const header = Buffer.alloc(6);
    const converted = FileSource.open(file("converted"));
    converted.read(0, header);
    converted.close();
    expect([...header.subarray(4)]).toEqual(ident);
    const { stdout, stderr } = run("readelf", ["-lnW", file("converted")]);
    expect(stderr).toBe("");
    expect(stdout).toContain("NT_PRSTATUS");
  });
});

/** What a dump has, its pages that are not all zeros by address. */
async function contentsOf(path: string) {
  const source = FileSource.open(path);
  try {
    const { memory, notes, machine } = await openAnyDump(source);
    const pages = new Map<number, string>();
    const page = Buffer.alloc(PAGE);
    const zeros = Buffer.alloc(PAGE);
    for (const { start, end } of memory.ranges) {
      for (let at = start; at < end; at += PAGE) {
        const state = memory.readPage(at, page);
        expect(["present", "zero"]).toContain(state);
        if (state === "present" && !page.equals(zeros)) pages.set(at, page.toString("latin1"));
      }
    }
    const texts = notes.map(({ name, type, desc }) => `${name} ${type} ${desc.toString("hex")}`);
    return { machine, ranges: memory.ranges, notes: texts, pages };
  } finally {
    source.close();
  }
}

const differences = (left: ReadonlyMap<number, string>, right: typeof left): number[] =>
  [...new Set([...left.keys(), ...right.keys()])].filter((at) => left.get(at) !== right.get(at));
