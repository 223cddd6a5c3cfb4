import { noteCrashLoaded, notePanic, noteResume, noteShutdown, noteStop } from "./events.ts";
import type { Fact } from "./fact.ts";
import type { Guest } from "./guest.ts";
import type { IncidentKind } from "./incident.ts";

/** subprocess of Python has -6 for SIGABRT, a shell 134. */
const signalOf = (exit: number): number => (exit < 0 ? -exit : exit > 128 && exit < 160 ? exit - 128 : 0);
const ABORTS: Readonly<Record<number, string>> = {
  4: "SIGILL",
  6: "SIGABRT",
  7: "SIGBUS",
  8: "SIGFPE",
  11: "SIGSEGV",
};

export function noteExit(guest: Guest, fact: Fact, exit: number): void {
  const signal = signalOf(exit);
  const name = ABORTS[signal];
  if (name !== undefined) guest.incident("qemu-abort", fact, `QEMU died of ${name}`);
  else if (signal === 9) guest.incident("killed", fact, "QEMU was killed (SIGKILL)");
  else if (signal > 0) {
    if (guest.cause === undefined) guest.incident("ended", fact, `signal ${signal}`);
  } else if (exit !== 0 && guest.cause === undefined && guest.ended === undefined) {
    const { key } = guest.open("start-failed") ?? {};
    guest.incident("start-failed", fact, `QEMU ended with status ${exit}`, key);
  }
  guest.became(name === undefined ? "QEMU ended" : `QEMU died of ${name}`);
}

/** What makes QEMU end, so that libvirt's "crashed" is no news. */
const EXPLAINS: ReadonlySet<IncidentKind> = new Set([
  ...(["panic", "crash-loaded", "watchdog", "internal-error", "qemu-abort", "killed"] as const),
  ...(["start-failed", "host-error", "ended"] as const),
]);

/** libvirt's word on an end (src/conf/domain_conf.c, virDomainShutoffReason). */
export function noteShutoff(guest: Guest, fact: Fact, reason: string): void {
  guest.note("shutoff", fact, `libvirt: shut off, ${reason}`);
  const { cause } = guest;
  guest.became(`shut off (${reason})`);
  const explained = guest.incidents.some(({ kind, run }) => run === guest.run && EXPLAINS.has(kind));
  if (reason === "crashed" && !explained) {
    guest.incident("qemu-abort", fact, "QEMU ended by itself, without a SHUTDOWN (libvirt: crashed)");
  }
  if (reason === "failed") {
    guest.incident("start-failed", fact, "libvirt could not start it", guest.open("start-failed")?.key);
  }
  const ordered = ["destroyed", "saved", "migrated", "daemon"].includes(reason);
  if (ordered && cause === undefined && guest.ended === undefined) guest.incident("ended", fact, reason);
  guest.ended ??= { reason, fact };
  guest.become("exited", fact);
}

/** libvirt tools/virsh-domain-event.c: virshDomainEventToString and its details. */
export function lifecycle(guest: Guest, fact: Fact, event: string, detail: string): void {
  switch (event) {
    case "Crashed":
      if (detail === "Crashloaded") noteCrashLoaded(guest, fact);
      else notePanic(guest, fact, { action: "pause" });
      break;
    case "Stopped":
      noteShutoff(guest, fact, detail.toLowerCase());
      break;
    case "Suspended":
      // The error itself may have been told of.
      if (/I\/O/.test(detail) && guest.stopsTo?.state !== "io-error")
        guest.incident("io-error", fact, detail);
      if (detail === "Watchdog") guest.incident("watchdog", fact, "pause");
      if (/I\/O/.test(detail)) guest.stopsTo = { state: "io-error", fact };
      noteStop(guest, fact);
      break;
    case "Resumed":
      noteResume(guest, fact);
      break;
    case "Started":
      guest.newRun();
      break;
    case "Shutdown":
      noteShutdown(guest, fact, detail === "Host" ? "host" : detail === "Guest" ? "guest-shutdown" : "guest");
      break;
    default:
  }
}
