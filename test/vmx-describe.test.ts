import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { CONTROL_SETS } from "../src/vmx/controls.ts";
import { decodeVmcs } from "../src/vmx/decoded.ts";
import { describeField } from "../src/vmx/describe.ts";
import { fieldNamed, VMCS_FIELDS } from "../src/vmx/fields.ts";
import { describeAbort } from "../src/vmx/processor-state.ts";
import { descriptorFlags, stateOf } from "../src/vmx/state.ts";
import { CONSISTENT, type Fields, regionOf } from "./synth/vmx-values.ts";

const meaningOf = (name: string, fields: Fields) =>
  describeField(regionOf(CONSISTENT, fields), fieldNamed(name)!.encoding)!;
const textOf = (name: string, fields: Fields): string => meaningOf(name, fields).text;

describe("controls", () => {
  test("bit by bit, by the SDM's names", () => {
    const { text, bits } = meaningOf("SECONDARY_VM_EXEC_CONTROL", {
      SECONDARY_VM_EXEC_CONTROL: 0x2000_00a2n,
    });
    expect(text).toBe("enable EPT, enable VPID, unrestricted guest, bit 29");
    expect(bits!.filter(({ set }) => set).map(({ bit }) => bit)).toEqual([1, 5, 7, 29]);
    expect(bits!.find(({ bit }) => bit === 17)).toEqual({ bit: 17, name: "enable PML", set: false });
  });

  test("each set has bits below its width, ascending, and none twice", () => {
    for (const { bits, name } of CONTROL_SETS) {
      const numbers = bits.map(([bit]) => bit);
      expect(numbers, name).toEqual([...new Set(numbers)].toSorted((a, b) => a - b));
      expect(new Set(bits.map(([, control]) => control)).size, name).toBe(bits.length);
    }
  });
});

