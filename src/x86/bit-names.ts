/** Bits that Intel and AMD name alike. */

export type BitName = readonly [bit: number, name: string];

/** Intel SDM Vol. 3A §2.5; AMD APM Vol. 2 §3.1.1. */
export const CR0_BITS: readonly BitName[] = [
  [0, "PE"],
  [1, "MP"],
  [2, "EM"],
  [3, "TS"],
  [4, "ET"],
  [5, "NE"],
  [16, "WP"],
  [18, "AM"],
  [29, "NW"],
  [30, "CD"],
  [31, "PG"],
];
/** But for bit 1, which is always set, and IOPL in bits 13:12 (SDM Vol. 3A §2.3; APM Vol. 2 §3.1.6). */
export const RFLAGS_BITS: readonly BitName[] = [
  [0, "CF"],
  [2, "PF"],
  [4, "AF"],
  [6, "ZF"],
  [7, "SF"],
  [8, "TF"],
  [9, "IF"],
  [10, "DF"],
  [11, "OF"],
  [14, "NT"],
  [16, "RF"],
  [17, "VM"],
  [18, "AC"],
  [19, "VIF"],
  [20, "VIP"],
  [21, "ID"],
];
