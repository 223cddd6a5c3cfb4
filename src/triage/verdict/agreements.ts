import {
  between,
  type ComparisonRule,
  consoleDeath,
  isDead,
  isKept,
  OF_GUEST,
  of,
  pstoreDeath,
  qemuWasRead,
  quoted,
  seconds,
  stands,
} from "./comparison.ts";
import { silentResets } from "./order.ts";
import { isSame } from "./same.ts";
import { seen } from "./signs.ts";

/** What several sources tell alike, or what is to be expected of one that tells nothing. */
export const AGREEMENT_RULES: readonly ComparisonRule[] = [
  {
    id: "console-and-event",
    says: (signs) => {
      const death = consoleDeath(signs);
      if (death === undefined || !seen(signs, "panicEvent")) return undefined;
      const later = between(death, signs.panicEvent[0]);
      const delay = later === undefined || later < 0 ? "" : `, ${seconds(later)} after the console's line`;
      return `The console has the panic and QEMU had the guest's report of it (GUEST_PANICKED)${delay}.`;
    },
  },
  {
    id: "console-and-pstore",
    says: (signs) => (isKept(signs) ? "The panic on the console is kept in pstore too." : undefined),
  },
  {
    id: "console-and-dump",
    says: (signs) => {
      const [a, b] = [consoleDeath(signs)?.finding, of(signs.death, "dump")[0]?.finding];
      return a !== undefined && b !== undefined && isSame(a, b)
        ? "The panic on the console is in the dump's own kernel log too."
        : undefined;
    },
  },
  {
    id: "event-and-pstore",
    says: (signs) =>
      seen(signs, "panicEvent") && pstoreDeath(signs) !== undefined
        ? "The guest reported a panic to QEMU and kept a record of it in pstore."
        : undefined,
  },
  {
    id: "reset-after-panic",
    says: (signs, machine) => {
      if (!isDead(signs) || !seen(signs, "guestReset")) return undefined;
      const { panicTimeout, noReboot } = machine ?? {};
      const asked = panicTimeout !== undefined && panicTimeout !== 0 ? ` (panic=${panicTimeout})` : "";
      const end = noReboot === true ? "; with -no-reboot that ended QEMU" : "";
      return `QEMU saw the guest reset itself, as it does after a panic${asked}${end}.`;
    },
  },
  {
    id: "kdump-took-it",
    says: (signs) => {
      if (!seen(signs, "kdump")) return undefined;
      if (seen(signs, "crashLoaded"))
        return "GUEST_CRASHLOADED told that the crash kernel would come, and it did.";
      return (isDead(signs) || seen(signs, "oops")) && qemuWasRead(signs) && !seen(signs, "panicEvent")
        ? "No event of the panic reached QEMU, as is to be expected: the crash kernel starts before the panic notifiers, unless crash_kexec_post_notifiers is set."
        : undefined;
    },
  },
  {
    id: "no-device",
    says: (signs, machine) =>
      isDead(signs) &&
      qemuWasRead(signs) &&
      machine?.pvpanic === false &&
      !seen(signs, "panicEvent") &&
      !seen(signs, "crashLoaded")
        ? "No event of the panic reached QEMU, as is to be expected: the machine has no pvpanic device."
        : undefined,
  },
  {
    id: "stopped-before-record",
    says: (signs) =>
      stands(signs) && signs.kinds.has("pstore") && pstoreDeath(signs) === undefined
        ? "pstore has no record of the panic, as is to be expected: the guest was stopped in the panic notifier, before the kernel writes one."
        : undefined,
  },
  {
    id: "lockup-and-watchdog",
    says: (signs) =>
      seen(signs, "hang") && seen(signs, "watchdog")
        ? `The guest's kernel reported that it was stuck, and then the watchdog fired: ${quoted(signs.hang[0]!.text)}.`
        : undefined,
  },
  {
    id: "orderly-end",
    says: (signs) =>
      seen(signs, "powerOff") && seen(signs, "guestShutdown")
        ? "The console ends with an orderly power-off, and QEMU saw the guest shut itself down."
        : undefined,
  },
  {
    id: "orderly-reboot",
    says: (signs) =>
      seen(signs, "reboot") && seen(signs, "guestReset") && silentResets(signs) === 0
        ? "The console has every reset that QEMU saw as an orderly reboot."
        : undefined,
  },
  {
    id: "power-button",
    says: (signs) =>
      seen(signs, "powerButton") && (seen(signs, "guestShutdown") || seen(signs, "powerOff"))
        ? "The power button was pressed (system_powerdown), and the guest obeyed."
        : undefined,
  },
  {
    id: "memory-failure",
    says: (signs) =>
      seen(signs, "memoryFailure") &&
      of([...signs.hardwareDeath, ...signs.hardwareError], ...OF_GUEST).length > 0
        ? "QEMU told of a memory failure that it passed on to the guest (MEMORY_FAILURE), and the guest's kernel tells of one."
        : undefined,
  },
  {
    id: "disk-errors",
    says: (signs) =>
      seen(signs, "guestDiskError") && seen(signs, "hostDiskError")
        ? `The guest's kernel tells of a disk or file system that failed, and QEMU of an I/O error on the host (BLOCK_IO_ERROR): ${quoted(signs.hostDiskError[0]!.text)}. The host's storage is behind it.`
        : undefined,
  },
  {
    id: "disk-errors-of-the-guest",
    says: (signs) =>
      seen(signs, "guestDiskError") && qemuWasRead(signs) && !seen(signs, "hostDiskError")
        ? "The guest's kernel tells of a disk or file system that failed, and QEMU of no I/O error (BLOCK_IO_ERROR): the host's files and devices that QEMU reads and writes gave none."
        : undefined,
  },
];
