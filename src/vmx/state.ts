import { CR0_PE, EFER_LMA, EFER_LME } from "../x86/registers.ts";
import {
  GENERAL_REGISTERS,
  SEGMENT_REGISTERS,
  type Segment,
  type SegmentRegister,
  type X86State,
} from "../x86/state.ts";
import { UNUSABLE } from "./access-rights.ts";
import { inForce } from "./controls.ts";
import type { CheckedValues } from "./entry-rules.ts";
import { fieldNamed } from "./fields.ts";

/** A register a VMCS tells, whole or in part. */
export type VmcsRegister =
  | "rip"
  | "rsp"
  | "rflags"
  | "cr0"
  | "cr3"
  | "cr4"
  | "efer"
  | "gdt"
  | "idt"
  | SegmentRegister;

/** IA32_EFER from elsewhere: the VM-entry MSR-load area, or the hypervisor's own copy. */
export interface KnownEfer {
  readonly value: bigint;
  readonly source: string;
}

export interface VmcsState {
  /** Whether CR3 is of the hypervisor's tables: without EPT, or for a guest without paging. */
  readonly ownCr3: boolean;
  /** What of the state is not the guest's as it is there, in words. */
  readonly caveats: readonly string[];
  /** Undefined where the region lacks a field that every state has. */
  readonly state: X86State | undefined;
  /** Where it does: a state of which only these registers are the guest's. */
  readonly partial?: { readonly state: X86State; readonly registers: ReadonlySet<VmcsRegister> };
  /** Where each register is from, in words. */
  readonly sources: Readonly<Partial<Record<VmcsRegister, string>>>;
  /** The fields that are lacking. */
  readonly missing: readonly string[];
}

type Read = (name: string) => bigint;

/** CR0 or CR4 as the guest sees it: bits that the host owns come from the read shadow (SDM Vol. 3C §25.6.6). */
const merged = (read: Read, register: "CR0" | "CR4"): bigint => {
  const mask = read(`${register}_GUEST_HOST_MASK`);
  return (read(`GUEST_${register}`) & ~mask) | (read(`${register}_READ_SHADOW`) & mask);
};
const mergedSource = (register: string): string => `VMCS GUEST_${register} with mask and read shadow`;

const PREFIX: Readonly<Record<SegmentRegister, string>> = {
  es: "ES",
  cs: "CS",
  ss: "SS",
  ds: "DS",
  fs: "FS",
  gs: "GS",
  ldt: "LDTR",
  tr: "TR",
};

const PRESENT = 1 << 15;

/**
 * Access rights as the upper half of a descriptor. An unusable segment is not present and keeps the rest, which is what
 * QEMU makes of KVM_GET_SREGS (`get_seg` in target/i386/kvm/kvm.c; KVM's `vmx_get_segment` calls a segment present when
 * it is usable).
 */
export function descriptorFlags(rights: number): number {
  const flags = (rights & 0xf0ff) << 8;
  return (rights & UNUSABLE) === 0 ? flags | PRESENT : flags & ~PRESENT;
}

const segment = (read: Read, register: SegmentRegister): Segment => {
  const name = `GUEST_${PREFIX[register]}`;
  return {
    selector: Number(read(`${name}_SELECTOR`)),
    base: read(`${name}_BASE`),
    limit: Number(read(`${name}_LIMIT`)),
    flags: descriptorFlags(Number(read(`${name}_AR_BYTES`))),
  };
};

const RFLAGS_VM = 1n << 17n;
const RFLAGS_IOPL = 3n << 12n;
const CR0_PG = 1n << 31n;

/** A processor's TR and access rights at reset (Intel SDM Vol. 3A Table 10-1), which real mode leaves as they are. */
const RESET_TR: Segment = { selector: 0, base: 0n, limit: 0xffff, flags: descriptorFlags(0x8b) };
const RESET_RIGHTS = { code: descriptorFlags(0x9b), data: descriptorFlags(0x93) };

