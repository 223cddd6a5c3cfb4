/**
 * How the expected value of a field is known. `written`: the hypervisor keeps what it last wrote to the field, or read
 * from it since the processor last changed it. `derived`: it follows from what the hypervisor keeps by rules of its
 * code. `stale`: the hypervisor kept it, and the processor may have changed it since.
 */
export type Trust = "written" | "derived" | "stale";

/** What a field must hold in one VMCS. */
export interface Expected {
  readonly value: bigint;
  /** Bits that are known, all of the field's where undefined. */
  readonly mask?: bigint | undefined;
  /** How far below `value` the field's may be: an instruction that was skipped is as long. */
  readonly below?: bigint | undefined;
  readonly trust: Trust;
  /** Where it is known from, in the hypervisor's words: `loaded_vmcs.host_state.cr3`. */
  readonly source: string;
}

/** What is known of one VMCS: field, by KVM's name → what it must hold. */
export type KnownFields = ReadonlyMap<string, Expected>;

/** A VMCS whose layout is sought. */
export interface KnownRegion {
  /** Physical address. */
  readonly address: number;
  /** 4096 bytes. */
  readonly bytes: Uint8Array;
  readonly known: KnownFields;
}

/** Bits of a value that say something: none of 0 and of all ones, few of small numbers. */
export function bitsOf({ value, mask = (1n << 64n) - 1n }: Expected, bytes: number): number {
  const all = (1n << BigInt(8 * bytes)) - 1n;
  const told = value & mask & all;
  const inverse = ~value & mask & all;
  const least = told < inverse ? told : inverse;
  return least.toString(2).length - (least === 0n ? 1 : 0);
}
