import type { Finding } from "../finding.ts";
import type { Guest } from "./guest.ts";
import { SHUTDOWN_CAUSES } from "./run-state.ts";

/** What became of a machine, in one word and one line. */
export interface Outcome {
  readonly kind: string;
  readonly text: string;
  /** Order of weight: 0 is the worst. */
  readonly rank: number;
}

/** Classes of findings, the most telling first: what a machine is said to have come to. */
const BY_WEIGHT = [
  ...["guest-panicked", "crash-loaded", "qemu-abort", "internal-error", "host-error", "qemu-killed"],
  ...["watchdog", "io-error", "reset-loop", "memory-failure", "cont-refused", "guest-reset", "start-failed"],
  ...["migration-failed", "dump-failed", "host-stop", "timeout", "stopped-by-policy"],
];

/** Ends without a finding. */
const ENDS: Readonly<Record<string, readonly [string, string]>> = {
  "guest-shutdown": ["shut-down", "the guest powered itself off, and no panic was told"],
  guest: ["shut-down", "the guest shut down or reset; before QEMU 4.0 nothing says which"],
  shutdown: ["shut-down", "shut down, and no panic was told"],
};

export function outcomeOf(guest: Guest, findings: readonly Finding[]): Outcome {
  const classes = new Set(findings.map((finding) => finding.class));
  const rank = BY_WEIGHT.findIndex((name) => classes.has(name));
  const worst = findings.find((finding) => finding.class === BY_WEIGHT[rank]);
  if (worst !== undefined) return { kind: worst.class, text: outcomeText(worst), rank };
  const { ended, state } = guest;
  const end =
    ended === undefined
      ? undefined
      : (ENDS[ended.reason] ?? ["shut-down", SHUTDOWN_CAUSES[ended.reason] ?? ended.reason]);
  const [kind, text] =
    end ??
    (state === "running"
      ? ["running", "the guest runs, and no panic was told"]
      : ["unknown", state === undefined ? "nothing is told of its end" : `the machine is ${state}`]);
  return { kind, text, rank: BY_WEIGHT.length };
}

/** The title, and what came after. */
function outcomeText({ title, details }: Finding): string {
  const after = details?.after;
  return Array.isArray(after) && after.length > 0 ? `${title}; then: ${after.join(", ")}` : title;
}