describe("exits", () => {
  const exit = (reason: number, qualification: bigint, others: Fields = {}): string =>
    textOf("EXIT_QUALIFICATION", {
      VM_EXIT_REASON: BigInt(reason),
      EXIT_QUALIFICATION: qualification,
      ...others,
    });

  test.each([
    [0n, "EXCEPTION_NMI (0)"],
    [48n, "EPT_VIOLATION (48)"],
    [0x8000_0021n, "VM-entry failure: INVALID_STATE (33)"],
    [0x0800_003cn, "ENCLS (60), enclave mode"],
    [35n, "no reason of that number (35)"],
  ])("reason %s", (reason, text) => expect(textOf("VM_EXIT_REASON", { VM_EXIT_REASON: reason })).toBe(text));

  test.each([
    [28, 0x0n, "MOV CR0, RAX"],
    [28, 0x314n, "MOV RBX, CR4"],
    [28, 0x308n, "MOV CR8, RBX"],
    [28, 0x20n, "CLTS"],
    [28, 0x1_0070n, "LMSW 0x0001 from memory"],
    [29, 0x217n, "MOV RDX, DR7"],
    [29, 0xf00n, "MOV DR0, R15"],
    [30, 0x3f8_0000n, "OUT port 0x03f8, 1 bytes, DX"],
    [30, 0x64_0048n, "IN port 0x0064, 1 bytes, immediate"],
    [30, 0x1f0_003bn, "REP INS port 0x01f0, 4 bytes, DX"],
    [9, 0x4000_0028n, "IRET, to TSS 0x0028"],
    [14, 0x7000n, "linear address 0x0000000000007000"],
    [44, 0x10b0n, "linear write at offset 0x0b0"],
    [44, 0xf000n, "guest-physical access for a fetch or during execution"],
    [45, 0xefn, "EOI of vector 0xef"],
    [48, 0x181n, "data read, page not present"],
    [48, 0x18an, "data write, page readable"],
    [48, 0x39cn, "instruction fetch, page readable, writable"],
    [48, 0x1081n, "data read, page not present, by a guest page walk, NMI unblocking due to IRET"],
    [56, 0x300n, "write at offset 0x300 of the APIC page"],
    [10, 0n, ""],
  ])("qualification of reason %i, %s", (reason, qualification, text) => {
    expect(exit(reason, qualification)).toBe(text);
  });

  test("qualification of exceptions", () => {
    expect(exit(0, 0x4001n, { VM_EXIT_INTR_INFO: 0x8000_0301n })).toBe("B0, BS");
    expect(exit(0, 0x1234n, { VM_EXIT_INTR_INFO: 0x8000_0b0en })).toBe("linear address 0x0000000000001234");
    expect(exit(0, 0n, { VM_EXIT_INTR_INFO: 0x8000_0202n })).toBe("");
  });

  test("qualification of failed entries", () => {
    expect(exit(0x8000_0021, 4n)).toBe("the VMCS link pointer");
    expect(exit(0x8000_0022, 3n)).toBe("entry 3 of the VM-entry MSR-load area");
  });

  test.each([
    [0x8000_00ecn, "external interrupt 0xec"],
    [0x8000_0202n, "NMI"],
    [0x8000_0b0en, "hardware exception #PF, error code"],
    [0x8000_0603n, "software exception #BP"],
    [0x8000_0480n, "software interrupt 0x80"],
    [0x8000_0700n, "other event (pending MTF VM exit)"],
    [0x8000_1b0dn, "hardware exception #GP, error code, NMI unblocking due to IRET"],
    [0xb0en, "none"],
  ])("event %s", (info, text) => expect(textOf("VM_EXIT_INTR_INFO", { VM_EXIT_INTR_INFO: info })).toBe(text));

  test("error codes", () => {
    const of = (vector: bigint, code: bigint) =>
      textOf("VM_EXIT_INTR_ERROR_CODE", {
        VM_EXIT_INTR_INFO: 0x8000_0b00n | vector,
        VM_EXIT_INTR_ERROR_CODE: code,
      });
    expect(of(14n, 7n)).toBe("protection, write, user");
    expect(of(14n, 0n)).toBe("not present");
    expect(of(13n, 0x2an)).toBe("selector 0x0028, IDT");
    expect(of(17n, 0n)).toBe("");
  });

  test("instructions", () => {
    const of = (reason: bigint, info: bigint) =>
      textOf("VMX_INSTRUCTION_INFO", { VM_EXIT_REASON: reason, VMX_INSTRUCTION_INFO: info });
    expect(of(46n, 0x2181_8102n)).toBe("LGDT [DS: RBX + RAX*4 + displacement], 64-bit address");
    expect(of(47n, 0x3000_0408n)).toBe("LTR RCX");
    expect(of(10n, 0xffffn)).toBe("");
  });
});

