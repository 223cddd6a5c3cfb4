import type { Severity } from "../finding.ts";
import { type Emit, lineOf, MAX_LINES, type ReadLine, type RecordLine, type RecordReader } from "./record.ts";

/**
 * Errors that firmware tells of by APEI: Linux drivers/acpi/apei/ghes.c and bert.c, drivers/firmware/efi/cper.c,
 * cper-x86.c, cper-arm.c.
 */
const LINE = /^(?:\{(\d{1,10})\})?(?:mce: )?\[Hardware Error\]: ?(.{0,1000})/;
const START = /^Hardware error from APEI Generic Hardware Error Source: (\d{1,5})/;
const BERT = /^BERT: Error records from previous boot:/;
const EVENT_SEVERITY = /^event severity: (recoverable|fatal|corrected|info|unknown)\b/;
const TYPE = /^ {0,4}Error (\d{1,4}), type: (recoverable|fatal|corrected|info|unknown)\b/;
const FACT =
  /^ {0,8}(section_type|section type|fru_text|physical_address|physical_address_mask|error_status|error_type|device_id|processor_id|DIMM location|port_type|aer_uncor_status|vendor_id): (.{1,200})/;
const PLACE = /^ {1,8}(?:node|card|module|rank|bank|device|row|column):\d/;
const PANIC = /^Kernel panic - not syncing: (Fatal hardware error!.{0,80})/;

interface Open {
  readonly first: ReadLine;
  /** What is in front of each line of it, "{1}"; undefined of a BERT record, which has none. */
  readonly number: string | undefined;
  readonly bert: boolean;
  readonly lines: RecordLine[];
  severity: string | undefined;
  facts: Record<string, string>;
}

/** Lines of another kind that end a record. */
const MAX_FOREIGN = 30;

export class ApeiReader implements RecordReader {
  readonly #emit: Emit;
  #open: Open | undefined;
  #bert = false;
  #foreign = 0;

  constructor(emit: Emit) {
    this.#emit = emit;
  }

  get isOpen(): boolean {
    return this.#open !== undefined || this.#bert;
  }

  line(read: ReadLine): boolean {
    if (BERT.test(read.text)) {
      this.#bert = true;
      return true;
    }
    const found = LINE.exec(read.text);
    if (found !== null) return this.#marked(read, found[1], found[2]!);
    if (this.#open !== undefined) {
      const panic = PANIC.exec(read.text);
      if (panic !== null) {
        this.#open.facts.panic = panic[1]!;
        this.#open.lines.push(lineOf(read));
        this.#close();
        return true;
      }
      if (++this.#foreign > MAX_FOREIGN) this.#close();
    }
    return false;
  }

  end(): void {
    this.#close();
  }

  #marked(read: ReadLine, number: string | undefined, text: string): boolean {
    const severity = EVENT_SEVERITY.exec(text);
    if (START.test(text) || (severity !== null && this.#isNew(number))) this.#start(read, number);
    const open = this.#open;
    if (open === undefined || open.number !== number) return false;
    this.#foreign = 0;
    if (open.lines.length < MAX_LINES && open.lines.at(-1)?.line !== read.number) {
      open.lines.push(lineOf(read));
    }
    const type = TYPE.exec(text);
    const fact = FACT.exec(text);
    if (severity !== null) open.severity = severity[1];
    else if (type !== null) open.facts[`error${type[1]}`] = type[2]!;
    // Of several sections the first is the one that is told of.
    else if (fact !== null) open.facts[fact[1]!.replaceAll(" ", "_")] ??= fact[2]!.trim();
    else if (PLACE.test(text)) open.facts.place ??= text.trim().slice(0, 300);
    else return START.test(text) || number !== undefined || open.bert;
    return true;
  }

  /** A severity that no head announced begins a record where none of that number is open, or it has one already. */
  #isNew(number: string | undefined): boolean {
    const open = this.#open;
    if (open === undefined) return number !== undefined || this.#bert;
    return open.number !== number ? number !== undefined || this.#bert : open.severity !== undefined;
  }

  #start(first: ReadLine, number: string | undefined): void {
    this.#close();
    const bert = number === undefined && this.#bert;
    this.#open = { first, number, bert, lines: [lineOf(first)], severity: undefined, facts: {} };
    this.#foreign = 0;
  }

  #close(): void {
    const open = this.#open;
    this.#open = undefined;
    if (open === undefined) return;
    const { facts, first, lines, bert } = open;
    const level = open.severity ?? "unknown";
    const section = facts.section_type ?? "error";
    const type = facts.error_type === undefined ? "" : `, ${facts.error_type}`;
    const from = bert ? ", left by the boot before" : "";
    const panicked = facts.panic !== undefined;
    const severity = panicked ? "panic" : severityOf(level, bert);
    this.#emit({
      rule: bert ? "bert" : "apei",
      class: "hardware-error",
      severity,
      side: "hardware",
      trust: "certain",
      title: `firmware reports a hardware error: ${section}${type} (${level})${from}`,
      signature: `apei ${section} ${facts.error_type ?? ""} ${level}`.replaceAll(/ +/g, " "),
      ...(severity === "panic" ? { survived: false } : { survived: true }),
      line: first.number,
      ...(first.uptime === undefined ? {} : { uptime: first.uptime }),
      lines,
      facts: { level, previousBoot: bert, ...facts },
    });
  }
}

/** ghes.c panics of fatal ones; recoverable ones go to memory_failure() and AER. */
function severityOf(level: string, bert: boolean): Severity {
  if (level === "fatal") return bert ? "warning" : "panic";
  return level === "recoverable" ? "warning" : "notice";
}
