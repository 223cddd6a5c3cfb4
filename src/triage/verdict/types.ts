import type { Detected, Finding, Severity, Side, Trust } from "../finding.ts";

/** What can have become of a guest. */
export const VERDICTS = [
  "clean",
  "guest-panic",
  "guest-hang",
  "guest-reset",
  "host-fault",
  "hardware-fault",
  "qemu-crash",
  "stopped-by-policy",
  "unknown",
] as const;
export type VerdictName = (typeof VERDICTS)[number];

/** What kind of artefact a source is; `cmdline` and `unknown` tell nothing of a failure. */
export const SOURCE_KINDS = [
  "console",
  "qmp",
  "libvirt-log",
  "qemu-log",
  "pstore",
  "rtas",
  "dump",
  "qemu-core",
  "cmdline",
  "unknown",
] as const;
export type SourceKind = (typeof SOURCE_KINDS)[number];

/** What was found in one artefact of a VM. */
export interface SourceDetected extends Detected {
  /** As the input is named. */
  readonly source: string;
  readonly kind: SourceKind;
  /** Why it was not read, or not to its end. */
  readonly problem?: string;
}

/** What a QEMU command line says of a machine; undefined where it was not given. */
export interface MachineFacts {
  /** `-name`. */
  readonly name?: string;
  /** Whether the guest can tell the host of a panic: a pvpanic device, or a machine that needs none. */
  readonly pvpanic: boolean;
  /** Whether a reset ends QEMU: `-no-reboot`, `-action reboot=shutdown`. */
  readonly noReboot: boolean;
  /** What QEMU was told to do at a panic: `-action panic=`. */
  readonly panicAction?: string;
  /** `panic=` of the kernel's command line: seconds until it reboots, 0 never, negative at once. */
  readonly panicTimeout?: number;
}

/** What is known of a VM besides its sources. */
export interface JudgeContext {
  readonly machine?: MachineFacts | undefined;
}

/** How sources of one VM stand to each other. */
export interface Statement {
  /** Which rule said so, stable. */
  readonly rule: string;
  readonly text: string;
}

/** Whose clock the place of an entry on the time line comes from. */
export const CLOCKS = ["host", "guest", "joined", "uptime", "order"] as const;
/**
 * `host`: QEMU's wall clock; `guest`: the guest's wall clock; `joined`: uptime put on the host's clock by something that
 * both tell of; `uptime`: seconds since the guest's boot alone; `order`: only its place in its source is known.
 */
export type Clock = (typeof CLOCKS)[number];

export interface TimelineEntry {
  readonly clock: Clock;
  /** Unix time in milliseconds, where it is known or could be joined. */
  readonly wall?: number;
  /** Seconds since the guest's boot. */
  readonly uptime?: number;
  readonly source: string;
  readonly sourceKind: SourceKind;
  readonly line?: number;
  /** Of an event its kind, of a finding its rule. */
  readonly kind: string;
  readonly severity?: Severity;
  readonly text: string;
}

export interface Timeline {
  readonly entries: readonly TimelineEntry[];
  /** Entries in the middle left out, because there are more than are kept. */
  readonly omitted: number;
  /** How the clocks were joined, and by how much they differ: sentences. */
  readonly notes: readonly string[];
}

export interface Verdict {
  readonly verdict: VerdictName;
  readonly confidence: Trust;
  /** How bad it is for `--fail-on`; undefined when nothing is wrong. */
  readonly severity: Severity | undefined;
  readonly side: Side;
  readonly title: string;
  /** Which rule decided, stable. */
  readonly rule: string;
  /** Sentences: why this verdict, and why that side. */
  readonly why: readonly string[];
  readonly signature: string | undefined;
  /** What the verdict rests on: one of `findings`. */
  readonly principal: Finding | undefined;
  /** Of all sources, worst first. */
  readonly findings: readonly Finding[];
  readonly timeline: Timeline;
  readonly agreements: readonly Statement[];
  readonly contradictions: readonly Statement[];
  /** Commands to go on with, their reason behind `#`. */
  readonly next: readonly string[];
}
