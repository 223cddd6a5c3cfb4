import { latin1 } from "../../core/bytes.ts";
import { Envelopes } from "../console/envelopes.ts";
import type { Detected, Finding, TimelineEvent } from "../finding.ts";
import { kernelLine, LineCutter, TextProbe } from "../hardware/lines.ts";
import { ApeiReader } from "./apei.ts";
import { PowerReader } from "./power.ts";
import type { LogContext, McRecord, ReadLine, RecordReader } from "./record.ts";
import { SingleLines } from "./single-lines.ts";
import { X86Reader } from "./x86.ts";

/** An error, and how often it came. */
export interface CountedRecord {
  readonly record: McRecord;
  readonly count: number;
  /** Line of the last one. */
  readonly lastLine: number;
}

export interface MceDetected extends Detected {
  /** The same defect counts once: errors that repeat differ in addresses and times alone. */
  readonly records: readonly CountedRecord[];
  /** Errors of further kinds that are not told of. */
  readonly dropped: number;
  readonly lines: number;
  /** Whether the input is a text: else nothing found in it means nothing. */
  readonly isText: boolean;
  readonly context: LogContext;
}

/** Kinds of errors kept of one log. */
const MAX_RECORDS = 500;
/** Lines that are evidence of one finding. */
const MAX_EVIDENCE = 12;

/** Linux arch/x86/kernel/cpu/hypervisor.c, drivers/firmware/dmi_scan.c, arch/powerpc: what a kernel runs on. */
const HYPERVISOR = /^Hypervisor detected: ([\w .-]{1,40})/;
const DMI =
  /^DMI: (QEMU|VMware|Xen|Red Hat KVM|Google Compute Engine|Microsoft Corporation Virtual|innotek)\b/;
const PSERIES = /^Hardware name: IBM pSeries \(emulated by (qemu)\)/;
/** What every line that begins an error, or tells of the machine, has one of. */
const WORDS =
  /[Mm]achine [Cc]heck|Hardware [Ee]rror|MCE|mce|EDAC|[Mm]emory [EFef]|FWNMI|KVM|BERT|Hypervisor|DMI|Hardware name|BANK|STATUS|MCA |broadcast exception/;
const INJECTOR =
  /^(?:mce: )?(?:Machine check injector initialized|Triggering MCE exception on CPU \d|Starting machine check poll CPU \d)/;

/**
 * Finds machine checks and other errors of hardware in a kernel's log or a console, line by line: x86 and POWER, what
 * firmware tells by APEI, EDAC, failures of memory, and what QEMU says of them.
 */
export class MceDetector {
  readonly #source: string;
  readonly #cutter: LineCutter;
  readonly #readers: readonly RecordReader[];
  readonly #records = new Map<string, { record: McRecord; count: number; lastLine: number }>();
  readonly #probe = new TextProbe();
  readonly #envelopes = new Envelopes();
  #dropped = 0;
  #hypervisor: string | undefined;
  #injector = false;

  constructor({ source }: { readonly source: string }) {
    this.#source = source;
    const emit = (record: McRecord) => this.#keep(record);
    const x86 = new X86Reader(emit, () => this.#context());
    this.#readers = [x86, new PowerReader(emit), new ApeiReader(emit), new SingleLines(emit)];
    this.#cutter = new LineCutter((text, number) => this.#line(text, number));
  }

  push(bytes: Uint8Array): void {
    this.#probe.push(bytes);
    if (this.#envelopes.isPlain) this.#cutter.push(bytes);
    else this.#cutter.push(Buffer.from(this.#envelopes.push(latin1(bytes)), "latin1"));
  }

  end(): MceDetected {
    this.#cutter.push(Buffer.from(this.#envelopes.end(), "latin1"));
    this.#cutter.end();
    for (const reader of this.#readers) reader.end();
    const records = [...this.#records.values()];
    return {
      records,
      findings: records.map((counted) => this.#finding(counted)),
      events: records.map((counted) => this.#event(counted)),
      dropped: this.#dropped,
      lines: this.#cutter.count,
      isText: this.#probe.isText,
      context: this.#context(),
    };
  }

  #context(): LogContext {
    return { hypervisor: this.#hypervisor, injector: this.#injector };
  }

  #line(raw: string, number: number): void {
    // Of most logs no line passes.
    if (!this.#readers.some(({ isOpen }) => isOpen) && !WORDS.test(raw)) return;
    const line: ReadLine = { ...kernelLine(raw), number };
    this.#notice(line.text);
    for (const reader of this.#readers) if (reader.line(line)) return;
  }

  /** What tells whose hardware it is. */
  #notice(text: string): void {
    this.#hypervisor ??= HYPERVISOR.exec(text)?.[1] ?? DMI.exec(text)?.[1] ?? PSERIES.exec(text)?.[1];
    this.#injector ||= INJECTOR.test(text);
  }

  #keep(record: McRecord): void {
    const key = `${record.rule} ${record.severity} ${record.signature}`;
    const known = this.#records.get(key);
    if (known !== undefined) {
      known.count++;
      known.lastLine = record.line;
    } else if (this.#records.size < MAX_RECORDS) {
      this.#records.set(key, { record, count: 1, lastLine: record.line });
    } else {
      this.#dropped++;
    }
  }

  #finding({ record, count, lastLine }: CountedRecord): Finding {
    const { rule, lines, uptime, status, facts } = record;
    return {
      rule: `mce/${rule}`,
      class: record.class,
      severity: record.severity,
      side: record.side,
      trust: record.trust,
      title: count === 1 ? record.title : `${record.title}; ${count} times`,
      signature: record.signature,
      ...(record.survived === undefined ? {} : { survived: record.survived }),
      ...(uptime === undefined ? {} : { at: { uptime } }),
      evidence: lines.slice(0, MAX_EVIDENCE).map(({ line, text }) => ({ source: this.#source, line, text })),
      details: {
        ...facts,
        ...(status === undefined
          ? {}
          : {
              status: status.status,
              flags: status.flags.map(({ name }) => name),
              errorClass: status.class,
              code: status.code.text,
            }),
        ...(count === 1 ? {} : { count, lastLine }),
      },
    };
  }

  #event({ record }: CountedRecord): TimelineEvent {
    const { rule, line, uptime, title } = record;
    return {
      kind: `mce/${rule}`,
      ...(uptime === undefined ? {} : { at: { uptime } }),
      source: this.#source,
      line,
      text: title,
    };
  }
}
