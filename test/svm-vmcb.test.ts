import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { describeField } from "../src/svm/describe.ts";
import { SAVE_AREA, VMCB_FIELDS, VMCB_SIZE, type VmcbFieldName } from "../src/svm/fields.ts";
import { interceptsOf } from "../src/svm/intercepts.ts";
import { decodeVmcb, fieldValue } from "../src/svm/vmcb.ts";
import { haltedVcpu, hostSaveArea, VMCB_LAYOUT, type VmcbWord, vmcbPage } from "./synth/vmcb.ts";

/** The builder's names of fields that have the same size in KVM's structures. */
const SAME: Readonly<Partial<Record<VmcbWord, VmcbFieldName>>> = {
  interceptCr: "intercept_cr",
  interceptDr: "intercept_dr",
  interceptExceptions: "intercept_exceptions",
  intercept3: "intercept_word3",
  intercept4: "intercept_word4",
  intercept5: "intercept_word5",
  iopm: "iopm_base_pa",
  msrpm: "msrpm_base_pa",
  tscOffset: "tsc_offset",
  asid: "asid",
  tlbControl: "tlb_ctl",
  exitCode: "exit_code",
  exitInfo1: "exit_info_1",
  exitInfo2: "exit_info_2",
  npEnable: "nested_ctl",
  ghcb: "ghcb_gpa",
  nCr3: "nested_cr3",
  virtExt: "virt_ext",
  clean: "clean",
  nRip: "next_rip",
  fetched: "insn_len",
  vmsa: "vmsa_pa",
  cpl: "cpl",
  efer: "efer",
  cr4: "cr4",
  cr3: "cr3",
  cr0: "cr0",
  dr7: "dr7",
  dr6: "dr6",
  rflags: "rflags",
  rip: "rip",
  rsp: "rsp",
  sCet: "s_cet",
  rax: "rax",
  star: "star",
  lstar: "lstar",
  cstar: "cstar",
  sfmask: "sfmask",
  kernelGsBase: "kernel_gs_base",
  sysenterCs: "sysenter_cs",
  cr2: "cr2",
  gPat: "g_pat",
};

const randomPage = fc
  .uint8Array({ minLength: VMCB_SIZE, maxLength: VMCB_SIZE })
  .map((bytes) => Buffer.from(bytes));

describe("the field table", () => {
  test("names are unique", () => {
    const names = VMCB_FIELDS.map(({ name }) => name);
    expect(new Set(names).size).toBe(names.length);
  });

  test("fields of a page do not overlap, ascend, and stay in their area", () => {
    for (const formats of [["control", "save"], ["sev-es"]]) {
      let end = 0;
      for (const { name, offset, size, area } of VMCB_FIELDS.filter((field) =>
        formats.includes(field.area),
      )) {
        expect(offset, name).toBeGreaterThanOrEqual(end);
        end = offset + size;
        expect(offset >= SAVE_AREA, name).toBe(area !== "control");
      }
      expect(end).toBeLessThanOrEqual(VMCB_SIZE);
    }
  });

  test("SEV-ES's own fields lie where the plain format has none", () => {
    const plain = VMCB_FIELDS.filter(({ area }) => area === "save");
    for (const { name, offset, size } of VMCB_FIELDS.filter(({ area }) => area === "sev-es")) {
      const over = plain.filter(
        (field) => field.offset < offset + size && offset < field.offset + field.size,
      );
      expect(over, name).toEqual([]);
    }
  });

  test.each(Object.entries(SAME))("%s is %s", (word, name) => {
    const [offset, size] = VMCB_LAYOUT[word as VmcbWord];
    expect(VMCB_FIELDS.find((field) => field.name === name)).toMatchObject({ offset, size });
  });
});

