import { describe, expect, test } from "vitest";
import type { PhysicalMemory } from "../src/core/memory.ts";
import { describeLinux } from "../src/kernel/linux.ts";
import { Vmcoreinfo } from "../src/kernel/vmcoreinfo.ts";
import { cpuTime } from "./support/cpu-time.ts";
import {
  BANNER_AT,
  IMAGE,
  IMAGE_SIZE,
  KERNEL_OFFSET,
  linuxGuest,
  longMode,
  PHYS_BASE,
  pageOffsetOf,
  RAM,
  RELEASE,
  ROOT,
  TEXT,
  USER_ROOT,
  vmcoreinfoText,
} from "./synth/linux-guest.ts";
import { memoryFrom, ramWith, type TableEntry, tablePieces } from "./synth/memory.ts";
import { stateOf } from "./synth/x86-state.ts";

const guest = memoryFrom(linuxGuest());
const vmcoreinfo = new Vmcoreinfo(vmcoreinfoText());
const kernelState = stateOf(longMode(ROOT));
const codes = async (memory: PhysicalMemory, evidence: Parameters<typeof describeLinux>[1]) =>
  (await describeLinux(memory, evidence))?.warnings.map(({ code }) => code);
const image = { virtual: TEXT, physical: IMAGE, size: IMAGE_SIZE };
const P = 1n;
const W = 2n;
const U = 4n;
const PS = 1n << 7n;

