import type { Detected, Evidence, Finding, TimelineEvent } from "../finding.ts";
import { classOfCrash, signatureOf } from "./crash-class.ts";
import type { DumpFacts, LoggedLine } from "./facts.ts";
import { endEvent, endFinding } from "./process-end.ts";
import { vcpuFindings } from "./vcpus.ts";

/** Linux kernel/panic.c: panic(). */
const PANIC = /^Kernel panic - not syncing: (.{0,200})/m;
/** kernel/reboot.c: what is printed when somebody wants the machine off. */
const OFF = /^reboot: (?:System halted|Power down|Restarting system)/m;
const MAX_TEXT = 1000;

/** What a dump tells: findings, the worst of its kernel first, and events. */
export function judgeDump(facts: DumpFacts): Detected {
  const crash = crashFinding(facts);
  const panicked = crash?.severity === "panic";
  const end = endFinding(facts);
  const isOff = facts.log?.slice(-OFF_LINES).some(({ text }) => OFF.test(text)) ?? false;
  return {
    findings: [
      ...(crash === undefined ? [] : [crash]),
      ...vcpuFindings(facts, { panicked, isOff }),
      ...(end === undefined ? [] : [end]),
      ...facts.printed.map((block) => printedFinding(facts, block)),
      ...noCrashKernel(facts, panicked),
    ],
    events: eventsOf(facts),
  };
}

/** Lines at the end of a log in which the kernel says that it stops. */
const OFF_LINES = 20;

const momentOf = ({ time }: LoggedLine) => ({ uptime: Number(time / 1000n) / 1e6 });

/** The crash that the log tells of, or the kernel's variables alone. */
function crashFinding(facts: DumpFacts): Finding | undefined {
  const { log = [], crash, panicCpu, crashTime, taints, source } = facts;
  const first = crash && log[crash.index];
  const told = crash === undefined ? [] : log.slice(crash.index);
  const panicLine = told.find(({ text }) => PANIC.test(text));
  const panic = panicLine && PANIC.exec(panicLine.text)![1]!;
  const died = panicLine !== undefined || panicCpu !== undefined || crashTime !== undefined;
  if (first === undefined || crash === undefined) return died ? silentCrash(facts) : undefined;
  const kind = classOfCrash(crash.title);
  const isSame = panic !== undefined && crash.title.includes(panic);
  const title = `${crash.title}${panic === undefined || isSame ? "" : `; kernel panic: ${panic}`}`;
  const evidence: Evidence[] = [first, ...(panicLine === undefined ? [] : [panicLine])]
    .filter((line, i, all) => all.indexOf(line) === i)
    .map((line) => ({ source: `${source}:log`, line: lineNumber(log, line), text: lineText(line) }));
  return {
    rule: "dump/log-crash",
    class: kind.class,
    severity: died ? "panic" : kind.severity,
    side: kind.class === "machine-check" ? "hardware" : "guest",
    trust: "certain",
    title,
    signature: `${kind.class} ${signatureOf(crash.title)}`,
    ...(died ? { survived: false } : {}),
    at: momentOf(first),
    evidence,
    details: {
      ...(facts.release === undefined ? {} : { release: facts.release }),
      ...(taints === undefined ? {} : { taints }),
      ...(panicCpu === undefined ? {} : { panicCpu }),
      ...(panic === undefined ? {} : { panic }),
    },
  };
}

/** The lines of a record. */
export const linesOf = ({ text }: Pick<LoggedLine, "text">): string[] => text.replace(/\n$/, "").split("\n");

/** Of a record's first line in the log as text, from 1. */
function lineNumber(log: readonly LoggedLine[], record: LoggedLine): number {
  let number = 1;
  for (const one of log) {
    if (one === record) break;
    number += linesOf(one).length;
  }
  return number;
}

/** A kernel that noted that it crashed and whose log does not say how. */
function silentCrash({ source, panicCpu, crashTime, release, logProblem }: DumpFacts): Finding {
  const who = panicCpu === undefined ? "" : ` on CPU ${panicCpu}`;
  const why = logProblem === undefined ? "its log does not say why" : "its log cannot be read";
  const text = crashTime === undefined ? "panic_cpu is set" : `VMCOREINFO has CRASHTIME=${crashTime}`;
  return {
    rule: "dump/crashed",
    class: "panic",
    severity: "panic",
    side: "guest",
    trust: crashTime === undefined ? "likely" : "certain",
    title: `the kernel crashed${who}; ${why}`,
    signature: "panic without-log",
    survived: false,
    ...(crashTime === undefined ? {} : { at: { wall: crashTime * 1000 } }),
    evidence: [{ source, text }],
    details: {
      ...(release === undefined ? {} : { release }),
      ...(panicCpu === undefined ? {} : { panicCpu }),
      ...(logProblem === undefined ? {} : { logProblem }),
    },
  };
}

