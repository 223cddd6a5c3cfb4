import type { LogContext } from "./record.ts";
import type { McStatus } from "./status.ts";

/** Whose hardware, or whose wish, an x86 machine check was. */
export interface Origin {
  readonly kind: "own-hardware" | "host-memory" | "injected" | "injector" | "unknown";
  /** A sentence's end. */
  readonly text: string;
}

const OVER = 1n << 62n;
/** MCM_ADDR_PHYS in bits 8:6, and a page's worth of low bits. */
const QEMU_MISC = 0x8cn;
const QEMU_BANK = 9;

/**
 * What QEMU writes into a guest's bank 9 when the host's kernel tells it by SIGBUS that memory of the guest is bad (QEMU
 * target/i386/kvm/kvm.c: kvm_mce_inject()): Intel's BUS_MCEERR_AR and BUS_MCEERR_AO, AMD's.
 */
const QEMU_STATUSES: readonly bigint[] = [
  0xbd80_0000_0000_0134n,
  0xbd00_0000_0000_00c0n,
  0xbc00_0800_0000_0000n,
  0x9c00_1000_0000_0000n,
];

/** Where a machine check comes from, as far as its registers and the rest of the log tell. */
export function originOf(
  { status }: Pick<McStatus, "status">,
  { bank, misc }: { readonly bank: number | undefined; readonly misc: bigint | undefined },
  { hypervisor, injector }: LogContext,
): Origin {
  if (injector) {
    return { kind: "injector", text: "injected on purpose: the log tells of the kernel's own mce-inject" };
  }
  const isQemus = bank === QEMU_BANK && QEMU_STATUSES.includes(status & ~OVER);
  if (isQemus && (misc === undefined || misc === QEMU_MISC)) {
    return {
      kind: "host-memory",
      text: "QEMU put it there: memory of the host that holds the guest's is bad (SIGBUS, QMP MEMORY_FAILURE)",
    };
  }
  if (hypervisor !== undefined) {
    return {
      kind: "injected",
      text: `the kernel runs under ${hypervisor}, which passes no machine checks of its own processors on: injected, as by QEMU's monitor command mce`,
    };
  }
  return {
    kind: "unknown",
    text: "nothing in the log tells whether the kernel ran on hardware or in a guest",
  };
}

/** When a guest sees a machine check, for `--explain`: QEMU target/i386, Linux arch/x86/kvm, mm/memory-failure.c. */
export const GUEST_MACHINE_CHECKS: readonly (readonly [what: string, meaning: string])[] = [
  [
    "memory of the host is bad and the guest uses it (BUS_MCEERR_AR)",
    'the host\'s kernel sends QEMU SIGBUS; QEMU prints "Guest MCE Memory Error at QEMU addr … of type BUS_MCEERR_AR injected", emits MEMORY_FAILURE (action inject, action-required true) and puts SRAR, status bd80000000000134, in bank 9; a Linux guest kills the process, or panics where its kernel used the page',
  ],
  [
    "memory of the host is bad and nobody used it yet (BUS_MCEERR_AO)",
    "the same with SRAO, status bd000000000000c0: the guest gives the page up; AMD guests of QEMU before 8.2 were not told",
  ],
  [
    "QEMU itself used the bad memory",
    'it cannot be put on the guest: "Hardware memory error!", QEMU exits; MEMORY_FAILURE has recipient hypervisor, action fatal',
  ],
  [
    "monitor command: mce [-b] cpu bank status mcgstatus addr misc",
    "whatever was typed; MEMORY_FAILURE (recipient guest, action inject) follows for it too, so the event alone tells of no bad hardware",
  ],
  [
    "an uncorrected error while an earlier one is in progress, or with CR4.MCE clear",
    "triple fault: the guest is reset (KVM x86.c: kvm_vcpu_ioctl_x86_set_mce(), QEMU target/i386/helper.c)",
  ],
  [
    "a machine check of the host's own processor while the guest ran",
    "the host's kernel handles it; of the guest nothing is told unless memory of it is bad",
  ],
  [
    "the guest's own mce-inject",
    'an error of no hardware at all: "Machine check injector initialized" stands in its log',
  ],
];
