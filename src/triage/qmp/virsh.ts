import { isObject, type Json } from "./exact-json.ts";
import type { Said } from "./fact.ts";

/** A line of `virsh event` or `virsh qemu-monitor-event`. */
export interface VirshLine {
  /** Name of the domain. */
  readonly domain: string;
  readonly said: Said;
}

/**
 * libvirt tools/virsh-domain-event.c, virshEventQemuPrint: `event NAME at SECONDS.MICROS for domain 'X'`, with the data
 * behind it, on the same line or over several (--pretty). Before 6.x without quotes.
 */
const MONITOR =
  /(?:^|[\s:])event ([A-Z][A-Z0-9_]{1,60})(?: at (\d{1,12})\.(\d{1,9}))? for domain '?([^':{]{1,200})'?(?::|$)/;
/** virshEventLifecyclePrint: `event 'lifecycle' for domain 'X': Crashed Panicked`. */
const LIFECYCLE =
  /(?:^|[\s:])event '(lifecycle|watchdog|reboot)' for domain (?:'([^:]{1,200})'|([^':]{1,200}))(?:: (.{1,100}))?$/;

/** virshEventIOErrorPrint, virshEventIOErrorReasonPrint: `PATH (ALIAS) ACTION`, `PATH (ALIAS) ACTION due to REASON`. */
const IO_ERROR =
  /(?:^|[\s:])event 'io-error(?:-reason)?' for domain (?:'([^:]{1,200})'|([^':]{1,200})): (.{0,400}) \((.{0,100})\) (none|pause|report)(?: due to (.{0,60}))?$/;
/** libvirt's names of QEMU's BlockErrorAction. */
const ACTIONS: Readonly<Record<string, string>> = { none: "ignore", pause: "stop", report: "report" };

export interface MonitorEvent {
  readonly name: string;
  readonly domain: string;
  readonly wall: number | undefined;
}

/** The event whose data come next. */
export function monitorEventOf(head: string): MonitorEvent | undefined {
  if (!head.includes("for domain")) return undefined;
  const found = MONITOR.exec(head);
  if (found === null) return undefined;
  const [, name, seconds, fraction, quoted, bare] = found;
  const domain = quoted ?? bare;
  const wall = seconds === undefined ? undefined : Number(seconds) * 1000 + Number(`0.${fraction}`) * 1000;
  return { name: name!, domain: domain!.trim(), wall };
}

export const monitorSaid = ({ name, wall }: MonitorEvent, data: Json | undefined): Said => ({
  kind: "event",
  name,
  data: isObject(data) ? data : undefined,
  wall,
});

/** What a line of `virsh event` says. */
export function virshLineOf(line: string): VirshLine | undefined {
  if (!line.includes("for domain")) return undefined;
  const found = LIFECYCLE.exec(line);
  if (found === null) return ioErrorOf(line);
  const [, kind, quoted, bare, rest = ""] = found;
  const name = quoted ?? bare;
  const domain = name!.trim();
  const [event = "", ...detail] = rest.trim().split(" ");
  if (kind === "lifecycle") return { domain, said: { kind: "lifecycle", event, detail: detail.join(" ") } };
  const data = kind === "watchdog" ? { action: event } : undefined;
  // virsh tells of a reboot without saying who asked for it.
  const qmp = kind === "watchdog" ? "WATCHDOG" : "RESET";
  return { domain, said: { kind: "event", name: qmp, data, wall: undefined } };
}

function ioErrorOf(line: string): VirshLine | undefined {
  const found = IO_ERROR.exec(line);
  if (found === null) return undefined;
  const [, quoted, bare, path, alias, action, reason] = found;
  const domain = quoted ?? bare;
  const data = {
    device: alias === "" ? path! : alias!,
    action: ACTIONS[action!]!,
    nospace: reason === "enospc",
    ...(reason === undefined || reason === "" ? {} : { reason }),
  };
  return { domain: domain!.trim(), said: { kind: "event", name: "BLOCK_IO_ERROR", data, wall: undefined } };
}

/** Both events tell of one error; which of them this line is of, and of what. */
export function ioErrorKey(line: string): { readonly kind: string; readonly of: string } | undefined {
  const kind = /event '(io-error(?:-reason)?)'/.exec(line)?.[1];
  const found = kind === undefined ? null : IO_ERROR.exec(line);
  return found === null ? undefined : { kind: kind!, of: found.slice(1, 6).join(" ") };
}
