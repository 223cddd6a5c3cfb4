import { type Json, member, number, text } from "./exact-json.ts";
import type { Fact } from "./fact.ts";
import type { Guest } from "./guest.ts";
import type { Incident } from "./incident.ts";
import { kept } from "./kept.ts";
import { type PanicInfo, panicInfoOf, panicText, panicTitle } from "./panic-info.ts";
import type { KnownState } from "./run-state.ts";

type Handler = (guest: Guest, fact: Fact, data: Json | undefined) => void;

/** Seconds within which two reports are of one panic: of two devices, or pause and poweroff of 2.8 to 5.2. */
const SAME_PANIC = 5;
/** Seconds within which RESET events are of one reset: firmware and keyboard controller reset again. */
const SAME_RESET = 2;

/** Words are shown; longer ones are no words of QEMU. */
function word(data: Json | undefined, key: string): string | undefined {
  const value = text(data, key);
  return value === undefined ? undefined : kept(value, 200);
}

/** A panic that somebody tells of, at first or again. */
export function notePanic(
  guest: Guest,
  fact: Fact,
  told: {
    readonly action?: string | undefined;
    readonly info?: PanicInfo | undefined;
    readonly message?: string | undefined;
  },
): Incident {
  const before = guest.open("panic");
  if (before !== undefined && !isSame(guest, before, fact)) guest.close(before);
  const incident = guest.incident("panic", fact, told.message ?? "");
  if (told.message !== undefined && incident.what === "") incident.what = told.message;
  if (told.action !== undefined && incident.actions.length < 8) incident.actions.push(told.action);
  incident.info = merged(incident.info, told.info);
  const loaded = guest.open("crash-loaded");
  if (loaded !== undefined) incident.details.afterCrashLoaded = true;
  if (told.action === "run") return incident;
  const stops = guest.state === undefined || guest.state === "running" || guest.state === "guest-panicked";
  if (told.action !== undefined && stops) {
    guest.stopsTo = { state: "guest-panicked", fact };
    guest.become("guest-panicked", fact);
  }
  return incident;
}

/** Whether a report is of the panic before it: no kernel panics twice, unless it was another that booted meanwhile. */
function isSame(guest: Guest, before: Incident, fact: Fact): boolean {
  const since = guest.between(before.last, fact);
  if (since === undefined || since <= SAME_PANIC) return true;
  // The second device speaks when the vCPU goes on, which may be hours later.
  const resumed = before.details.resumedAt as Fact | undefined;
  return resumed !== undefined && (guest.between(resumed, fact) ?? 0) <= SAME_PANIC;
}

/** s390 tells of one panic in two lines: the reason, and the PSW. */
function merged(before: PanicInfo | undefined, info: PanicInfo | undefined): PanicInfo | undefined {
  if (before?.type !== "s390" || info?.type !== "s390") return before ?? info;
  return {
    type: "s390",
    core: before.core ?? info.core,
    mask: before.mask ?? info.mask,
    address: before.address ?? info.address,
    reason: before.reason === "unknown" ? info.reason : before.reason,
  };
}

export function noteCrashLoaded(guest: Guest, fact: Fact, info?: PanicInfo): void {
  const incident = guest.incident("crash-loaded", fact, "");
  incident.info = incident.info ?? info;
}

/**
 * Whether a RESET is the firmware's, on the way out of one that was asked for outside: SeaBIOS finds itself in memory
 * that QEMU does not restore, and resets once more (src/fw/shadow.c, src/resume.c).
 */
export function isFirmwareReset(guest: Guest, fact: Fact, data: Json | undefined): boolean {
  if (guest.hostReset === undefined || reasonOf(data) !== "guest-reset") return false;
  const since = guest.between(guest.hostReset, fact);
  return since !== undefined && since >= 0 && since <= SAME_RESET;
}

