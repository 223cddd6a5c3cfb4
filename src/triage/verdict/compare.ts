import { AGREEMENT_RULES } from "./agreements.ts";
import type { ComparisonRule } from "./comparison.ts";
import { CONTRADICTION_RULES } from "./contradictions.ts";
import type { Signs } from "./signs.ts";
import type { MachineFacts, Statement } from "./types.ts";

/** Everything that sources say alike, and everything in which they differ. */
export function compareSources(
  signs: Signs,
  machine: MachineFacts | undefined,
): { readonly agreements: readonly Statement[]; readonly contradictions: readonly Statement[] } {
  const told = (rules: readonly ComparisonRule[]): Statement[] =>
    rules.flatMap(({ id, says }) => {
      const text = says(signs, machine);
      return text === undefined ? [] : [{ rule: id, text }];
    });
  return { agreements: told(AGREEMENT_RULES), contradictions: told(CONTRADICTION_RULES) };
}
