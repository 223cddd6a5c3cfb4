import type { Signature } from "../signature.ts";
import { BOOT_LOADERS } from "./boot-loaders.ts";
import { BSD } from "./bsd.ts";
import { FIRMWARE } from "./firmware.ts";
import { GARBLED } from "./garbled.ts";
import { LINUX_ARM } from "./linux-arm.ts";
import { LINUX_CHECKS } from "./linux-checks.ts";
import { LINUX_FAULTS } from "./linux-faults.ts";
import { LINUX_HANGS } from "./linux-hangs.ts";
import { LINUX_HARDWARE } from "./linux-hardware.ts";
import { LINUX_LEADS } from "./linux-leads.ts";
import { LINUX_LOCKS } from "./linux-locks.ts";
import { LINUX_MACHINES } from "./linux-machines.ts";
import { LINUX_MEMORY } from "./linux-memory.ts";
import { LINUX_PANIC } from "./linux-panic.ts";
import { LINUX_POWERPC } from "./linux-powerpc.ts";
import { LINUX_S390 } from "./linux-s390.ts";
import { LINUX_STORAGE } from "./linux-storage.ts";
import { LINUX_STRUCTURES } from "./linux-structures.ts";
import { OTHER_KERNELS } from "./other-kernels.ts";
import { USERLAND } from "./userland.ts";
import { XEN } from "./xen.ts";

/** Every signature; of those that match a line the first counts, the exact before the general before the garbled. */
export const SIGNATURES: readonly Signature[] = [
  ...LINUX_PANIC,
  ...LINUX_POWERPC,
  ...LINUX_FAULTS,
  ...LINUX_LEADS,
  ...LINUX_ARM,
  ...LINUX_S390,
  ...LINUX_MEMORY,
  ...LINUX_LOCKS,
  ...LINUX_CHECKS,
  ...LINUX_STORAGE,
  ...LINUX_STRUCTURES,
  ...LINUX_HANGS,
  ...LINUX_HARDWARE,
  ...LINUX_MACHINES,
  ...BSD,
  ...XEN,
  ...OTHER_KERNELS,
  ...FIRMWARE,
  ...BOOT_LOADERS,
  ...USERLAND,
  ...GARBLED,
];
