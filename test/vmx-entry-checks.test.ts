import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { checkEntry, ENTRY_RULES, wasEntered } from "../src/vmx/entry-checks.ts";
import { fieldNamed } from "../src/vmx/fields.ts";
import { CONSISTENT, type Fields, regionOf } from "./synth/vmx-values.ts";

/** A consistent VMCS with more bits set. */
const plus = (name: string, bits: bigint, others: Fields = {}): Fields => ({
  ...others,
  [name]: (others[name] ?? CONSISTENT[name] ?? 0n) | bits,
});
const minus = (name: string, bits: bigint, others: Fields = {}): Fields => ({
  ...others,
  [name]: (others[name] ?? CONSISTENT[name] ?? 0n) & ~bits,
});
const PIN = "PIN_BASED_VM_EXEC_CONTROL";
const PRIMARY = "CPU_BASED_VM_EXEC_CONTROL";
const SECONDARY = "SECONDARY_VM_EXEC_CONTROL";
const EXIT = "VM_EXIT_CONTROLS";
const ENTRY = "VM_ENTRY_CONTROLS";
const secondary = (bit: number, others: Fields = {}): Fields => plus(SECONDARY, 1n << BigInt(bit), others);
const tertiary = (bit: number, others: Fields = {}): Fields =>
  plus(PRIMARY, 1n << 17n, { TERTIARY_VM_EXEC_CONTROL: 1n << BigInt(bit), ...others });
const entry = (bit: number, others: Fields = {}): Fields => plus(ENTRY, 1n << BigInt(bit), others);
const exit = (bit: number, others: Fields = {}): Fields => plus(EXIT, 1n << BigInt(bit), others);
const noEpt = (others: Fields): Fields => minus(SECONDARY, 2n, others);
const inject = (info: bigint, others: Fields = {}): Fields => ({
  VM_ENTRY_INTR_INFO_FIELD: 0x8000_0000n | info,
  ...others,
});
const UNALIGNED = 0x1800n;
const NOT_CANONICAL = 0x0400_0000_0000_0000n;
const RESTRICTED = minus(SECONDARY, 0x80n);
const VIRTUAL_8086: Fields = {
  ...minus(ENTRY, 0x200n),
  ...Object.fromEntries(
    ["CS", "SS", "DS", "ES", "FS", "GS"].flatMap((register) => [
      [`GUEST_${register}_AR_BYTES`, 0xf3n],
      [`GUEST_${register}_LIMIT`, 0xffffn],
      [`GUEST_${register}_SELECTOR`, 0n],
      [`GUEST_${register}_BASE`, 0n],
    ]),
  ),
  GUEST_RIP: 0x7c00n,
  GUEST_RFLAGS: 0x2_0002n,
};
const PAE_GUEST: Fields = { ...minus(ENTRY, 0x200n), GUEST_CS_AR_BYTES: 0xc09bn, GUEST_RIP: 0xc010_0000n };