/** The machine was reset by its guest, or by somebody outside. */
export function noteReset(guest: Guest, fact: Fact, reason: string, ends: boolean): void {
  const asked = reason.startsWith("host-") || guest.asks("system_reset");
  guest.hostReset = asked ? fact : undefined;
  const { cause } = guest;
  guest.became(asked ? "reset by the host" : "reset by the guest");
  if (!asked && cause === undefined) {
    const before = guest.open("reset");
    const gap = before === undefined ? undefined : guest.between(before.last, fact);
    if (before !== undefined && gap !== undefined && gap <= SAME_RESET) before.last = fact;
    else noteSilentReset(guest, fact, reason);
  }
  guest.closeAll();
  if (ends) return;
  if (guest.state !== "running" && guest.state !== undefined) guest.become("prelaunch", fact);
}

function noteSilentReset(guest: Guest, fact: Fact, reason: string): void {
  const incident = guest.incident("reset", fact, reason);
  const walls = (incident.details.walls as number[] | undefined) ?? [];
  const wall = guest.wallOf(fact);
  if (wall !== undefined && walls.length < 100) walls.push(wall);
  incident.details.walls = walls;
}

/** The machine is off, or its QEMU is about to end. */
export function noteShutdown(guest: Guest, fact: Fact, reason: string): void {
  if (reason === "guest-panic" && guest.open("panic") === undefined) notePanic(guest, fact, {});
  if (reason === "guest-reset") noteReset(guest, fact, reason, true);
  else guest.became(reason === "guest-panic" ? "shut down" : `shut down (${reason})`);
  if (reason === "host-error") guest.incident("host-error", fact, reason);
  if (reason === "host-qmp-quit" || reason === "host-signal" || reason === "host-ui") {
    if (guest.state === undefined || guest.state === "running") guest.incident("ended", fact, reason);
    const stop = guest.open("stop");
    if (stop !== undefined) stop.details.ended = reason;
  }
  guest.ended = { reason, fact };
  guest.stopsTo = { state: "shutdown", fact };
  guest.become("shutdown", fact);
}

/** The machine stopped; why is known from what was said before, or not. */
export function noteStop(guest: Guest, fact: Fact): void {
  const { stopsTo } = guest;
  guest.stopsTo = undefined;
  if (stopsTo !== undefined) {
    guest.became("stopped");
    guest.become(stopsTo.state, fact);
    return;
  }
  const [by, state] = stopCause(guest);
  if (by !== "migration" && by !== "dump") guest.incident("stop", fact, by);
  guest.become(state, fact);
}

function stopCause(guest: Guest): readonly [string, KnownState] {
  if (guest.migrating || guest.asks("migrate")) return ["migration", "finish-migrate"];
  if (guest.asks("dump-guest-memory")) return ["dump", "save-vm"];
  if (guest.asks("stop")) return ["stop", "paused"];
  if (guest.asks("savevm", "snapshot-save", "human-monitor-command")) return ["monitor", "paused"];
  return ["unknown", "paused"];
}

export function noteResume(guest: Guest, fact: Fact): void {
  guest.stopsTo = undefined;
  guest.migrating = false;
  for (const kind of ["panic", "watchdog", "io-error", "stop"] as const) {
    const open = guest.open(kind);
    if (open === undefined) continue;
    open.resumed = true;
    if (kind === "panic") open.details.resumedAt = fact;
    // A machine that was stopped and goes on is of no interest.
    if (kind === "stop") guest.forget(open);
  }
  guest.became("resumed");
  guest.become("running", fact);
}

/** BLOCK_IO_ERROR: one incident for each disk and action. */
function blockError(guest: Guest, fact: Fact, data: Json | undefined): void {
  const disk = word(data, "device") || word(data, "qom-path") || word(data, "node-name") || "a disk";
  const action = word(data, "action") ?? "unknown";
  const incident = guest.incident("io-error", fact, word(data, "reason") ?? "", `${disk} ${action}`);
  Object.assign(incident.details, {
    disk,
    action,
    operation: word(data, "operation") ?? null,
    noSpace: member(data, "nospace") === true,
  });
  incident.resumed = false;
  if (action === "stop") guest.stopsTo = { state: "io-error", fact };
}

