import { spawn, spawnSync } from "node:child_process";
import { closeSync, mkdtempSync, openSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import fc from "fast-check";
import { afterAll, describe, expect, test } from "vitest";
import { InterruptedError } from "../src/core/errors.ts";
import { openLog } from "../src/jobs/log-input.ts";
import { vmcsDmesg } from "../src/jobs/vmcs-dmesg.ts";
import { DumpReader, type LogDump, MAX_DUMPS, type VmcbDump, type VmcsDump } from "../src/vmx/dmesg.ts";
import { parseVmcbDump } from "../src/vmx/dmesg-vmcb.ts";
import { checkEntry } from "../src/vmx/entry-checks.ts";
import { fieldNamed } from "../src/vmx/fields.ts";
import { stateOf } from "../src/vmx/state.ts";
import { cpuTime } from "./support/cpu-time.ts";
import { quiet } from "./support/memory-io.ts";
import { KVM_VMCB_LOG, kvmLog, oldXenLog, XEN_VMCB_LOG, xenLog } from "./synth/vmx-log.ts";
import { CONSISTENT, type Fields, regionOf } from "./synth/vmx-values.ts";

/** Reads fields for a writer of logs, and counts those that were printed. */
const reading = (fields: Fields) => {
  const names = new Set<string>();
  const read = (name: string): bigint => {
    names.add(name);
    return fields[name] ?? 0n;
  };
  return Object.assign(read, { names });
};
const dumpsIn = (lines: readonly string[]): readonly LogDump[] => {
  const reader = new DumpReader();
  for (const line of lines) reader.add(line);
  return reader.finish();
};
const onlyIn = (lines: readonly string[]): VmcsDump => {
  const dumps = dumpsIn(lines);
  expect(dumps.length).toBe(1);
  return dumps[0] as VmcsDump;
};
const named = ({ values }: VmcsDump, name: string): bigint | undefined =>
  values.get(fieldNamed(name)!.encoding);

/** All that a dump prints, with a value of its own each. */
const TELLING: Fields = {
  ...CONSISTENT,
  CPU_BASED_VM_EXEC_CONTROL: CONSISTENT.CPU_BASED_VM_EXEC_CONTROL! | (1n << 21n),
  GUEST_SYSENTER_CS: 0x10n,
  GUEST_SYSENTER_ESP: 0xffff_ffff_8000_7000n,
  GUEST_SYSENTER_EIP: 0xffff_ffff_8000_6000n,
  HOST_IA32_SYSENTER_CS: 0x10n,
  HOST_IA32_SYSENTER_ESP: 0xffff_fe00_0000_3001n,
  HOST_IA32_SYSENTER_EIP: 0xffff_ffff_aa40_17b0n,
  HOST_FS_BASE: 0x7f04_a6b6_66c0n,
  TSC_OFFSET: 0xffff_fffe_4b16_f456n,
  APIC_ACCESS_ADDR: 0x7000n,
  VIRTUAL_APIC_PAGE_ADDR: 0x8000n,
  PLE_GAP: 0x80n,
  PLE_WINDOW: 0x1000n,
  EXIT_QUALIFICATION: 0x181n,
  VM_EXIT_INSTRUCTION_LEN: 3n,
  IDT_VECTORING_INFO_FIELD: 0x8000_0b0en,
  IDT_VECTORING_ERROR_CODE: 4n,
  VM_ENTRY_INSTRUCTION_LEN: 2n,
};

/** Every value a dump holds is the one that was printed. */
function expectSame(dump: VmcsDump, fields: Fields): void {
  const region = regionOf(fields);
  for (const [encoding, value] of dump.values) {
    expect(value, `0x${encoding.toString(16)}`).toBe(region.values.get(encoding));
  }
}

describe("KVM", () => {
  test.each(["4.4", "5.13", "6.16"] as const)("dump of Linux %s", (version) => {
    const read = reading(TELLING);
    const dump = onlyIn(kvmLog(read, version));
    expect(dump).toMatchObject({ kind: "vmcs", hypervisor: "kvm", missingSections: [], conflicts: [] });
    expect(dump.label).toBe(version === "4.4" ? undefined : "00000000f971be22");
    expect(dump.cpu).toBe(version === "4.4" ? undefined : 3);
    expectSame(dump, TELLING);
    expect(dump.values.size).toBe(read.names.size);
    expect(read.names.size).toBeGreaterThan(100);
    expect(checkEntry(dump).violations).toEqual([]);
    expect(stateOf(dump, dump.efer).state).toMatchObject({ rip: CONSISTENT.GUEST_RIP, efer: 0xd01n });
  });

  test.each([
    ["dmesg", (line: string, i: number) => `[  673.85${String(i).padStart(4, "0")}] kvm_intel: ${line}`],
    ["dmesg -T", (line: string) => `[Wed May 20 10:14:33 2026] ${line}`],
    ["dmesg -x", (line: string) => `kern  :err   : [  673.850218] kvm_intel: ${line}`],
    ["raw log levels", (line: string) => `<3>[  673.850218] ${line}`],
    ["journal", (line: string) => `Sep  8 22:52:20 xubuntu2004 kernel: [10639.238026] ${line}`],
    ["journal without time", (line: string) => `Sep 08 22:52:20 host kernel: kvm_intel: ${line}`],
    ["caller", (line: string) => `[28041.030248][T78789] ${line}`],
    ["carriage returns", (line: string) => `[    1.000000] ${line}\r`],
  ])("prefixes of %s", (_, prefix) => {
    const read = reading(TELLING);
    const dump = onlyIn(kvmLog(read, "6.16").map(prefix));
    expectSame(dump, TELLING);
    expect(dump.values.size).toBe(read.names.size);
  });

  test("lines of others in between", () => {
    const read = reading(TELLING);
    const lines = kvmLog(read, "6.16").flatMap((line) => [
      line,
      'audit: type=1400 audit(1.2:3): apparmor="DENIED" operation="open"',
      "CR2: 0000000000000000 CR3: 000000011a2b3c00 CR4: 0000000000370ef0",
    ]);
    const dump = onlyIn(lines);
    expectSame(dump, TELLING);
    expect(dump.values.size).toBe(read.names.size);
  });

  test("several dumps in one log, and lines far behind one are none of it", () => {
    const second = { ...TELLING, GUEST_RIP: 0xffff_ffff_8010_20a6n };
    const noise = Array.from({ length: 100 }, (_, i) => `usb 1-${i}: new device`);
    const lines = [
      ...kvmLog(reading(TELLING), "6.16"),
      ...kvmLog(reading(second), "6.16"),
      ...noise,
      "EPT pointer = 0x0000000000000000",
    ];
    const dumps = dumpsIn(lines) as VmcsDump[];
    expect(dumps.map((dump) => named(dump, "GUEST_RIP"))).toEqual([TELLING.GUEST_RIP, second.GUEST_RIP]);
    expect(dumps.map((dump) => dump.conflicts)).toEqual([[], []]);
    // "VMCS …, last attempted" stands in front of the first line counted.
    expect(dumps.map(({ firstLine }) => firstLine)).toEqual([2, 2 + lines.indexOf(lines[0]!, 1)]);
  });

  test("two CPUs at once are told apart by the caller, and noticed without", () => {
    const other = { ...TELLING, GUEST_RIP: 0x1234_5678n, HOST_RSP: 0xffff_ce3f_403f_0000n };
    const [a, b] = [kvmLog(reading(TELLING), "6.16"), kvmLog(reading(other), "6.16")];
    const mixed = a.flatMap((line, i) => [`[ 1.5][T100] ${line}`, `[ 1.5][C2] ${b[i]}`]);
    const dumps = dumpsIn(mixed) as VmcsDump[];
    expect(dumps.map((dump) => named(dump, "GUEST_RIP"))).toEqual([TELLING.GUEST_RIP, 0x1234_5678n]);
    expectSame(dumps[0]!, TELLING);
    expectSame(dumps[1]!, other);
    const blind = dumpsIn(a.flatMap((line, i) => [line, b[i]!])) as VmcsDump[];
    expect(blind.some(({ conflicts }) => conflicts.includes("GUEST_RIP"))).toBe(true);
  });

  test("a log that was cut", () => {
    const lines = kvmLog(reading(TELLING), "6.16");
    const host = lines.indexOf("*** Host State ***");
    expect(onlyIn(lines.slice(host)).missingSections).toEqual(["guest"]);
    expect(onlyIn(lines.slice(0, host)).missingSections).toEqual(["host", "control"]);
    const dump = onlyIn(lines.slice(host));
    expect(dump.missingFields).toEqual([]);
    expect(stateOf(dump).state).toBeUndefined();
    expect(checkEntry(dump).violations).toEqual([]);
  });

  test("lines that are always printed, or with a control, are missed", () => {
    const lost = ["CR3 = ", "TR: ", "PAT = ", "GDTBase=", "EPT pointer = ", "Virtual processor ID = "];
    const lines = kvmLog(reading(TELLING), "6.16").filter(
      (line) => !lost.some((start) => line.startsWith(start)),
    );
    const dump = onlyIn(lines);
    expect(dump.missingSections).toEqual([]);
    expect(dump.missingFields).toEqual([
      "GUEST_CR3",
      ...["SELECTOR", "AR_BYTES", "LIMIT", "BASE"].map((part) => `GUEST_TR_${part}`),
      ...["HOST_GDTR_BASE", "HOST_IDTR_BASE", "GUEST_IA32_PAT", "HOST_IA32_PAT"],
      ...["EPT_POINTER", "VIRTUAL_PROCESSOR_ID"],
    ]);
    const [vmcb] = dumpsIn(KVM_VMCB_LOG.filter((line) => !/^(asid|cs|rip):/.test(line)));
    expect(vmcb!.missingFields).toEqual(["asid", "rip", "rflags", "cs"]);
    const [xen] = dumpsIn(XEN_VMCB_LOG.filter((line) => !/exitcode|RSP|^ {2}TR/.test(line)));
    expect(xen!.missingFields).toEqual(["exit_code", "rsp", "rip", "tr"]);
  });

  test("numbers that were cut at the end of a line are no values", () => {
    const lines = kvmLog(reading(TELLING), "6.16").map((line) =>
      /^(CR0: actual|CS: |TR: |EPT|reason|GDTB|EFER|VMExit)/.test(line) ? line.slice(0, -1) : line,
    );
    const dump = onlyIn(lines);
    expectSame(dump, TELLING);
    for (const name of ["CR0_GUEST_HOST_MASK", "GUEST_CS_BASE", "EPT_POINTER", "VM_EXIT_INSTRUCTION_LEN"]) {
      expect(named(dump, name)).toBeUndefined();
      expect(dump.missingFields).toContain(name);
    }
    const cut = KVM_VMCB_LOG.map((line) => (/^(rip|tr|int_ctl):/.test(line) ? line.slice(0, -1) : line));
    expect(dumpsIn(cut)[0]!.missingFields).toEqual(["int_ctl", "rflags", "tr"]);
  });

  test("MSR lists are counted", () => {
    const dump = onlyIn(
      kvmLog(reading(TELLING), "6.16", [
        [0xc000_0080, 0x500n],
        [0x38f, 0n],
      ]),
    );
    expect(dump.msrs).toEqual([
      { area: "guest autoload", index: 0xc000_0080, value: 0x500n },
      { area: "guest autoload", index: 0x38f, value: 0n },
    ]);
    expect(named(dump, "VM_ENTRY_MSR_LOAD_COUNT")).toBe(2n);
  });

  test("why it was dumped", () => {
    const cause = "kvm [1234]: vcpu0, guest rIP: 0x1000 vmx: unexpected exit reason 0x4b";
    const dump = onlyIn([cause, ...kvmLog(reading(TELLING), "6.16")]);
    expect(dump.cause).toBe("vmx: unexpected exit reason 0x4b");
    expect(dump.cpu).toBe(3);
  });

  test("values wider than their field are no values", () => {
    const lines = kvmLog(reading(TELLING), "6.16").map((line) =>
      line
        .replace("reason=00000001", "reason=ffffffffff")
        .replace("EPT pointer = 0x", "EPT pointer = 0xffffffff"),
    );
    const dump = onlyIn(lines);
    expect(named(dump, "VM_EXIT_REASON")).toBeUndefined();
    expect(named(dump, "EPT_POINTER")).toBeUndefined();
  });
});

/** Failures that were reported to mailing lists and bug trackers, and what the maintainers found. */
describe("failed entries that were reported", () => {
  test.each<[string, Fields, string]>([
    [
      "DS not accessed (kvm, June 2021)",
      { GUEST_DS_SELECTOR: 0xf7n, GUEST_DS_AR_BYTES: 0xc0f2n, GUEST_DS_LIMIT: 0xffff_ffffn },
      "guest.DS.type",
    ],
    [
      "an interrupt into a guest with IF clear (edk2 issue 91)",
      { VM_ENTRY_INTR_INFO_FIELD: 0x8000_00d1n, GUEST_RFLAGS: 2n },
      "guest.RFLAGS.IF",
    ],
    ["bit 63 left in CR3 (drakvuf issue 388)", { GUEST_CR3: 0x8000_0000_1a02_f080n }, "guest.CR3"],
    [
      "single-stepping over MOV SS (xen-devel, November 2019)",
      {
        GUEST_RFLAGS: 0x187n,
        GUEST_INTERRUPTIBILITY_INFO: 2n,
        VM_ENTRY_INTR_INFO_FIELD: 0x8000_0501n,
        VM_ENTRY_INSTRUCTION_LEN: 1n,
      },
      "guest.pending debug.BS",
    ],
  ])("%s", (_, fields, id) => {
    const all: Fields = { ...TELLING, VM_EXIT_REASON: 0x8000_0021n, ...fields };
    for (const lines of [kvmLog(reading(all), "5.13"), xenLog(reading(all), all.GUEST_RIP!)]) {
      const { violations } = checkEntry(onlyIn(lines));
      expect(violations.map((violation) => violation.id)).toEqual([id]);
    }
  });
});

describe("Xen", () => {
  test("dump of Xen 4.20", () => {
    const read = reading(TELLING);
    const lines = xenLog(read, TELLING.GUEST_RIP! + 1n);
    const dump = onlyIn(
      [">>> Domain 3 <<<", "\tVCPU 0", ...lines].map((line) => `(XEN) [2019-11-02 14:09:46] ${line}`),
    );
    expect(dump).toMatchObject({ hypervisor: "xen", label: "d3v0", missingSections: [], conflicts: [] });
    expectSame(dump, TELLING);
    expect(dump.values.size).toBe(read.names.size);
    expect(dump.live.get("rip")).toBe(TELLING.GUEST_RIP! + 1n);
    expect(checkEntry(dump).violations).toEqual([]);
  });

  test("dump of Xen 4.2, which prints a wrong VM-exit instruction length", () => {
    const read = reading(TELLING);
    const dump = onlyIn(oldXenLog(read));
    expect(dump.hypervisor).toBe("xen");
    expectSame(dump, TELLING);
    expect(dump.values.size).toBe(read.names.size - 1);
    expect(named(dump, "VM_EXIT_INSTRUCTION_LEN")).toBeUndefined();
  });

  test("why it was dumped, and what the instruction said", () => {
    const failure = onlyIn([
      "(XEN) d2v0 vmentry failure (reason 0x80000021): Invalid guest state (0)",
      "(XEN) ************* VMCS Area **************",
      ...xenLog(reading(TELLING), 0n),
    ]);
    expect(failure.label).toBe("d2v0");
    expect(failure.cause).toBe("d2v0 vmentry failure (reason 0x80000021): Invalid guest state (0)");
    const error = onlyIn(["(XEN) VMLAUNCH error: 0x7", ...xenLog(reading(TELLING), 0n)]);
    expect(named(error, "VM_INSTRUCTION_ERROR")).toBe(7n);
  });
});

describe("VMCBs", () => {
  test("KVM's", () => {
    const [dump] = dumpsIn(KVM_VMCB_LOG.map((line) => `[  435.580838] kvm_amd: ${line}`)) as VmcbDump[];
    expect(dump).toMatchObject({
      kind: "vmcb",
      hypervisor: "kvm",
      label: "00000000759a48a5",
      cpu: 7,
      missingSections: [],
    });
    expect(dump!.control.get("intercepts")).toEqual([0xbccc_8007n, 0x0111_ce43n]);
    expect(dump!.control.get("asid")).toEqual([13n]);
    expect(dump!.control.get("pause_filter_count")).toEqual([3000n]);
    expect(dump!.control.get("nested_cr3")).toEqual([0x2_2fc0_6000n]);
    expect(dump!.control.size).toBe(KVM_VMCB_LOG.indexOf("VMCB State Save Area:") - 2);
    expect(Object.fromEntries(dump!.save)).toMatchObject({ cpl: 3n, efer: 0x1d01n, rax: 0xbeefn, vmpl: 0n });
    expect(dump!.save.get("rip")).toBe(0xffff_ffff_8184_f058n);
    expect(dump!.segments.get("cs")).toEqual({
      selector: 0x9900,
      attributes: 0x9a,
      limit: 0xffff,
      base: 0x9_9000n,
    });
    expect(parseVmcbDump(KVM_VMCB_LOG)).toEqual({
      control: dump!.control,
      save: dump!.save,
      segments: dump!.segments,
    });
  });

  test("Xen's, by KVM's names", () => {
    const [dump] = dumpsIn(XEN_VMCB_LOG.map((line) => `(XEN) ${line}`)) as VmcbDump[];
    expect(dump).toMatchObject({ kind: "vmcb", hypervisor: "xen", missingSections: [] });
    const { control, save, segments } = dump!;
    expect(control.get("cr_read")).toEqual([0xffffn]);
    expect(control.get("cr_write")).toEqual([0xfffbn]);
    expect(control.get("intercepts")).toEqual([0xbdc4_800fn, 0x2e7fn]);
    expect(control.get("int_ctl")).toEqual([0x0100_0200n]);
    expect(control.get("int_vector")).toEqual([0x42n]);
    expect(control.get("exit_code")).toEqual([0x7bn]);
    expect(control.get("event_inj")).toEqual([0x8000_0b0en]);
    expect(control.get("event_inj_err")).toEqual([0xan]);
    expect(control.get("nested_cr3")).toEqual([0x4_1f4c_9000n]);
    expect(save.get("rip")).toBe(0xffff_ffff_8184_f058n);
    expect(save.get("rflags")).toBe(0x246n);
    expect(save.get("cpl")).toBe(0n);
    expect(segments.get("tr")).toEqual({
      selector: 0x40,
      attributes: 0x8b,
      limit: 0x67,
      base: 0xffff_fe00_0000_3000n,
    });
  });

  test("a VMCB behind a VMCS", () => {
    const dumps = dumpsIn([...kvmLog(reading(TELLING), "6.16"), ...KVM_VMCB_LOG]);
    expect(dumps.map(({ kind }) => kind)).toEqual(["vmcs", "vmcb"]);
  });
});

describe("hostile logs", () => {
  test("mutants of real dumps do not throw", () => {
    const lines = [
      ...kvmLog(reading(TELLING), "6.16"),
      ...xenLog(reading(TELLING), 0n),
      ...KVM_VMCB_LOG,
      ...XEN_VMCB_LOG,
    ];
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.nat(lines.length - 1), fc.nat(120), fc.string({ maxLength: 20 })), {
          maxLength: 30,
        }),
        fc.array(fc.nat(lines.length - 1), { maxLength: 30 }),
        (edits, order) => {
          const mutant = [...lines];
          for (const [index, at, text] of edits) {
            mutant[index] = mutant[index]!.slice(0, at) + text + mutant[index]!.slice(at + 1);
          }
          for (const dump of dumpsIn([...mutant, ...order.map((index) => mutant[index]!)])) {
            if (dump.kind === "vmcs") checkEntry(dump);
          }
        },
      ),
      { numRuns: 100 },
    );
  });

  test("dumps without end are not kept", () => {
    const reader = new DumpReader();
    for (let i = 0; i < 2 * MAX_DUMPS; i++) reader.add("*** Guest State ***");
    expect(reader.full).toBe(true);
    expect(reader.finish().length).toBe(MAX_DUMPS);
  });

  test("callers without end are not kept", () => {
    const reader = new DumpReader();
    for (let i = 0; i < 500; i++) reader.add(`[ 1.0][T${i}] *** Guest State ***`);
    expect(reader.finish().length).toBe(500);
  });

  test("long lines take no time", () => {
    const start = cpuTime();
    dumpsIn(["*** Guest State ***", ..."VE 0x(:=".split("").map((letter) => letter.repeat(8192))]);
    expect(cpuTime() - start).toBeLessThan(2000);
  });
});

