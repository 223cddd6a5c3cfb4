import { hex64, printable } from "../core/text.ts";
import type { TriageDumpResult } from "../jobs/triage-dump.ts";
import type { DumpedVcpu, LoggedLine } from "../triage/dump/facts.ts";
import { linesOf } from "../triage/dump/judge.ts";
import { evidenceText, isInCrashPath } from "../triage/dump/vcpus.ts";
import { eventJson, findingJson } from "./triage-finding.ts";
import { findingLines, worstOf } from "./triage-hardware.ts";

/** Lines of the log that are shown, and put into JSON. */
const TAIL = 20;

export function triageDumpText(result: TriageDumpResult): string {
  const { input, facts, system, findings, nodeName } = result;
  const { release, vcpus, panicCpu, taints, crashTime, crashKernel } = facts;
  const shown = shownOf(result);
  const lines = [
    `${printable(input.path)}: ${worstOf(findings) ?? "clean"}, ${facts.isLinux ? `Linux ${printable(release ?? "of an unknown release")}` : "no Linux kernel"}${nodeName === undefined ? "" : ` on ${printable(nodeName)}`}`,
    ...findings.flatMap(findingLines).map((line) => `  ${line}`),
    "",
    `  ${system}`,
    ...(panicCpu === undefined ? [] : [`  the kernel panicked on CPU ${panicCpu}`]),
    ...(crashTime === undefined ? [] : [`  crash time ${new Date(crashTime * 1000).toISOString()}`]),
    ...(crashKernel === undefined ? [] : [`  crash kernel ${crashKernel ? "loaded" : "not loaded"}`]),
    ...(taints === undefined ? [] : [`  taints ${taints === "" ? "none" : taints}`]),
    ...vcpus.map((vcpu) => `  ${vcpuText(vcpu)}`),
    ...(shown.length === 0
      ? []
      : ["", `  its log, ${facts.crash === undefined ? "the end" : "from the crash on"}:`]),
    ...shown.map(({ time, text }) => `    [${timeText(time)}] ${printable(text)}`),
  ];
  return lines.map((line) => `${line}\n`).join("");
}

const vcpuText = (vcpu: DumpedVcpu): string =>
  printable(
    [
      evidenceText(vcpu),
      ...(vcpu.loop === undefined ? [] : [vcpu.loop]),
      ...(isInCrashPath(vcpu) ? ["in the crash path"] : []),
      ...(vcpu.current ? [] : ["may be stale"]),
    ].join(", "),
  );

/** Seconds and microseconds, as printk does. */
const timeText = (time: bigint): string =>
  `${String(time / 1_000_000_000n).padStart(5)}.${String((time % 1_000_000_000n) / 1000n).padStart(6, "0")}`;

const linesIn = (records: readonly LoggedLine[]): LoggedLine[] =>
  records.flatMap((record) => linesOf(record).map((text) => ({ time: record.time, text })));

const tailOf = ({ facts }: TriageDumpResult): LoggedLine[] =>
  linesIn((facts.log ?? []).slice(-TAIL)).slice(-TAIL);

/** The beginning of a crash tells more than its end. */
function shownOf(result: TriageDumpResult): LoggedLine[] {
  const { crash, log = [] } = result.facts;
  return crash === undefined
    ? tailOf(result)
    : linesIn(log.slice(crash.index, crash.index + TAIL)).slice(0, TAIL);
}

const vcpuJson = (vcpu: DumpedVcpu) => ({
  index: vcpu.index,
  where: vcpu.where,
  rip: vcpu.rip === undefined ? null : hex64(vcpu.rip),
  rflags: vcpu.rflags === undefined ? null : hex64(vcpu.rflags),
  symbol: vcpu.symbol ?? null,
  halted: vcpu.halted ?? null,
  loop: vcpu.loop ?? null,
  inCrashPath: isInCrashPath(vcpu),
  exit:
    vcpu.exit === undefined
      ? null
      : {
          text: vcpu.exit.text,
          entryFailure: vcpu.exit.entryFailure,
          tripleFault: vcpu.exit.tripleFault,
        },
  current: vcpu.current,
});

/** `result` of guestcore/triage-dump/1. */
export function triageDumpJson(result: TriageDumpResult) {
  const { facts, findings, events, system, nodeName, lost } = result;
  return {
    worst: worstOf(findings) ?? null,
    of: facts.of,
    linux: facts.isLinux ? { release: facts.release ?? null, nodeName: nodeName ?? null } : null,
    system,
    panicCpu: facts.panicCpu ?? null,
    taints: facts.taints ?? null,
    crashTime: facts.crashTime ?? null,
    crashKernel: facts.crashKernel ?? null,
    vcpus: facts.vcpus.map(vcpuJson),
    log:
      facts.log === undefined
        ? null
        : { records: facts.log.length, lost, tail: tailOf(result).map(({ time, text }) => ({ time, text })) },
    logProblem: facts.logProblem ?? null,
    findings: findings.map(findingJson),
    events: events.map(eventJson),
  };
}