const lineText = ({ text }: LoggedLine): string => text.slice(0, MAX_TEXT).trimEnd();

/** Nothing was saved by the guest itself: what is worth knowing before the next time. */
function noCrashKernel({ crashKernel, source, of }: DumpFacts, panicked: boolean): Finding[] {
  if (!panicked || crashKernel !== false) return [];
  return [
    {
      rule: "dump/no-crash-kernel",
      class: "no-crash-kernel",
      severity: "notice",
      side: of === "machine" ? "unknown" : "guest",
      trust: "certain",
      title: "the kernel panicked and no crash kernel was loaded: it saved no vmcore itself",
      signature: "no-crash-kernel",
      evidence: [{ source, text: "kexec_crash_image is NULL" }],
    },
  ];
}

function printedFinding(
  { source }: DumpFacts,
  { kind, line, cause, reason, broken }: DumpFacts["printed"][number],
): Finding {
  const name = kind.toUpperCase();
  const what = reason === undefined ? "" : `: ${reason}`;
  return {
    rule: "dump/vm-entry-failure",
    class: "vm-entry-failure",
    severity: "panic",
    side: "host",
    trust: "likely",
    title: `this host's KVM could not run a guest and printed its ${name}${what}`,
    signature: `vm-entry-failure ${kind} ${reason ?? ""} ${broken[0] ?? ""}`.trim(),
    evidence: [{ source: `${source}:log`, line, text: (cause ?? `${name} dump`).slice(0, MAX_TEXT) }],
    details: { kind, ...(reason === undefined ? {} : { reason }), broken },
  };
}

function eventsOf(facts: DumpFacts): TimelineEvent[] {
  const { source, log = [], crashTime, isLinux, release } = facts;
  const last = log.at(-1);
  const events: TimelineEvent[] = [];
  if (last !== undefined) {
    events.push({
      kind: "dump/log-end",
      at: momentOf(last),
      source: `${source}:log`,
      line: lineNumber(log, last),
      text: `the log's last line: ${lineText(last)}`.slice(0, MAX_TEXT),
    });
  }
  if (crashTime !== undefined) {
    events.push({
      kind: "dump/crash-time",
      at: { wall: crashTime * 1000 },
      source,
      text: "the kernel noted its crash and handed over to kdump",
    });
  }
  const what = isLinux ? `Linux ${release ?? "of an unknown release"}` : "no Linux kernel was found";
  const end = endEvent(facts);
  if (end !== undefined) events.push(end);
  events.push({ kind: "dump/system", source, text: `${what}; ${systemText(facts)}` });
  return events;
}

/** Windows keeps its IDT in its kernel's half of the address space, ffff_f800…–ffff_f8ff…; Linux does not. */
const WINDOWS_FROM = 0xffff_f800_0000_0000n;
const WINDOWS_END = 0xffff_f900_0000_0000n;
const FIRMWARE_FROM = 0xff00_0000n;
const FOUR_GIB = 1n << 32n;

/** What the processors are in, for a machine of which nothing else is known. */
export function systemText({ vcpus, isLinux }: Pick<DumpFacts, "vcpus" | "isLinux">): string {
  if (vcpus.length === 0) return "no processor's registers are in the dump";
  const count = `${vcpus.length} vCPU${vcpus.length === 1 ? "" : "s"}`;
  if (isLinux) return count;
  const every = (test: (vcpu: DumpFacts["vcpus"][number]) => boolean): boolean => vcpus.every(test);
  if (every(({ where }) => where === "real")) return `${count} in real mode: firmware or a boot loader`;
  if (vcpus.some(({ rip }) => rip !== undefined && rip >= FIRMWARE_FROM && rip < FOUR_GIB)) {
    return `${count}, in firmware below 4 GiB`;
  }
  if (vcpus.some(({ idt }) => idt !== undefined && idt >= WINDOWS_FROM && idt < WINDOWS_END)) {
    return `${count}; interrupt tables lie where Windows keeps them: elf2dmp makes a dump for WinDbg of a QEMU dump`;
  }
  if (every(({ rip }) => rip !== undefined && rip < FOUR_GIB)) {
    return `${count} below 4 GiB: firmware, a boot loader or a small system`;
  }
  return `${count} in a system that is not known`;
}
