import type { Fact } from "./fact.ts";
import type { PanicInfo } from "./panic-info.ts";

/** What can happen to a machine that somebody should know of; the classes of findings follow from it. */
export type IncidentKind =
  | "panic"
  | "crash-loaded"
  | "reset"
  | "watchdog"
  | "io-error"
  | "internal-error"
  | "memory-failure"
  | "host-error"
  | "qemu-abort"
  | "killed"
  | "start-failed"
  | "cont-refused"
  | "stop"
  | "ended"
  | "timeout"
  | "migration-failed"
  | "dump-failed";

/** One thing that happened, with what was learnt of it later. */
export interface Incident {
  readonly kind: IncidentKind;
  readonly first: Fact;
  /** The first few, the most telling first. */
  readonly facts: Fact[];
  /** Of the same thing: events of one panic, errors of one disk, resets. */
  count: number;
  last: Fact;
  /** What tells it from others of its kind: the disk, the action. */
  readonly key: string;
  /** What it says of itself, in the input's words. */
  what: string;
  /** Every `action` that QEMU announced, in order. */
  readonly actions: string[];
  info: PanicInfo | undefined;
  /** What became of the machine: each word once, in order. */
  readonly after: string[];
  /** Whether the machine went on. */
  resumed: boolean;
  /** Which start of QEMU it was in, from 1. */
  readonly run: number;
  /** Further facts of its kind. */
  readonly details: Record<string, unknown>;
}

/** An event for the time line. */
export interface Noted {
  readonly kind: string;
  readonly fact: Fact;
  readonly text: string;
}
