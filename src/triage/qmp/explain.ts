import type { CommandLine } from "./command-line.ts";
import { CONT_FAILS, CONT_WORKS, type CompatibilityRow, type Machine, machineOf, RULES } from "./matrix.ts";
import { compareVersions, type QemuVersion, versionText } from "./message.ts";
import { panicIsFinal } from "./run-state.ts";

const V5_2: QemuVersion = { major: 5, minor: 2, micro: 0 };
const V6_0: QemuVersion = { major: 6, minor: 0, micro: 0 };
const V9_1: QemuVersion = { major: 9, minor: 1, micro: 0 };

/** What is known of a machine for its row. */
export interface ExplainFacts {
  readonly version: QemuVersion | undefined;
  /** As -machine has it. */
  readonly machine: string | undefined;
  readonly commandLine?: CommandLine | undefined;
}

/** The row, and what the command line makes of it. */
export interface Explained {
  readonly row: CompatibilityRow;
  /** What is supposed because it is not known. */
  readonly assumed: readonly string[];
  /** Bits that pvpanic offers: 1 panicked, 2 crash loaded, 4 shutdown; undefined where that cannot be told. */
  readonly events: number | undefined;
  readonly notes: readonly string[];
}

/**
 * The row of the compatibility matrix that applies.
 * @returns undefined when the version of QEMU is not known, or no row is for it
 */
export function explainRow({ version, machine: name, commandLine }: ExplainFacts): Explained | undefined {
  if (version === undefined) return undefined;
  const known = machineOf(name ?? commandLine?.machine, commandLine?.program);
  const machine = known ?? { name: "pc", family: "pc" as const, version: undefined };
  const rule = RULES.find(
    ({ since, until, machines }) =>
      compareVersions(version, since) >= 0 &&
      (until === undefined || compareVersions(version, until) < 0) &&
      machines(machine),
  );
  if (rule === undefined) return undefined;
  const assumed = known === undefined ? ["the machine type is not known: taken for pc"] : [];
  const row = rule.row.cont.includes("1.6.0")
    ? { ...rule.row, cont: panicIsFinal(version) ? CONT_FAILS : CONT_WORKS }
    : rule.row;
  return {
    row,
    assumed,
    events: eventsOf(version, machine, commandLine),
    notes: notesOf(version, commandLine),
  };
}

/**
 * pvpanic's supported events (hw/misc/pvpanic.c; property `events` since 5.2 with 3, hw_compat_5_1 makes it 1 for machine
 * types of 5.1 and before; 7 since 9.1). 5.0 and 5.1 take a crash-loaded write but never offer it.
 */
function eventsOf(version: QemuVersion, machine: Machine, line: CommandLine | undefined): number | undefined {
  if (machine.family !== "pc") return undefined;
  if (line?.events !== undefined) return line.events;
  if (compareVersions(version, V5_2) < 0) return 1;
  if (machine.version !== undefined && compareVersions(machine.version, V5_2) < 0) return 1;
  return compareVersions(version, V9_1) < 0 ? 3 : 7;
}

function notesOf(version: QemuVersion, line: CommandLine | undefined): string[] {
  if (line === undefined)
    return ["without the command line (--cmdline) its devices and policy are not known"];
  const { panicDevices, actions, noShutdown, noReboot, events } = line;
  const notes: string[] = [];
  notes.push(
    panicDevices.length === 0
      ? "the command line has no pvpanic device and no hv-crash"
      : `the command line has ${panicDevices.join(", ")}`,
  );
  if (events !== undefined && (events & 1) === 0) {
    notes.push(
      `events=${events} hides "panicked" from the guest: a panic without a crash kernel is never told`,
    );
  }
  notes.push(policyNote(version, actions.panic, noShutdown));
  if (noReboot) notes.push("-no-reboot: a reset is a SHUTDOWN with reason guest-reset");
  return notes;
}

function policyNote(version: QemuVersion, action: string | undefined, noShutdown: boolean): string {
  if (compareVersions(version, V6_0) < 0) {
    return action === undefined
      ? `QEMU ${versionText(version)} has no -action: ${noShutdown ? "-no-shutdown, a panic pauses" : "a panic pauses, from 2.8 on also shuts down"}`
      : `QEMU ${versionText(version)} has no -action`;
  }
  if (action === undefined || action === "shutdown") {
    const given = action === undefined ? "no -action panic=, so shutdown" : "-action panic=shutdown";
    return noShutdown
      ? `${given}; with -no-shutdown or shutdown=pause the machine is paused instead`
      : `${given}: QEMU ends, with status 0`;
  }
  return `-action panic=${action}: ${PANIC_ACTIONS[action] ?? "not an action that QEMU has"}`;
}

/** PanicAction (qapi/run-state.json). */
const PANIC_ACTIONS: Readonly<Record<string, string>> = {
  pause: "the machine is paused, in state guest-panicked",
  none: "the event is sent, and the guest goes on",
  "exit-failure": "QEMU ends, with status 1 (from 7.1 on)",
};
