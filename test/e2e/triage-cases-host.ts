import { setTimeout as sleep } from "node:timers/promises";
import { runWell } from "./tools.ts";
import { type Case, CLEAN, quit } from "./triage-case.ts";
import type { Running } from "./triage-guest.ts";

/** Switches the guest off when somebody presses its power button, as acpid does. */
const OBEY = [
  "insmod /button.ko; b=/sys/firmware/acpi/interrupts/ff_pwr_btn; echo ready",
  "until grep -q ' [1-9]' $b; do sleep 1; done; poweroff -f",
].join("\n");

/** A disk whose every byte is an error of the host's. */
const BROKEN_DISK = [
  ...["-blockdev", "driver=null-co,node-name=null,size=1048576"],
  "-blockdev",
  '{"driver":"blkdebug","node-name":"bad","image":"null","inject-error":[{"event":"none","iotype":"read"}]}',
  ...["-device", "ide-hd,drive=bad,rerror=stop"],
];

/** No Linux: the firmware speaks, and finds nothing to start. */
const FIRMWARE = { memory: 16, qemu: ["-machine", "pc,graphics=off"] } as const;

const once =
  (text: RegExp, act: (machine: Running) => unknown) =>
  async (machine: Running): Promise<void> => {
    await machine.says(text);
    await act(machine);
  };

/** Somebody or something outside of the guest ends it. */
export const ends: readonly Case[] = [
  {
    name: "quit",
    deed: "echo ready",
    host: once(/^ready/m, quit),
    events: ["SHUTDOWN host-qmp-quit"],
    verdict: "stopped-by-policy",
    rule: "asked-to-stop",
    findings: [],
  },
  {
    name: "sigterm",
    deed: "insmod /crash-bug.ko; sleep 1; echo ready",
    host: once(/^ready/m, ({ qemu }) => qemu.kill("SIGTERM")),
    log: "transcript",
    events: ["SHUTDOWN host-signal"],
    verdict: "stopped-by-policy",
    rule: "asked-to-stop",
    findings: ["kernel-bug"],
    failsOn: "oops",
  },
  {
    name: "sigkill",
    deed: "echo ready",
    host: once(/^ready/m, ({ qemu }) => qemu.kill("SIGKILL")),
    events: [],
    ends: "SIGKILL",
    verdict: "clean",
    rule: "nothing-failed",
    findings: [],
  },
  {
    name: "stopped",
    deed: "echo ready",
    host: once(/^ready/m, async (machine) => {
      await machine.qmp.command("stop");
      await machine.hears("STOP");
      await quit(machine);
    }),
    events: ["STOP", "SHUTDOWN host-qmp-quit"],
    verdict: "stopped-by-policy",
    rule: "asked-to-stop",
    findings: [],
  },
  {
    name: "core-asked-for",
    deed: "echo ready",
    host: once(/^ready/m, ({ qemu }) => qemu.kill("SIGABRT")),
    events: [],
    ends: "SIGABRT",
    needs: "core",
    verdict: "stopped-by-policy",
    rule: "asked-to-stop",
    findings: [],
  },
  {
    ...FIRMWARE,
    name: "qemu-crash",
    host: once(/Booting from/, ({ qemu }) => {
      // Its main thread goes on where nothing is.
      const jump = ["-ex", "set $pc = 0", "-ex", "detach"];
      runWell("gdb", ["-nx", "-batch", "-iex", "set debuginfod enabled off", "-p", `${qemu.pid}`, ...jump]);
    }),
    events: [],
    ends: "SIGSEGV",
    needs: "core",
    verdict: "qemu-crash",
    rule: "qemu-died",
    findings: ["qemu-abort", "boot-failure"],
    failsOn: "panic",
  },
  {
    ...FIRMWARE,
    name: "no-boot-device",
    host: once(/No bootable device\./, quit),
    events: ["SHUTDOWN host-qmp-quit"],
    verdict: "guest-hang",
    rule: "hang",
    findings: ["boot-failure"],
    failsOn: "hang",
  },
  {
    name: "io-error",
    memory: 16,
    qemu: ["-machine", "pc,graphics=off", ...BROKEN_DISK],
    host: async (machine) => {
      await machine.hears("STOP");
      await machine.qmp.command("query-status");
      await quit(machine);
    },
    log: "transcript",
    events: ["BLOCK_IO_ERROR Input/output error", "STOP", "SHUTDOWN host-qmp-quit"],
    verdict: "host-fault",
    rule: "host-fault",
    findings: ["io-error"],
    failsOn: "panic",
  },
  {
    ...CLEAN,
    name: "reset-and-powerdown",
    deed: OBEY,
    host: once(/^ready/m, async (machine) => {
      await machine.qmp.command("system_reset");
      await machine.says(/^ready[\s\S]*^ready/m);
      await machine.qmp.command("system_powerdown");
    }),
    // SeaBIOS resets the machine once more.
    events: ["RESET host-qmp-system-reset", "RESET guest-reset", "POWERDOWN", "SHUTDOWN guest-shutdown"],
    agreements: ["orderly-end", "power-button"],
  },
  {
    name: "powerdown-ignored",
    deed: "echo ready",
    host: once(/^ready/m, async (machine) => {
      await machine.qmp.command("system_powerdown");
      await sleep(1000);
      await quit(machine);
    }),
    events: ["POWERDOWN", "SHUTDOWN host-qmp-quit"],
    verdict: "stopped-by-policy",
    rule: "asked-to-stop",
    findings: [],
  },
  {
    // That kernel takes no machine checks: QEMU resets it instead.
    name: "memory-error",
    deed: "echo ready",
    qemu: ["-no-reboot"],
    host: once(/^ready/m, (machine) =>
      // QEMU may be gone before it has answered.
      machine.qmp.monitor("mce 0 9 0xbd00000000000134 0x5 0x123000 0x8c").catch(() => {}),
    ),
    events: ["MEMORY_FAILURE reset", "SHUTDOWN guest-reset"],
    verdict: "hardware-fault",
    rule: "hardware-death",
    findings: ["memory-failure"],
    failsOn: "panic",
  },
];
