import { hex, plural } from "../core/text.ts";
import type { WalkOutcome, WalkProblem } from "../kernel/walk/outcome.ts";

const REASONS: Readonly<Record<WalkProblem, string>> = {
  unreadable: "is not all in this dump",
  cycle: "leads back to itself",
  limit: "has no end",
  senseless: "makes no sense",
  "unknown-layout": "is not described by the kernel's types",
};

/** How a walk over `what` failed, in words; undefined when it did not. */
export const problemText = (what: string, outcome: WalkOutcome): string | undefined =>
  outcome.complete ? undefined : `${what} ${REASONS[outcome.reason]} (at ${hex(outcome.address)})`;

/** What is wrong with some of many: `the memslot at 0x… cannot be read`, `3 memslots cannot be read, the first at 0x…`. */
export function problemsOf(
  noun: string,
  [one, several]: readonly [string, string],
  addresses: readonly bigint[],
): string[] {
  const [first, ...others] = addresses;
  if (first === undefined) return [];
  if (others.length === 0) return [`the ${noun} at ${hex(first)} ${one}`];
  return [`${plural(addresses.length, noun)} ${several}, the first at ${hex(first)}`];
}
