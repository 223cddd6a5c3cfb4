import { CR0_PE, CR0_PG, EFER_LMA } from "./registers.ts";
import type { X86State } from "./state.ts";

export type OperatingMode = "real" | "protected" | "compatibility" | "long";

const CS_LONG = 1 << 21;

/** Operating mode (Intel SDM Vol. 3A §2.2); CS.L stands in for EFER where EFER is unknown. */
export function modeOf({ cr0, efer, segments }: X86State): OperatingMode {
  if ((cr0 & CR0_PE) === 0n) return "real";
  const code64 = (segments.cs.flags & CS_LONG) !== 0;
  const long = efer === undefined ? code64 && (cr0 & CR0_PG) !== 0n : (efer & EFER_LMA) !== 0n;
  if (!long) return "protected";
  return code64 ? "long" : "compatibility";
}

/** Current privilege level: DPL of SS (Intel SDM Vol. 3A §5.5). */
export const privilegeOf = ({ segments }: X86State): number => (segments.ss.flags >>> 13) & 3;
