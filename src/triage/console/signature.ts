import type { Severity, Side, Trust } from "../finding.ts";
import type { IncidentClass } from "./classes.ts";

/**
 * What a line that a signature matches does.
 * - `cause`: begins an incident.
 * - `end`: is the outcome of one that is there, else begins one.
 * - `panic`: is the end of the machine, of one that is there or of its own.
 * - `lead`: says of an incident that begins in the next lines more than its first line does; none by itself.
 * - `part`: belongs to the one that is there; none by itself.
 */
export type Role = "cause" | "end" | "panic" | "lead" | "part";

/** Who says what a console shows; what a kernel says has its time where others lines have. */
export type System = "linux" | "freebsd" | "netbsd" | "openbsd" | "darwin" | "other";

export interface Signature {
  /** Stable, unique: the rule of a finding is `console/` and this. */
  readonly id: string;
  readonly class: IncidentClass;
  readonly role: Role;
  /** Each at least three characters; a line begins with one of them. Or: */
  readonly starts?: readonly string[];
  /** A piece of text, at least seven characters, that a line must have: for those whose beginning is open. */
  readonly contains?: string;
  /** Anchored at the start of a line, and linear in its length. */
  readonly pattern: RegExp;
  /** `$1` is the pattern's first group. */
  readonly title: string;
  /** Whether the guilty function is part of the title, behind " in ". */
  readonly inFrame?: boolean;
  /** Of a lead: a warning that follows has its title, where its first group is there. */
  readonly tells?: boolean;
  /** What the line behind has in its first group is what happened. */
  readonly next?: RegExp;
  /** Group of the pattern that names the guilty function. */
  readonly frame?: number;
  /** Where it differs from that of the class. */
  readonly severity?: Severity;
  readonly side?: Side;
  readonly trust?: Trust;
  /** `kernel`: in a log with the kernel's time, a line without it says nothing. */
  readonly speaker: "kernel" | "any";
  /** Without a banner of one of these systems, one of the next lines has to confirm it. */
  readonly systems?: readonly System[];
  readonly confirm?: RegExp;
  /** File and function it is from. */
  readonly source: string;
  /** Lines without the kernel's time that it matches, and that no other matches before it. */
  readonly examples: readonly string[];
  /** Lines that look like it and that nothing matches. */
  readonly negatives?: readonly string[];
}

type Entry = Omit<Signature, "role" | "speaker"> & Partial<Pick<Signature, "role" | "speaker">>;

/** A list of signatures with the defaults: a cause, told by the kernel. */
export const signatures = (entries: readonly Entry[]): readonly Signature[] =>
  entries.map((entry) => ({ role: "cause", speaker: "kernel", ...entry }));
