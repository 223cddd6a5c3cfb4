import type { Evidence, Finding, Moment } from "../finding.ts";
import type { Fact } from "./fact.ts";
import { EARLY, type Guest } from "./guest.ts";
import type { Incident, IncidentKind } from "./incident.ts";
import { kept } from "./kept.ts";
import { panicDetails, panicTitle } from "./panic-info.ts";
import { SHUTDOWN_CAUSES } from "./run-state.ts";
import { contRefusedTold, ioErrorTold, memoryFailureTold, resetTold, stopTold, type Told } from "./told.ts";

/** All findings of a machine, in the order they happened. */
export const findingsOf = (guest: Guest, source: string): Finding[] =>
  guest.incidents.map((incident) =>
    finding(TELLERS[incident.kind](incident, guest), incident, guest, source),
  );

function finding(told: Told, incident: Incident, guest: Guest, source: string): Finding {
  const { signature, survived, details, title, ...rest } = told;
  const at = momentOf(incident.first, guest);
  return {
    rule: `qmp/${told.class}`,
    ...rest,
    title: kept(title),
    ...(signature === undefined ? {} : { signature }),
    ...(survived === undefined ? {} : { survived }),
    ...(at === undefined ? {} : { at }),
    evidence: incident.facts.map((fact) => evidenceOf(fact, source)),
    details: {
      ...(guest.key === "" ? {} : { machine: guest.key }),
      run: incident.run,
      count: incident.count,
      ...(incident.after.length === 0 ? {} : { after: [...incident.after] }),
      ...details,
    },
  };
}

export function momentOf(fact: Fact, guest: Guest): Moment | undefined {
  const wall = guest.wallOf(fact);
  return wall === undefined ? undefined : { wall };
}

const evidenceOf = ({ line, text }: Fact, source: string): Evidence => ({ source, line, text });

type Teller = (incident: Incident, guest: Guest) => Told;

const TELLERS: Readonly<Record<IncidentKind, Teller>> = {
  panic: (incident) => {
    const { info, what, actions, details } = incident;
    const title = info !== undefined ? panicTitle(info) : "guest panicked";
    const said = what === "" ? title : `${title}: ${what}`;
    const kdump = details.afterCrashLoaded === true ? ", and its crash kernel was loaded before" : "";
    return {
      class: "guest-panicked",
      severity: "panic",
      side: "guest",
      trust: "certain",
      title: `${said}${actions.length === 0 ? "" : `; ${ACTED[actions.at(-1)!] ?? `QEMU's action: ${actions.at(-1)}`}`}${kdump}`,
      signature: panicSignature(incident),
      survived: false,
      details: {
        actions: [...actions],
        info: info === undefined ? null : panicDetails(info),
        resumed: incident.resumed,
      },
    };
  },
  "crash-loaded": ({ info }) => ({
    class: "crash-loaded",
    severity: "panic",
    side: "guest",
    trust: "certain",
    title: "guest panicked and went over to its crash kernel (kdump)",
    signature: "qmp:crash-loaded",
    survived: false,
    details: { info: info === undefined ? null : panicDetails(info) },
  }),
  reset: resetTold,
  watchdog: ({ what }) => ({
    class: "watchdog",
    severity: "hang",
    side: "guest",
    trust: what === "" ? "likely" : "certain",
    title: `the guest's watchdog ran out${what === "" ? "" : `; action: ${what}`}`,
    signature: "qmp:watchdog",
    details: { action: what === "" ? null : what },
  }),
  "io-error": ioErrorTold,
  "internal-error": ({ what }) => ({
    class: "internal-error",
    severity: "panic",
    side: "host",
    trust: "certain",
    title: what === "" ? "the machine stopped with an internal error of KVM or QEMU" : what,
    signature: `qmp:internal-error:${what === "" ? "unknown" : what.slice(0, 80)}`,
    survived: false,
  }),
  "memory-failure": memoryFailureTold,
  "host-error": () => ({
    class: "host-error",
    severity: "panic",
    side: "host",
    trust: "certain",
    title: `QEMU gave the machine up: ${SHUTDOWN_CAUSES["host-error"]}`,
    signature: "qmp:host-error",
    survived: false,
  }),
  "qemu-abort": ({ what }, guest) => ({
    class: "qemu-abort",
    severity: "panic",
    side: "qemu",
    trust: what.includes("libvirt: crashed") ? "likely" : "certain",
    title: what.startsWith("QEMU") ? what : `QEMU ended itself: ${what}`,
    signature: `qmp:qemu-abort:${withoutNumbers(what)}`,
    survived: false,
    details: { exit: guest.exit ?? null },
  }),
  killed: ({ what }) => ({
    class: "qemu-killed",
    // Nobody but an administrator or the host's memory pressure does that: which of them is not said.
    severity: what.includes("memory") ? "panic" : "warning",
    side: what.includes("memory") ? "host" : "unknown",
    trust: what.includes("memory") ? "certain" : "possible",
    title: what,
    signature: "qmp:qemu-killed",
    survived: false,
  }),
  "start-failed": ({ what, key }) => ({
    class: "start-failed",
    severity: "warning",
    side: "host",
    trust: "likely",
    title: `QEMU did not get to run the guest: ${what}`,
    signature: "qmp:start-failed",
    ...(key === EARLY ? { details: { early: true } } : {}),
  }),
  "cont-refused": contRefusedTold,
  stop: stopTold,
  ended: ({ what }) => ({
    class: "stopped-by-policy",
    severity: "notice",
    side: "policy",
    trust: "certain",
    title: `the running machine was ended from outside: ${SHUTDOWN_CAUSES[what] ?? what}`,
  }),
  timeout: ({ details }) => ({
    class: "timeout",
    severity: "notice",
    side: "unknown",
    trust: "possible",
    title: "the one who ran QEMU gave up waiting for its end",
    details: { state: details.state ?? null },
  }),
  "migration-failed": () => ({
    class: "migration-failed",
    severity: "warning",
    side: "host",
    trust: "certain",
    title: "migration failed",
    signature: "qmp:migration-failed",
  }),
  "dump-failed": ({ what }) => ({
    class: "dump-failed",
    severity: "warning",
    side: "host",
    trust: "certain",
    title: `the dump failed: ${what}`,
    signature: "qmp:dump-failed",
  }),
};

/** What the last announced action did. */
const ACTED: Readonly<Record<string, string>> = {
  pause: "QEMU paused it",
  poweroff: "QEMU powered it off",
  run: "QEMU let it run on",
};

function panicSignature({ info }: Incident): string {
  if (info === undefined) return "qmp:guest-panicked";
  switch (info.type) {
    case "hyper-v":
      return info.os === "windows" ? `qmp:stop:0x${info.args[0]!.toString(16)}` : `qmp:hyper-v:${info.os}`;
    case "s390":
      return `qmp:s390:${info.reason}`;
    case "tdx":
      return `qmp:tdx:${withoutNumbers(info.message)}`;
    case "sev":
      return `qmp:sev:${info.set ?? "?"}:${info.code ?? "?"}`;
  }
}

const withoutNumbers = (text: string): string => text.replace(/0x[0-9a-f]+|\d+/gi, "N").slice(0, 120);
