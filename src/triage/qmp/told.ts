import type { Severity, Side, Trust } from "../finding.ts";
import type { Guest } from "./guest.ts";
import type { Incident } from "./incident.ts";
import { needsReset, panicIsFinal, SHUTDOWN_CAUSES } from "./run-state.ts";

/** What a finding says, before it is put together. */
export interface Told {
  readonly class: string;
  readonly severity: Severity;
  readonly side: Side;
  readonly trust: Trust;
  readonly title: string;
  readonly signature?: string;
  readonly survived?: boolean;
  readonly details?: Readonly<Record<string, unknown>>;
}

/** So many guest resets without a panic, and with no longer pause between two, are a loop. */
const LOOP_RESETS = 3;
const LOOP_PAUSE_MS = 15 * 60_000;

/** Resets without a panic: one is a reboot like others, many are a loop. */
export function resetTold({ count, what, details }: Incident, guest: Guest): Told {
  const walls = (details.walls as number[] | undefined) ?? [];
  const gaps = walls.slice(1).map((wall, index) => wall - walls[index]!);
  const near = gaps.every((gap) => gap <= LOOP_PAUSE_MS);
  const loop = count >= LOOP_RESETS && near;
  const unsaid = what === "unknown" || what === "guest";
  const shared = { side: "guest" as const, details: { intervals: gaps.slice(0, 20) } };
  if (loop) {
    return {
      ...shared,
      class: "reset-loop",
      severity: "hang",
      trust: unsaid ? "possible" : "likely",
      title: `guest reset itself ${count} times without telling of a panic: it is in a loop`,
      signature: "qmp:reset-loop",
    };
  }
  const blind = guest.commandLine?.events;
  const hidden = blind !== undefined && (blind & 1) === 0 ? " (events= keeps panics from the device)" : "";
  return {
    ...shared,
    class: "guest-reset",
    severity: count > 1 ? "warning" : "notice",
    trust: unsaid ? "possible" : "certain",
    title: `guest reset itself ${count === 1 ? "" : `${count} times `}without telling of a panic: a reboot, a triple fault, or a panic that no device heard${hidden}`,
    signature: "qmp:guest-reset",
  };
}

export function ioErrorTold({ details, what, count, resumed }: Incident, guest: Guest): Told {
  const { disk = "a disk", action = "stop", noSpace } = details;
  const stops = action === "stop";
  const why =
    noSpace === true ? "no space is left on the host" : what === "" ? "I/O error on the host" : what;
  return {
    class: "io-error",
    severity: stops && !resumed ? "hang" : "warning",
    side: "host",
    trust: "certain",
    title: `${disk}: ${why}${stops ? "; QEMU stopped the guest" : `; the guest was told (${action})`}${count > 1 ? `, ${count} times` : ""}`,
    signature: noSpace === true ? "qmp:io-error:nospace" : "qmp:io-error",
    survived: resumed || !stops,
    details: { ...details, state: guest.state ?? null },
  };
}

/** MemoryFailureAction and MemoryFailureFlags (QEMU qapi/run-state.json). */
export function memoryFailureTold({ what, details }: Incident, guest: Guest): Told {
  const { recipient = "guest", action = what, actionRequired } = details;
  // QEMU ends, or resets a guest that takes no machine checks (target/i386/helper.c: do_inject_x86_mce()).
  const fatal = action === "fatal" || action === "reset";
  const survived = guest.ended?.reason === "guest-shutdown" && guest.open("panic") === undefined;
  const weight = actionRequired === true ? "it must act on it" : "it may act on it";
  return {
    class: "memory-failure",
    severity: fatal ? "panic" : actionRequired === true ? "oops" : "warning",
    side: "hardware",
    trust: "certain",
    title:
      action === "fatal"
        ? "a memory error of the host was fatal to the machine"
        : action === "reset"
          ? `a memory error hit the ${recipient}, which takes no machine checks: QEMU reset it`
          : action === "inject"
            ? `a memory error was passed on to the ${recipient} as a machine check: ${weight}`
            : `a memory error of the host hit the ${recipient}: ${String(action)}`,
    signature: `qmp:memory-failure:${String(action)}`,
    ...(fatal ? { survived: false } : survived ? { survived } : {}),
    details,
  };
}

export function contRefusedTold({ what, details }: Incident, guest: Guest): Told {
  const state = typeof details.state === "string" ? details.state : undefined;
  const old = panicIsFinal(guest.version);
  const reset = what.startsWith("Resetting the Virtual Machine is required");
  const why = !reset
    ? ""
    : old
      ? " (before QEMU 1.6.1 a panicked guest cannot go on: update QEMU)"
      : needsReset(guest.state, guest.version)
        ? ` (${state} can be left by system_reset only)`
        : "";
  return {
    class: "cont-refused",
    severity: "warning",
    side: reset && old ? "qemu" : "policy",
    trust: "certain",
    title: `cont was refused: ${what}${why}`,
    signature: "qmp:cont-refused",
    details: { state: state ?? null },
  };
}

/** A machine that was stopped and stays so. */
export function stopTold({ what, details: { ended } }: Incident): Told {
  const unknown = what === "unknown";
  if (typeof ended === "string") {
    return {
      class: "host-stop",
      severity: "notice",
      side: "policy",
      trust: "certain",
      title: `the machine was stopped, and then ended from outside: ${SHUTDOWN_CAUSES[ended] ?? ended}`,
      details: { ended },
    };
  }
  return {
    class: "host-stop",
    severity: "notice",
    side: unknown ? "unknown" : "policy",
    trust: unknown ? "possible" : "certain",
    title: unknown
      ? "the machine was stopped, and nothing says by whom or why"
      : "the machine was stopped by a monitor command",
  };
}
