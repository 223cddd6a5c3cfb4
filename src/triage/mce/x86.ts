import { originOf } from "./origin.ts";
import { bitsOfVendor, decodeProcessor, smcaBank } from "./processors.ts";
import {
  type Emit,
  type LogContext,
  lineOf,
  MAX_LINES,
  type ReadLine,
  type RecordLine,
  type RecordReader,
} from "./record.ts";
import { decodeMcgStatus, decodeMcStatus, decodeMisc } from "./status.ts";
import {
  amdDetailLine,
  amdLine,
  type CheckLine,
  checkLine,
  detailLine,
  hardwareError,
  isNoise,
  mcelogPlace,
  mcelogStatus,
  oldBankLine,
} from "./x86-lines.ts";
import { judgeX86, sideOf } from "./x86-verdict.ts";

interface Open {
  readonly rule: "x86" | "amd";
  readonly first: ReadLine;
  readonly lines: RecordLine[];
  readonly check: Omit<CheckLine, "bank" | "status">;
  bank: number | undefined;
  status: bigint | undefined;
  facts: Record<string, bigint | number | string | boolean>;
  panic: string | undefined;
  foreign: number;
}

/** Lines of others that may stand between those of one error. */
const MAX_FOREIGN = 40;
/** Panics of the machine-check handler (core.c: mce_panic(), mce_end(), wait_for_panic(), mce_timed_out()). */
const PANIC =
  /^Kernel panic - not syncing: ((?:Fatal|Unable to continue|Uncorrected)? ?(?:local )?[Mm]achine check\b.{0,80}|Fatal (?:local )?machine check\b.{0,80}|Machine check from unknown source|Panicing machine check CPU died|Timeout: Not all CPUs entered broadcast exception handler|Timeout synchronizing machine check over CPUs|Timeout waiting for exception on other CPUs|Unrecoverable Machine check|MCA architectural violation!?)/;

/** Machine checks of x86: the handler's own lines, those that drivers/edac/mce_amd.c has instead, and mcelog's. */
export class X86Reader implements RecordReader {
  readonly #emit: Emit;
  readonly #context: () => LogContext;
  #open: Open | undefined;
  #place: { readonly cpu: number; readonly bank: number } | undefined;

  constructor(emit: Emit, context: () => LogContext) {
    this.#emit = emit;
    this.#context = context;
  }

  get isOpen(): boolean {
    return this.#open !== undefined || this.#place !== undefined;
  }

  line(read: ReadLine): boolean {
    const { text, marked } = hardwareError(read.text);
    if (this.#begins(read, text)) return true;
    if (this.#open !== undefined && this.#continues(read, text, marked)) return true;
    return this.#panics(read);
  }

  end(): void {
    this.#close();
  }

  #begins(read: ReadLine, text: string): boolean {
    const check = checkLine(text);
    if (check !== undefined) {
      this.#start("x86", read, check);
      return true;
    }
    const amd = amdLine(text);
    if (amd !== undefined) {
      const { cpu, bank, status, family, model, stepping } = amd;
      this.#start("amd", read, { cpu, exception: false, mcgStatus: undefined, bank, status });
      this.#open!.facts = { family, model, stepping };
      return true;
    }
    const place = mcelogPlace(text);
    if (place !== undefined) {
      this.#place = place;
      return true;
    }
    const logged = mcelogStatus(text);
    if (logged === undefined || this.#place === undefined) return false;
    const exception = (logged.mcgStatus & 4n) !== 0n;
    this.#start("x86", read, { ...this.#place, ...logged, exception });
    this.#place = undefined;
    return true;
  }

  #start(rule: Open["rule"], first: ReadLine, { bank, status, ...check }: CheckLine): void {
    this.#close();
    this.#open = {
      rule,
      first,
      lines: [lineOf(first)],
      check,
      bank,
      status,
      facts: {},
      panic: undefined,
      foreign: 0,
    };
  }