describe("other fields", () => {
  test.each([
    ["GUEST_CR0", 0x8005_0033n, "PE MP ET NE WP AM PG"],
    ["GUEST_CR0", 1n << 40n, "bit 40"],
    ["GUEST_RFLAGS", 0x3246n, "PF ZF IF IOPL=3"],
    ["GUEST_CS_AR_BYTES", 0xa09bn, "code execute/read accessed, DPL 0, present, 64-bit, 4 KiB granular"],
    ["GUEST_SS_AR_BYTES", 0x40f7n, "data read/write expand-down accessed, DPL 3, present, 32-bit"],
    ["GUEST_LDTR_AR_BYTES", 0x1_0000n, "unusable"],
    ["GUEST_TR_AR_BYTES", 0x8bn, "busy TSS, DPL 0, present"],
    ["GUEST_CS_SELECTOR", 0x33n, "index 6, GDT, RPL 3"],
    ["GUEST_INTERRUPTIBILITY_INFO", 0x9n, "blocking by STI, blocking by NMI"],
    ["GUEST_ACTIVITY_STATE", 3n, "wait-for-SIPI"],
    ["GUEST_PENDING_DBG_EXCEPTIONS", 0x5000n, "enabled breakpoint BS"],
    ["GUEST_IA32_PAT", 0x0007_0406_0007_0406n, "WB WT UC- UC WB WT UC- UC"],
    ["GUEST_IA32_EFER", 0xd01n, "SCE LME LMA NXE"],
    ["EPT_POINTER", 0x12e2_205en, "4-level, WB, accessed/dirty flags"],
    ["EXCEPTION_BITMAP", 0x6_0042n, "#DB #UD #AC #MC"],
    ["VM_INSTRUCTION_ERROR", 7n, "VM entry with invalid control fields"],
    ["VM_INSTRUCTION_ERROR", 12n, "VMREAD/VMWRITE from or to unsupported VMCS component"],
    ["VMCS_LINK_POINTER", 0xffff_ffff_ffff_ffffn, "none"],
    ["TSC_OFFSET", 0xffff_ffff_ffff_fff6n, "-10 ticks"],
    ["CR0_GUEST_HOST_MASK", 0xffff_ffff_fffe_fff7n, "guest owns TS WP"],
  ])("%s 0x%x", (name, value, text) => expect(textOf(name, { [name]: value })).toBe(text));

  test("selectors of real mode are paragraphs", () => {
    expect(textOf("GUEST_CS_SELECTOR", { GUEST_CR0: 0x30n, GUEST_CS_SELECTOR: 0xf000n })).toBe(
      "real mode, 0xf0000",
    );
  });

  test("pointers", () => {
    expect(meaningOf("EPT_POINTER", {}).pointer).toEqual({
      space: "host-physical",
      address: 0x12e2_2000n,
      target: "EPT root table",
      size: 4096,
    });
    expect(meaningOf("GUEST_RIP", {}).pointer).toMatchObject({ space: "guest-linear" });
    expect(meaningOf("VMCS_LINK_POINTER", {}).pointer).toBeUndefined();
    expect(meaningOf("IO_BITMAP_A", {}).pointer).toBeUndefined();
  });

  test.each([
    ["EPT_POINTER", {}, true],
    ["EPT_POINTER", { SECONDARY_VM_EXEC_CONTROL: 0xe8n }, false],
    ["EPT_POINTER", { CPU_BASED_VM_EXEC_CONTROL: 0x3598_6dfan }, false],
    ["SECONDARY_VM_EXEC_CONTROL", { CPU_BASED_VM_EXEC_CONTROL: 0x3598_6dfan }, false],
    ["GUEST_IA32_EFER", {}, false],
    ["GUEST_IA32_EFER", { VM_ENTRY_CONTROLS: 0xd3ffn }, true],
    ["GUEST_IA32_EFER", { VM_EXIT_CONTROLS: 0x1b_efffn }, true],
    ["GUEST_PDPTR0", {}, false],
    ["GUEST_PDPTR0", { VM_ENTRY_CONTROLS: 0x51ffn }, true],
    ["VM_EXIT_MSR_LOAD_ADDR", { VM_EXIT_MSR_LOAD_ADDR: 0x1000n }, false],
    ["VM_EXIT_MSR_LOAD_ADDR", { VM_EXIT_MSR_LOAD_COUNT: 1n }, true],
    ["GUEST_PHYSICAL_ADDRESS", {}, false],
    ["GUEST_PHYSICAL_ADDRESS", { VM_EXIT_REASON: 49n }, true],
    ["VM_EXIT_INTR_ERROR_CODE", { VM_EXIT_INTR_INFO: 0x8000_0b0en }, true],
    ["CR3_TARGET_VALUE1", { CR3_TARGET_COUNT: 1n }, false],
    ["GUEST_CS_SELECTOR", {}, true],
  ] satisfies [string, Fields, boolean][])("%s with %o is used: %s", (name, fields, active) => {
    const meaning = meaningOf(name, fields);
    expect(meaning.active).toBe(active);
    expect(meaning.inactiveBecause === undefined).toBe(active);
  });

  test("every condition of the field table is known", () => {
    const region = regionOf(CONSISTENT);
    const open = VMCS_FIELDS.filter(({ encoding }) => describeField(region, encoding)?.active === undefined);
    // APX has no control of its own: the processor has the field or not.
    expect(open.map(({ name }) => name)).toEqual(["EXTENDED_INSTRUCTION_INFO"]);
  });

  test("aborts", () => {
    expect(describeAbort(0)).toBe("none");
    expect(describeAbort(4)).toBe("loading host MSRs failed");
    expect(describeAbort(99)).toBe("no abort of number 0x63");
  });

  test("no value makes it throw or print nonsense", () => {
    const encodings = [...regionOf().values.keys()];
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.constantFrom(...encodings), fc.bigInt({ min: 0n, max: (1n << 64n) - 1n })), {
          maxLength: 40,
        }),
        (values) => {
          const { fields } = decodeVmcs({ values: new Map(values) });
          for (const { text, name } of fields) expect(text, name).not.toMatch(/undefined|NaN|\n/);
        },
      ),
      { numRuns: 300 },
    );
  });
});

