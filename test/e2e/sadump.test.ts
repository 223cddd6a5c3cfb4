import { mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, inject, test } from "vitest";
import { buildDiskSet, buildMedia, buildSadump, type SadumpSpec, type SmramSpec } from "../synth/sadump.ts";
import { isLinux } from "./extracted.ts";
import { bootKdumpGuest, type KdumpGuest, kdumpTools } from "./kdump-guest.ts";
import type { LabGuest } from "./lab.ts";
import { guestcore, missing, run, runWell, testWith } from "./tools.ts";
import { compareMemory, VmcoreFile } from "./vmcore-file.ts";

/**
 * Dumps as the firmware of Fujitsu's servers would have made them of real machines: QEMU's own dumps in that format,
 * with the processors' registers as SMRAM states. crash and makedumpfile read them, and say whether we read the same.
 */
const folder = mkdtempSync(join(tmpdir(), "guestcore-sadump-"));
afterAll(() => rmSync(folder, { recursive: true }));

const PAGE = 4096;
const ZERO = Buffer.alloc(PAGE);

const REGISTERS = "rax rbx rcx rdx rsi rdi rsp rbp r8 r9 r10 r11 r12 r13 r14 r15 rip rflags".split(" ");
const SEGMENTS = "cs ds es fs gs ss ldt tr gdt idt".split(" ");

/** QEMUCPUState (QEMU target/i386/arch_dump.c) as SMRAM would have it. */
function smramOf(desc: Buffer): SmramSpec {
  const at = (i: number) => 152 + 24 * i;
  const table = (name: string): [bigint, number] => {
    const place = at(SEGMENTS.indexOf(name));
    return [desc.readBigUInt64LE(place + 16), desc.readUInt32LE(place + 4)];
  };
  const cr = (n: number) => desc.readBigUInt64LE(at(SEGMENTS.length) + 8 * n);
  return {
    registers: {
      ...Object.fromEntries(REGISTERS.map((name, i) => [name, desc.readBigUInt64LE(8 + 8 * i)])),
      ...{ cr0: cr(0), cr3: cr(3), cr4: cr(4), efer: 0xd01n },
    },
    selectors: Object.fromEntries(SEGMENTS.map((name, i) => [name, desc.readUInt32LE(at(i))])),
    gdt: table("gdt"),
    idt: table("idt"),
  };
}

/** Below it lies RAM, above it up to 4 GiB the ROM of firmware. */
const ROM = 0xf000_0000;

/** A machine as firmware sees it. @param withZeros whether pages of zeros were dumped @param withRom whether its ROM was */
function specOf(dump: string, withZeros = true, withRom = true): SadumpSpec {
  const file = new VmcoreFile(dump);
  const pages = new Map<number, Buffer | null>();
  for (const { paddr, filesz, offset } of file.loads) {
    if (paddr >= ROM && !withRom) continue;
    const bytes = Buffer.alloc(filesz);
    file.read(bytes, offset);
    for (let at = 0; at < filesz; at += PAGE) {
      const page = bytes.subarray(at, at + PAGE);
      pages.set((paddr + at) / PAGE, withZeros || !page.equals(ZERO) ? page : null);
    }
  }
  const cpus = file.named("QEMU").map(({ desc }) => smramOf(desc));
  file.close();
  return { pages, cpus };
}

/** Writes a dump's files and returns their names. */
function written(name: string, files: readonly Buffer[]): string[] {
  return files.map((bytes, i) => {
    const path = join(folder, `${name}${i + 1}`);
    writeFileSync(path, bytes);
    return path;
  });
}

function converted(name: string, ...args: string[]): string {
  const path = join(folder, `${name}.vmcore`);
  const { status, stdout, stderr } = guestcore("convert", ...args, path, "--force");
  if (status !== 0) throw new Error(`exit status ${status}\n${stdout}${stderr}`);
  return path;
}

/** What must be empty when `path` has the memory of QEMU's dump. */
function differences(dump: string, path: string) {
  const [truth, file] = [new VmcoreFile(dump), new VmcoreFile(path)];
  const { different, absent, beyond, compared } = compareMemory(truth, file);
  truth.close();
  file.close();
  expect(compared).toBeGreaterThan(20_000);
  return { different, absent, beyond };
}
const nothing = { different: [], absent: [], beyond: [] };

/** Pages all over memory, as crash is asked for them. */
const sampled = (spec: SadumpSpec): number[] => [...spec.pages.keys()].filter((pfn) => pfn % 397 === 5);

