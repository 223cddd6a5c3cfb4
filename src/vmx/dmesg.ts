import { domainOf, type Header, headerOf, noHeader } from "./dmesg-header.ts";
import { isUnfinished, rejoined, withoutEscapes } from "./dmesg-lines.ts";
import { missingOfVmcb, missingOfVmcs } from "./dmesg-missing.ts";
import { addKvmLine, addXenLine, type OpenVmcb, openVmcb, type VmcbFacts } from "./dmesg-vmcb.ts";
import { type DumpSection, readVmcsLine } from "./dmesg-vmcs.ts";
import { bytesOf } from "./encoding.ts";
import { fieldNamed } from "./fields.ts";
import type { KnownEfer } from "./state.ts";

interface DumpFacts {
  readonly hypervisor: "kvm" | "xen";
  /** Lines of the log, from 1. */
  readonly firstLine: number;
  readonly lastLine: number;
  /** What the log calls it: KVM's (hashed) pointer, Xen's domain and vCPU. */
  readonly label: string | undefined;
  /** The CPU it was last entered on. */
  readonly cpu: number | undefined;
  /** The line in front that says why it was dumped. */
  readonly cause: string | undefined;
  /** Parts that are not there: the log was cut, or lines were lost. */
  readonly missingSections: readonly string[];
  /** Fields of the other parts that are always printed, and are not there. */
  readonly missingFields: readonly string[];
  /** What was said twice, differently: two dumps are mixed. */
  readonly conflicts: readonly string[];
}

/** A VMCS that a hypervisor printed. */
export interface VmcsDump extends DumpFacts {
  readonly kind: "vmcs";
  /** Encoding → value; fields that were not printed are absent. */
  readonly values: ReadonlyMap<number, bigint>;
  /** MSRs that are switched at VM entry and exit (KVM 5.13 and later). */
  readonly msrs: readonly { readonly area: string; readonly index: number; readonly value: bigint }[];
  /** IA32_EFER, where it was printed and is not of the field. */
  readonly efer: KnownEfer | undefined;
  /** RSP, RIP and RFLAGS that Xen kept itself: newer than the fields after an emulated instruction. */
  readonly live: ReadonlyMap<string, bigint>;
}

/** A VMCB that a hypervisor printed. */
export interface VmcbDump extends DumpFacts, VmcbFacts {
  readonly kind: "vmcb";
}

export type LogDump = VmcsDump | VmcbDump;

/** Lines between two lines of one dump at most; other messages come between. */
const MAX_GAP = 64;
/** A line that says why is at most so far in front. */
const CAUSE_DISTANCE = 8;
/** Dumps kept; a log with more has the same failure over and over. */
export const MAX_DUMPS = 1000;
/** Dumps told apart by who printed them, open at the same time. */
const MAX_STREAMS = 64;
/** Lines within dumps that may go on in the next; a log with more was made to waste time. */
const MAX_HELD = 100 * MAX_DUMPS;

/** A line as it was printed, and which lines of the log it takes up. */
interface Line {
  readonly text: string;
  readonly first: number;
  readonly last: number;
}

interface Open {
  readonly kind: "vmcs" | "vmcb";
  readonly values: Map<number, bigint>;
  readonly msrs: { area: string; index: number; value: bigint }[];
  readonly live: Map<string, bigint>;
  readonly vmcb: OpenVmcb;
  readonly sections: Set<string>;
  readonly conflicts: Set<string>;
  readonly firstLine: number;
  readonly header: Header;
  section: DumpSection | "save";
  msrArea: string | undefined;
  efer: KnownEfer | undefined;
  lastLine: number;
  xen: boolean;
}

const SECTION = /\*\*\* (Guest|Host|Control) State \*\*\*/;
/** The stream of lines without a caller. */
const NO_CALLER = "";
const CALLER = /\]\[\s*([TC]\d+)\]/;
const MSR_AREA = /MSR (guest autoload|guest autostore|host autoload):/;
const MSR_ENTRY = /\d+: msr=0x([0-9a-f]{1,8}) value=0x([0-9a-f]{1,16})(?![0-9a-f])/;
/** What KVM says in place of a dump unless told to dump. */
const SUPPRESSED = /set (kvm_(?:intel|amd)\.dump_invalid_vmc[sb]=1) to dump internal KVM state/;

const MSR_COUNTS: Readonly<Record<string, string>> = {
  "guest autoload": "VM_ENTRY_MSR_LOAD_COUNT",
  "guest autostore": "VM_EXIT_MSR_STORE_COUNT",
  "host autoload": "VM_EXIT_MSR_LOAD_COUNT",
};

