import { hex, plural, printable } from "../core/text.ts";
import type { TriagedQmp, TriageQmpResult } from "../jobs/triage-qmp.ts";
import { worstOf } from "../jobs/triage-qmp.ts";
import type { Finding, TimelineEvent } from "../triage/finding.ts";
import { type Explained, explainRow } from "../triage/qmp/explain.ts";
import { versionText } from "../triage/qmp/message.ts";
import type { QmpGuest } from "../triage/qmp/report.ts";
import { eventJson, findingJson } from "./triage-finding.ts";

export interface TriageQmpFlags {
  /** Whether the row of the compatibility matrix is wanted. */
  readonly explain: boolean;
}

/** Events that people are shown; programs get all. */
const SHOWN_EVENTS = 40;
const SHOWN_EVIDENCE = 160;

/** For people: what each machine came to, its time line, what it means, what to do next. */
export const triageQmpText = ({ files }: TriageQmpResult, flags: TriageQmpFlags): string =>
  files.map((file) => fileText(file, flags)).join("\n");

function fileText({ report }: TriagedQmp, flags: TriageQmpFlags): string {
  const lines = report.guests.flatMap((guest) => guestLines(report.source, guest, flags));
  if (report.qemucalls.length > 0) {
    lines.push("  qemucalls (the port protocol proposed in 2012):");
    for (const { index, arguments: args } of report.qemucalls.slice(0, SHOWN_EVENTS)) {
      lines.push(`    ${hex(index)}(${args.map((arg) => (arg === undefined ? "?" : hex(arg))).join(", ")})`);
    }
  }
  return `${lines.join("\n")}\n`;
}

function guestLines(source: string, guest: QmpGuest, { explain }: TriageQmpFlags): string[] {
  const name = guest.name === "" ? "" : ` [${printable(guest.name)}]`;
  const lines = [
    `${printable(source)}${name}: ${guest.outcome.kind}: ${printable(guest.outcome.text)}`,
    `  ${printable(machineText(guest))}`,
  ];
  const policy = policyText(guest);
  if (policy !== undefined) lines.push(`  policy: ${printable(policy)}`);
  if (guest.events.length > 0) lines.push("  time line:", ...timeLines(guest.events));
  if (guest.findings.length > 0) lines.push("  findings:", ...guest.findings.flatMap(findingLines));
  for (const { line, text } of guest.contradictions) {
    lines.push(`  contradiction in line ${line}: ${printable(text)}`);
  }
  if (explain) lines.push(...explainLines(guest));
  const next = nextText(guest);
  if (next !== undefined) lines.push(`next: ${next}`);
  return lines;
}

function machineText({ version, package: name, libvirt, machine, commandLine, ...guest }: QmpGuest): string {
  const words = [
    version === undefined ? "QEMU of an unknown version" : `QEMU ${versionText(version)}`,
    ...(name === undefined || name === "" ? [] : [`(${name})`]),
  ];
  const parts = [words.join(" ")];
  if (libvirt !== undefined) parts.push(`libvirt ${libvirt}`);
  if (machine !== undefined) parts.push(`machine ${machine}`);
  if (commandLine?.guest !== undefined) parts.push(`guest ${commandLine.guest}`);
  if (guest.runs > 1) parts.push(`started ${guest.runs} times`);
  if (guest.lastState !== undefined) parts.push(`last state ${guest.lastState}`);
  if (guest.exit !== undefined) parts.push(`ended with ${exitText(guest.exit)}`);
  return parts.join(", ");
}

const exitText = (exit: number): string => (exit < 0 ? `signal ${-exit}` : `status ${exit}`);

function policyText({
  policy: { panic, from, noShutdown, noReboot, onCrash },
}: QmpGuest): string | undefined {
  const parts = panic === undefined ? [] : [`a panic means ${panic} (${from})`];
  if (noShutdown === true) parts.push("-no-shutdown");
  if (noReboot === true) parts.push("-no-reboot");
  if (onCrash !== undefined) parts.push(`libvirt did as on_crash=${onCrash} does`);
  return parts.length === 0 ? undefined : parts.join(", ");
}

/** Seconds since the first event that has a time; the line where it stands. */
function timeLines(events: readonly TimelineEvent[]): string[] {
  const origin = events.find(({ at }) => at?.wall !== undefined)?.at?.wall;
  const shown = events.length <= SHOWN_EVENTS ? events : events.slice(-SHOWN_EVENTS);
  const lines = shown.map(({ at, line, text }) => {
    const wall = at?.wall;
    const time = wall === undefined || origin === undefined ? "" : `${((wall - origin) / 1000).toFixed(3)} s`;
    return `    ${time.padStart(14)}  line ${String(line ?? "?").padEnd(5)} ${printable(text)}`;
  });
  const before = events.length - shown.length;
  const head = before > 0 ? [`    ${plural(before, "event")} before`] : [];
  const from = origin === undefined ? [] : [`    0 is ${new Date(Math.floor(origin)).toISOString()}`];
  return [...from, ...head, ...lines];
}

