import { compareVersions, type QemuVersion } from "./message.ts";

/** RunState (QEMU qapi/run-state.json), and `exited` for a QEMU that is gone. */
export const RUN_STATES = [
  "debug",
  "inmigrate",
  "internal-error",
  "io-error",
  "paused",
  "postmigrate",
  "prelaunch",
  "finish-migrate",
  "restore-vm",
  "running",
  "save-vm",
  "shutdown",
  "suspended",
  "watchdog",
  "guest-panicked",
  "colo",
] as const;
export type RunState = (typeof RUN_STATES)[number];
export type KnownState = RunState | "exited";

export const isRunState = (name: string): name is RunState =>
  (RUN_STATES as readonly string[]).includes(name);

/**
 * Transitions that QEMU declares; it aborts on any other. runstate_transitions_def of system/runstate.c, softmmu/runstate.c
 * or vl.c, all that were there since 1.7; what later versions added stands there too, for more is never a contradiction.
 */
const TRANSITIONS: Readonly<Record<RunState, readonly RunState[]>> = {
  prelaunch: ["running", "finish-migrate", "inmigrate", "suspended"],
  debug: ["running", "finish-migrate", "prelaunch", "suspended"],
  inmigrate: [
    ...(["internal-error", "io-error", "paused", "running", "shutdown", "suspended", "watchdog"] as const),
    ...(["guest-panicked", "finish-migrate", "prelaunch", "postmigrate", "colo"] as const),
  ],
  "internal-error": ["paused", "finish-migrate", "prelaunch"],
  "io-error": ["running", "finish-migrate", "prelaunch"],
  paused: ["running", "finish-migrate", "postmigrate", "prelaunch", "colo", "suspended"],
  postmigrate: ["running", "finish-migrate", "prelaunch"],
  "finish-migrate": [
    ...(["running", "paused", "postmigrate", "prelaunch", "colo", "internal-error", "io-error"] as const),
    ...(["shutdown", "suspended", "watchdog", "guest-panicked"] as const),
  ],
  "restore-vm": ["running", "prelaunch", "suspended"],
  colo: ["running", "prelaunch", "shutdown"],
  running: [
    ...([
      "debug",
      "internal-error",
      "io-error",
      "paused",
      "finish-migrate",
      "restore-vm",
      "save-vm",
    ] as const),
    ...(["shutdown", "watchdog", "guest-panicked", "colo", "suspended"] as const),
  ],
  "save-vm": ["running", "suspended"],
  shutdown: ["paused", "finish-migrate", "prelaunch", "colo"],
  suspended: [
    ...(["running", "finish-migrate", "prelaunch", "colo", "paused", "save-vm", "restore-vm"] as const),
    "shutdown",
  ],
  watchdog: ["running", "finish-migrate", "prelaunch", "colo"],
  "guest-panicked": ["running", "finish-migrate", "prelaunch"],
};

/** Before 1.6.1 and 1.7 a panicked guest could not go on: vl.c of 1.5.0 to 1.6.0. */
const WITH_IRREVERSIBLE_PANIC: readonly RunState[] = ["paused", "finish-migrate", "debug"];
const REVERSIBLE_SINCE: QemuVersion = { major: 1, minor: 6, micro: 1 };

/** Whether guest-panicked is a state that `cont` cannot leave; false for an unknown version. */
export const panicIsFinal = (version: QemuVersion | undefined): boolean =>
  version !== undefined && compareVersions(version, REVERSIBLE_SINCE) < 0;

/** Whether QEMU can go from one state to another at once. */
export function isDeclared(from: RunState, to: RunState, version: QemuVersion | undefined): boolean {
  if (from === to) return true;
  if (!panicIsFinal(version)) return TRANSITIONS[from].includes(to);
  if (from === "guest-panicked") return WITH_IRREVERSIBLE_PANIC.includes(to);
  if (from === "inmigrate" && to === "guest-panicked") return false;
  // A reset led to `paused` in those days.
  return TRANSITIONS[from].includes(to) || to === "paused";
}

/**
 * Whether QEMU can have come from one state to another without a reset, in steps that a log may not show: a `cont`, and what
 * happened to the running machine then.
 */
export const isReachable = (from: RunState, to: RunState, version: QemuVersion | undefined): boolean =>
  isDeclared(from, to, version) ||
  (isDeclared(from, "running", version) && isDeclared("running", to, version));

/** States that `cont` refuses to leave: runstate_needs_reset(). */
export const needsReset = (state: KnownState | undefined, version: QemuVersion | undefined): boolean =>
  state === "internal-error" || state === "shutdown" || (state === "guest-panicked" && panicIsFinal(version));

/** ShutdownCause (qapi/run-state.json): what SHUTDOWN and RESET give as `reason`, and what it means. */
export const SHUTDOWN_CAUSES: Readonly<Record<string, string>> = {
  none: "no shutdown was asked for",
  "host-error": "an error on the host prevents further use of the guest",
  "host-qmp-quit": "somebody sent quit",
  "host-qmp-system-reset": "somebody sent system_reset",
  "host-signal": "a signal told QEMU to end",
  "host-ui": "somebody closed the window",
  "guest-shutdown": "the guest powered itself off",
  "guest-reset": "the guest asked for a reset",
  "guest-panic": "the guest panicked",
  "subsystem-reset": "a part of the machine was reset",
  "snapshot-load": "a snapshot was loaded",
};