const encodingOf = (name: string): number => fieldNamed(name)!.encoding;

/**
 * Finds the VMCSs and VMCBs that KVM and Xen printed into a log. Lines are fed one by one; nothing is thrown. Lines that
 * were wrapped are put together again, escape sequences are left out.
 */
export class DumpReader {
  readonly #open = new Map<string, Open>();
  readonly #headers = new Map<string, Header>();
  readonly #dumps: LogDump[] = [];
  #line: Line = { text: "", first: 0, last: 0 };
  #count = 0;
  /** A line that may go on in the next. */
  #held: Line | undefined;
  #heldWithin = 0;
  #domain: string | undefined;
  #suppressed: string | undefined;

  /** The module parameter that makes KVM print dumps, where the log says that it did not. */
  get suppressed(): string | undefined {
    return this.#suppressed;
  }

  /** Whether as many dumps were found as are kept; later lines are not looked at. */
  get full(): boolean {
    return this.#dumps.length >= MAX_DUMPS;
  }

  add(text: string): void {
    this.#count++;
    if (this.full) return;
    const line = this.#joined({ text: withoutEscapes(text), first: this.#count, last: this.#count });
    if (this.#mayGoOn(line.text)) this.#held = line;
    else this.#read(line);
  }

  #mayGoOn(text: string): boolean {
    const within = this.#open.size > 0;
    if (within && this.#heldWithin >= MAX_HELD) return false;
    const unfinished = isUnfinished(text, within);
    if (unfinished && within) this.#heldWithin++;
    return unfinished;
  }

  /** A line with the one that was held back, where it goes on with that. */
  #joined(line: Line): Line {
    const held = this.#held;
    if (held === undefined) return line;
    this.#held = undefined;
    const text = rejoined(held.text, line.text, !this.#open.has(NO_CALLER));
    if (text !== undefined) return { text, first: held.first, last: line.last };
    this.#read(held);
    return line;
  }

  #read(line: Line): void {
    const { text } = line;
    this.#line = line;
    const stream = CALLER.exec(text)?.[1] ?? NO_CALLER;
    const open = this.#open.get(stream);
    if (open !== undefined && line.first - open.lastLine > MAX_GAP) this.#close(stream);
    if (this.#starts(text, stream)) return;
    const current = this.#open.get(stream);
    if (current !== undefined && addLine(current, text)) current.lastLine = line.last;
    else this.#note(text, stream);
  }

  /** Every dump, in the order in which they began. */
  finish(): readonly LogDump[] {
    if (this.#held !== undefined) this.#read(this.#held);
    this.#held = undefined;
    for (const stream of [...this.#open.keys()]) this.#close(stream);
    return this.#dumps.toSorted((a, b) => a.firstLine - b.firstLine);
  }

  /** Lines that begin a dump or a part of one. */
  #starts(line: string, stream: string): boolean {
    const section = SECTION.exec(line)?.[1];
    if (section !== undefined) {
      const name = section.toLowerCase() as DumpSection;
      const open = this.#open.get(stream);
      const goesOn = open?.kind === "vmcs" && name !== "guest" && !open.sections.has(name);
      this.#enter(goesOn ? open : this.#begin("vmcs", stream), name);
      return true;
    }
    if (line.includes("VMCB Control Area:")) {
      this.#enter(this.#begin("vmcb", stream), "control");
      return true;
    }
    if (line.includes("VMCB State Save Area:")) {
      const open = this.#open.get(stream);
      const goesOn = open?.kind === "vmcb" && !open.sections.has("save");
      this.#enter(goesOn ? open : this.#begin("vmcb", stream), "save");
      return true;
    }
    if (line.includes("Dumping guest's current state")) {
      const open = this.#begin("vmcb", stream);
      open.xen = true;
      this.#enter(open, "control");
      open.sections.add("save");
      return true;
    }
    return false;
  }

  #enter(open: Open, section: DumpSection | "save"): void {
    open.section = section;
    open.sections.add(section);
    open.msrArea = undefined;
    open.lastLine = this.#line.last;
  }

  #begin(kind: Open["kind"], stream: string): Open {
    this.#close(stream);
    // Hostile logs alone have so many callers; the oldest is as good as closed.
    const [oldest] = this.#open.keys();
    if (oldest !== undefined && this.#open.size >= MAX_STREAMS) this.#close(oldest);
    const noted = this.#headers.get(stream);
    this.#headers.delete(stream);
    const { first, last } = this.#line;
    const header = noted !== undefined && first - noted.line <= CAUSE_DISTANCE ? noted : noHeader(first);
    const open: Open = {
      kind,
      values: new Map(),
      msrs: [],
      live: new Map(),
      vmcb: openVmcb(),
      sections: new Set(),
      conflicts: new Set(),
      firstLine: first,
      header,
      section: "control",
      msrArea: undefined,
      efer: undefined,
      lastLine: last,
      xen: false,
    };
    if (header.instructionError !== undefined) {
      open.values.set(encodingOf("VM_INSTRUCTION_ERROR"), header.instructionError);
    }
    this.#open.set(stream, open);
    return open;
  }

  /** Lines in front of a dump that say what it is of and why. */
  #note(line: string, stream: string): void {
    this.#suppressed ??= SUPPRESSED.exec(line)?.[1];
    const found = headerOf(line, this.#domain);
    this.#domain = domainOf(line) ?? this.#domain;
    if (found === undefined) return;
    const before = this.#headers.get(stream);
    const recent =
      before !== undefined && this.#line.first - before.line <= CAUSE_DISTANCE ? before : undefined;
    if (this.#headers.size >= MAX_STREAMS && before === undefined) this.#headers.clear();
    this.#headers.set(stream, {
      label: found.label ?? recent?.label,
      cpu: found.cpu ?? recent?.cpu,
      cause: found.cause ?? recent?.cause,
      instructionError: found.instructionError ?? recent?.instructionError,
      line: this.#line.last,
    });
  }

  #close(stream: string): void {
    const open = this.#open.get(stream);
    this.#open.delete(stream);
    if (open !== undefined && !this.full) this.#dumps.push(dumpOf(open));
  }
}

