import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, inject, test } from "vitest";
import { block, buildState, cpuTags, regionTags, type VmwareRegion } from "../synth/vmware.ts";
import { isLinux } from "./extracted.ts";
import { memoryOf, qemuCpus } from "./machine.ts";
import { guestcore, run, testWith } from "./tools.ts";
import { compareMemory, VmcoreFile } from "./vmcore-file.ts";

/**
 * The memory and registers of real guests as VMware's files would hold them: crash, which VMware itself taught to read
 * them, judges whether the files are right, and QEMU's own dump what comes out of them.
 */
const folder = mkdtempSync(join(tmpdir(), "guestcore-vmware-"));
afterAll(() => rmSync(folder, { recursive: true }));

/** crash reads the table of groups eighty times too far. */
const ROOM = Buffer.alloc(1 << 16);

/** One of each kind of machine with a hole for devices below 4 GiB. */
const guests = inject("lab")
  .guests.filter((guest) => isLinux(guest) && guest.recipe.vcpus > 1)
  .filter(({ recipe }, i, all) => all.findIndex((other) => other.recipe.name === recipe.name) === i);

if (guests.length === 0) test.skip("the laboratory has no Linux guest of two vCPUs", () => {});

describe.each(guests)("$name as VMware's files", (guest) => {
  const truth = new VmcoreFile(guest.dump);
  afterAll(() => truth.close());
  const cpus = qemuCpus(truth).map(({ segments, ...cpu }) => ({
    ...cpu,
    gdtr: segments.gdt,
    idtr: segments.idt,
  }));
  /** RAM from 0 on, and the firmware below 4 GiB. */
  const [ram, firmware] = truth.loads.map(({ paddr, filesz }) => ({ start: paddr, end: paddr + filesz }));
  const pages = (bytes: number) => bytes / 4096;
  const regions: readonly VmwareRegion[] = [
    { stored: 0, page: 0, count: pages(ram!.end) },
    { stored: pages(ram!.end), page: pages(firmware!.start), count: pages(firmware!.end - firmware!.start) },
  ];
  const memory = Buffer.concat([
    memoryOf(truth, 0, ram!.end),
    memoryOf(truth, firmware!.start, firmware!.end),
  ]);
  const apart = join(folder, `${guest.name}.vmss`);
  const whole = join(folder, `${guest.name}-Snapshot1.vmsn`);
  const out = (state: string) => `${state}.vmcore`;

  beforeAll(() => {
    const cpu = (blocks: boolean) => ({ name: "cpu", tags: cpuTags(cpus, blocks) });
    writeFileSync(
      apart,
      Buffer.concat([buildState([cpu(true), { name: "memory", tags: regionTags(regions) }]), ROOM]),
    );
    writeFileSync(apart.replace(/vmss$/, "vmem"), memory);
    const inside = [...regionTags(regions), block("Memory", [0, 0], memory, { padding: 4000 })];
    writeFileSync(whole, buildState([cpu(false), { name: "memory", tags: inside }]));
    for (const state of [apart, whole]) {
      const { status, stdout, stderr } = guestcore("convert", state, out(state));
      if (status !== 0) throw new Error(`convert ${state}: exit status ${status}\n${stdout}${stderr}`);
    }
  });

  test.each([
    ["a state file with .vmem", apart],
    ["a snapshot with memory", whole],
  ])("%s has every page that QEMU dumped, and every register that VMware's files tell", (_, state) => {
    const file = new VmcoreFile(out(state));
    const { different, absent, pages: compared } = compareMemory(truth, file);
    const found = qemuCpus(file);
    file.close();
    expect({ different, absent }).toEqual({ different: [], absent: [] });
    expect(compared).toBeGreaterThan(20_000);
    expect(found).toHaveLength(guest.recipe.vcpus);
    const told = ({ general, rip, rflags, cr, segments: { gdt, idt } }: (typeof found)[number]) => ({
      ...{ general, rip, rflags, cr },
      ...{ gdt: [gdt.base, gdt.limit], idt: [idt.base, idt.limit] },
    });
    expect(found.map(told)).toEqual(qemuCpus(truth).map(told));
  });

  /** What crash says of a dump, without the name of the file. */
  const crash = (dump: string, commands: string) => {
    const { stdout, stderr } = run("crash", ["-s", guest.vmlinux!, dump], {
      input: `set scroll off\n${commands}quit\n`,
    });
    return (stdout + stderr).replaceAll(dump, "DUMP").replace(/^.*DUMPFILE:.*$/gm, "");
  };

  testWith(
    ["crash"],
    "crash opens them, and sees the same system, tasks and log in what was converted",
    () => {
      const commands = "sys\nps\nlog\n";
      const wanted = crash(out(whole), commands);
      expect(wanted).toMatch(/RELEASE: 6\.\d/);
      expect(wanted).toContain(`CPUS: ${guest.recipe.vcpus}`);
      expect(wanted).not.toMatch(/do not match|cannot access|seek error|read error/);
      for (const state of [apart, whole]) {
        // Of the two it says that the first has its memory beside it.
        expect(crash(state, commands).replace(/^vmw: .*\n+/gm, "")).toBe(wanted);
      }
    },
  );

  testWith(["crash"], "crash shows the registers that were written", () => {
    const { stdout } = run("crash", ["-s", guest.vmlinux!, whole], { input: "help -r\nquit\n" });
    const values = [...stdout.matchAll(/([A-Z][A-Z0-9]+): +([0-9a-f]{8,16})/g)];
    const shown = (name: string) =>
      values.filter(([, label]) => label === name).map(([, , value]) => BigInt(`0x${value}`));
    expect(shown("RBP")).toEqual(cpus.map(({ general }) => general.rbp));
    expect(shown("RSP")).toEqual(cpus.map(({ general }) => general.rsp));
    expect(shown("RIP")).toEqual(cpus.map(({ rip }) => rip));
    expect(shown("CR3")).toEqual(cpus.map(({ cr }) => cr[3]));
  });
});
