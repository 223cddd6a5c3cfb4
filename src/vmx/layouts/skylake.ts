import { defineLayout, type Place } from "./define.ts";
import { HASWELL } from "./haswell.ts";

const PUBLISHED: readonly Place[] = [
  [0x0000, 0x0ce],
  [0x200c, 0x0d0],
  [0x201a, 0x140],
  [0x2400, 0x148],
  [0x2800, 0x0f8],
  [0x280a, 0x220],
  [0x280c, 0x228],
  [0x280e, 0x230],
  [0x2810, 0x238],
  [0x6802, 0x210],
  [0x6804, 0x218],
  [0x6c02, 0x330],
  [0x6c04, 0x338],
];

/** Skylake to Coffee Lake. Thirteen offsets are published and all equal Haswell's; the others are taken from there. */
export const SKYLAKE = defineLayout({
  name: "skylake",
  kind: "processor",
  revisionId: 0x04,
  accessRights: "packed",
  source: "volatility3 (symbols/generic/vmcs/skylake-architecture.json); the rest after Haswell",
  confidence: "high for thirteen fields; the others are a guess",
  fields: PUBLISHED,
  inferred: [...HASWELL.fields].filter(
    ([encoding]) => !PUBLISHED.some(([published]) => published === encoding),
  ),
});
