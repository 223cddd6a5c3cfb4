import type { Guest } from "./guest.ts";
import type { Incident } from "./incident.ts";
import { compareVersions } from "./message.ts";

/** What was to become of a guest that panics, and who said so. */
export interface PanicPolicy {
  /** `pause`, `shutdown`, `none`, `exit-failure`: what QEMU was set to; undefined where nothing tells. */
  readonly panic: string | undefined;
  readonly from: "command line" | "set-action" | "events" | "QEMU's default" | undefined;
  readonly noShutdown: boolean | undefined;
  readonly noReboot: boolean | undefined;
  /** libvirt's on_crash, by what was done after the panic; undefined where libvirt had no part or nothing shows. */
  readonly onCrash: string | undefined;
}

/** Which policy acted: by what QEMU was told, else by what it announced. */
export function policyOf(guest: Guest): PanicPolicy {
  const { commandLine: line, setAction } = guest;
  const panic = guest.incidents.findLast(({ kind }) => kind === "panic");
  const [action, from] = panicAction(guest, panic);
  return {
    panic: action,
    from,
    noShutdown: line === undefined ? undefined : setAction.shutdown === "pause" || line.noShutdown,
    noReboot: line === undefined ? undefined : setAction.reboot === "shutdown" || line.noReboot,
    onCrash: panic === undefined ? undefined : onCrashOf(guest, panic),
  };
}

const OBSERVED: Readonly<Record<string, string>> = { pause: "pause", poweroff: "shutdown", run: "none" };

function panicAction(
  guest: Guest,
  panic: Incident | undefined,
): readonly [string | undefined, PanicPolicy["from"]] {
  const { commandLine: line, setAction, version } = guest;
  if (setAction.panic !== undefined) return [setAction.panic, "set-action"];
  if (line?.actions.panic !== undefined) return [line.actions.panic, "command line"];
  const last = panic?.actions.at(-1);
  if (last !== undefined) return [OBSERVED[last] ?? last, "events"];
  if (line === undefined || version === undefined) return [undefined, undefined];
  // Shut down since 2.8, in two steps until 6.0; -no-shutdown has always meant a pause.
  const shutsDown = compareVersions(version, { major: 2, minor: 8, micro: 0 }) >= 0 && !line.noShutdown;
  return [shutsDown ? "shutdown" : "pause", "QEMU's default"];
}

/** libvirt src/qemu/qemu_driver.c, processGuestPanicEvent: what each setting does is seen in what comes after. */
function onCrashOf(guest: Guest, panic: Incident): string | undefined {
  if (guest.libvirt === undefined && guest.key === "") return undefined;
  const { after } = panic;
  const dumped = after.includes("dumped");
  if (after.includes("shut off (crashed)")) return dumped ? "coredump-destroy" : "destroy";
  if (after.includes("reset by the host")) return dumped ? "coredump-restart" : "restart";
  if (guest.state === "guest-panicked") return "preserve";
  return undefined;
}
