import {
  type Control,
  type ControlSetName,
  controlName,
  inForce,
  setInForce,
  type VmcsValues,
} from "./controls.ts";
import { fieldNamed } from "./fields.ts";
import type { VmcsLayout } from "./layout.ts";

/** Part of a VMCS that VM entry checks. */
export type CheckArea = "controls" | "host" | "guest";

/**
 * `error`: VM entry fails on every processor; `warning`: on some, by capabilities that the region does not tell; `note`:
 * of a VMCS that was never entered, whose fields need not be complete.
 */
export type Severity = "error" | "warning" | "note";

/** One rule of the Intel SDM, Vol. 3C §27.2 (controls, host state) or §27.3 (guest state). */
export interface EntryRule {
  readonly id: string;
  /** Section of the SDM, chapter "VM Entries" taken as 27. */
  readonly section: string;
  readonly area: CheckArea;
  readonly severity: "error" | "warning";
  /** What is inconsistent, as a sentence without a full stop; undefined when nothing is. */
  readonly check: (facts: Facts) => string | undefined;
}

/** Values and, where they are of a region, the layout that says which of them are at a guessed place. */
export type CheckedValues = VmcsValues & { readonly layout?: Pick<VmcsLayout, "guessed"> };

/** What a rule asks of the region; remembers what it asked for and what was not there. */
export interface Facts {
  /** A field by KVM's name; 0 where the region lacks it or its place is guessed, in which case the rule counts as not checked. */
  readonly field: (name: string) => bigint;
  /** Whether a control is in force; false where that is not known. */
  readonly is: (control: Control) => boolean;
  /** Whether a set of controls is in force as a whole; false where that is not known. */
  readonly isActivated: (set: ControlSetName) => boolean;
  readonly used: ReadonlySet<number>;
  readonly missing: ReadonlySet<number>;
}

export function factsOf({ values, layout }: CheckedValues): Facts {
  const used = new Set<number>();
  const missing = new Set<number>();
  const read = (encoding: number): bigint | undefined => {
    const value = layout?.guessed?.has(encoding) === true ? undefined : values.get(encoding);
    (value === undefined ? missing : used).add(encoding);
    return value;
  };
  return {
    field: (name) => read(fieldNamed(name)!.encoding) ?? 0n,
    is: (control) => inForce(read, control) ?? false,
    isActivated: (set) => setInForce(read, set) ?? false,
    used,
    missing,
  };
}

/** Linear addresses have 57 bits at most: what is not canonical then is on no processor. */
export const isCanonical = (address: bigint): boolean =>
  BigInt.asUintN(64, BigInt.asIntN(57, address)) === address;
/** Bits 63:57 alike: what RIP and SSP of 64-bit code are held to, which may be one past a canonical address. */
export const hasEqualTop = (address: bigint): boolean => {
  const top = address >> 57n;
  return top === 0n || top === 0x7fn;
};
/** Beyond every physical-address width. */
export const PHYSICAL_END = 1n << 52n;
export const has = (value: bigint, bit: number): boolean => ((value >> BigInt(bit)) & 1n) === 1n;
export const hex = (value: bigint): string => `0x${value.toString(16)}`;
export const quoted = (control: Control): string => `"${controlName(control)}"`;

export const CR0_PE = 0;
export const CR0_NE = 5;
export const CR0_WP = 16;
export const CR0_PG = 31;
export const CR4_PAE = 5;
export const CR4_VMXE = 13;
export const CR4_PCIDE = 17;
export const CR4_CET = 23;
export const CR4_FRED = 32;
export const EFER_LME = 8;
export const EFER_LMA = 10;

/** IA32_EFER bits that are none (SDM Vol. 3A Table 2-1). */
export const EFER_RESERVED = ~0xd01n;
/** CR4 bits without a name so far (SDM Vol. 3A §2.5). */
export const CR4_UNKNOWN = ~0x1_1bff_7fffn;

/** Each byte of IA32_PAT is a memory type. */
export function invalidPat(name: string, value: bigint): string | undefined {
  for (let entry = 0; entry < 8; entry++) {
    const type = (value >> BigInt(8 * entry)) & 0xffn;
    if (type > 7n || type === 2n || type === 3n) return `${name} has memory type ${type} in entry ${entry}`;
  }
  return undefined;
}

/** A rule that a field holds a canonical address. */
export const canonicalRule = (
  id: string,
  section: string,
  area: CheckArea,
  name: string,
  control?: Control,
): EntryRule => ({
  id,
  section,
  area,
  severity: "error",
  check: ({ field, is }) => {
    if (control !== undefined && !is(control)) return undefined;
    const value = field(name);
    return isCanonical(value) ? undefined : `${name} ${hex(value)} is not a canonical address`;
  },
});
