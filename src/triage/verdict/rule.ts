import type { Severity, Side, Trust } from "../finding.ts";
import type { Occurrence, Signs } from "./signs.ts";
import type { MachineFacts, VerdictName } from "./types.ts";

/** How the sources of a VM make a verdict; of several that hold, the first counts. */
export interface VerdictRule {
  readonly id: string;
  readonly verdict: VerdictName;
  readonly confidence: Trust;
  /** How bad it is at the least; a finding it rests on may be worse. */
  readonly severity: Severity | undefined;
  /** Where no finding says better. */
  readonly side: Side;
  readonly title: string;
  /** @returns what it rests on, the most telling first; undefined when it does not hold */
  readonly when: (signs: Signs, machine: MachineFacts | undefined) => readonly Occurrence[] | undefined;
  /** One sentence. */
  readonly why: string;
  /** Another for findings of some classes, where one of these decided. */
  readonly whyOf?: Readonly<Record<string, string>>;
  /** The same where the guest had a failure that it outlived. */
  readonly outlived?: { readonly title?: string; readonly why: string };
}
