import type { Severity } from "../finding.ts";
import { type Emit, lineOf, MAX_LINES, type ReadLine, type RecordLine, type RecordReader } from "./record.ts";

/** Linux arch/powerpc/kernel/mce.c: machine_check_print_event_info(), since 5.0. */
const CHECK =
  /^MCE: CPU(\d{1,5}): machine check \((Harmless|Warning|Severe|Fatal)\) ?(Guest)? {0,2}(UE|SLB|ERAT|TLB|User|Real address|Link|D-Cache|I-Cache|Unknown)\b ?(.{0,120})\[(Recovered|Not recovered)\]/;
/** The same up to 4.20, one fact a line. */
const OLD_CHECK = /^(Harmless|Warning|Severe|Fatal) Machine check interrupt \[(Recovered|Not recovered)\]/;
const OLD_TYPE = /^ {2}Error type: ([\w -]{1,20}?)(?: \[([\w /()]{1,40})\])?\s*$/;
const OLD_ADDRESS = /^ {4,6}(Effective|Physical) address: ([0-9a-f]{16})/;
const OLD_INITIATOR = /^ {2}Initiator: ([\w ]{1,30})/;
const OLD_NIP = /^ {2}(?:Guest )?NIP: ?\[([0-9a-f]{16})\]:? ?(.{0,200})/;

const DAR = /\bDAR: ([0-9a-f]{16})/;
const PADDR = /\bpaddr: ([0-9a-f]{16})/;
const NIP =
  /^MCE: CPU(\d{1,5}): (?:PID: (\d{1,10}) Comm: (.{1,20}?) )?(Guest )?NIP: \[([0-9a-f]{16})\] ?(.{0,200})/;
const INITIATOR = /^MCE: CPU(\d{1,5}): Initiator ([\w ]{1,30})/;
const CLASS =
  /^MCE: CPU(\d{1,5}): (Unknown|Hardware error|Probable Hardware error .{0,60}|Software error|Probable Software error .{0,60})/;

