import type { Detected, TimelineEvent } from "../finding.ts";
import type { CommandLine } from "./command-line.ts";
import { findingsOf, momentOf } from "./findings.ts";
import type { Guest } from "./guest.ts";
import type { QemuVersion } from "./message.ts";
import { type Outcome, outcomeOf } from "./outcome.ts";
import { type PanicPolicy, policyOf } from "./policy.ts";
import type { Qemucall } from "./port-trace.ts";
import type { KnownState } from "./run-state.ts";

/** What is known of one machine in the end. */
export interface QmpGuest extends Detected {
  /** What the log calls it: a monitor of libvirt's, a domain; empty where there is one only. */
  readonly name: string;
  readonly version: QemuVersion | undefined;
  /** `Debian 1:7.2+dfsg-7`. */
  readonly package: string | undefined;
  readonly libvirt: string | undefined;
  /** Machine type. */
  readonly machine: string | undefined;
  readonly commandLine: CommandLine | undefined;
  readonly runState: KnownState | undefined;
  /** The state before its QEMU ended; the run state itself while it has not. */
  readonly lastState: KnownState | undefined;
  readonly stateSource: "query-status" | "events";
  /** How often QEMU was started, as far as the log tells. */
  readonly runs: number;
  readonly exit: number | undefined;
  readonly policy: PanicPolicy;
  readonly outcome: Outcome;
  readonly contradictions: readonly { readonly line: number; readonly text: string }[];
  /** Messages and lines that say something; events that are no matter of ours are among `ignored`. */
  readonly messages: number;
  readonly ignored: number;
  /** Events and findings that are left out because there are too many. */
  readonly omitted: number;
}

/** What cannot be read of an input. */
export interface QmpDamage {
  readonly count: number;
  readonly reason: "cut" | "syntax" | "deep" | "long";
  /** Of the first. */
  readonly line: number;
}

export interface QmpReport extends Detected, Omit<QmpGuest, "name"> {
  readonly source: string;
  /** Machines whose messages are in the input; the first fields are of the one that fared worst. */
  readonly guests: readonly QmpGuest[];
  /** Calls of the qemucall proposal in a trace of I/O. */
  readonly qemucalls: readonly Qemucall[];
  readonly damage: readonly QmpDamage[];
  /** Messages that were left out because of machines beyond the limit. */
  readonly lostGuests: number;
}

/** What is known of one machine, when its log has been replayed. */
export function reportOf(guest: Guest, source: string): QmpGuest {
  const findings = findingsOf(guest, source);
  const { version, commandLine } = guest;
  return {
    name: guest.key,
    version,
    package: guest.package,
    libvirt: guest.libvirt,
    machine: commandLine?.machine,
    commandLine,
    runState: guest.state,
    lastState: guest.lastState,
    stateSource: guest.stateSource,
    runs: guest.run,
    exit: guest.exit,
    policy: policyOf(guest),
    outcome: outcomeOf(guest, findings),
    contradictions: guest.contradictions.map(({ text, fact }) => ({ text, line: fact.line })),
    messages: guest.messages,
    ignored: guest.ignored,
    omitted: guest.omitted + guest.lostIncidents,
    findings,
    events: guest.noted.map(({ kind, fact, text }): TimelineEvent => {
      const at = momentOf(fact, guest);
      return { kind, ...(at === undefined ? {} : { at }), source, line: fact.line, text };
    }),
  };
}