/**
 * Without "unrestricted guest" KVM runs real mode as virtual-8086 mode (`enter_rmode` in arch/x86/kvm/vmx/vmx.c): with
 * VM and IOPL set, access rights that VM entry wants then, a TSS and page tables of its own. What the guest has is in
 * struct vcpu_vmx.
 */
const REAL_MODE =
  "real mode is run in virtual-8086 mode: IOPL, TR and attributes of segments are those of a reset, the VMCS has the hypervisor's";
function realModeSegment(register: SegmentRegister, held: Segment): Segment {
  if (register === "ldt") return held;
  if (register === "tr") return RESET_TR;
  return { ...held, flags: register === "cs" ? RESET_RIGHTS.code : RESET_RIGHTS.data };
}

/**
 * IA32_EFER. Its field counts only with "load IA32_EFER"; without, the guest runs with the host's, of which VM entry
 * changes LMA and LME alone (SDM Vol. 3C §27.3.2.1). The field itself is then left from earlier.
 */
function eferOf({ values }: CheckedValues, known: KnownEfer | undefined): KnownEfer {
  const read = (encoding: number): bigint | undefined => values.get(encoding);
  const long = inForce(read, "entry.IA-32e mode guest");
  const withMode = (value: bigint): bigint => {
    if (long === undefined) return value;
    return long ? value | EFER_LMA | EFER_LME : value & ~EFER_LMA & ~EFER_LME;
  };
  const guest = values.get(fieldNamed("GUEST_IA32_EFER")!.encoding);
  if (guest !== undefined && inForce(read, "entry.load IA32_EFER") === true) {
    const value = long === true ? guest | EFER_LMA : guest & ~EFER_LMA;
    return { value, source: "VMCS GUEST_IA32_EFER" };
  }
  if (known !== undefined) return { value: withMode(known.value), source: known.source };
  const host = values.get(fieldNamed("HOST_IA32_EFER")!.encoding);
  if (host !== undefined && host !== 0n) {
    return { value: withMode(host), source: "VMCS HOST_IA32_EFER with LMA and LME of the VM-entry controls" };
  }
  return { value: withMode(0n), source: "VM-entry controls: LMA and LME alone are known" };
}

/**
 * The guest's registers as far as a VMCS has them: of the general ones RSP; CR2, KERNEL_GS_BASE and the rest are
 * undefined. CR3 is verbatim, PCID included. RIP is the last that the processor saved or the hypervisor wrote back.
 * @param efer where the caller knows it from elsewhere
 */
export function stateOf(region: CheckedValues, efer?: KnownEfer): VmcsState {
  const missing = new Set<string>();
  const read: Read = (name) => {
    const value = region.values.get(fieldNamed(name)!.encoding);
    if (value === undefined) missing.add(name);
    return value ?? 0n;
  };
  const cr0 = merged(read, "CR0");
  const held = read("GUEST_RFLAGS");
  const emulated = (cr0 & CR0_PE) === 0n && (held & RFLAGS_VM) !== 0n;
  const segmentOf = (register: SegmentRegister): Segment =>
    emulated ? realModeSegment(register, segment(read, register)) : segment(read, register);
  const foundEfer = eferOf(region, efer);
  const registers = Object.fromEntries(GENERAL_REGISTERS.map((name) => [name, undefined])) as {
    [R in (typeof GENERAL_REGISTERS)[number]]: bigint | undefined;
  };
  const state: X86State = {
    ...registers,
    rsp: read("GUEST_RSP"),
    rip: read("GUEST_RIP"),
    rflags: emulated ? held & ~RFLAGS_VM & ~RFLAGS_IOPL : held,
    segments: Object.fromEntries(
      SEGMENT_REGISTERS.map((register) => [register, segmentOf(register)]),
    ) as Record<SegmentRegister, Segment>,
    gdt: { base: read("GUEST_GDTR_BASE"), limit: Number(read("GUEST_GDTR_LIMIT")) },
    idt: { base: read("GUEST_IDTR_BASE"), limit: Number(read("GUEST_IDTR_LIMIT")) },
    cr0,
    cr2: undefined,
    cr3: read("GUEST_CR3"),
    cr4: merged(read, "CR4"),
    efer: foundEfer.value,
    kernelGsBase: undefined,
  };
  const ownCr3 =
    inForce((encoding) => region.values.get(encoding), "secondary.enable EPT") === false ||
    (cr0 & CR0_PG) < (read("GUEST_CR0") & CR0_PG);
  const caveats = emulated ? [REAL_MODE] : [];
  const sources = sourcesOf(region, foundEfer.source, emulated, ownCr3);
  if (missing.size > 0) {
    const partial = { state, registers: registersWithout(missing) };
    return { state: undefined, partial, ownCr3, caveats, sources, missing: [...missing] };
  }
  return { state, ownCr3, caveats, sources, missing: [] };
}

