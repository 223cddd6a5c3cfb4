import { hex } from "../core/text.ts";
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
