/** A member of a structure, as its type information describes it. Sizes and offsets in bytes. */
export interface Member {
  readonly offset: number;
  /** Of the whole member, arrays included; of a bitfield, of its storage unit. */
  readonly size: number;
  /** Of an array: how many elements, and the size of one; 1 and `size` of anything else. */
  readonly count: number;
  readonly stride: number;
  /** Of a bitfield: where its lowest bit lies in the storage unit, and how many it has. */
  readonly bits?: { readonly shift: number; readonly width: number } | undefined;
}

/** What is known of a kernel's types; undefined is what a kernel does not have, or does not tell. */
export interface KernelTypes {
  /** Bytes of a struct, union, enum or typedef, named without its keyword. */
  sizeOf(type: string): number | undefined;
  /**
   * A member by its path, the type first: `kvm_vcpu.arch.regs`. Anonymous structs and unions are looked through;
   * pointers are not followed.
   */
  member(path: string): Member | undefined;
  /** The value of a constant of any enum. */
  constant(name: string): bigint | undefined;
}

/** `member(path).offset`, of the first path that a kernel has: structures change their members' names. */
export function offsetOf(types: KernelTypes, ...paths: string[]): number | undefined {
  for (const path of paths) {
    const member = types.member(path);
    if (member !== undefined) return member.offset;
  }
  return undefined;
}