/** What to change in a consistent VMCS so that a rule is broken; a rule's own segment comes in front. */
const BREAKS: Readonly<Record<string, Fields>> = {
  "controls.pin.default1": minus(PIN, 0x10n),
  "controls.pin.unknown": plus(PIN, 0x100n),
  "controls.primary.default1": minus(PRIMARY, 0x2n),
  "controls.primary.unknown": plus(PRIMARY, 0x1n),
  "controls.secondary.unknown": secondary(29),
  "controls.tertiary.unknown": tertiary(20),
  "controls.exit.default1": minus(EXIT, 0x1n),
  "controls.secondaryExit.unknown": exit(31, { SECONDARY_VM_EXIT_CONTROLS: 0x10n }),
  "controls.entry.default1": minus(ENTRY, 0x1n),
  "controls.entry.unknown": entry(30),
  "controls.vmFunctions.unknown": secondary(13, { VM_FUNCTION_CONTROL: 2n }),
  "controls.CR3_TARGET_COUNT": { CR3_TARGET_COUNT: 5n },
  "controls.IO_BITMAP_A": plus(PRIMARY, 1n << 25n, { IO_BITMAP_A: UNALIGNED }),
  "controls.IO_BITMAP_B": plus(PRIMARY, 1n << 25n, { IO_BITMAP_B: 1n << 52n }),
  "controls.MSR_BITMAP": { MSR_BITMAP: UNALIGNED },
  "controls.VIRTUAL_APIC_PAGE_ADDR": plus(PRIMARY, 1n << 21n, { VIRTUAL_APIC_PAGE_ADDR: UNALIGNED }),
  "controls.APIC_ACCESS_ADDR": secondary(0, { APIC_ACCESS_ADDR: UNALIGNED }),
  "controls.PML_ADDRESS": secondary(17, { PML_ADDRESS: UNALIGNED }),
  "controls.SPPT_POINTER": secondary(23, { SPPT_POINTER: UNALIGNED }),
  "controls.EPTP_LIST_ADDRESS": secondary(13, { VM_FUNCTION_CONTROL: 1n, EPTP_LIST_ADDRESS: UNALIGNED }),
  "controls.VMREAD_BITMAP": secondary(14, { VMREAD_BITMAP: UNALIGNED }),
  "controls.VMWRITE_BITMAP": secondary(14, { VMWRITE_BITMAP: UNALIGNED }),
  "controls.VE_INFORMATION_ADDRESS": secondary(18, { VE_INFORMATION_ADDRESS: UNALIGNED }),
  "controls.LOW_PASID_DIRECTORY": secondary(21, { LOW_PASID_DIRECTORY: UNALIGNED }),
  "controls.HIGH_PASID_DIRECTORY": secondary(21, { HIGH_PASID_DIRECTORY: UNALIGNED }),
  "controls.POSTED_INTR_DESC_ADDR": plus(PIN, 0x80n, { POSTED_INTR_DESC_ADDR: 0x20n }),
  "controls.PID_POINTER_TABLE": tertiary(4, { PID_POINTER_TABLE: 4n }),
  "controls.HLAT_POINTER": tertiary(1, { HLAT_POINTER: 0x1001n }),
  "controls.TPR_THRESHOLD": plus(PRIMARY, 1n << 21n, { TPR_THRESHOLD: 0x10n }),
  "controls.NMI exiting.0.virtual NMIs": minus(PIN, 0x8n),
  "controls.virtual NMIs.0.NMI-window exiting": { ...minus(PIN, 0x20n), ...plus(PRIMARY, 1n << 22n) },
  "controls.use TPR shadow.0.virtualize x2APIC mode": secondary(4),
  "controls.use TPR shadow.0.APIC-register virtualization": secondary(8),
  "controls.use TPR shadow.0.virtual-interrupt delivery": secondary(9),
  "controls.use TPR shadow.0.IPI virtualization": tertiary(4),
  "controls.virtualize x2APIC mode.1.virtualize APIC accesses": secondary(4, secondary(0)),
  "controls.virtual-interrupt delivery.1.external-interrupt exiting": { ...secondary(9), ...minus(PIN, 1n) },
  "controls.process posted interrupts.1.virtual-interrupt delivery": plus(PIN, 0x80n),
  "controls.process posted interrupts.1.acknowledge interrupt on exit": {
    ...plus(PIN, 0x80n),
    ...minus(EXIT, 0x8000n),
  },
  "controls.POSTED_INTR_NV": plus(PIN, 0x80n, { POSTED_INTR_NV: 0x100n }),
  "controls.VIRTUAL_PROCESSOR_ID": { VIRTUAL_PROCESSOR_ID: 0n },
  "controls.EPT_POINTER": { EPT_POINTER: 0x12e2_2019n },
  "controls.enable PML.1.enable EPT": noEpt(secondary(17)),
  "controls.unrestricted guest.1.enable EPT": noEpt({}),
  "controls.mode-based execute control for EPT.1.enable EPT": noEpt(secondary(22)),
  "controls.sub-page write permissions for EPT.1.enable EPT": noEpt(secondary(23)),
  "controls.Intel PT uses guest physical addresses.1.enable EPT": noEpt(secondary(24)),
  "controls.PEBS uses guest physical addresses.1.enable EPT": noEpt(tertiary(12)),
  "controls.enable HLAT.1.enable EPT": noEpt(tertiary(1)),
  "controls.EPT paging-write control.1.enable EPT": noEpt(tertiary(2)),
  "controls.guest-paging verification.1.enable EPT": noEpt(tertiary(3)),
  "controls.EPTP switching.1.enable EPT": noEpt(secondary(13, { VM_FUNCTION_CONTROL: 1n })),
  "controls.Intel PT uses guest physical addresses.1.load IA32_RTIT_CTL": secondary(24),
  "controls.Intel PT uses guest physical addresses.1.clear IA32_RTIT_CTL": secondary(24),
  "controls.TSC_MULTIPLIER": secondary(25),
  "controls.APIC-timer virtualization.1.virtual-interrupt delivery": tertiary(8),
  "controls.APIC-timer virtualization.1.RDTSC exiting": plus(PRIMARY, 1n << 12n, tertiary(8)),
  "controls.VIRTUAL_TIMER_VECTOR": tertiary(8, { VIRTUAL_TIMER_VECTOR: 0x100n }),
  "controls.preemption timer": { ...minus(PIN, 0x40n), ...exit(22) },
  "controls.VM_EXIT_MSR_STORE_ADDR": { VM_EXIT_MSR_STORE_COUNT: 1n, VM_EXIT_MSR_STORE_ADDR: 8n },
  "controls.VM_EXIT_MSR_LOAD_ADDR": { VM_EXIT_MSR_LOAD_COUNT: 2n, VM_EXIT_MSR_LOAD_ADDR: (1n << 52n) - 16n },
  "controls.injection.type": inject(0x100n),
  "controls.injection.vector": inject(0x203n),
  "controls.injection.no error code": inject(0x820n, { GUEST_RFLAGS: 0x202n }),
  "controls.injection.error code": inject(0x30en),
  "controls.injection.reserved": inject(0x4000_0306n),
  "controls.injection.nested": inject(0x2202n),
  "controls.injection.error code bits": inject(0xb0en, { VM_ENTRY_EXCEPTION_ERROR_CODE: 0x1_0000n }),
  "controls.injection.instruction length": inject(0x480n, { VM_ENTRY_INSTRUCTION_LEN: 16n }),
  "guest.RFLAGS.IF": inject(0xd1n),
  "controls.VM_ENTRY_MSR_LOAD_ADDR": { VM_ENTRY_MSR_LOAD_COUNT: 1n, VM_ENTRY_MSR_LOAD_ADDR: 1n },
  "controls.SMM": entry(10),
  "host.CR0": { HOST_CR0: 0x8005_0013n },
  "host.CR4": { HOST_CR4: 0x6_06b0n },
  "host.CR4.unknown": { HOST_CR4: 0x8000_0000_0006_26b0n },
  "host.CR4.CET": { HOST_CR0: 0x8004_0033n, HOST_CR4: 0x86_26b0n },
  "host.CR3": { HOST_CR3: 1n << 63n },
  "host.HOST_IA32_SYSENTER_ESP": { HOST_IA32_SYSENTER_ESP: NOT_CANONICAL },
  "host.HOST_IA32_SYSENTER_EIP": { HOST_IA32_SYSENTER_EIP: NOT_CANONICAL },
  "host.PAT": { HOST_IA32_PAT: 0x0302n },
  "host.EFER": exit(21, { HOST_IA32_EFER: 0x901n }),
  "host.SSP": exit(28, { HOST_SSP: 2n }),
  "host.S_CET": exit(28, { HOST_S_CET: 0xc00n }),
  "host.PKRS": exit(29, { HOST_IA32_PKRS: 1n << 32n }),
  ...Object.fromEntries(
    ["CS", "SS", "DS", "ES", "FS", "GS", "TR"].map((register) => [
      `host.HOST_${register}_SELECTOR`,
      { [`HOST_${register}_SELECTOR`]: 0x13n },
    ]),
  ),
  "host.HOST_CS_SELECTOR.null": { HOST_CS_SELECTOR: 0n },
  "host.HOST_SS_SELECTOR.null": { ...minus(EXIT, 0x200n), HOST_SS_SELECTOR: 0n },
  "host.HOST_TR_SELECTOR.null": { HOST_TR_SELECTOR: 0n },
  ...Object.fromEntries(
    ["FS", "GS", "GDTR", "IDTR", "TR"].map((register) => [
      `host.HOST_${register}_BASE`,
      { [`HOST_${register}_BASE`]: NOT_CANONICAL },
    ]),
  ),
  "host.address space": minus(EXIT, 0x200n),
  "host.32-bit host": minus(EXIT, 0x200n),
  "host.CR4.PAE": { HOST_CR4: 0x6_2690n },
  "host.RIP": { HOST_RIP: NOT_CANONICAL },
  "host.HOST_SSP": exit(28, { HOST_SSP: NOT_CANONICAL }),
  "host.HOST_S_CET": exit(28, { HOST_S_CET: NOT_CANONICAL }),
  "host.HOST_INTR_SSP_TABLE": exit(28, { HOST_INTR_SSP_TABLE: NOT_CANONICAL }),
  "guest.CR0": { ...RESTRICTED, GUEST_CR0: 0x5_0033n },
  "guest.CR0.PG": { GUEST_CR0: 0x8005_0032n },
  "guest.CR4": { GUEST_CR4: 0x6a0n },
  "guest.CR4.unknown": { GUEST_CR4: 0x8000_26a0n },
  "guest.CR4.CET": { GUEST_CR0: 0x8004_0033n, GUEST_CR4: 0x80_26a0n },
  "guest.DEBUGCTL": { GUEST_IA32_DEBUGCTL: 8n },
  "guest.IA-32e mode": { GUEST_CR4: 0x2680n },
  "guest.legacy mode": { ...PAE_GUEST, GUEST_CR4: 0x2_26a0n },
  "guest.CR3": { GUEST_CR3: 0x8000_0000_1a02_f080n },
  "guest.DR7": { GUEST_DR7: 1n << 32n },
  "guest.GUEST_SYSENTER_ESP": { GUEST_SYSENTER_ESP: NOT_CANONICAL },
  "guest.GUEST_SYSENTER_EIP": { GUEST_SYSENTER_EIP: NOT_CANONICAL },
  "guest.GUEST_S_CET": entry(20, { GUEST_S_CET: NOT_CANONICAL }),
  "guest.GUEST_INTR_SSP_TABLE": entry(20, { GUEST_INTR_SSP_TABLE: NOT_CANONICAL }),
  "guest.S_CET": entry(20, { GUEST_S_CET: 0xc00n }),
  "guest.PAT": { GUEST_IA32_PAT: 0x0800n },
  "guest.EFER": entry(15, { GUEST_IA32_EFER: 0x901n }),
  "guest.BNDCFGS": entry(16, { GUEST_BNDCFGS: 4n }),
  "guest.PKRS": entry(22, { GUEST_IA32_PKRS: 1n << 32n }),
  "guest.UINV": entry(19, { GUEST_UINV: 0x100n }),
  "guest.GUEST_GDTR_BASE": { GUEST_GDTR_BASE: NOT_CANONICAL },
  "guest.GDTR.limit": { GUEST_GDTR_LIMIT: 0x1_0000n },
  "guest.GUEST_IDTR_BASE": { GUEST_IDTR_BASE: NOT_CANONICAL },
  "guest.IDTR.limit": { GUEST_IDTR_LIMIT: 0x1_0000n },
  "guest.RIP": { GUEST_RIP: NOT_CANONICAL },
  "guest.RFLAGS": { GUEST_RFLAGS: 0x85n },
  "guest.RFLAGS.VM": { GUEST_RFLAGS: 0x2_0002n },
  "guest.SSP": { ...PAE_GUEST, ...plus(ENTRY, 1n << 20n, PAE_GUEST), GUEST_SSP: 0x7fc1_727f_dfd0n },
  "guest.activity": { GUEST_ACTIVITY_STATE: 4n },
  "guest.activity.CPL": { GUEST_ACTIVITY_STATE: 1n, GUEST_SS_AR_BYTES: 0xc0f3n },
  "guest.activity.blocking": {
    GUEST_ACTIVITY_STATE: 1n,
    GUEST_INTERRUPTIBILITY_INFO: 1n,
    GUEST_RFLAGS: 0x202n,
  },
  "guest.activity.injection": inject(0xd1n, { GUEST_ACTIVITY_STATE: 2n, GUEST_RFLAGS: 0x202n }),
  "guest.activity.SMM": entry(10, { GUEST_ACTIVITY_STATE: 3n }),
  "guest.interruptibility": { GUEST_INTERRUPTIBILITY_INFO: 0x20n },
  "guest.interruptibility.both": { GUEST_INTERRUPTIBILITY_INFO: 3n, GUEST_RFLAGS: 0x202n },
  "guest.interruptibility.STI": { GUEST_INTERRUPTIBILITY_INFO: 1n },
  "guest.interruptibility.injection": inject(0xd1n, {
    GUEST_INTERRUPTIBILITY_INFO: 2n,
    GUEST_RFLAGS: 0x202n,
  }),
  "guest.interruptibility.SMI": { GUEST_INTERRUPTIBILITY_INFO: 4n },
  "guest.interruptibility.NMI": inject(0x202n, { GUEST_INTERRUPTIBILITY_INFO: 8n }),
  "guest.interruptibility.enclave": { GUEST_INTERRUPTIBILITY_INFO: 0x12n },
  "guest.pending debug": { GUEST_PENDING_DBG_EXCEPTIONS: 0x2000n },
  // A guest that single-steps over MOV SS (xen-devel, November 2019).
  "guest.pending debug.BS": { GUEST_INTERRUPTIBILITY_INFO: 2n, GUEST_RFLAGS: 0x187n },
  "guest.pending debug.RTM": { GUEST_PENDING_DBG_EXCEPTIONS: 0x1_0000n },
  "guest.link pointer": { VMCS_LINK_POINTER: UNALIGNED },
  ...Object.fromEntries(
    [0, 1, 2, 3].map((index) => [
      `guest.PDPTR${index}`,
      { ...PAE_GUEST, [`GUEST_PDPTR${index}`]: 0x1000_0003n },
    ]),
  ),
  ...Object.fromEntries(["CS", "SS", "DS", "ES", "FS", "GS"].flatMap(segmentBreaks)),
  "guest.SS.RPL": { ...RESTRICTED, GUEST_SS_SELECTOR: 0x1bn },
  "guest.CS.DPL": { GUEST_CS_AR_BYTES: 0xa0fbn },
  "guest.SS.DPL": { ...RESTRICTED, GUEST_SS_AR_BYTES: 0xc0f3n },
  "guest.SS.FRED": { GUEST_CR4: 0x1_0000_26a0n, GUEST_SS_AR_BYTES: 0xc0b3n },
  "guest.CS.D/B": { GUEST_CS_AR_BYTES: 0xe09bn },
  ...Object.fromEntries(
    [
      ["LDTR", 0x82n],
      ["TR", 0x8bn],
    ].flatMap(([register, rights]) => systemBreaks(register as string, rights as bigint)),
  ),
  "guest.TR.usable": { GUEST_TR_AR_BYTES: 0x1_008bn },
};

