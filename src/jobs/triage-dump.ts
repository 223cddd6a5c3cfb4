import { GuestcoreError, naming } from "../core/errors.ts";
import type { JobContext } from "../core/job.ts";
import type { Warning } from "../core/warnings.ts";
import { encryptedWarning, looksEncrypted } from "../guest/ciphertext.ts";
import { findCrash } from "../kernel/crash-log.ts";
import { spaceOfVmcoreinfo } from "../kernel/kernel-tables.ts";
import { describeLinux, type LinuxImage } from "../kernel/linux.ts";
import { lookUpSymbol } from "../kernel/lookup.ts";
import { type MachineState, readMachineState } from "../kernel/machine-state.ts";
import { type KernelParts, readKernel } from "../kernel/open-kernel.ts";
import { type LogRecord, readKernelLog } from "../kernel/printk.ts";
import type { Vmcoreinfo } from "../kernel/vmcoreinfo.ts";
import { findVmcoreinfo } from "../kernel/vmcoreinfo-scan.ts";
import type { DumpedVcpu, DumpFacts, PrintedBlock } from "../triage/dump/facts.ts";
import { judgeDump, linesOf, systemText } from "../triage/dump/judge.ts";
import { atLeast, type Detected, type Finding } from "../triage/finding.ts";
import { MceDetector } from "../triage/mce/detector.ts";
import { decodeVmcs } from "../vmx/decoded.ts";
import { DumpReader, type LogDump } from "../vmx/dmesg.ts";
import type { GuestName, HostOptions } from "./host.ts";
import { type Input, openInput } from "./input.ts";
import { openTriaged, type TriagedMachine } from "./triage-dump-machine.ts";

/** What looks at a kernel's log as at a console: the text as printk puts it, with times. */
export type LogDetector = (source: string, text: Uint8Array) => Detected;

export interface TriageDumpOptions {
  /** Of a host's dump the guest that is looked at, instead of the host. */
  readonly guest: GuestName | undefined;
  readonly host: HostOptions;
  /** Looks at the log as well; its findings are added. */
  readonly console?: LogDetector | undefined;
}

export interface TriageDumpResult extends Detected {
  readonly input: Input["facts"];
  readonly facts: DumpFacts;
  /** What the machine is, in words. */
  readonly system: string;
  readonly nodeName: string | undefined;
  /** How many lines of the log could not be read. */
  readonly lost: number;
  readonly warnings: readonly Warning[];
}

type Warn = (warnings: readonly Warning[]) => void;

/**
 * Says what a dump tells of why its machine stopped: the kernel's log, its variables, and the states of its processors.
 * @throws UnsupportedError, CorruptError, IoError for the input; UnavailableError for a guest that is not in it
 */
export function triageDump(
  path: string,
  options: TriageDumpOptions,
  context: JobContext,
): Promise<TriageDumpResult> {
  return naming(path, async () => {
    const warnings: Warning[] = [];
    const warn: Warn = (found) => {
      for (const warning of found) {
        warnings.push(warning);
        context.warn(warning);
      }
    };
    const input = await openInput(path, context, options.host);
    try {
      warn(input.warnings);
      const machine = await openTriaged(input, options, warn, context);
      const kernel = await kernelOf(machine, context);
      if (kernel.image === undefined && looksEncrypted(machine.memory)) warn([encryptedWarning()]);
      if (kernel.logProblem !== undefined) {
        const message = `the kernel's log cannot be read (${kernel.logProblem}): what happened is told by registers and variables alone`;
        warn([{ code: "TRI501", message }]);
      }
      const guest = options.guest === undefined ? "" : `#guest-${options.guest}`;
      const facts = await factsOf(`${path}${guest}`, machine, kernel, context);
      const own = judgeDump(facts);
      const more = detectedInLog(facts, options.console);
      return {
        input: input.facts,
        facts,
        system: systemText(facts),
        nodeName: kernel.state?.nodeName,
        lost: kernel.lost,
        findings: joined(own.findings, more),
        events: [...own.events, ...more.hardware.events, ...more.messages.events],
        warnings,
      };
    } finally {
      input.close();
    }
  });
}

interface DumpedKernel {
  readonly image: LinuxImage | undefined;
  readonly vmcoreinfo: Vmcoreinfo | undefined;
  readonly parts: KernelParts | undefined;
  readonly state: MachineState | undefined;
  readonly log: readonly LogRecord[] | undefined;
  readonly lost: number;
  readonly logProblem: string | undefined;
}

/** The kernel of a machine, as far as it can be read: a machine without one is an answer, too. */
async function kernelOf(
  { memory, vmcoreinfo: noted, states }: TriagedMachine,
  { checkpoint }: JobContext,
): Promise<DumpedKernel> {
  const vmcoreinfo = noted ?? (await findVmcoreinfo(memory, { states, checkpoint })).best?.vmcoreinfo;
  const image = await describeLinux(memory, { vmcoreinfo, states }, checkpoint);
  const parts = image && readKernel(memory, { image, vmcoreinfo });
  await checkpoint();
  const { symbols, types, reader } = parts ?? {};
  const state =
    symbols === undefined || reader === undefined ? undefined : readMachineState({ reader, symbols, types });
  const nothing = { log: undefined, lost: 0, logProblem: undefined };
  const base = { image, vmcoreinfo, parts, state };
  if (image === undefined) return { ...base, ...nothing };
  const space = vmcoreinfo && spaceOfVmcoreinfo(memory, vmcoreinfo);
  if (vmcoreinfo === undefined || space === undefined) {
    return { ...base, ...nothing, logProblem: "no VMCOREINFO of an x86-64 kernel says where it is" };
  }
  try {
    const { records, lost } = await readKernelLog(memory, space, vmcoreinfo, checkpoint);
    return { ...base, log: records, lost, logProblem: undefined };
  } catch (error) {
    if (error instanceof GuestcoreError && (error.code === "unavailable" || error.code === "corrupt")) {
      return { ...base, ...nothing, logProblem: error.message };
    }
    throw error;
  }
}