/** What comes of one that was not recovered. */
const OOPS = /^Oops: (?:Machine check|.{0,40}[Mm]achine check.{0,40}), sig: \d{1,2} \[#\d+\]/;
const FATAL = /^Machine check interrupt (?:unrecoverable: MSR\(RI=0\)|is fatal)/;
const KILLED = /^(.{1,20})\[(\d{1,10})\]: bus error \(7\) at /;
const PANIC = /^Kernel panic - not syncing: (.{1,200})/;

interface Open {
  readonly first: ReadLine;
  readonly cpu: number | undefined;
  readonly level: string;
  readonly recovered: boolean;
  readonly guest: boolean;
  readonly lines: RecordLine[];
  type: string;
  kind: string;
  facts: Record<string, bigint | number | string>;
  outcome: "oops" | "panic" | "killed" | undefined;
  foreign: number;
}

/** A panic comes a second after the oops, with registers and a backtrace in between. */
const MAX_FOREIGN = 150;

const word = (text: string): bigint => BigInt(`0x${text}`);

/** Machine checks that a POWER kernel tells of: its own, and on a host those of guests. */
export class PowerReader implements RecordReader {
  readonly #emit: Emit;
  #open: Open | undefined;

  constructor(emit: Emit) {
    this.#emit = emit;
  }

  get isOpen(): boolean {
    return this.#open !== undefined;
  }

  line(read: ReadLine): boolean {
    if (this.#begins(read)) return true;
    const open = this.#open;
    if (open === undefined) return false;
    if (this.#details(open, read.text)) {
      if (open.lines.length < MAX_LINES) open.lines.push(lineOf(read));
      return true;
    }
    return this.#becomes(open, read);
  }

  end(): void {
    this.#close();
  }

  #begins(read: ReadLine): boolean {
    const check = CHECK.exec(read.text);
    const old = check === null ? OLD_CHECK.exec(read.text) : null;
    if (check === null && old === null) return false;
    this.#close();
    const base = { first: read, lines: [lineOf(read)], outcome: undefined, foreign: 0 };
    if (check === null) {
      const [, level, outcome] = old!;
      this.#open = {
        ...base,
        cpu: undefined,
        level: level!,
        recovered: outcome === "Recovered",
        guest: false,
        type: "unknown",
        kind: "",
        facts: {},
      };
      return true;
    }
    const [, cpu, level, guest, type, rest = "", outcome] = check;
    const dar = DAR.exec(rest);
    const paddr = PADDR.exec(rest);
    this.#open = {
      ...base,
      cpu: Number(cpu),
      level: level!,
      recovered: outcome === "Recovered",
      guest: guest !== undefined,
      type: type!,
      kind: rest.slice(0, (dar ?? paddr)?.index ?? rest.length).trim(),
      facts: {
        ...(dar === null ? {} : { effectiveAddress: word(dar[1]!) }),
        ...(paddr === null ? {} : { physicalAddress: word(paddr[1]!) }),
      },
    };
    return true;
  }

  /** Further lines of the same processor. */
  #details(open: Open, text: string): boolean {
    const nip = NIP.exec(text);
    if (nip !== null && Number(nip[1]) === open.cpu) {
      const [, , pid, comm, , address, symbol = ""] = nip;
      open.facts.nip = word(address!);
      if (pid !== undefined) open.facts.pid = Number(pid);
      if (comm !== undefined) open.facts.comm = comm;
      const paddr = PADDR.exec(symbol);
      if (paddr !== null) open.facts.physicalAddress = word(paddr[1]!);
      else if (symbol.trim() !== "") open.facts.symbol = symbol.trim();
      return true;
    }
    const initiator = INITIATOR.exec(text);
    if (initiator !== null && Number(initiator[1]) === open.cpu) {
      open.facts.initiator = initiator[2]!;
      return true;
    }
    const errorClass = CLASS.exec(text);
    if (errorClass !== null && Number(errorClass[1]) === open.cpu) {
      open.facts.errorClass = errorClass[2]!;
      return true;
    }
    return open.cpu === undefined && this.#oldDetails(open, text);
  }

  #oldDetails(open: Open, text: string): boolean {
    const type = OLD_TYPE.exec(text);
    if (type !== null) {
      open.type = type[1]!.trim();
      open.kind = type[2] ?? "";
      return true;
    }
    const address = OLD_ADDRESS.exec(text);
    if (address !== null) {
      open.facts[address[1] === "Effective" ? "effectiveAddress" : "physicalAddress"] = word(address[2]!);
      return true;
    }
    const initiator = OLD_INITIATOR.exec(text);
    if (initiator !== null) {
      open.facts.initiator = initiator[1]!;
      return true;
    }
    const nip = OLD_NIP.exec(text);
    if (nip === null) return false;
    open.facts.nip = word(nip[1]!);
    return true;
  }

  /** What the kernel did about it. */
  #becomes(open: Open, read: ReadLine): boolean {
    const { text } = read;
    const killed = KILLED.exec(text);
    const panic = PANIC.exec(text);
    if (killed !== null || panic !== null || OOPS.test(text) || FATAL.test(text)) {
      open.lines.push(lineOf(read));
      if (open.lines.length > MAX_LINES) open.lines.splice(MAX_LINES - 1, 1);
      if (panic !== null) open.facts.panic = panic[1]!;
      if (killed !== null) open.facts.killed = `${killed[1]}[${killed[2]}]`;
      open.outcome = panic !== null ? "panic" : killed !== null ? "killed" : "oops";
      if (panic !== null) this.#close();
      return true;
    }
    if (++open.foreign > MAX_FOREIGN) this.#close();
    return false;
  }

  #close(): void {
    const open = this.#open;
    this.#open = undefined;
    if (open === undefined) return;
    const { first, type, kind, level, recovered, guest, outcome, facts, cpu, lines } = open;
    const name = `${type}${kind === "" ? "" : ` ${kind}`}`;
    const whose = guest ? " of a guest" : "";
    const where = cpu === undefined ? "" : ` on CPU ${cpu}`;
    const { severity, survived, text } = verdictOf(open);
    this.#emit({
      rule: "power",
      class: "machine-check",
      severity,
      side: facts.errorClass === "Software error" ? "guest" : "hardware",
      trust: "certain",
      title: `machine check${whose}${where}: ${name} (${level}), ${text}`,
      signature: `power machine-check${whose} ${name} ${recovered ? "recovered" : "not recovered"}`,
      ...(survived === undefined ? {} : { survived }),
      line: first.number,
      ...(first.uptime === undefined ? {} : { uptime: first.uptime }),
      lines,
      facts: {
        ...(cpu === undefined ? {} : { cpu }),
        error: type,
        kind,
        level,
        recovered,
        guest,
        ...facts,
        ...(outcome === undefined ? {} : { outcome }),
      },
    });
  }
}

/** ras.c and mce.c: not recovered in user mode kills the process; in the kernel it is an oops; MSR[RI]=0 is fatal. */
function verdictOf({ recovered, outcome, facts, guest, level }: Open): {
  readonly severity: Severity;
  readonly survived: boolean | undefined;
  readonly text: string;
} {
  if (outcome === "panic") return { severity: "panic", survived: false, text: "the kernel panicked" };
  if (outcome === "oops") return { severity: "oops", survived: undefined, text: "the kernel oopsed" };
  if (recovered) {
    return { severity: level === "Fatal" ? "warning" : "notice", survived: true, text: "recovered" };
  }
  if (outcome === "killed") {
    return { severity: "warning", survived: true, text: `not recovered, ${facts.killed} was killed` };
  }
  const inUser = facts.pid !== undefined && !guest;
  return {
    severity: inUser || guest ? "warning" : "oops",
    survived: undefined,
    text: inUser ? `not recovered, in process ${facts.comm}[${facts.pid}]` : "not recovered",
  };
}