function findingLines({ severity, side, trust, rule, title, evidence }: Finding): string[] {
  const [first] = evidence;
  const proof = first === undefined ? [] : [`      line ${first.line ?? "?"}: ${shown(first.text)}`];
  return [`    ${severity} (${side}, ${trust}) ${rule}: ${printable(title)}`, ...proof];
}

function shown(text: string): string {
  const cut = text.length > SHOWN_EVIDENCE ? `${text.slice(0, SHOWN_EVIDENCE)}…` : text;
  return printable(cut);
}

const explainOf = ({ version, machine, commandLine }: QmpGuest): Explained | undefined =>
  explainRow({ version, machine, commandLine });

function explainLines(guest: QmpGuest): string[] {
  const explained = explainOf(guest);
  if (explained === undefined) {
    return ["  explain: the version of QEMU is not known: no row of the compatibility matrix can be told"];
  }
  const { row, assumed, events, notes } = explained;
  const lines = [
    `  explain: QEMU ${row.qemu}, machine ${row.machine}`,
    `    device       ${row.device}`,
    `    after panic  ${row.afterPanic}`,
    `    cont         ${row.cont}`,
  ];
  if (events !== undefined) lines.push(`    events       ${eventsText(events)}`);
  for (const note of [...assumed, ...notes]) lines.push(`    note         ${printable(note)}`);
  lines.push(`    source       ${row.source}`);
  return lines;
}

/** Bits of pvpanic's supported events. */
const BITS = ["panicked", "crash loaded", "shutdown"];
function eventsText(events: number): string {
  const names = BITS.filter((_, bit) => ((events >> bit) & 1) === 1);
  return `${hex(events)} (${names.length === 0 ? "none" : names.join(", ")})`;
}

/** One thing to do, where there is one. */
const NEXT: Readonly<Record<string, string>> = {
  "crash-loaded": "look for the vmcore that kdump wrote in the guest, /var/crash; guestcore info VMCORE",
  "reset-loop": "guestcore triage console SERIAL-LOG: the console tells why",
  "guest-reset":
    "guestcore triage console SERIAL-LOG: the console tells why; with -device pvpanic QMP does too",
  "qemu-abort": "guestcore extract CORE-OF-QEMU -o guest.vmcore, with the core from coredumpctl",
  watchdog: "guestcore triage console SERIAL-LOG: what the guest did last",
  "io-error": "look at the host's disk, make room, then: cont",
  "internal-error": "guestcore vmcs parse-dmesg HOST-DMESG: what KVM said of it",
  timeout: "guestcore triage console SERIAL-LOG: what the guest did last",
  "host-stop": "ask who stopped it; cont lets it run on",
};

function nextText({ outcome, runState }: QmpGuest): string | undefined {
  if (outcome.kind !== "guest-panicked") return NEXT[outcome.kind];
  return runState === "guest-panicked"
    ? "virsh dump --memory-only DOMAIN guest.vmcore, before anybody resets it; then guestcore info guest.vmcore"
    : "guestcore triage console SERIAL-LOG: the console has the panic's own words";
}

/** `result` of guestcore/triage-qmp/1. */
export function triageQmpJson(result: TriageQmpResult, flags: TriageQmpFlags) {
  return {
    worst: worstOf(result) ?? null,
    files: result.files.map(({ report: { source, guests, qemucalls, damage } }) => ({
      source,
      machines: guests.map((guest) => guestJson(guest, flags)),
      qemucalls: qemucalls.map(({ index, arguments: args }) => ({
        index,
        arguments: args.map((arg) => arg ?? null),
      })),
      damage,
    })),
  };
}

function guestJson(guest: QmpGuest, { explain }: TriageQmpFlags) {
  const { policy, outcome, commandLine: line } = guest;
  return {
    name: guest.name === "" ? null : guest.name,
    guest: line?.guest ?? null,
    outcome: { kind: outcome.kind, text: outcome.text },
    version: guest.version === undefined ? null : versionText(guest.version),
    package: guest.package ?? null,
    libvirt: guest.libvirt ?? null,
    machine: guest.machine ?? null,
    panicDevices: line?.panicDevices ?? null,
    runState: guest.runState ?? null,
    lastState: guest.lastState ?? null,
    stateSource: guest.runState === undefined ? null : guest.stateSource,
    runs: guest.runs,
    exit: guest.exit ?? null,
    policy: {
      panic: policy.panic ?? null,
      from: policy.from ?? null,
      noShutdown: policy.noShutdown ?? null,
      noReboot: policy.noReboot ?? null,
      onCrash: policy.onCrash ?? null,
    },
    messages: guest.messages,
    ignored: guest.ignored,
    omitted: guest.omitted,
    findings: guest.findings.map(findingJson),
    events: guest.events.map(eventJson),
    contradictions: guest.contradictions,
    ...(explain ? { explain: explainJson(guest) } : {}),
  };
}

function explainJson(guest: QmpGuest) {
  const explained = explainOf(guest);
  if (explained === undefined) return null;
  const { row, assumed, events, notes } = explained;
  return { ...row, assumed, events: events ?? null, notes };
}