describe("state", () => {
  test("CR0 and CR4 are merged by mask and read shadow", () => {
    const { state } = stateOf(
      regionOf(CONSISTENT, {
        GUEST_CR4: 0x26a1n,
        CR4_READ_SHADOW: 0x806n,
        CR4_GUEST_HOST_MASK: 0xffff_ffff_ffff_f870n,
      }),
    );
    expect(state!.cr4).toBe(0x681n | (0x806n & ~0x787n));
    expect(state!.cr0).toBe(0x8005_0033n);
  });

  test.each([
    ["its field when VM entry loads it", { VM_ENTRY_CONTROLS: 0xd3ffn, GUEST_IA32_EFER: 0xd00n }, 0xd00n],
    ["the host's when not", { GUEST_IA32_EFER: 0x801n }, 0xd01n],
    ["the host's without long mode", { VM_ENTRY_CONTROLS: 0x51ffn }, 0x801n],
    ["of the mode alone", { HOST_IA32_EFER: 0n }, 0x500n],
  ])("EFER is %s", (_, fields, efer) => {
    expect(stateOf(regionOf(CONSISTENT, fields)).state!.efer).toBe(efer);
  });

  test("EFER known from elsewhere goes before the host's", () => {
    const { state, sources } = stateOf(regionOf(CONSISTENT), { value: 0x1n, source: "MSR-load area" });
    expect(state!.efer).toBe(0x501n);
    expect(sources.efer).toBe("MSR-load area");
  });

  test("of real mode that is run in virtual-8086 mode is what the guest sees", () => {
    const { state, sources, caveats, ownCr3 } = stateOf(
      regionOf(CONSISTENT, {
        CR0_READ_SHADOW: 0x10n,
        GUEST_RFLAGS: 0x2_3202n,
        GUEST_CS_AR_BYTES: 0xf3n,
        GUEST_DS_AR_BYTES: 0xf3n,
        GUEST_TR_BASE: 0xfffb_d000n,
      }),
    );
    expect(state!.rflags).toBe(0x202n);
    expect(state!.segments).toMatchObject({
      cs: { flags: 0x9b00 },
      ds: { flags: 0x9300 },
      tr: { base: 0n, limit: 0xffff, flags: 0x8b00 },
    });
    expect(sources.rflags).toMatch(/without VM/);
    expect(sources.cs).toMatch(/as at reset/);
    expect(caveats).toEqual([expect.stringMatching(/^real mode is run in virtual-8086 mode/)]);
    // Paging is on in the VMCS alone: the tables are the hypervisor's.
    expect(ownCr3).toBe(true);
  });

  test.each([
    [0xa09b, 0xa09b00],
    [0x1_c093, 0xc01300],
    [0x1_0000, 0],
    [0x8b, 0x8b00],
  ])("access rights 0x%s", (rights, flags) => expect(descriptorFlags(rights)).toBe(flags));

  test("nothing is made up for what the layout lacks", () => {
    const region = regionOf(CONSISTENT);
    region.values.delete(fieldNamed("GUEST_CS_AR_BYTES")!.encoding);
    expect(stateOf(region)).toMatchObject({
      state: undefined,
      sources: {},
      missing: ["GUEST_CS_AR_BYTES"],
    });
    const { state } = stateOf(regionOf(CONSISTENT));
    expect(state!.rax).toBeUndefined();
    expect(state!.cr2).toBeUndefined();
    expect(state!.kernelGsBase).toBeUndefined();
  });
});