/** What crash says of a dump, and the bytes it shows of some pages. */
function crash(vmlinux: string, files: readonly string[], pfns: readonly number[]) {
  const reads = pfns.map((pfn) => `rd -p 0x${(pfn * PAGE).toString(16)} 512`).join("\n");
  const input = `set scroll off\nsys\nps\nlog\n${reads}\nquit\n`;
  const { status, stdout, stderr } = run("crash", ["-s", vmlinux, ...files], { input });
  const words = [...stdout.matchAll(/^ +[0-9a-f]+: {2}([0-9a-f]{16}) ([0-9a-f]{16}) /gm)];
  const bytes = Buffer.alloc(16 * words.length);
  for (const [i, [, low, high]] of words.entries()) {
    bytes.writeBigUInt64LE(BigInt(`0x${low}`), 16 * i);
    bytes.writeBigUInt64LE(BigInt(`0x${high}`), 16 * i + 8);
  }
  const text = stdout.replace(/^ +[0-9a-f]+: {2}[0-9a-f]{16} .*$\n?/gm, "");
  const said = text.replace(/^ *DUMPFILES?: .*\n(?: +\S+\n)*/m, "");
  return {
    status,
    bytes,
    said,
    errors: stderr.match(/.*(?:do not match|cannot access|seek error|read error).*/g),
  };
}

const pagesAt = (spec: SadumpSpec, pfns: readonly number[]): Buffer =>
  Buffer.concat(pfns.map((pfn) => spec.pages.get(pfn) ?? ZERO));

/** Two kinds of machine; what another QEMU or a third would add is not the format's. */
const guests = inject("lab")
  .guests.filter((guest) => isLinux(guest))
  .filter(({ recipe }, i, all) => all.findIndex((other) => other.recipe.name === recipe.name) === i)
  .slice(0, 2);
if (guests.length === 0) test.skip("no Linux guests, so none was dumped", () => {});

describe.each(guests)("$name", (guest: LabGuest) => {
  const vmlinux = guest.vmlinux!;
  let spec: SadumpSpec;
  let single: string;
  let set: string[];
  let medium: string;
  beforeAll(() => {
    spec = specOf(guest.dump);
    [single] = written(`${guest.name}.single`, [buildSadump(spec)]) as [string];
    set = written(`${guest.name}.disk`, buildDiskSet(spec, [3001, 10_000]));
    [medium] = written(`${guest.name}.medium`, buildMedia({ ...spec, version: 0 })) as [string];
  });

  test("has the memory of QEMU's dump, page by page, in every form", () => {
    expect(differences(guest.dump, converted("one", single))).toEqual(nothing);
    expect(differences(guest.dump, converted("set", set[0]!))).toEqual(nothing);
    expect(
      differences(guest.dump, converted("parts", set[0]!, "--part", set[2]!, "--part", set[1]!)),
    ).toEqual(nothing);
    expect(differences(guest.dump, converted("medium", medium))).toEqual(nothing);
  });

  test("without its pages of zeros: they are missing, and nothing else is", () => {
    const [less] = written("less", [buildSadump(specOf(guest.dump, false))]) as [string];
    expect(statSync(less).size).toBeLessThan(statSync(single).size);
    const [truth, file] = [new VmcoreFile(guest.dump), new VmcoreFile(converted("less", less))];
    const { zero, different } = compareMemory(truth, file);
    expect(different).toEqual([]);
    const lost = [...spec.pages.keys()].filter((pfn) => file.page(pfn * PAGE) === undefined);
    expect(lost.length).toBe(zero);
    expect(lost.every((pfn) => spec.pages.get(pfn)!.equals(ZERO))).toBe(true);
    truth.close();
    file.close();
  });

  testWith(["crash"], "opens in crash as one file, as a set and as a medium, with the same memory", () => {
    const pfns = sampled(spec);
    expect(pfns.length).toBeGreaterThan(50);
    const own = crash(vmlinux, [guest.dump], pfns);
    expect(own.said).toContain("RELEASE: 6.1.");
    const wanted = { status: 0, bytes: pagesAt(spec, pfns), said: own.said, errors: null };
    for (const files of [[single], set, [medium]]) {
      const found = crash(vmlinux, files, pfns);
      expect(found.bytes.equals(wanted.bytes), files.join(" ")).toBe(true);
      expect({ ...found, bytes: undefined }).toEqual({ ...wanted, bytes: undefined });
    }
  });

  testWith(["crash"], "converted, is to crash what QEMU's own dump is, backtraces included", () => {
    const input = "set scroll off\nsys\nbt -a\nps\nlog\nquit\n";
    const says = (path: string) => {
      const { status, stdout } = run("crash", ["-s", vmlinux, path], { input });
      return { status, text: stdout.replace(/^.*DUMPFILE:.*$/m, "").replaceAll(path, "DUMP") };
    };
    expect(says(converted("opened", set[0]!))).toEqual(says(guest.dump));
  });

  test("info shows its processors", () => {
    const { stdout } = guestcore("info", single);
    expect(stdout.match(/^ {4}cpu\d+ {2}/gm)!.length).toBe(guest.recipe.vcpus);
    expect(stdout).toContain("Linux 6.1.");
  });
});

