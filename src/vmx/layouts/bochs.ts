import { VMCS_FIELDS } from "../fields.ts";
import { defineLayout, type Place } from "./define.ts";

/**
 * Bochs keeps one table of dwords a width and type, behind revision, abort indicator and launch state; a field is at
 * the place that bits 9:0 of its encoding say, a wide one takes the place of the high encoding too (`cpu/vmcs.cc`).
 */
const START = 0x10;

/** @param sizes dwords a table of each width has, in the order of the encoding: 16, 64, 32 bits, natural */
function places(sizes: readonly [number, number, number, number]): Place[] {
  return VMCS_FIELDS.flatMap(({ encoding }): Place[] => {
    const width = (encoding >>> 13) & 3;
    const type = (encoding >>> 10) & 3;
    const before = sizes.slice(0, width).reduce((sum, size) => sum + 4 * size, 0) + type * sizes[width]!;
    const index = encoding & 0x3ff;
    return index < sizes[width]! ? [[encoding, START + 4 * (before + index)]] : [];
  });
}

/** What its models of Skylake-X and of everything from Ice Lake on claim. */
const OTHER_REVISIONS = [0x04];

/** Bochs since November 2023. The tables grew since then. */
export const BOCHS = defineLayout({
  name: "bochs",
  kind: "emulator",
  revisionId: 0x2b,
  otherRevisions: OTHER_REVISIONS,
  accessRights: "rotated",
  source: "Bochs cpu/vmcs.cc, cpu/vmx.h at commit 783b58f (August 2026)",
  confidence: "certain for that commit",
  fields: places([0x20, 0x54, 0x30, 0x30]),
});

/** Bochs before commit 4d0865962, release 2.7 for one. */
export const BOCHS_BEFORE_2023_11 = defineLayout({
  name: "bochs-before-2023-11",
  kind: "emulator",
  revisionId: 0x2b,
  otherRevisions: OTHER_REVISIONS,
  accessRights: "rotated",
  source: "Bochs cpu/vmcs.cc before commit 4d0865962",
  confidence: "certain for the parent of that commit",
  fields: places([0x40, 0x40, 0x40, 0x40]),
});