async function factsOf(
  source: string,
  { of, vcpus, end }: TriagedMachine,
  { image, vmcoreinfo, parts, state, log, logProblem }: DumpedKernel,
  { checkpoint }: JobContext,
): Promise<DumpFacts> {
  const crash = log && (await findCrash(log, checkpoint));
  return {
    source,
    of,
    release: vmcoreinfo?.osrelease ?? image?.release?.value,
    isLinux: image !== undefined,
    log,
    logProblem,
    crash,
    panicCpu: state?.panicCpu,
    taints: state?.taints,
    crashTime: vmcoreinfo?.crashTime,
    crashKernel: parts && crashKernelOf(parts),
    vcpus: vcpus.map((vcpu) => named(vcpu, parts)),
    end,
    printed: log === undefined ? [] : printedIn(log),
  };
}

/** kernel/kexec_core.c: kexec_crash_image, a pointer that is NULL while no crash kernel is loaded. */
function crashKernelOf({ reader, symbols }: KernelParts): boolean | undefined {
  const at = symbols?.addressOf("kexec_crash_image");
  const image = at === undefined ? undefined : reader.u64(at);
  return image === undefined ? undefined : image !== 0n;
}

/** In kernel mode the symbol that a processor is in. */
function named(vcpu: DumpedVcpu, parts: KernelParts | undefined): DumpedVcpu {
  if (parts === undefined || vcpu.rip === undefined || vcpu.where !== "kernel") return vcpu;
  const [found] = lookUpSymbol(parts, `0x${vcpu.rip.toString(16)}`);
  if (found?.symbol === undefined) return vcpu;
  return { ...vcpu, symbol: `${found.symbol.name}+0x${found.offset.toString(16)}` };
}

/** VMCSs and VMCBs that the kernel printed because a guest of its own could not run. */
function printedIn(log: readonly LogRecord[]): PrintedBlock[] {
  const reader = new DumpReader();
  for (const record of log) {
    for (const line of linesOf(record)) {
      if (reader.full) break;
      reader.add(line.slice(0, MAX_LINE));
    }
  }
  return reader.finish().map(printedBlock);
}

const MAX_LINE = 4096;
/** Rules that are told of. */
const MAX_BROKEN = 8;

function printedBlock(dump: LogDump): PrintedBlock {
  const { kind, cause, firstLine: line } = dump;
  if (dump.kind === "vmcb") return { kind, line, cause, reason: undefined, broken: [] };
  const { fields, checks } = decodeVmcs(dump, undefined, dump.efer);
  const reason = fields.find(({ name }) => name === "VM_EXIT_REASON")?.text;
  const broken = checks.violations.slice(0, MAX_BROKEN).map(({ message }) => message);
  return { kind, line, cause, reason, broken };
}

/** Of a longer log the end is looked at. */
const MAX_LOG_TEXT = 16 * 2 ** 20;

/** What other detectors find in the log: machine checks, and what a console's would. */
function detectedInLog({ source, log }: DumpFacts, detector: LogDetector | undefined): DetectedInLog {
  if (log === undefined) return { hardware: NOTHING, messages: NOTHING };
  const name = `${source}:log`;
  const text = textOf(log);
  const mce = new MceDetector({ source: name });
  mce.push(text);
  return { hardware: mce.end(), messages: detector?.(name, text) ?? NOTHING };
}

interface DetectedInLog {
  readonly hardware: Detected;
  readonly messages: Detected;
}

const NOTHING: Detected = { findings: [], events: [] };

/**
 * One finding of one crash: the kernel's variables tell of it, the console's detector knows its kind, frames and
 * signature. Of machine checks the decoded ones stand.
 */
function joined(own: readonly Finding[], { hardware, messages }: DetectedInLog): Finding[] {
  const told = own.find(({ rule }) => rule === "dump/log-crash");
  const crash =
    told &&
    (messages.findings.findLast(({ severity }) => severity === told.severity) ??
      messages.findings.findLast(({ severity }) => atLeast(severity, "oops")));
  const others = messages.findings.filter(
    (found) => found !== crash && (found.class !== "mce" || hardware.findings.length === 0),
  );
  const known = own.map((finding): Finding => {
    if (crash === undefined || finding !== told) return finding;
    return { ...finding, ...crash, rule: finding.rule, details: { ...crash.details, ...finding.details } };
  });
  return [...known, ...hardware.findings, ...others];
}

/** As the kernel prints it, a line for each line of a record: lines are what evidence counts. */
function textOf(log: readonly { readonly time: bigint; readonly text: string }[]): Buffer {
  const lines: string[] = [];
  let size = 0;
  for (let i = log.length - 1; i >= 0 && size < MAX_LOG_TEXT; i--) {
    const { time } = log[i]!;
    const stamp = `[${String(time / 1_000_000_000n).padStart(5)}.${String((time % 1_000_000_000n) / 1000n).padStart(6, "0")}] `;
    const record = linesOf(log[i]!)
      .map((line) => `${stamp}${line}\n`)
      .join("");
    size += record.length;
    lines.push(record);
  }
  return Buffer.from(lines.reverse().join(""), "latin1");
}
