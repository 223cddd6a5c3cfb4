/**
 * Letters of the bits of `tainted_mask`, from bit 0 on (kernel/panic.c: taint_flags; bits keep their meaning); G, for
 * bit 0 that is clear, says that all modules are free.
 */
const LETTERS = "PFSRMBUDAWCIOELKXTNJ";

/** A kernel's or a module's taints as `/proc/modules` has them: "OE"; "" of none. Unknown bits are left out. */
export const taintLetters = (mask: bigint): string =>
  [...LETTERS].filter((_, bit) => ((mask >> BigInt(bit)) & 1n) === 1n).join("");