describe("with VMCOREINFO", () => {
  test.each([
    ["no registers", []],
    ["a vCPU in the kernel", [kernelState]],
    ["a vCPU on PTI's user tables", [stateOf(longMode(USER_ROOT))]],
    ["a vCPU in real mode", [stateOf({ cr0: 0x11n })]],
  ])("and %s, everything comes from the kernel and its own page tables", async (_, states) => {
    expect(await describeLinux(guest, { vmcoreinfo, states })).toEqual({
      architecture: "x86_64",
      release: { value: RELEASE, source: "VMCOREINFO" },
      buildId: { value: "eb4fbcd037e7253717950bf2b93bd5566f47c56f", source: "VMCOREINFO" },
      pagingLevels: { value: 4, source: "VMCOREINFO" },
      root: { value: ROOT, source: "VMCOREINFO" },
      kaslrOffset: { value: KERNEL_OFFSET, source: "VMCOREINFO" },
      physBase: { value: PHYS_BASE, source: "VMCOREINFO" },
      pageOffset: { value: pageOffsetOf(4), source: "page tables" },
      text: { value: image, source: "page tables" },
      warnings: [],
    });
  });

  test("5-level paging", async () => {
    const memory = memoryFrom(linuxGuest({ levels: 5 }));
    const five = new Vmcoreinfo(vmcoreinfoText({ "NUMBER(pgtable_l5_enabled)": "1" }));
    expect(
      await describeLinux(memory, { vmcoreinfo: five, states: [stateOf(longMode(ROOT, 5))] }),
    ).toMatchObject({
      pagingLevels: { value: 5, source: "VMCOREINFO" },
      pageOffset: { value: pageOffsetOf(5) },
      text: { value: image },
      warnings: [],
    });
  });

  test("5-level paging that VMCOREINFO does not mention, as before 4.17, is found by trying", async () => {
    const memory = memoryFrom(linuxGuest({ levels: 5 }));
    const silent = new Vmcoreinfo(vmcoreinfoText({ "NUMBER(pgtable_l5_enabled)": undefined }));
    expect(await describeLinux(memory, { vmcoreinfo: silent, states: [] })).toMatchObject({
      pagingLevels: { value: 5, source: "page tables" },
      warnings: [],
    });
  });

  test("the encryption bit of sme_mask is no part of addresses", async () => {
    const bit = 1n << 47n;
    const memory = memoryFrom(
      linuxGuest({
        entries: [
          [ROOT, 511, BigInt(ROOT + 0x2000) | bit | P | W],
          [ROOT, 312, BigInt(ROOT + 0x4000) | bit | P | W],
        ],
      }),
    );
    const sme = new Vmcoreinfo(vmcoreinfoText({ "NUMBER(sme_mask)": bit.toString() }));
    expect(await codes(memory, { vmcoreinfo, states: [] })).toContain("KRN003");
    expect(await describeLinux(memory, { vmcoreinfo: sme, states: [] })).toMatchObject({
      pageOffset: { value: pageOffsetOf(4) },
      warnings: [],
    });
  });

  test("KRN003: a root that works but maps the text elsewhere than VMCOREINFO says", async () => {
    // The same physical root, by a symbol and a phys_base that are both 2 MiB off.
    const shifted = new Vmcoreinfo(
      vmcoreinfoText({
        "SYMBOL(swapper_pg_dir)": "ffffffff9a200000",
        "NUMBER(phys_base)": String(PHYS_BASE + 0x20_0000),
      }),
    );
    expect(await codes(guest, { vmcoreinfo: shifted, states: [] })).toEqual(["KRN003", "KRN005", "KRN004"]);
  });

  test("KRN001 and KRN003: a phys_base the page tables contradict is not believed", async () => {
    const wrong = new Vmcoreinfo(vmcoreinfoText({ "NUMBER(phys_base)": String(PHYS_BASE + 0x20_0000) }));
    const linux = await describeLinux(guest, { vmcoreinfo: wrong, states: [kernelState] });
    expect(linux).toMatchObject({
      physBase: { value: PHYS_BASE, source: "CR3 of vCPU 0" },
      root: { value: ROOT, source: "CR3 of vCPU 0" },
      pageOffset: { value: pageOffsetOf(4), source: "CR3 of vCPU 0" },
    });
    expect(linux?.warnings.map(({ code }) => code)).toEqual(["KRN003", "KRN001"]);
    expect(linux?.warnings[0]?.message).toBe(
      "the page tables that VMCOREINFO names do not map the kernel it describes",
    );
  });

  test("phys_base that VMCOREINFO does not give, as before 4.10, comes from a vCPU's page tables", async () => {
    const old = new Vmcoreinfo(vmcoreinfoText({ "NUMBER(phys_base)": undefined, KERNELOFFSET: undefined }));
    expect(await describeLinux(guest, { vmcoreinfo: old, states: [kernelState] })).toMatchObject({
      release: { source: "VMCOREINFO" },
      physBase: { value: PHYS_BASE, source: "CR3 of vCPU 0" },
      kaslrOffset: { value: KERNEL_OFFSET, source: "CR3 of vCPU 0" },
      warnings: [],
    });
  });

  test("KRN002: CR4.LA57 contradicts pgtable_l5_enabled", async () => {
    const states = [kernelState, stateOf(longMode(ROOT, 5)), stateOf(longMode(ROOT, 5))];
    const warnings = (await describeLinux(guest, { vmcoreinfo, states }))?.warnings;
    expect(warnings).toMatchObject([{ code: "KRN002" }]);
    expect(warnings?.[0]?.message).toContain("2 vCPUs (1, 2)");
  });

  test("KRN003, KRN004, KRN005: without the tables what VMCOREINFO says is all there is", async () => {
    const memory = memoryFrom(ramWith(RAM, [{ address: ROOT, size: 0x1000, state: "excluded" }]));
    const linux = await describeLinux(memory, { vmcoreinfo, states: [] });
    expect(linux).toMatchObject({
      release: { value: RELEASE },
      physBase: { value: PHYS_BASE, source: "VMCOREINFO" },
      kaslrOffset: { value: KERNEL_OFFSET },
      root: undefined,
      pageOffset: undefined,
      text: undefined,
    });
    expect(linux?.warnings.map(({ code }) => code)).toEqual(["KRN003", "KRN005", "KRN004"]);
    expect(linux?.warnings[0]?.message).toBe("the page tables that VMCOREINFO names are not all in memory");
  });

  test("the direct map is not a lower mapping of RAM that is not aligned to 1 GiB", async () => {
    const PUD = 0x180_0000;
    const entries: TableEntry[] = [
      [ROOT, 273, BigInt(PUD) | P | W], // 0xffff8880…
      [PUD, 0, BigInt(PUD + 0x1000) | P | W],
    ];
    for (let i = 0; i < 16; i++) entries.push([PUD + 0x1000, i + 1, BigInt(i * 0x20_0000) | P | W | PS]);
    const memory = memoryFrom(linuxGuest({ entries }));
    expect((await describeLinux(memory, { vmcoreinfo, states: [] }))?.pageOffset?.value).toBe(
      pageOffsetOf(4),
    );
  });

  test("the image does not begin with what user space may use", async () => {
    const entries: TableEntry[] = [
      [ROOT, 511, BigInt(ROOT + 0x2000) | P | W | U],
      [ROOT + 0x2000, 510, BigInt(ROOT + 0x3000) | P | W | U],
      [ROOT + 0x3000, 0, 0x20_0000n | P | U | PS],
    ];
    const memory = memoryFrom(linuxGuest({ entries }));
    expect((await describeLinux(memory, { vmcoreinfo, states: [] }))?.text?.value).toEqual(image);
  });

  test("KRN004: no direct map", async () => {
    const memory = memoryFrom(linuxGuest({ entries: [[ROOT, 312, 0n]] }));
    const linux = await describeLinux(memory, { vmcoreinfo, states: [] });
    expect(linux).toMatchObject({ pageOffset: undefined, text: { value: image } });
    expect(linux?.warnings.map(({ code }) => code)).toEqual(["KRN004"]);
  });

  test("KRN006: a vCPU runs a kernel at another place, as after a crash", async () => {
    const CAPTURE = 0x1a0_0000;
    const memory = memoryFrom(
      linuxGuest({
        extra: tablePieces([
          [CAPTURE, 511, BigInt(CAPTURE + 0x1000) | P | W],
          [CAPTURE + 0x1000, 510, BigInt(CAPTURE + 0x2000) | P | W],
          [CAPTURE + 0x2000, 8, 0x180_0000n | P | PS], // 0xffffffff81000000
        ]),
      }),
    );
    const states = [kernelState, stateOf(longMode(CAPTURE))];
    const warnings = (await describeLinux(memory, { vmcoreinfo, states }))?.warnings;
    expect(warnings).toMatchObject([{ code: "KRN006" }]);
    expect(warnings?.[0]?.message).toContain("vCPU 1 runs another kernel");
  });
});