/** Adds what a line says to a dump; whether it is a line of one. */
function addLine(open: Open, line: string): boolean {
  if (open.kind === "vmcb") {
    return open.xen ? addXenLine(open.vmcb, line) : addKvmLine(open.vmcb, line, open.section === "save");
  }
  if (open.section === "save") return false;
  if (addMsr(open, line)) return true;
  const { fields, live, efer, xen } = readVmcsLine(line, open.section);
  for (const [name, value] of fields) setField(open, name, value);
  for (const [name, value] of live) open.live.set(name, value);
  if (efer !== undefined) {
    open.efer = { value: efer.value, source: `EFER as the log has it (${efer.origin})` };
  }
  open.xen ||= xen;
  return fields.length > 0 || efer !== undefined;
}

function addMsr(open: Open, line: string): boolean {
  const area = MSR_AREA.exec(line)?.[1];
  if (area !== undefined) {
    open.msrArea = area;
    return true;
  }
  const entry = MSR_ENTRY.exec(line);
  if (entry === null || open.msrArea === undefined || open.msrs.length >= 512) return false;
  open.msrs.push({
    area: open.msrArea,
    index: Number.parseInt(entry[1]!, 16),
    value: BigInt(`0x${entry[2]}`),
  });
  const count = encodingOf(MSR_COUNTS[open.msrArea]!);
  open.values.set(count, (open.values.get(count) ?? 0n) + 1n);
  return true;
}

function setField({ values, conflicts }: Open, name: string, value: bigint): void {
  const encoding = encodingOf(name);
  if (value >> BigInt(8 * bytesOf(encoding)) !== 0n) return;
  const before = values.get(encoding);
  if (before !== undefined && before !== value) conflicts.add(name);
  if (before === undefined) values.set(encoding, value);
}

const PARTS: Readonly<Record<Open["kind"], readonly string[]>> = {
  vmcs: ["guest", "host", "control"],
  vmcb: ["control", "save"],
};

function dumpOf(open: Open): LogDump {
  const { kind, header, sections, conflicts, firstLine, lastLine } = open;
  const facts: DumpFacts = {
    hypervisor: open.xen ? "xen" : "kvm",
    firstLine,
    lastLine,
    label: header.label,
    cpu: header.cpu,
    cause: header.cause,
    missingSections: PARTS[kind].filter((part) => !sections.has(part)),
    missingFields:
      kind === "vmcb"
        ? missingOfVmcb(open.vmcb, sections, open.xen)
        : missingOfVmcs(open.values, sections, open.xen),
    conflicts: [...conflicts],
  };
  if (kind === "vmcb") return { kind, ...facts, ...open.vmcb };
  // Xen before 4.7 prints the VM-entry instruction length in place of the VM-exit one.
  if (open.xen && open.values.has(encodingOf("CR3_TARGET_COUNT"))) {
    open.values.delete(encodingOf("VM_EXIT_INSTRUCTION_LEN"));
  }
  return { kind, ...facts, values: open.values, msrs: open.msrs, efer: open.efer, live: open.live };
}
