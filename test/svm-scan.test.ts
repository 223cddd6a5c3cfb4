import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { entryChecks } from "../src/svm/entry-checks.ts";
import { mayBeVmcb } from "../src/svm/first-look.ts";
import { encryptionMaskOf, groupKey, identifyVmcb } from "../src/svm/kind.ts";
import { relateVmcbs } from "../src/svm/relate.ts";
import { VmcbScanner } from "../src/svm/scan.ts";
import { isConvincing, scoreVmcb } from "../src/svm/score.ts";
import { stateOf } from "../src/svm/state.ts";
import { decodeVmcb } from "../src/svm/vmcb.ts";
import { haltedVcpu, hostSaveArea, nestedVcpu, resetVcpu, type VmcbSpec, vmcbPage } from "./synth/vmcb.ts";

const decoded = (spec: VmcbSpec) => decodeVmcb(vmcbPage(spec));
const looks = (page: Buffer) =>
  mayBeVmcb(new DataView(page.buffer, page.byteOffset, page.length), 0) &&
  isConvincing(scoreVmcb(decodeVmcb(page)));
const failed = (spec: VmcbSpec) =>
  scoreVmcb(decoded(spec))
    .checks.filter(({ passed }) => !passed)
    .map(({ check }) => check);

describe("score", () => {
  test("a vCPU's VMCB and a host save area pass every check", () => {
    for (const spec of [haltedVcpu(), hostSaveArea(0x2000), nestedVcpu()]) {
      expect(failed(spec)).toEqual([]);
      expect(scoreVmcb(decoded(spec)).value).toBe(1);
      expect(looks(vmcbPage(spec))).toBe(true);
    }
  });

  test.each<[string, VmcbSpec]>([
    ["vmrun-intercept", { intercept4: 0x6e7e }],
    ["intercept_word5", { intercept5: 0x80 }],
    ["asid", { asid: 0 }],
    ["asid", { asid: 0x1_0000 }],
    ["tlb_ctl", { tlbControl: 2 }],
    ["permission-maps", { iopm: 0x1000_0010 }],
    ["permission-maps", { msrpm: 0x110_0000 }],
    ["nested-root", { nCr3: 0 }],
    ["nested-root", { nCr3: 0x110_0000 }],
    ["exit_code", { exitCode: 0x3ff }],
    ["virtual-interrupts", { vIntr: 0x20_0000 }],
    ["events", { eventInj: 0x8000_0100 }],
    ["nested_ctl", { npEnable: 0x1001 }],
    ["virt_ext", { virtExt: 0x10 }],
    ["control-reserved", { bytes: { 32: 1 } }],
    ["pat", { gPat: 0x0207_0506_0007_0106n }],
    ["efer", { efer: 0x1d03 }],
    ["cr0", { cr0: 0x8005_0033 + 0x40 }],
    ["cr4", { cr4: 0x35_06f0 + 0x2000_0000 }],
    ["mode", { efer: 0x1901 }],
    ["rflags", { rflags: 0 }],
    ["addresses", { rip: 0x8000_0000_0000 }],
    ["cpl", { cpl: 4 }],
    ["segments", { segments: { fs: { attrib: 0x1000 } } }],
    ["segments", { segments: { ss: { attrib: 0xc93, base: 1n << 32n } } }],
    ["code-segment", { segments: { cs: { attrib: 0xc93 } } }],
    ["system-segments", { segments: { tr: { attrib: 0x93 } } }],
    ["tables", { segments: { gdtr: { limit: 0x1_0000 } } }],
    ["debug-registers", { dr7: 0 }],
    ["save-reserved", { bytes: { 4095: 1 } }],
  ])("%s fails alone", (check, over) => expect(failed(haltedVcpu(over))).toEqual([check]));

  test("5-level addresses are canonical in a guest with LA57", () => {
    expect(failed(haltedVcpu({ cr4: 0x35_16f0, kernelGsBase: 0x00ff_ffff_0000_0000n }))).toEqual([]);
  });

  test("random pages, zero pages and text never pass", () => {
    expect(looks(Buffer.alloc(4096))).toBe(false);
    expect(looks(Buffer.alloc(4096, 0xff))).toBe(false);
    expect(looks(Buffer.alloc(4096, "VMCB "))).toBe(false);
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 4096, maxLength: 4096 }), (bytes) => !looks(Buffer.from(bytes))),
    );
  });

  test("a page whose few looked-at words are right is rejected by the rest", () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 4096, maxLength: 4096 }), (bytes) => {
        const page = Buffer.from(bytes);
        const right = vmcbPage(haltedVcpu());
        for (const [start, end] of [
          [0x10, 0x14],
          [0x4d0, 0x4d8],
          [0x558, 0x560],
          [0x570, 0x578],
        ] as const) {
          right.copy(page, start, start, end);
        }
        expect(mayBeVmcb(new DataView(page.buffer, page.byteOffset, 4096), 0)).toBe(true);
        return !looks(page);
      }),
    );
  });
});