function watchdog(guest: Guest, fact: Fact, data: Json | undefined): void {
  const action = word(data, "action") ?? "unknown";
  const incident = guest.incident("watchdog", fact, action);
  incident.actions.push(action);
  if (action === "pause") guest.stopsTo = { state: "watchdog", fact };
}

function memoryFailure(guest: Guest, fact: Fact, data: Json | undefined): void {
  const [recipient, action] = [word(data, "recipient") ?? "unknown", word(data, "action") ?? "unknown"];
  const flags = member(data, "flags");
  const required = member(flags, "action-required") === true;
  const recursive = member(flags, "recursive") === true;
  const incident = guest.incident("memory-failure", fact, action, `${recipient} ${action} ${required}`);
  Object.assign(incident.details, { recipient, action, actionRequired: required, recursive });
}

function migration(guest: Guest, fact: Fact, data: Json | undefined): void {
  const status = word(data, "status") ?? "unknown";
  guest.migrating = ["setup", "active", "device", "pre-switchover", "postcopy-active"].includes(status);
  if (status === "failed") guest.incident("migration-failed", fact, status);
  if (status === "completed" && guest.state === "finish-migrate") guest.become("postmigrate", fact);
}

function dumpCompleted(guest: Guest, fact: Fact, data: Json | undefined): void {
  const error = word(data, "error");
  guest.became(error === undefined ? "dumped" : "dump failed");
  if (error !== undefined) guest.incident("dump-failed", fact, error);
}

const panicked: Handler = (guest, fact, data) => {
  notePanic(guest, fact, {
    action: word(data, "action") ?? "pause",
    info: panicInfoOf(member(data, "info")),
  });
};

/** What each event does; all others are noise of devices. */
export const EVENTS: Readonly<Record<string, Handler>> = {
  GUEST_PANICKED: panicked,
  GUEST_CRASHLOADED: (guest, fact, data) => noteCrashLoaded(guest, fact, panicInfoOf(member(data, "info"))),
  GUEST_PVSHUTDOWN: () => {},
  SHUTDOWN: (guest, fact, data) => noteShutdown(guest, fact, reasonOf(data)),
  RESET: (guest, fact, data) => {
    if (!isFirmwareReset(guest, fact, data)) noteReset(guest, fact, reasonOf(data), false);
  },
  STOP: (guest, fact) => noteStop(guest, fact),
  RESUME: (guest, fact) => noteResume(guest, fact),
  SUSPEND: (guest, fact) => guest.become("suspended", fact),
  SUSPEND_DISK: () => {},
  WAKEUP: (guest, fact) => guest.become("running", fact),
  POWERDOWN: () => {},
  WATCHDOG: watchdog,
  BLOCK_IO_ERROR: blockError,
  MEMORY_FAILURE: memoryFailure,
  MIGRATION: migration,
  DUMP_COMPLETED: dumpCompleted,
};

/** `reason` came with 4.0, `guest` with 2.10: before, nothing is said. */
function reasonOf(data: Json | undefined): string {
  const reason = word(data, "reason");
  if (reason !== undefined) return reason;
  const guest = member(data, "guest");
  return guest === true ? "guest" : guest === false ? "host" : "unknown";
}

/** `GUEST_PANICKED action=pause, …`: an event in one line. */
export function eventText(name: string, data: Json | undefined): string {
  const info = panicInfoOf(member(data, "info"));
  const known = ["action", "reason", "device", "operation", "recipient", "status"]
    .map((key) => [key, word(data, key)] as const)
    .filter(([, value]) => value !== undefined && value !== "")
    .map(([key, value]) => `${key}=${value}`);
  const result = member(data, "result");
  const total = number(result, "total");
  if (total !== undefined) known.push(`status=${word(result, "status") ?? "?"}`, `bytes=${total}`);
  if (info !== undefined) known.push(`${panicTitle(info)}: ${panicText(info)}`);
  return known.length === 0 ? name : `${name} ${known.join(" ")}`;
}