describe("without VMCOREINFO", () => {
  const whole = {
    architecture: "x86_64",
    release: { value: RELEASE, source: "linux_banner" },
    buildId: undefined,
    pagingLevels: { value: 4, source: "CR3 of vCPU 0" },
    root: { value: ROOT, source: "CR3 of vCPU 0" },
    kaslrOffset: { value: KERNEL_OFFSET, source: "CR3 of vCPU 0" },
    physBase: { value: PHYS_BASE, source: "CR3 of vCPU 0" },
    pageOffset: { value: pageOffsetOf(4), source: "CR3 of vCPU 0" },
    text: { value: image, source: "CR3 of vCPU 0" },
    warnings: [],
  };

  test.each([
    ["a kernel CR3", ROOT],
    ["a PTI user CR3, by its kernel half", USER_ROOT],
    ["a CR3 with PCID and no-flush bits", ROOT + 0x801],
  ])("%s tells as much", async (_, cr3) => {
    expect(await describeLinux(guest, { states: [stateOf(longMode(cr3))] })).toEqual(whole);
  });

  test("vCPUs in real mode or on tables that are gone are passed over", async () => {
    const states = [stateOf({ cr0: 0x11n }), stateOf(longMode(0x180_0000)), kernelState];
    expect(await describeLinux(guest, { states })).toMatchObject({ root: { source: "CR3 of vCPU 2" } });
  });

  test("of PTI's user tables alone, only where the kernel lies is believed", async () => {
    const memory = memoryFrom(linuxGuest({ extra: [{ address: ROOT, size: 0x1000, state: "excluded" }] }));
    const linux = await describeLinux(memory, { states: [stateOf(longMode(USER_ROOT))] });
    expect(linux).toMatchObject({
      physBase: { value: PHYS_BASE },
      kaslrOffset: undefined,
      pageOffset: undefined,
      text: undefined,
    });
    expect(linux?.warnings.map(({ code }) => code)).toEqual(["KRN005", "KRN004"]);
  });

  test("a kernel in the same place without Linux's banner is none", async () => {
    const other = memoryFrom(linuxGuest({ banner: "FreeBSD 14.1-RELEASE" }));
    expect(await describeLinux(other, { states: [kernelState] })).toBeUndefined();
    const almost = memoryFrom(linuxGuest({ banner: "Linux version unknown" }));
    expect(await describeLinux(almost, { states: [kernelState] })).toBeUndefined();
  });

  test("a banner behind the image is not its own", async () => {
    const banner = Buffer.from("Linux version 5.10.0-40-amd64 (x");
    const extra = [{ address: IMAGE + IMAGE_SIZE, bytes: banner }];
    const memory = memoryFrom(linuxGuest({ banner: undefined, extra }));
    expect(await describeLinux(memory, { states: [kernelState] })).toBeUndefined();
  });

  test("an image that begins in missing memory is nothing to believe in", async () => {
    const extra = [{ address: IMAGE, size: 4096, state: "excluded" } as const];
    const memory = memoryFrom(linuxGuest({ banner: undefined, extra }));
    expect(await describeLinux(memory, { states: [kernelState] })).toBeUndefined();
  });

  test("pages that cannot be read after all are passed over in the search for the banner", async () => {
    const bytes = Buffer.alloc(0x10_0000, 1);
    bytes.write("Linux version 5.10.0-40-amd64 (x", 0x8000);
    const memory = memoryFrom(linuxGuest({ banner: undefined, extra: [{ address: 0x118_0000, bytes }] }), {
      raw: false,
    });
    const damaged: PhysicalMemory = {
      ...memory,
      readPage: (address, target) =>
        address === 0x118_0000 || address === 0x118_7000 ? "absent" : memory.readPage(address, target),
    };
    expect((await describeLinux(damaged, { states: [kernelState] }))?.release?.value).toBe("5.10.0-40-amd64");
  });

  test("where the banner's page is missing the kernel is described without a release", async () => {
    const page = BANNER_AT - (BANNER_AT % 4096);
    const text = { address: IMAGE, bytes: Buffer.alloc(4096, 0x90) };
    const extra = [text, { address: page, size: 4096, state: "excluded" } as const];
    const memory = memoryFrom(linuxGuest({ extra }));
    expect(await describeLinux(memory, { states: [kernelState] })).toEqual({ ...whole, release: undefined });
  });

  test.each([0x120_0000 - 40, 0x128_0000 - 5])("a banner across pages and chunks, at %i", async (address) => {
    const bytes = new Uint8Array(0x20_0000);
    bytes.set(Buffer.from("Linux version %s\0"), 0x10);
    bytes.set(Buffer.from("Linux version 5.10.0-40-cloud-amd64 (x"), address - 0x118_0000);
    for (const raw of [true, false]) {
      const memory = memoryFrom(linuxGuest({ banner: undefined, extra: [{ address: 0x118_0000, bytes }] }), {
        raw,
      });
      expect((await describeLinux(memory, { states: [kernelState] }))?.release?.value).toBe(
        "5.10.0-40-cloud-amd64",
      );
    }
  });

  test("no paging, no kernel, no vCPU: no Linux", async () => {
    expect(await describeLinux(guest, { states: [] })).toBeUndefined();
    expect(await describeLinux(guest, { states: [stateOf({ cr0: 0x11n })] })).toBeUndefined();
    // A boot sector's identity map of the first GiB.
    const identity = tablePieces([
      [0x1000, 0, 0x2000n | P | W],
      [0x2000, 0, P | W | PS],
    ]);
    const memory = memoryFrom(ramWith(RAM, identity));
    expect(await describeLinux(memory, { states: [stateOf(longMode(0x1000))] })).toBeUndefined();
  });
});

