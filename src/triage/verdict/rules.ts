import type { VerdictRule } from "./rule.ts";
import { DEATH_RULES } from "./rules-deaths.ts";
import { END_RULES } from "./rules-ends.ts";
import { FAULT_RULES } from "./rules-faults.ts";

/** Of several that hold, the first counts. */
export const VERDICT_RULES: readonly VerdictRule[] = [...DEATH_RULES, ...FAULT_RULES, ...END_RULES];
