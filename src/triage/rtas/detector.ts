import type { Detected, Evidence, Finding, Moment, TimelineEvent } from "../finding.ts";
import { LineCutter, TextProbe } from "../hardware/lines.ts";
import { MAX_LOGS, RtasFinder, type RtasLog } from "./decode.ts";
import { HexBlocks, type PrintedLog, type PrintedSummary } from "./hex-blocks.ts";
import { judge, sectionOf } from "./judge.ts";
import { named, SEVERITY_NAMES, TYPES } from "./names.ts";

/** A log and where it is from: printed into a kernel log, or as bytes. */
export interface FoundLog {
  readonly log: RtasLog;
  /** Line of the log, from 1, where it was printed. */
  readonly line?: number;
  /** The kernel's number of the event. */
  readonly event?: number;
  readonly uptime?: number;
}

export interface RtasDetected extends Detected {
  readonly logs: readonly FoundLog[];
  /** Whether there were more than are kept. */
  readonly more: boolean;
  /** Whether the input is a text; else it is bytes. */
  readonly isText: boolean;
  /** Bytes of it. */
  readonly size: number;
}

/**
 * Finds RTAS error logs in an input of any kind, which is read once: as bytes, and as the hexadecimal words of a kernel
 * log. One is told from the other by what is found, so nothing has to be known of the input.
 */
export class RtasDetector {
  readonly #source: string;
  readonly #finder = new RtasFinder();
  readonly #lines: LineCutter;
  readonly #blocks: HexBlocks;
  readonly #printed: PrintedLog[] = [];
  readonly #summaries: PrintedSummary[] = [];
  readonly #probe = new TextProbe();

  constructor({ source }: { readonly source: string }) {
    this.#source = source;
    this.#blocks = new HexBlocks(
      (log) => this.#printed.push(log),
      (summary) => this.#summaries.push(summary),
    );
    this.#lines = new LineCutter((text, line) => this.#blocks.line(text, line));
  }

  push(bytes: Uint8Array): void {
    this.#probe.push(bytes);
    this.#finder.push(bytes);
    this.#lines.push(bytes);
  }

  end(): RtasDetected {
    this.#lines.end();
    this.#blocks.end();
    const found = this.#finder.end();
    const printed = this.#printed.map(
      ({ log, line, event, uptime }): FoundLog => ({
        log,
        line,
        ...(event === undefined ? {} : { event }),
        ...(uptime === undefined ? {} : { uptime }),
      }),
    );
    const logs = [...printed, ...found.map((log): FoundLog => ({ log }))];
    const told = [
      ...logs.map((log) => this.#tell(log)),
      ...this.#summaries.map((summary) => this.#tellSummary(summary)),
    ];
    return {
      logs,
      findings: told.flatMap(({ finding }) => finding ?? []),
      events: told.map(({ event }) => event),
      more: this.#blocks.more || found.length >= MAX_LOGS,
      isText: this.#probe.isText,
      size: this.#probe.size,
    };
  }

  #tell(found: FoundLog): { readonly finding: Finding | undefined; readonly event: TimelineEvent } {
    const { log, line } = found;
    const { isFinding, ...judgement } = judge(log);
    const at = momentOf(found);
    const evidence: Evidence = {
      source: this.#source,
      ...(line === undefined ? { offset: log.offset } : { line }),
      text: evidenceText(log),
    };
    const finding: Finding = {
      ...judgement,
      trust: log.damage.length === 0 ? "certain" : "likely",
      ...(at === undefined ? {} : { at }),
      evidence: [evidence],
      details: detailsOf(found),
    };
    return { finding: isFinding ? finding : undefined, event: this.#event(judgement.title, at, line) };
  }

  /** Type and severity are all that is known: the rest stands in the log of the same event. */
  #tellSummary(summary: PrintedSummary): { finding: Finding | undefined; event: TimelineEvent } {
    const { line, uptime, typeCode, event } = summary;
    const severity = SEVERITY_NAMES[summary.severity] ?? "reserved";
    const type = named(TYPES, typeCode);
    const title = `RTAS event: ${type}, ${severity}`;
    const at = uptime === undefined ? undefined : { uptime };
    const isError = summary.severity >= 2 && summary.severity <= 5;
    const finding: Finding = {
      rule: "rtas/event",
      class: "platform-error",
      severity: summary.severity === 5 ? "panic" : summary.severity >= 2 ? "warning" : "notice",
      side: "hardware",
      trust: "likely",
      title,
      signature: `rtas event ${type} ${severity}`,
      ...(at === undefined ? {} : { at }),
      evidence: [{ source: this.#source, line, text: title }],
      details: { event, type, typeCode, severity },
    };
    return { finding: isError ? finding : undefined, event: this.#event(title, at, line) };
  }

  #event(text: string, at: Moment | undefined, line: number | undefined): TimelineEvent {
    return {
      kind: "rtas/event",
      source: this.#source,
      ...(at === undefined ? {} : { at }),
      ...(line === undefined ? {} : { line }),
      text,
    };
  }
}

/** The kernel's clock where it printed the log; the platform's by the private header. */
function momentOf({ log, uptime }: FoundLog): Moment | undefined {
  const time = sectionOf(log, "PH")?.facts.time;
  const wall = typeof time === "string" ? Date.parse(time) : undefined;
  if (uptime === undefined && wall === undefined) return undefined;
  return { ...(uptime === undefined ? {} : { uptime }), ...(wall === undefined ? {} : { wall }) };
}

/** At most 1000 characters, see `Evidence`. */
function evidenceText(log: RtasLog): string {
  const sections = log.sections.map(({ id }) => id.replace(/[^\x20-\x7e]/g, ".")).join(" ");
  const head = `RTAS log version ${log.version}, ${log.severity}, ${log.disposition}, initiator ${log.initiator}, type ${log.type}`;
  return `${head}${sections === "" ? "" : `; sections ${sections}`}`.slice(0, 1000);
}

function detailsOf({ log, event }: FoundLog): Readonly<Record<string, unknown>> {
  const facts = sectionOf(log, "MC")?.facts ?? sectionOf(log, "EP")?.facts ?? {};
  return {
    ...(event === undefined ? {} : { event }),
    severity: log.severity,
    disposition: log.disposition,
    initiator: log.initiator,
    type: log.type,
    ...facts,
    ...(log.damage.length === 0 ? {} : { damage: log.damage }),
  };
}