describe("hostile page tables", () => {
  test("a root that refers to itself everywhere is no kernel, and soon found not to be", async () => {
    const entries = Array.from({ length: 512 }, (_, i): TableEntry => [0x1000, i, 0x1000n | P | W]);
    const memory = memoryFrom(ramWith(RAM, tablePieces(entries)));
    const start = cpuTime();
    expect(await describeLinux(memory, { states: [stateOf(longMode(0x1000))] })).toBeUndefined();
    expect(await codes(memory, { vmcoreinfo, states: [stateOf(longMode(0x1000))] })).toContain("KRN005");
    expect(cpuTime() - start).toBeLessThan(5000);
    expect(memory.pageReads.length).toBeLessThan(10_000);
  });

  test("thousands of runs that look like a direct map but map no root, and an image outside memory", async () => {
    const GIB = 1n << 30n;
    const entries: TableEntry[] = [];
    for (let i = 0; i < 512; i++) {
      // Every GiB of every table maps physical 1 GiB: no two are contiguous, each is aligned.
      entries.push([0x1000, i, 0x2000n | P | W], [0x2000, i, GIB | P | W | PS]);
    }
    const memory = memoryFrom(linuxGuest({ extra: tablePieces(entries) }));
    const start = cpuTime();
    expect(await describeLinux(memory, { states: [stateOf(longMode(0x1000))] })).toBeUndefined();
    expect(cpuTime() - start).toBeLessThan(5000);
    expect(memory.pageReads.length).toBeLessThan(10_000);
  });
});