  #continues(read: ReadLine, text: string, marked: boolean): boolean {
    const open = this.#open!;
    const facts = this.#factsOf(open, text);
    if (facts !== undefined) {
      // What is said first counts: a later line may be of another processor.
      for (const [name, value] of Object.entries(facts)) open.facts[name] ??= value;
      if (open.lines.length < MAX_LINES) open.lines.push(lineOf(read));
      return true;
    }
    if (isNoise(text)) return true;
    if (!marked && ++open.foreign > MAX_FOREIGN) this.#close();
    return false;
  }

  #factsOf(
    open: Open,
    text: string,
  ): Readonly<Record<string, bigint | number | string | boolean>> | undefined {
    if (open.rule === "amd") return amdDetailLine(text);
    if (open.status === undefined) {
      const bank = oldBankLine(text);
      if (bank === undefined) return undefined;
      open.bank = bank.bank;
      open.status = bank.status;
      return bank.address === undefined ? {} : { addr: bank.address };
    }
    return detailLine(text);
  }

  #panics(read: ReadLine): boolean {
    const found = PANIC.exec(read.text);
    if (found === null) return false;
    if (this.#open !== undefined) {
      this.#open.panic = found[1]!;
      this.#open.lines.push(lineOf(read));
      this.#close();
      return true;
    }
    this.#emit({
      rule: "panic",
      class: "machine-check",
      severity: "panic",
      side: "hardware",
      trust: "certain",
      title: `machine check: ${found[1]}`,
      signature: `machine-check panic ${found[1]}`,
      survived: false,
      line: read.number,
      ...(read.uptime === undefined ? {} : { uptime: read.uptime }),
      lines: [lineOf(read)],
      facts: {},
    });
    return true;
  }

  #close(): void {
    const open = this.#open;
    this.#open = undefined;
    if (open?.status === undefined) return;
    const { facts, check, first, lines, panic, rule, bank } = open;
    const processor =
      typeof facts.vendorCode === "number" && typeof facts.cpuid === "string"
        ? decodeProcessor(facts.vendorCode, Number(facts.cpuid))
        : undefined;
    const vendor = rule === "amd" ? "amd" : bitsOfVendor(processor?.vendor ?? "");
    const status = decodeMcStatus(open.status, vendor);
    const misc = typeof facts.misc === "bigint" ? facts.misc : undefined;
    const origin = originOf(status, { bank, misc }, this.#context());
    const verdict = judgeX86(status, check.exception, panic, first.uptime);
    const unit = typeof facts.ipid === "bigint" ? smcaBank(facts.ipid) : undefined;
    const place = bank === undefined ? "" : `, bank ${bank}${unit === undefined ? "" : ` (${unit})`}`;
    this.#emit({
      rule,
      class: "machine-check",
      severity: verdict.severity,
      side: sideOf(origin),
      trust: verdict.trust,
      title: `machine check on CPU ${check.cpu}${place}: ${status.code.text} (${verdict.text})`,
      signature: `x86 machine-check ${status.class} ${unit ?? `bank ${bank ?? "?"}`} ${status.code.text}`,
      ...(verdict.survived === undefined ? {} : { survived: verdict.survived }),
      line: first.number,
      ...(first.uptime === undefined ? {} : { uptime: first.uptime }),
      lines,
      status,
      facts: {
        cpu: check.cpu,
        bank,
        exception: check.exception,
        ...(check.mcgStatus === undefined
          ? {}
          : {
              mcgStatus: check.mcgStatus,
              mcgFlags: decodeMcgStatus(check.mcgStatus).map(({ name }) => name),
            }),
        ...facts,
        ...(processor === undefined ? {} : { processor }),
        ...(unit === undefined ? {} : { unit }),
        ...(misc === undefined ? {} : { address: decodeMisc(misc) }),
        ...(panic === undefined ? {} : { panic }),
        origin: origin.kind,
        originText: origin.text,
      },
    });
  }
}