describe("the job", () => {
  const folder = mkdtempSync(join(tmpdir(), "guestcore-dmesg-"));
  afterAll(() => rmSync(folder, { recursive: true }));
  const write = (name: string, content: string | Buffer): string => {
    const path = join(folder, name);
    writeFileSync(path, content);
    return path;
  };

  test("reads plain and compressed logs, lines cut by chunks and without end", async () => {
    const filler = `${"x".repeat(79)}\n`.repeat(14_000);
    const text = `${filler}${kvmLog(reading(TELLING), "6.16").join("\n")}`;
    for (const path of [write("log", text), write("log.gz", gzipSync(text))]) {
      const { dumps, warnings } = await vmcsDmesg(path, quiet);
      expect(warnings).toEqual([]);
      expect(dumps.length).toBe(1);
      expectSame(dumps[0]!.dump as VmcsDump, TELLING);
      expect((dumps[0]!.dump as VmcsDump).missingSections).toEqual([]);
    }
  });

  test("a line longer than a chunk is passed over", async () => {
    const text = `${"y".repeat(3 * 2 ** 20)}\n${kvmLog(reading(TELLING), "6.16").join("\n")}\n`;
    expect((await vmcsDmesg(write("long", text), quiet)).dumps.length).toBe(1);
  });

  test("cut and mixed dumps are warned of", async () => {
    const lines = kvmLog(reading(TELLING), "4.4");
    const mixed = [
      ...lines.slice(0, 12),
      "RSP = 0x0000000000000001  RIP = 0x0000000000000002",
      ...lines.slice(12, 18),
    ];
    const { warnings } = await vmcsDmesg(write("mixed", mixed.join("\n")), quiet);
    expect(warnings.map(({ code }) => code)).toEqual(["VMX001", "VMX002"]);
  });

  test("lines that were lost are warned of", async () => {
    const lines = kvmLog(reading(TELLING), "6.16").filter((line) => !/^(CR[034]|RSP)/.test(line));
    const { warnings } = await vmcsDmesg(write("lost", lines.join("\n")), quiet);
    expect(warnings).toEqual([
      {
        code: "VMX001",
        message:
          "the dump at line 2 is cut: GUEST_CR0, CR0_READ_SHADOW, CR0_GUEST_HOST_MASK, GUEST_CR4 and 8 more fields missing",
      },
    ]);
  });

  const text = `${kvmLog(reading(TELLING), "6.16").join("\r\n")}\r\n`;
  const swapped = Buffer.from(text, "utf16le").swap16();

  test.each([
    ["little-endian", Buffer.from(`\ufeff${text}`, "utf16le")],
    ["big-endian", Buffer.concat([Buffer.from([0xfe, 0xff]), swapped])],
    ["little-endian, without a mark", Buffer.from(text, "utf16le")],
    ["big-endian, without a mark", swapped],
    // A newline at a place where a chunk ends between the bytes of a unit.
    ["of many chunks", Buffer.from(`\ufeff${"\u4e2d\n".repeat(400_000)}${text}`, "utf16le")],
    ["cut in the middle of a unit", Buffer.from(`\ufeff${text}\n`, "utf16le").subarray(0, -1)],
  ])("UTF-16, %s", async (_, content) => {
    const { dumps, warnings } = await vmcsDmesg(write("utf16", content), quiet);
    expect(warnings).toEqual([]);
    expect(dumps.length).toBe(1);
    expectSame(dumps[0]!.dump as VmcsDump, TELLING);
    expect(dumps[0]!.dump).toMatchObject({ label: "00000000f971be22", missingFields: [] });
  });

  const makeFifo = (path: string): void => {
    expect(spawnSync("sh", ["-c", 'mkfifo "$0"', path]).status).toBe(0);
  };
  /** A FIFO that another process writes to, piece by piece. */
  const fifo = (name: string, script: string, ...files: string[]): string => {
    const path = join(folder, name);
    makeFifo(path);
    spawn("sh", ["-c", `{ ${script}; } > "$0"`, path, ...files], { stdio: "ignore" });
    return path;
  };

  test.each([
    ["ASCII", Buffer.from(text)],
    ["UTF-16", Buffer.from(`\ufeff${text}`, "utf16le")],
  ])("reads a FIFO whose writer takes its time, in %s", async (name, content) => {
    const file = write(`${name}-slow`, content);
    const path = fifo(name, 'sleep 0.3; head -c 1 "$1"; sleep 0.3; tail -c +2 "$1"', file);
    const { input, dumps, warnings } = await vmcsDmesg(path, quiet);
    expect(input).toMatchObject({ path, size: content.length });
    expect(warnings).toEqual([]);
    expectSame(dumps[0]!.dump as VmcsDump, TELLING);
    expect(dumps[0]!.dump.missingFields).toEqual([]);
  });

  test("a FIFO of a compressed log is refused, with what to do", async () => {
    const path = fifo("packed", 'cat "$1"', write("packed.gz", gzipSync(text)));
    await expect(vmcsDmesg(path, quiet)).rejects.toMatchObject({
      code: "unsupported",
      message: "compressed with gzip",
      hint: expect.stringContaining("gzip -dc LOG | guestcore vmcs parse-dmesg -"),
    });
  });

  test("a FIFO that nothing comes from lets signals in", async () => {
    const path = join(folder, "silent");
    makeFifo(path);
    let asked = 0;
    const checkpoint = async () => {
      if (++asked === 2) throw new InterruptedError("SIGINT");
    };
    await expect(vmcsDmesg(path, { ...quiet, checkpoint })).rejects.toThrow("interrupted by SIGINT");
  });

  test.each(["file", "FIFO"])("no more than the limit is read of a %s", async (kind) => {
    const file = write(`large-${kind}`, "x".repeat(300_000));
    const path = kind === "file" ? file : fifo("large", 'cat "$1"', file);
    const log = await openLog(path, 200_000, quiet);
    let size = 0;
    for await (const chunk of log.chunks) size += chunk.length;
    log.close();
    expect([size, log.larger()]).toEqual([200_000, true]);
  });

  /** Runs with a file or FIFO as standard input: a descriptor that is opened takes the lowest free number. */
  const withStandardInput = async <T>(path: string, run: () => Promise<T>): Promise<T> => {
    closeSync(0);
    expect(openSync(path, "r")).toBe(0);
    return await run();
  };

  test("- is standard input, be it a file or a pipe", async () => {
    const file = write("stdin", text);
    for (const path of [file, fifo("piped", 'cat "$1"', file)]) {
      const { input, dumps } = await withStandardInput(path, () => vmcsDmesg("-", quiet));
      expect(input).toMatchObject({ path: "-", size: text.length });
      expectSame(dumps[0]!.dump as VmcsDump, TELLING);
      expect(dumps[0]!.dump.missingFields).toEqual([]);
    }
    await expect(withStandardInput("/dev/zero", () => vmcsDmesg("-", quiet))).rejects.toMatchObject({
      code: "unsupported",
      where: { file: "standard input" },
    });
  });

  test("a log without a dump says what to do", async () => {
    await expect(vmcsDmesg(write("none", "nothing here\n"), quiet)).rejects.toMatchObject({
      code: "unavailable",
      message: "no VMCS or VMCB dump in the log",
      hint: expect.stringContaining("dump_invalid_vmcs"),
    });
    const suppressed = "set kvm_amd.dump_invalid_vmcb=1 to dump internal KVM state.\n";
    await expect(vmcsDmesg(write("off", suppressed), quiet)).rejects.toMatchObject({
      hint: "KVM was not told to dump: echo 1 > /sys/module/kvm_amd/parameters/dump_invalid_vmcb",
    });
    await expect(vmcsDmesg(join(folder, "absent"), quiet)).rejects.toMatchObject({ code: "io" });
  });
});