describe("kinds", () => {
  test.each<[string, VmcbSpec, RegExp]>([
    ["guest", haltedVcpu(), /last exit VMEXIT_HLT/],
    ["guest", haltedVcpu({ exitCode: -1 }), /last exit VMEXIT_INVALID/],
    ["not-run", resetVcpu(), /ASID 0/],
    ["not-run", resetVcpu({ asid: 3 }), /reset/],
    ["nested-guest", nestedVcpu(), /no VMSAVE/],
    ["sev-es", haltedVcpu({ npEnable: 7, vmsa: 0x99_9000 }), /0x999000/],
    ["host-save-area", hostSaveArea(0x2_3000), /0x23000/],
  ])("%s", (kind, spec, reason) => {
    const identity = identifyVmcb(decoded(spec));
    expect(identity.kind).toBe(kind);
    expect(identity.reasons.join("; ")).toMatch(reason);
    expect(looks(vmcbPage(spec))).toBe(true);
  });

  test("vCPUs are grouped by the root of their nested tables, without the encryption bit", () => {
    expect(groupKey(decoded(haltedVcpu()))).toBe(0x5_6789_a000);
    const bit = 1n << 47n;
    const sme = decoded(
      haltedVcpu({ iopm: bit | 0x110_0000n, msrpm: bit | 0x120_0000n, nCr3: bit | 0x5_6789_a000n }),
    );
    expect(encryptionMaskOf(sme)).toBe(bit);
    expect(groupKey(sme, bit)).toBe(0x5_6789_a000);
    expect(
      failed(haltedVcpu({ iopm: bit | 0x110_0000n, msrpm: bit | 0x120_0000n, nCr3: bit | 0x1000n })),
    ).toEqual([]);
    expect(encryptionMaskOf(decoded(haltedVcpu()))).toBe(0n);
    expect(groupKey(decoded(haltedVcpu({ npEnable: 0 })))).toBeUndefined();
    expect(groupKey(decoded(hostSaveArea(0x1000)))).toBeUndefined();
  });
});

describe("VmcbScanner", () => {
  const MEMORY = Buffer.concat([
    Buffer.alloc(4096),
    vmcbPage(haltedVcpu()),
    Buffer.alloc(4096, 0x5a),
    vmcbPage(hostSaveArea(0x10_1000)),
    vmcbPage(haltedVcpu()).subarray(0, 100),
  ]);

  test("finds pages by their address, wherever the pieces are cut", () => {
    for (const pages of [1, 2, 5]) {
      const scanner = new VmcbScanner();
      for (let at = 0; at < MEMORY.length; at += 4096 * pages) {
        const piece = Buffer.from(MEMORY.subarray(at, at + 4096 * pages));
        scanner.scan(piece, 0x10_0000 + at);
        piece.fill(0);
      }
      expect(scanner.candidates.map(({ address, kind }) => [address, kind])).toEqual([
        [0x10_1000, "guest"],
        [0x10_3000, "host-save-area"],
      ]);
      expect(scanner.candidates[0]!.bytes.equals(vmcbPage(haltedVcpu()))).toBe(true);
      expect(scanner).toMatchObject({ overflowed: false, rejected: 0 });
    }
  });

  test("keeps a bounded number and says so", () => {
    const scanner = new VmcbScanner(3);
    scanner.scan(Buffer.concat(Array.from({ length: 3 }, () => vmcbPage(haltedVcpu()))), 0);
    expect(scanner.overflowed).toBe(false);
    scanner.scan(vmcbPage(haltedVcpu()), 0x3000);
    expect(scanner.overflowed).toBe(true);
    expect(scanner.candidates).toHaveLength(3);
  });

  test("damaged pages give no exception", () => {
    const specs = [
      haltedVcpu(),
      hostSaveArea(0x2000),
      resetVcpu(),
      nestedVcpu(),
      haltedVcpu({ npEnable: 7 }),
    ];
    const edits = fc.array(fc.tuple(fc.nat(4095), fc.nat(255)), { maxLength: 80 });
    fc.assert(
      fc.property(fc.constantFrom(...specs), edits, (spec, bytes) => {
        const page = vmcbPage({ ...spec, bytes: Object.fromEntries(bytes) });
        new VmcbScanner().scan(page, 0);
        const vmcb = decodeVmcb(page);
        const score = scoreVmcb(vmcb);
        const [related] = relateVmcbs([{ address: 0, bytes: page, score, ...identifyVmcb(vmcb) }]);
        const shown = JSON.stringify([
          score,
          related!.reasons,
          entryChecks(vmcb),
          stateOf(vmcb)?.caveats ?? [],
        ]);
        expect(shown).not.toMatch(/undefined|NaN|null/);
      }),
      { numRuns: 400 },
    );
  });
});

