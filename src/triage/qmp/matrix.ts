import { compareVersions, type QemuVersion } from "./message.ts";

/** What happens with a panic under one QEMU and machine type, and where that is written. */
export interface CompatibilityRow {
  /** Versions of QEMU it is for. */
  readonly qemu: string;
  /** Machine types it is for. */
  readonly machine: string;
  /** Whether there is something that a panic can be told to. */
  readonly device: string;
  /** What a panic leads to. */
  readonly afterPanic: string;
  /** Whether `cont` works then. */
  readonly cont: string;
  readonly source: string;
}

export interface Rule {
  readonly row: CompatibilityRow;
  readonly since: QemuVersion;
  /** The first version it is no longer for. */
  readonly until: QemuVersion | undefined;
  readonly machines: (machine: Machine) => boolean;
}

/** A machine type in its parts: `pc-i440fx-2.0`, `pseries-5.2`, `q35`. */
export interface Machine {
  readonly name: string;
  readonly family: "pc" | "pseries" | "s390" | "other";
  /** The version in its name. */
  readonly version: QemuVersion | undefined;
}

const v = (major: number, minor: number, micro = 0): QemuVersion => ({ major, minor, micro });

export function machineOf(name: string | undefined, program: string | undefined): Machine | undefined {
  if (name === undefined && program === undefined) return undefined;
  const numbers = /-(?:rhel)?(\d{1,3})\.(\d{1,3})(?:\.\d{1,3})?$/.exec(name ?? "");
  const version = numbers === null ? undefined : v(Number(numbers[1]), Number(numbers[2]));
  const of = name ?? program!;
  if (/^(?:pc|q35|microvm|ubuntu|x86|isapc)/.test(of) || /qemu-system-(?:x86_64|i386)|kvm/.test(of)) {
    return { name: name ?? "pc", family: "pc", version };
  }
  if (/^pseries|ppc64/.test(of)) return { name: name ?? "pseries", family: "pseries", version };
  if (/^s390|qemu-system-s390x/.test(of)) return { name: name ?? "s390-ccw-virtio", family: "s390", version };
  return { name: of, family: "other", version };
}

const isPc = (machine: Machine): boolean => machine.family === "pc";
const isExactly = (major: number, minor: number) => (machine: Machine) =>
  isPc(machine) && machine.version?.major === major && machine.version.minor === minor;
const isOlderPc = (machine: Machine): boolean =>
  isPc(machine) && machine.version !== undefined && compareVersions(machine.version, v(1, 5)) < 0;
/** A machine type without a version is the newest that QEMU has. */
const isBuiltin15 = (machine: Machine): boolean => isPc(machine) && !isOlderPc(machine);

export const CONT_FAILS = "refused: Resetting the Virtual Machine is required";
export const CONT_WORKS = "works";
const WITH_DEVICE = "only with -device pvpanic (or pvpanic-pci, from 6.0 on)";

/** The first that fits is the one. */
export const RULES: readonly Rule[] = [
  {
    since: v(0, 0),
    until: v(1, 5),
    machines: isPc,
    row: {
      qemu: "before 1.5",
      machine: "any",
      device: "none: QEMU has no pvpanic",
      afterPanic: "nothing: the guest loops or reboots (panic=)",
      cont: "not needed",
      source: "QEMU hw/misc/pvpanic.c came with 1.5",
    },
  },
  {
    since: v(1, 5),
    until: v(1, 6),
    machines: isOlderPc,
    row: {
      qemu: "1.5",
      machine: "pc of 1.4 and before",
      device: "none (has_pvpanic = false for old machine types)",
      afterPanic: "nothing: the guest loops or reboots (panic=)",
      cont: "not needed",
      source: "QEMU 1.5 hw/i386/pc_piix.c, pc_init_pci_1_4",
    },
  },
  {
    since: v(1, 5),
    until: v(1, 6),
    machines: isBuiltin15,
    row: {
      qemu: "1.5",
      machine: "pc-i440fx-1.5, pc-q35-1.5 (its defaults)",
      device: "built in: always there, with or without -device pvpanic",
      afterPanic: "paused, always",
      cont: CONT_FAILS,
      source: "QEMU 1.5 hw/i386/pc_piix.c, has_pvpanic = true; vl.c, runstate_needs_reset",
    },
  },
  {
    since: v(1, 6),
    until: v(2, 4),
    machines: isExactly(1, 5),
    row: {
      qemu: "1.6 to 2.3",
      machine: "pc-i440fx-1.5, pc-q35-1.5",
      device: "built in: pc_compat_1_5 keeps it",
      afterPanic: "paused, always",
      cont: "works from 1.6.1 on; 1.6.0 refuses it",
      source: "QEMU 1.7 hw/i386/pc_piix.c, pc_compat_1_5",
    },
  },
  {
    since: v(1, 6),
    until: v(2, 8),
    machines: isPc,
    row: {
      qemu: "1.6 to 2.7",
      machine: "pc and q35",
      device: "only with -device pvpanic",
      afterPanic: "paused, always",
      cont: "works from 1.6.1 on; 1.6.0 refuses it",
      source: "QEMU vl.c, runstate_transitions_def; hw/misc/pvpanic.c",
    },
  },
  {
    since: v(2, 8),
    until: v(6, 0),
    machines: isPc,
    row: {
      qemu: "2.8 to 5.2",
      machine: "pc and q35",
      device: "only with -device pvpanic",
      afterPanic:
        "two GUEST_PANICKED of one panic (pause, then poweroff) and SHUTDOWN; with -no-shutdown paused only",
      cont: CONT_WORKS,
      source: "QEMU vl.c and softmmu/vl.c, qemu_system_guest_panicked",
    },
  },
  {
    since: v(6, 0),
    until: undefined,
    machines: isPc,
    row: {
      qemu: "6.0 and later",
      machine: "pc and q35",
      device: WITH_DEVICE,
      afterPanic: "as -action panic= says (default shutdown); with -no-shutdown that pauses",
      cont: CONT_WORKS,
      source: "QEMU softmmu/runstate.c, qemu_system_guest_panicked; qemu-options.hx, -action",
    },
  },
  {
    since: v(1, 5),
    until: undefined,
    machines: ({ family }) => family === "pseries",
    row: {
      qemu: "1.5 and later",
      machine: "pseries",
      device: "not needed: the guest calls ibm,os-term",
      afterPanic: "as with pvpanic: paused before 2.8, poweroff too until 5.2, then as -action panic= says",
      cont: CONT_WORKS,
      source: "QEMU hw/ppc/spapr_rtas.c, rtas_ibm_os_term",
    },
  },
  {
    since: v(1, 5),
    until: undefined,
    machines: ({ family }) => family === "s390",
    row: {
      qemu: "1.5 and later",
      machine: "s390-ccw-virtio",
      device: "not needed: a disabled wait is a panic",
      afterPanic: "as with pvpanic; from 2.12 on the event has the PSW",
      cont: CONT_WORKS,
      source: "QEMU target/s390x, s390_handle_wait; qapi/run-state.json",
    },
  },
  {
    since: v(6, 0),
    until: undefined,
    machines: () => true,
    row: {
      qemu: "6.0 and later",
      machine: "any other with PCI",
      device: "only with -device pvpanic-pci",
      afterPanic: "as -action panic= says (default shutdown); with -no-shutdown that pauses",
      cont: CONT_WORKS,
      source: "QEMU hw/misc/pvpanic-pci.c",
    },
  },
];