describe("decodeVmcb", () => {
  test("every field of at most 8 bytes is the little-endian number at its place", () => {
    fc.assert(
      fc.property(randomPage, (page) => {
        const { values, hostState } = decodeVmcb(page);
        for (const { name, offset, size, area } of VMCB_FIELDS) {
          const expected = area === "sev-es" && !hostState ? undefined : littleEndian(page, offset, size);
          expect(values.get(name), name).toBe(size > 8 ? undefined : expected);
        }
      }),
      { numRuns: 30 },
    );
  });

  test("what no field covers is told, and nothing else", () => {
    fc.assert(
      fc.property(fc.array(fc.nat(VMCB_SIZE - 1), { maxLength: 40 }), (places) => {
        const page = vmcbPage({ asid: 1 });
        for (const place of places) page[place] = 1;
        const { uncovered, hostState } = decodeVmcb(page);
        const covered = (at: number) =>
          VMCB_FIELDS.some(
            ({ offset, size, area }) =>
              (area !== "sev-es" || hostState) && at >= offset && at < offset + size,
          );
        const expected = new Set(places.filter((at) => !covered(at)).map((at) => at - (at % 8)));
        const told = uncovered.flatMap(({ start, end }) =>
          Array.from({ length: (end - start) / 8 }, (_, i) => start + 8 * i),
        );
        expect(told).toEqual([...expected].sort((a, b) => a - b));
        for (const [i, { start }] of uncovered.entries()) expect(start).not.toBe(uncovered[i - 1]?.end);
      }),
    );
  });

  test("instruction bytes are as many as were fetched, at most 15", () => {
    const bytes = Object.fromEntries(Array.from({ length: 16 }, (_, i) => [0xd1 + i, 0x90 + i]));
    const fetch = (fetched: number) => [...decodeVmcb(vmcbPage({ fetched, bytes })).instruction];
    expect(fetch(0)).toEqual([]);
    expect(fetch(2)).toEqual([0x90, 0x91]);
    expect(fetch(255)).toHaveLength(15);
  });

  test("an SEV-ES guest's and a host's save area are read in their format", () => {
    const dr0 = { bytes: { 1408: 7 } };
    const [plain, encrypted, host] = [
      decodeVmcb(vmcbPage({ asid: 1, npEnable: 1, ...dr0 })),
      decodeVmcb(vmcbPage({ asid: 1, npEnable: 7, ...dr0 })),
      decodeVmcb(vmcbPage({ ...hostSaveArea(0x1000), ...dr0 })),
    ];
    expect(plain).toMatchObject({ hostState: false, controlUnused: false });
    expect(plain.uncovered).toEqual([{ start: 0x580, end: 0x588 }]);
    expect(encrypted).toMatchObject({ hostState: true, controlUnused: false, uncovered: [] });
    expect(host).toMatchObject({ hostState: true, controlUnused: true, uncovered: [] });
    expect([plain, encrypted, host].map((vmcb) => fieldValue(vmcb, "dr0"))).toEqual([0n, 7n, 7n]);
  });
});

describe("what fields mean", () => {
  const meaning = (name: VmcbFieldName, spec = {}) =>
    describeField(decodeVmcb(vmcbPage(haltedVcpu(spec))), name).text;

  test("intercepts by name", () => {
    expect(interceptsOf("intercept_cr", 0x0010_0010n)).toEqual(["CR4_READ", "CR4_WRITE"]);
    expect(interceptsOf("intercept_exceptions", 0x0006_0242n)).toEqual([
      "#DB",
      "#UD",
      "vector 9",
      "#AC",
      "#MC",
    ]);
    expect(interceptsOf("intercept_word4", 0x8001_8001n)).toEqual([
      "VMRUN",
      "EFER_WRITE_TRAP",
      "CR0_WRITE_TRAP",
      "CR15_WRITE_TRAP",
    ]);
    expect(interceptsOf("intercept_word5", 0xe0n)).toEqual(["BUSLOCK", "IDLE_HLT", "bit 7"]);
    expect(interceptsOf("asid", 1n)).toBeUndefined();
    expect(meaning("intercept_word3")).toBe(
      "INTR NMI SMI SELECTIVE_CR0 RDPMC CPUID RSM INVD HLT INVLPGA IOIO_PROT MSR_PROT TASK_SWITCH SHUTDOWN",
    );
  });

  test("bits, numbers among them, events, attributes", () => {
    expect(meaning("nested_ctl", { npEnable: 0x103 })).toBe("NP SEV bit 8");
    expect(meaning("int_ctl", { vIntr: 0x8307_0205 })).toBe(
      "V_GIF V_INTR_MASKING V_GIF_ENABLE AVIC V_TPR 5 V_INTR_PRIO 7",
    );
    expect(meaning("efer")).toBe("SCE LME LMA NXE SVME");
    expect(meaning("rflags")).toBe("PF ZF IF");
    expect(meaning("clean")).toBe("I IOPM ASID NP CRx DRx DT SEG LBR AVIC host");
    expect(meaning("event_inj", { eventInj: 0x0000_0014_8000_0b0en })).toBe("#PF, error code 0x14");
    expect(meaning("event_inj", { eventInj: 0x8000_0030 })).toBe("interrupt 48");
    expect(meaning("exit_int_info")).toBe("none");
    expect(meaning("cs.attrib")).toBe("code accessed readable L G DPL 0 present");
    expect(meaning("tr.attrib")).toBe("TSS busy DPL 0 present");
    expect(meaning("es.attrib")).toBe("null");
    expect(meaning("exit_code")).toBe("VMEXIT_HLT");
    expect(meaning("exit_info_1", { exitCode: 0x7b, exitInfo1: 0x0505_0010 })).toBe("OUT port 0x505, 8 bits");
    expect(meaning("tlb_ctl", { tlbControl: 7 })).toBe("flush this guest's non-global entries");
    expect(meaning("rip")).toBe("");
  });

  test("no value of a field makes a meaning throw", () => {
    fc.assert(
      fc.property(randomPage, (page) => {
        const vmcb = decodeVmcb(page);
        for (const { name } of VMCB_FIELDS)
          expect(describeField(vmcb, name).text).not.toMatch(/undefined|NaN/);
      }),
      { numRuns: 30 },
    );
  });
});

function littleEndian(bytes: Uint8Array, offset: number, size: number): bigint {
  let value = 0n;
  for (let i = size - 1; i >= 0; i--) value = (value << 8n) | BigInt(bytes[offset + i]!);
  return value;
}