describe("candidates together", () => {
  const related = (pages: Readonly<Record<number, VmcbSpec>>, mask = 0n) => {
    const scanner = new VmcbScanner();
    for (const [address, spec] of Object.entries(pages)) scanner.scan(vmcbPage(spec), Number(address));
    return relateVmcbs(scanner.candidates, mask);
  };
  const TR = (base: bigint) => ({ tr: { selector: 0x40, attrib: 0x8b, limit: 0x4087, base } });

  test("a processor names the VMCB it ran last; another one of that vCPU is a copy", () => {
    const [live, copy, area] = related({
      4096: haltedVcpu(),
      8192: haltedVcpu({ exitCode: 0x60 }),
      12288: hostSaveArea(0x1000),
    });
    expect(live).toMatchObject({ kind: "guest", lastRunBy: [0x3000], twins: [0x2000] });
    expect(copy).toMatchObject({ kind: "copy", lastRunBy: [], twins: [0x1000] });
    expect(copy!.reasons.at(-1)).toBe("the same vCPU as 0x1000, which a processor ran last");
    expect(area).toMatchObject({ kind: "host-save-area", group: undefined, hypervisor: undefined });
  });

  test("without a processor's word both stay, and say so", () => {
    const found = related({ 4096: haltedVcpu(), 8192: haltedVcpu() });
    expect(found.map(({ kind }) => kind)).toEqual(["guest", "guest"]);
    for (const { reasons } of found) expect(reasons.at(-1)).toMatch(/one of them is a copy/);
  });

  test("vCPUs of one VM are no copies, whatever they share", () => {
    const found = related({
      4096: haltedVcpu({ segments: TR(0xffff_fe00_0000_3000n) }),
      8192: haltedVcpu({ segments: TR(0xffff_fe00_0003_e000n) }),
      12288: hostSaveArea(0x1000),
    });
    expect(found.map(({ kind, twins }) => [kind, twins])).toEqual([
      ["guest", []],
      ["guest", []],
      ["host-save-area", []],
    ]);
    expect(found.map(({ group }) => group)).toEqual([0x5_6789_a000, 0x5_6789_a000, undefined]);
  });

  test("the two VMCBs of a vCPU that runs a nested guest share hypervisor and ASID, not the group", () => {
    const [first, second] = related({ 4096: haltedVcpu(), 8192: nestedVcpu() });
    expect([first!.kind, second!.kind]).toEqual(["guest", "nested-guest"]);
    expect(first!.hypervisor).toBe(second!.hypervisor);
    expect(first!.group).not.toBe(second!.group);
    expect(first!.twins).toEqual([]);
  });

  test("the encryption bit is no part of an address", () => {
    const bit = 1n << 51n;
    const over = { iopm: bit | 0x110_0000n, msrpm: bit | 0x120_0000n, nCr3: bit | 0x4000n };
    const [live] = related(
      { 4096: haltedVcpu(over), 12288: { ...hostSaveArea(0), rax: bit | 0x1000n } },
      bit,
    );
    expect(live).toMatchObject({ group: 0x4000, hypervisor: 0x110_0000, lastRunBy: [0x3000] });
  });
});