describe("32-bit guests", () => {
  const SWAPPER = 0x180_0000;
  const classic: TableEntry[] = Array.from({ length: 8 }, (_, i) => [
    SWAPPER,
    768 + i, // 0xc0000000 up, 4 MiB each
    (BigInt(i) << 22n) | P | W | PS,
  ]);
  const banner = { address: 0x110_0000, bytes: Buffer.from("Linux version 6.1.0-50-686 (x") };
  const text = vmcoreinfoText({
    OSRELEASE: "6.1.0-50-686",
    "SYMBOL(swapper_pg_dir)": "c1800000",
    "SYMBOL(_stext)": "c1000000",
    "NUMBER(phys_base)": undefined,
    "NUMBER(pgtable_l5_enabled)": undefined,
    KERNELOFFSET: undefined,
  });
  const memory = memoryFrom(ramWith(RAM, [...tablePieces(classic, 4), banner]));
  const state = stateOf({ cr0: 0x8000_0011n, cr3: BigInt(SWAPPER), cr4: 0x10n });

  test("VMCOREINFO and page tables", async () => {
    expect(await describeLinux(memory, { vmcoreinfo: new Vmcoreinfo(text), states: [] })).toMatchObject({
      architecture: "i386",
      release: { value: "6.1.0-50-686", source: "VMCOREINFO" },
      pagingLevels: { value: 2, source: "page tables" },
      root: { value: SWAPPER, source: "VMCOREINFO" },
      pageOffset: { value: 0xc000_0000n, source: "page tables" },
      physBase: undefined,
      text: undefined,
      warnings: [],
    });
  });

  test("registers alone", async () => {
    expect(await describeLinux(memory, { states: [state] })).toMatchObject({
      architecture: "i386",
      release: { value: "6.1.0-50-686", source: "linux_banner" },
      pageOffset: { value: 0xc000_0000n, source: "CR3 of vCPU 0" },
    });
    const other = memoryFrom(ramWith(RAM, tablePieces(classic, 4)));
    expect(await describeLinux(other, { states: [state] })).toBeUndefined();
    // Memory up to 24 MiB is mapped, the root above is not.
    const short = memoryFrom(ramWith(RAM, [...tablePieces(classic.slice(0, 6), 4), banner]));
    expect(await describeLinux(short, { states: [state] })).toBeUndefined();
  });

  test("PAE", async () => {
    const PMD = 0x181_0000;
    const pae: TableEntry[] = [[SWAPPER, 3, BigInt(PMD) | P]];
    for (let i = 0; i < 16; i++) pae.push([PMD, i, (BigInt(i) << 21n) | P | W | PS]);
    const ram = memoryFrom(ramWith(RAM, [...tablePieces(pae), banner]));
    const info = new Vmcoreinfo(`${text}CONFIG_X86_PAE=y\n`);
    expect(await describeLinux(ram, { vmcoreinfo: info, states: [] })).toMatchObject({
      pagingLevels: { value: 3 },
      pageOffset: { value: 0xc000_0000n },
      warnings: [],
    });
  });

  test("an offset at which user space is mapped is not the kernel's", async () => {
    const user = classic.map(([table, index, value]): TableEntry => [table, index, value | U]);
    const ram = memoryFrom(ramWith(RAM, [...tablePieces(user, 4), banner]));
    const linux = await describeLinux(ram, { vmcoreinfo: new Vmcoreinfo(text), states: [state] });
    expect(linux).toMatchObject({ architecture: "i386", pageOffset: undefined });
    expect(linux?.warnings.map(({ code }) => code)).toEqual(["KRN004"]);
  });
});
