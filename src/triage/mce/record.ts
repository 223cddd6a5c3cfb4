import type { Severity, Side, Trust } from "../finding.ts";
import type { McStatus } from "./status.ts";

/** One hardware error as a log tells of it, lines that belong together put together. */
export interface McRecord {
  /** The rule behind "mce/": `x86`, `amd`, `power`, `apei`, `edac`, `memory-failure`, `qemu`, `panic`, `logged`. */
  readonly rule: string;
  readonly class: string;
  readonly severity: Severity;
  readonly side: Side;
  readonly trust: Trust;
  readonly title: string;
  readonly signature: string;
  readonly survived?: boolean;
  /** Of its first line, from 1. */
  readonly line: number;
  readonly uptime?: number;
  /** Lines it was read from, the first one first. */
  readonly lines: readonly RecordLine[];
  /** Of x86: the bank's status in words. */
  readonly status?: McStatus;
  /** What else it says, JSON values and bigints. */
  readonly facts: Readonly<Record<string, unknown>>;
}

export interface RecordLine {
  readonly line: number;
  /** At most 1000 characters, without the kernel's prefixes. */
  readonly text: string;
}

/** Of a text that belongs to evidence. */
export const MAX_TEXT = 1000;
/** Lines kept of one error; APEI's have the most. */
export const MAX_LINES = 40;

/** What reads the lines of one kind of error. */
export interface RecordReader {
  /** Whether an error is being read: its next lines have nothing in common with its first. */
  readonly isOpen: boolean;
  /** @returns whether the line is of its kind */
  line(line: ReadLine): boolean;
  /** No line follows. */
  end(): void;
}

/** A line with its prefixes taken off. */
export interface ReadLine {
  readonly text: string;
  readonly uptime: number | undefined;
  readonly number: number;
}

export type Emit = (record: McRecord) => void;

export const lineOf = ({ number, text }: ReadLine): RecordLine => ({
  line: number,
  text: text.slice(0, MAX_TEXT),
});

/** What is known of a log that says whose hardware it was. */
export interface LogContext {
  /** The hypervisor that the kernel runs under, as it says. */
  readonly hypervisor: string | undefined;
  /** Whether the kernel's own injector was used. */
  readonly injector: boolean;
}