/** Fields by which each register is told. */
const FIELDS_OF: Readonly<Record<Exclude<VmcsRegister, "efer">, readonly string[]>> = {
  rip: ["GUEST_RIP"],
  rsp: ["GUEST_RSP"],
  rflags: ["GUEST_RFLAGS"],
  cr0: ["GUEST_CR0", "CR0_GUEST_HOST_MASK", "CR0_READ_SHADOW"],
  cr3: ["GUEST_CR3"],
  cr4: ["GUEST_CR4", "CR4_GUEST_HOST_MASK", "CR4_READ_SHADOW"],
  gdt: ["GUEST_GDTR_BASE", "GUEST_GDTR_LIMIT"],
  idt: ["GUEST_IDTR_BASE", "GUEST_IDTR_LIMIT"],
  ...(Object.fromEntries(
    SEGMENT_REGISTERS.map((name) => [
      name,
      ["SELECTOR", "BASE", "LIMIT", "AR_BYTES"].map((part) => `GUEST_${PREFIX[name]}_${part}`),
    ]),
  ) as Record<SegmentRegister, string[]>),
};

/** Segments may be those of virtual-8086 mode where RFLAGS, which tells that, is missing. */
const registersWithout = (missing: ReadonlySet<string>): ReadonlySet<VmcsRegister> =>
  new Set(
    Object.entries(FIELDS_OF).flatMap(([register, fields]) => {
      const isSegment = SEGMENT_REGISTERS.some((name) => name === register);
      const needed = isSegment ? [...fields, "GUEST_RFLAGS"] : fields;
      return needed.some((field) => missing.has(field)) ? [] : [register as VmcsRegister];
    }),
  );

function sourcesOf(
  { layout }: CheckedValues,
  efer: string,
  emulated: boolean,
  ownCr3: boolean,
): Readonly<Partial<Record<VmcsRegister, string>>> {
  const real = emulated ? ", attributes as at reset" : "";
  return {
    rip: "VMCS GUEST_RIP",
    rsp: "VMCS GUEST_RSP",
    rflags: emulated ? "VMCS GUEST_RFLAGS without VM and IOPL" : "VMCS GUEST_RFLAGS",
    cr0: mergedSource("CR0"),
    cr3: ownCr3 ? "VMCS GUEST_CR3, the hypervisor's own" : "VMCS GUEST_CR3",
    cr4: mergedSource("CR4"),
    efer,
    gdt: "VMCS GUEST_GDTR",
    idt: "VMCS GUEST_IDTR",
    ...Object.fromEntries(
      SEGMENT_REGISTERS.map((name) => {
        const isGuess = layout?.guessed?.has(fieldNamed(`GUEST_${PREFIX[name]}_AR_BYTES`)!.encoding) === true;
        const rights = isGuess ? ", access rights from a guessed place" : "";
        if (emulated && name === "tr") return [name, "as at reset: the VMCS has the hypervisor's"];
        return [name, `VMCS GUEST_${PREFIX[name]}${name === "ldt" ? "" : real}${rights}`];
      }),
    ),
  };
}
