import type { Finding, TimelineEvent } from "../finding.ts";
import type { DumpFacts, ProcessEnd } from "./facts.ts";

/** Signals whose default is a core (Linux `signal(7)`), of x86-64. */
const SIGNALS: Readonly<Record<number, string>> = {
  3: "SIGQUIT",
  4: "SIGILL",
  5: "SIGTRAP",
  6: "SIGABRT",
  7: "SIGBUS",
  8: "SIGFPE",
  11: "SIGSEGV",
  24: "SIGXCPU",
  25: "SIGXFSZ",
  31: "SIGSYS",
};

/** Whether a signal ends a process with a core: gdb's own cores have SIGSTOP, or none. */
export const makesCore = (signal: number): boolean => Object.hasOwn(SIGNALS, signal);

/** QEMU died by itself. */
export function endFinding({ end, source }: Pick<DumpFacts, "end" | "source">): Finding | undefined {
  if (end === undefined || end.by === "another") return undefined;
  const name = nameOf(end);
  return {
    rule: "dump/qemu-signal",
    class: "qemu-abort",
    severity: "panic",
    side: "qemu",
    trust: end.by === undefined ? "likely" : "certain",
    title: `QEMU died of ${name}${howText(end)}`,
    signature: `qemu-abort ${name}`,
    survived: false,
    evidence: [{ source, text: `${end.name}: ${name}${howText(end)}` }],
    details: {
      signal: name,
      by: end.by ?? null,
      address: end.address === undefined ? null : `0x${end.address.toString(16).padStart(16, "0")}`,
    },
  };
}

/** Somebody had it leave a core: that ends a machine, too, and is no fault of QEMU. */
export function endEvent({ end, source }: Pick<DumpFacts, "end" | "source">): TimelineEvent | undefined {
  if (end?.by !== "another") return undefined;
  const text = `QEMU was ended from outside, with a core: ${nameOf(end)}${howText(end)}`;
  return { kind: "dump/qemu-ended", source, text };
}

const nameOf = ({ signal }: ProcessEnd): string => SIGNALS[signal] ?? `signal ${signal}`;

function howText({ by, sender, address }: ProcessEnd): string {
  if (by === "another")
    return sender === 0 ? ", sent from outside of its container" : `, sent by process ${sender}`;
  if (by === "itself") return ", which it raised itself";
  return by === "fault" && address !== undefined ? ` at address 0x${address.toString(16)}` : "";
}