function segmentBreaks(register: string): [string, Fields][] {
  const name = `GUEST_${register}_AR_BYTES`;
  const good = register === "CS" ? 0xa09bn : 0xc093n;
  const limit = { [`GUEST_${register}_LIMIT`]: 0xffff_ffffn };
  const with_ = (rights: bigint): Fields => ({ ...limit, [name]: rights });
  const high = register === "FS" || register === "GS" ? NOT_CANONICAL : 1n << 32n;
  return [
    [`guest.${register}.base`, { ...with_(good), [`GUEST_${register}_BASE`]: high }],
    [`guest.${register}.v8086 base`, { ...VIRTUAL_8086, [`GUEST_${register}_BASE`]: 0x10n }],
    [`guest.${register}.v8086 limit`, { ...VIRTUAL_8086, [`GUEST_${register}_LIMIT`]: 0xffffen }],
    [`guest.${register}.v8086 rights`, { ...VIRTUAL_8086, [name]: 0xf2n }],
    [`guest.${register}.type`, with_(good & ~1n)],
    [`guest.${register}.S`, with_(good & ~0x10n)],
    [`guest.${register}.P`, with_(good & ~0x80n)],
    [`guest.${register}.reserved`, with_(good | 0x100n)],
    [`guest.${register}.G`, { [name]: good, [`GUEST_${register}_LIMIT`]: 0xf_f0ffn }],
    ...(register === "CS" || register === "SS"
      ? []
      : [
          [
            `guest.${register}.DPL`,
            { ...RESTRICTED, ...with_(good), [`GUEST_${register}_SELECTOR`]: 0x1bn },
          ] as [string, Fields],
        ]),
  ];
}

