import type { Failing, Running } from "./triage-guest.ts";

/** A machine, and what is true of it because of how it was made. */
export interface Case extends Failing {
  /** What QEMU must have said in this order, among else: that it did not would be no fault of triage. */
  readonly events: readonly string[];
  /** What the guest must have written. */
  readonly says?: RegExp;
  /** How QEMU must have ended, 0 where nothing is said. */
  readonly ends?: number | NodeJS.Signals;
  readonly verdict: string;
  readonly rule: string;
  /** Classes of all findings but notices, the worst first. */
  readonly findings: readonly string[];
  /** The worst `--fail-on` that the machine fails with; none where nothing fails it. */
  readonly failsOn?: "panic" | "oops" | "hang" | "warning";
  /** Among those that are told. */
  readonly agreements?: readonly string[];
  /** All that are told. */
  readonly contradictions?: readonly string[];
}

export const PVPANIC = ["-device", "pvpanic"];
export const ISA_PVPANIC = "insmod /pvpanic.ko; insmod /pvpanic-mmio.ko";
export const PCI_PVPANIC = "insmod /pvpanic.ko; insmod /pvpanic-pci.ko";
export const CRASH = "echo c >/proc/sysrq-trigger";
export const SYSRQ = /^\[[ \d.]+\] Kernel panic - not syncing: sysrq triggered crash\r?$/m;
export const POWEROFF = "poweroff -f";

export const ERST = [
  ...["-object", "memory-backend-file,id=erst,mem-path=erst.img,size=0x10000,share=on"],
  ...["-device", "acpi-erst,memdev=erst"],
];

/**
 * Arms the timer of -device i6300esb, whose driver the guests' kernel lacks; QEMU hw/watchdog/wdt_i6300esb.c has the
 * registers.
 */
export const WATCHDOG = [
  "d=$(dirname $(grep -l 0x25ab /sys/bus/pci/devices/*/device)); echo 1 >$d/enable",
  "a=$(awk 'NR==1 {print $1}' $d/resource)",
  "unlock() { devmem $((a + 12)) 16 0x80; devmem $((a + 12)) 16 0x86; }",
  "unlock; devmem $a 32 0x200; unlock; devmem $((a + 4)) 32 0x200",
  "printf '\\002' | dd of=$d/config bs=1 seek=104 conv=notrunc 2>/dev/null",
].join("\n");

export const quit = async ({ qmp }: Running): Promise<void> => {
  await qmp.command("quit");
};

/** What a guest that panicked is told to be, whatever else is found. */
export const PANICKED = {
  verdict: "guest-panic",
  rule: "death",
  findings: ["panic"],
  failsOn: "panic",
} as const;

export const CLEAN = { verdict: "clean", rule: "orderly-shutdown", findings: [] } as const;