const vmlinux = guests[0]?.vmlinux ?? "";
const notInstalled = missing(["crash", "makedumpfile", ...kdumpTools]);
if (notInstalled.length > 0)
  test.skip(`no machine that ran kdump: not installed: ${notInstalled.join(", ")}`, () => {});

/** makedumpfile takes its time to look through the symbols. */
const LONG = 900_000;

describe.runIf(guests.length > 0 && notInstalled.length === 0)("a machine with a kdump kernel", () => {
  let guest: KdumpGuest;
  beforeAll(async () => {
    guest = await bootKdumpGuest(guests[0]!, mkdtempSync(join(folder, "kdump-")));
  }, LONG);

  /** makedumpfile's own conversion, as ELF by ours. */
  const byMakedumpfile = (name: string, ...input: string[]): string => {
    const out = join(folder, `${name}.kdump`);
    runWell("makedumpfile", ["-x", vmlinux, "-c", "-d", "0", "-f", ...input, out], { timeout: 300_000 });
    return converted(`${name}.kdump`, out);
  };

  test(
    "that did not run: makedumpfile converts one file and a set to the same memory",
    () => {
      // makedumpfile leaves out what the kernel has no struct page for.
      const spec = specOf(guest.steady, true, false);
      const [single] = written("steady", [buildSadump(spec)]) as [string];
      const set = written("steady.disk", buildDiskSet(spec, [3001, 10_000]));
      const ours = converted("steady", single);
      const { different, absent } = differences(guest.steady, ours);
      expect([different, absent.filter((address) => address < ROM)]).toEqual([[], []]);
      for (const input of [[single], set.map((path) => `--diskset=${path}`)]) {
        expect(differences(ours, byMakedumpfile("steady", ...input))).toEqual(nothing);
      }
      const prstatus = (path: string) => {
        const file = new VmcoreFile(path);
        const found = file.named("CORE").map(({ desc }) => desc.subarray(112, 112 + 27 * 8));
        file.close();
        // orig_rax is RAX to makedumpfile.
        for (const registers of found) registers.fill(0, 15 * 8, 16 * 8);
        return found;
      };
      expect(prstatus(ours)).toEqual(prstatus(join(folder, "steady.kdump.vmcore")));
    },
    LONG,
  );

  test(
    "that runs: low memory, registers and VMCOREINFO are those that the crashed kernel saved",
    () => {
      const [single] = written("crashed", [buildSadump(specOf(guest.crashed, true, false))]) as [string];
      const path = join(folder, "crashed.vmcore");
      const { status, stderr } = guestcore("convert", single, path);
      expect([status, stderr]).toEqual([
        0,
        expect.stringMatching(/DMP013: kdump had begun: 6\d\d\.0 KiB of low memory are read from 0x/),
      ]);
      // All of it as makedumpfile reads it, which knows the crashed kernel by its symbols.
      expect(differences(path, byMakedumpfile("crashed", single))).toEqual(nothing);
      const input = "set scroll off\nsys\nbt -a\nrd -p 0x1000 4096\nrd -p 0x90000 4096\nquit\n";
      const says = (file: string) =>
        run("crash", ["-s", vmlinux, file], { input })
          .stdout.replace(/^.*DUMPFILE:.*$/m, "")
          .replaceAll(file, "DUMP");
      const low = (text: string) => text.match(/^ +[0-9a-f]+: {2}[0-9a-f]{16} .*$/gm);
      const ours = says(path);
      expect(low(ours)!.length).toBe(4096);
      expect(low(ours)).toEqual(low(says(single)));
      expect(ours).toContain("sysrq triggered crash");
      expect(ours).toMatch(/COMMAND: "gc-spin"[\s\S]*crash_nmi_callback[\s\S]*RAX: a0a1a2a3a4a5a6a7/);
      // The kdump kernel's own traces are the only difference from what was in memory.
      const { different } = differences(guest.crashed, path);
      expect(different).not.toEqual([]);
      expect(different.filter((address) => address >= 0xa_0000)).toEqual([]);
      const dmesg = runWell("vmcore-dmesg", [path]).stdout;
      expect(dmesg).toContain("sysrq: Trigger a crash");
      expect(dmesg).not.toContain("elfcorehdr=");
    },
    LONG,
  );
});