function systemBreaks(register: string, rights: bigint): [string, Fields][] {
  const name = `GUEST_${register}_AR_BYTES`;
  return [
    [`guest.${register}.selector`, { [name]: rights, [`GUEST_${register}_SELECTOR`]: 0x44n }],
    [`guest.${register}.base`, { [name]: rights, [`GUEST_${register}_BASE`]: NOT_CANONICAL }],
    [`guest.${register}.S`, { [name]: rights | 0x10n }],
    [`guest.${register}.P`, { [name]: rights & ~0x80n }],
    [`guest.${register}.reserved`, { [name]: rights | 0x400n }],
    [`guest.${register}.G`, { [name]: rights, [`GUEST_${register}_LIMIT`]: 0x10_0000n }],
    [`guest.${register}.type`, { [name]: rights & ~0xfn }],
  ];
}

const idsOf = (...fields: Fields[]): string[] =>
  checkEntry(regionOf(CONSISTENT, ...fields)).violations.map(({ id }) => id);

describe("rules of VM entry", () => {
  test("a consistent VMCS breaks none, and all are decided", () => {
    const { violations, passed, notChecked } = checkEntry(regionOf(CONSISTENT));
    expect(violations).toEqual([]);
    expect(notChecked).toEqual([]);
    expect(passed).toBe(ENTRY_RULES.length);
  });

  test.each([
    ["virtual-8086", VIRTUAL_8086],
    ["PAE", PAE_GUEST],
    [
      "real mode",
      {
        ...minus(ENTRY, 0x200n),
        GUEST_CR0: 0x30n,
        GUEST_CS_AR_BYTES: 0x9bn,
        GUEST_CS_LIMIT: 0xffffn,
        GUEST_CS_SELECTOR: 0xf000n,
        GUEST_CS_BASE: 0xffff_0000n,
        GUEST_RIP: 0xfff0n,
      },
    ],
    ["halted", { GUEST_ACTIVITY_STATE: 1n, GUEST_RFLAGS: 0x202n }],
    ["blocking by STI", { GUEST_INTERRUPTIBILITY_INFO: 1n, GUEST_RFLAGS: 0x202n }],
    ["a page fault to inject", inject(0xb0en)],
    ["an interrupt to inject", inject(0xd1n, { GUEST_RFLAGS: 0x202n })],
    ["shadow VMCS", secondary(14, { VMCS_LINK_POINTER: 0x7000n })],
  ])("a consistent VMCS with %s breaks none", (_, fields) => {
    expect(idsOf(fields)).toEqual([]);
  });

  test("each has a name of its own and a section", () => {
    expect(new Set(ENTRY_RULES.map(({ id }) => id)).size).toBe(ENTRY_RULES.length);
    for (const { id, section, area } of ENTRY_RULES) {
      expect(section, id).toMatch(/^27\.[23](\.\d){1,2}$/);
      expect(id.startsWith(area === "controls" ? "controls." : `${area}.`), id).toBe(true);
    }
  });

  test("each can be broken, and is then named", () => {
    expect(Object.keys(BREAKS).toSorted()).toEqual(ENTRY_RULES.map(({ id }) => id).toSorted());
  });

  test.each(Object.entries(BREAKS))("%s", (id, fields) => {
    const { violations } = checkEntry(regionOf(CONSISTENT, fields));
    const found = violations.find((violation) => violation.id === id);
    expect(found, violations.map((violation) => violation.id).join(", ")).toBeDefined();
    expect(found!.message).toMatch(/^[^.\n].{10,}[^.]$/);
    expect(found!.message).not.toMatch(/undefined|NaN|\bn\b/);
    expect(found!.fields.length).toBeGreaterThan(0);
    const changed = Object.keys(fields);
    expect(found!.fields.some(({ name }) => changed.includes(name))).toBe(true);
  });

  test("what a layout lacks is not checked, not passed", () => {
    const region = regionOf(CONSISTENT);
    region.values.delete(fieldNamed("GUEST_RFLAGS")!.encoding);
    const { violations, notChecked, passed } = checkEntry(region);
    expect(violations).toEqual([]);
    expect(notChecked.find(({ id }) => id === "guest.RFLAGS")?.missing).toEqual(["GUEST_RFLAGS"]);
    expect(passed).toBe(ENTRY_RULES.length - notChecked.length);
    const nothing = checkEntry({ values: new Map() });
    expect(nothing.violations).toEqual([]);
    expect(nothing.passed).toBe(0);
  });

  test("what stands on a field at a guessed place is not checked", () => {
    const { encoding } = fieldNamed("GUEST_SS_AR_BYTES")!;
    const broken = regionOf(CONSISTENT, { GUEST_SS_AR_BYTES: 0x18n });
    expect(checkEntry(broken).violations.length).toBeGreaterThan(0);
    const { violations, notChecked, passed } = checkEntry({
      ...broken,
      layout: { guessed: new Map([[encoding, []]]) },
    });
    expect(violations).toEqual([]);
    expect(notChecked.map(({ missing }) => missing)).toEqual(notChecked.map(() => ["GUEST_SS_AR_BYTES"]));
    expect(passed).toBe(ENTRY_RULES.length - notChecked.length);
  });

  test("a VMCS that was never entered has notes, not errors", () => {
    const never = regionOf(CONSISTENT, { HOST_RSP: 0n, EPT_POINTER: 0n });
    expect(wasEntered(never)).toBe(false);
    expect(checkEntry(never).violations.map(({ severity }) => severity)).toEqual(["note"]);
    expect(checkEntry(never, true).violations.map(({ severity }) => severity)).toEqual(["error"]);
  });

  test("errors come before warnings", () => {
    const { violations } = checkEntry(
      regionOf(CONSISTENT, plus(PIN, 0x100n, { GUEST_RFLAGS: 0n, HOST_CR0: 0n })),
    );
    const severities = violations.map(({ severity }) => severity);
    expect(severities).toEqual(severities.toSorted());
    expect(severities.at(-1)).toBe("warning");
  });

  test("no values make it throw", () => {
    const encodings = [...regionOf().values.keys()];
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.constantFrom(...encodings), fc.bigInt({ min: 0n, max: (1n << 64n) - 1n })), {
          maxLength: 60,
        }),
        fc.boolean(),
        (values, full) => {
          const base = full ? regionOf(CONSISTENT).values : new Map<number, bigint>();
          const { violations, passed, notChecked } = checkEntry({ values: new Map([...base, ...values]) });
          expect(violations.length + passed + notChecked.length).toBe(ENTRY_RULES.length);
        },
      ),
      { numRuns: 200 },
    );
  });
});
