import { setTimeout as sleep } from "node:timers/promises";
import { type Case, quit, WATCHDOG } from "./triage-case.ts";
import type { Running } from "./triage-guest.ts";

/** The guest does not get on, or resets itself. */
export const hangs: readonly Case[] = [
  {
    name: "soft-lockup",
    deed: "echo 1 >/proc/sys/kernel/watchdog_thresh; insmod /crash-spin.ko",
    host: async (machine) => {
      await machine.says(/watchdog: BUG: soft lockup/);
      await sleep(1000);
      await quit(machine);
    },
    log: "transcript",
    events: ["SHUTDOWN host-qmp-quit"],
    verdict: "guest-hang",
    rule: "hang",
    findings: ["soft-lockup"],
    failsOn: "hang",
  },
  {
    name: "triple-fault",
    deed: "insmod /crash-triple-fault.ko",
    qemu: ["-no-reboot"],
    events: ["SHUTDOWN guest-reset"],
    verdict: "guest-reset",
    rule: "reset",
    findings: [],
    failsOn: "hang",
  },
  ...(["pause", "reset", "poweroff", "none"] as const).map(
    (action): Case => ({
      name: `watchdog-${action}`,
      deed: `${WATCHDOG}; insmod /crash-spin-deaf.ko`,
      qemu: ["-device", "i6300esb", "-action", `watchdog=${action}`, "-no-reboot"],
      ...(action === "pause" || action === "none"
        ? {
            host: async (machine: Running) => {
              await machine.hears(action === "pause" ? "STOP" : "WATCHDOG none");
              await quit(machine);
            },
          }
        : {}),
      events: [`WATCHDOG ${action}`],
      verdict: "guest-hang",
      rule: "watchdog",
      findings: ["watchdog"],
      failsOn: "hang",
    }),
  ),
];