describe("entryChecks", () => {
  const refused = (over: VmcbSpec, physicalBits?: number) =>
    entryChecks(decoded(haltedVcpu(over)), physicalBits)
      .filter(({ passed }) => !passed)
      .map(({ rule }) => rule);

  test("VMRUN accepts a vCPU that ran", () => {
    expect(refused({})).toEqual([]);
    expect(refused({ npEnable: 0, nCr3: 1n << 60n, gPat: 2 })).toEqual([]);
  });

  test.each<[string, VmcbSpec]>([
    ["EFER.SVME is set", { efer: 0xd01 }],
    ["CR0.NW is clear or CR0.CD is set", { cr0: 0xa005_0033 }],
    ["CR0[63:32] are zero", { cr0: 0x1_8005_0033 }],
    ["no MBZ bit of CR3 is set", { cr3: 1n << 60n }],
    ["no MBZ bit of CR4 is set", { cr4: 0x35_26f0 }],
    ["DR6[63:32] are zero", { dr6: 0x1_ffff_0ff0 }],
    ["DR7[63:32] are zero", { dr7: 0x1_0000_0400 }],
    ["no MBZ bit of EFER is set", { efer: 0x1d03 }],
    ["long mode has CR4.PAE", { cr4: 0x35_06d0 }],
    ["long mode has CR0.PE", { cr0: 0x8005_0032 }],
    ["in long mode CS.L and CS.D are not both set", { segments: { cs: { selector: 0x10, attrib: 0xe9b } } }],
    ["VMRUN is intercepted", { intercept4: 0x6e7e }],
    ["the I/O map is below the physical limit", { iopm: (1n << 52n) - 0x2000n }],
    ["the MSR map is below the physical limit", { msrpm: (1n << 52n) - 0x1000n }],
    ["ASID is not zero", { asid: 0 }],
    ["no reserved bit of S_CET is set", { sCet: 0x40 }],
    ["CR4.CET has CR0.WP", { cr4: 0xb5_06f0, cr0: 0x8004_0033 }],
    ["the injected event is legal", { eventInj: 0x8000_0302 }],
    ["the injected event is legal", { eventInj: 0x8000_0320 }],
    ["the injected event is legal", { eventInj: 0x8000_0500 }],
    ["virtual NMIs have the NMI intercept", { vIntr: 0x0500_0000, intercept3: 0xbd4c_8025 }],
    ["no MBZ bit of N_CR3 is set", { nCr3: 1n << 52n }],
    ["G_PAT holds memory types", { gPat: 3 }],
  ])("refuses without: %s", (rule, over) => expect(refused(over)).toEqual([rule]));

  test("the width of physical addresses counts", () => {
    expect(refused({ nCr3: 1n << 48n }, 48)).toEqual(["no MBZ bit of N_CR3 is set"]);
    expect(refused({ msrpm: (1n << 40n) - 0x2000n }, 40)).toEqual([]);
    expect(refused({ msrpm: (1n << 40n) - 0x1000n }, 40)).toEqual([
      "the MSR map is below the physical limit",
    ]);
  });

  test("events that are legal", () => {
    for (const eventInj of [0x0302, 0x8000_0030, 0x8000_0202, 0x8000_0b0e, 0x8000_0480]) {
      expect(refused({ eventInj })).toEqual([]);
    }
  });
});

describe("stateOf", () => {
  test("registers, segments as descriptors hold them, EFER without SVME", () => {
    const { state, sources, caveats } = stateOf(decoded(haltedVcpu({ exitCode: 0x60 })))!;
    expect(state).toMatchObject({
      rip: 0xffff_ffff_8123_4567n,
      rsp: 0xffff_c900_0001_3eb0n,
      rax: 0xffff_ffff_8111_1111n,
      rbx: undefined,
      r15: undefined,
      efer: 0xd01n,
      cr2: 0x7f12_3456_7890n,
      kernelGsBase: 0x7fff_1234_5000n,
      gdt: { base: 0xffff_fe00_0000_1000n, limit: 0x7f },
      idt: { base: 0xffff_fe00_0000_0000n, limit: 0xfff },
      segments: {
        cs: { selector: 0x10, base: 0n, limit: 0xffff_ffff, flags: 0x00a0_9b00 },
        ss: { flags: 0x00c0_9300 },
        tr: { selector: 0x40, limit: 0x4087, flags: 0x8b00 },
        ldt: { flags: 0x8200 },
      },
    });
    expect(sources).toMatchObject({ rip: "rip", kernelGsBase: "kernel_gs_base", ldt: "ldtr.selector" });
    expect(sources).not.toHaveProperty("rbx");
    expect(caveats).toEqual([]);
  });

  test("CPL stands in for the DPL of SS", () => {
    const user = stateOf(
      decoded(haltedVcpu({ cpl: 3, segments: { ss: { selector: 0x2b, attrib: 0xc93 } } })),
    )!;
    expect((user.state.segments.ss.flags >>> 13) & 3).toBe(3);
  });

  test("what may not be current is told", () => {
    expect(stateOf(decoded(haltedVcpu()))!.caveats.join()).toMatch(
      /RIP is that of the instruction which caused VMEXIT_HLT/,
    );
    expect(stateOf(decoded(haltedVcpu({ exitCode: -1 })))!.caveats.join()).toMatch(/VMRUN refused/);
    const nested = stateOf(decoded(nestedVcpu({ exitCode: 0x60 })))!;
    expect(nested.caveats.join()).toMatch(/no VMSAVE/);
    expect(nested.state.kernelGsBase).toBeUndefined();
    for (const register of ["fs", "gs", "ldt", "tr", "kernelGsBase"])
      expect(nested.sources).not.toHaveProperty(register);
  });

  test("an SEV-ES guest has no registers here, a host save area has the host's", () => {
    expect(stateOf(decoded(haltedVcpu({ npEnable: 7 })))).toBeUndefined();
    expect(stateOf(decoded(hostSaveArea(0x1000)))).toMatchObject({ state: { rax: 0x1000n }, caveats: [] });
  });
});
