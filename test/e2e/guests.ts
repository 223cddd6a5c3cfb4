/** The virtual machines of the laboratory. */
export interface Recipe {
  readonly name: string;
  /** What tests are about it. */
  readonly about: string;
  /** Arguments of QEMU beyond those every guest has. */
  readonly qemu: readonly string[];
  readonly vcpus: number;
  /** A Linux guest; SeaBIOS that finds nothing to boot; the boot sector filling `low` MiB below and `high` above 4 GiB. */
  readonly system: "linux" | "firmware" | { readonly low: number; readonly high: number };
  /** qemu-system-x86_64 when not given. */
  readonly emulator?: "qemu-system-i386";
  /** Further words of the kernel's command line. */
  readonly append?: string;
  /** The RAMBlock whose memory is in the file `ram.bin` and, by the default coredump_filter, not in the core. */
  readonly fileBacked?: string;
  /** Whether the QEMU of other Debian releases runs it too. */
  readonly everyQemu?: boolean;
}

export const recipes: readonly Recipe[] = [
  {
    name: "q35-linux",
    about: "KASLR, a vCPU in user mode, a vCPU that idles",
    qemu: ["-machine", "q35", "-cpu", "qemu64", "-m", "112M", "-smp", "2"],
    vcpus: 2,
    system: "linux",
    everyQemu: true,
  },
  {
    name: "pc-linux",
    about: "KASLR, 5-level paging, -device vmcoreinfo",
    qemu: ["-machine", "pc", "-cpu", "max", "-m", "128M", "-smp", "2", "-device", "vmcoreinfo"],
    vcpus: 2,
    system: "linux",
  },
  {
    name: "microvm-linux",
    about: "a machine without PCI",
    qemu: ["-machine", "microvm", "-cpu", "qemu64", "-m", "96M", "-smp", "1"],
    vcpus: 1,
    system: "linux",
    // Its only timer is the PIT; on a busy host Linux fails to calibrate the TSC by it and hangs.
    append: "tsc_early_khz=3000000",
  },
  {
    name: "pc-split",
    about: "RAM below and above 4 GiB",
    qemu: ["-machine", "pc,max-ram-below-4g=8M", "-cpu", "max", "-m", "24M", "-smp", "1"],
    vcpus: 1,
    system: { low: 8, high: 16 },
    everyQemu: true,
  },
  {
    name: "q35-numa",
    about: "two memory backends, one of them a shared memfd, and vCPUs that never started",
    qemu: [
      ...["-machine", "q35", "-cpu", "max", "-m", "24M", "-smp", "3"],
      ...["-object", "memory-backend-ram,id=near,size=8M", "-numa", "node,nodeid=0,cpus=0,memdev=near"],
      ...[
        "-object",
        "memory-backend-memfd,id=far,size=16M,share=on",
        "-numa",
        "node,nodeid=1,cpus=1-2,memdev=far",
      ],
    ],
    vcpus: 3,
    system: { low: 24, high: 0 },
    everyQemu: true,
  },
  {
    name: "q35-file",
    about: "RAM in a shared file, which cores leave out",
    qemu: [
      ...["-machine", "q35,memory-backend=mem0", "-cpu", "max", "-m", "16M", "-smp", "1"],
      ...["-object", "memory-backend-file,id=mem0,size=16M,share=on,mem-path=ram.bin"],
    ],
    vcpus: 1,
    system: { low: 16, high: 0 },
    fileBacked: "mem0",
  },
  {
    name: "pc-i386",
    about: "an emulator of 32-bit processors, one in real and one in protected mode",
    qemu: ["-machine", "pc,graphics=off", "-m", "16M", "-smp", "2"],
    vcpus: 2,
    system: "firmware",
    emulator: "qemu-system-i386",
  },
];

/** What the guest writes when it has come to rest, and on which of its two serial lines. */
export function readiness({ system }: Recipe): { readonly text: string; readonly line: 0 | 1 } {
  if (system === "firmware") return { text: "No bootable device", line: 0 };
  return { text: "READY", line: system === "linux" ? 1 : 0 };
}

/** What guest/spin.S puts into the registers of vCPU 1. */
const spinnerRegisters: ReadonlyMap<string, bigint> = new Map([
  ["rax", 0xa0a1a2a3a4a5a6a7n],
  ["rbx", 0xb0b1b2b3b4b5b6b7n],
  ["rcx", 0xc0c1c2c3c4c5c6c7n],
  ["rdx", 0xd0d1d2d3d4d5d6d7n],
  ["rsi", 0x5150515051505150n],
  ["rdi", 0xd1d0d1d0d1d0d1d0n],
  ["rbp", 0xbebfbebfbebfbebfn],
  ["r8", 0x0800000000000008n],
  ["r9", 0x0900000000000009n],
  ["r10", 0x1000000000000010n],
  ["r11", 0x1100000000000011n],
  ["r12", 0x1200000000000012n],
  ["r13", 0x1300000000000013n],
  ["r14", 0x1400000000000014n],
  ["r15", 0x1500000000000015n],
  ["fs_base", 0x00007fab00001000n],
  ["gs_base", 0x00007fab00002000n],
]);

/** What guest/nano.S puts into the registers of its vCPU. */
const nanoRegisters: ReadonlyMap<string, bigint> = new Map([
  ["rax", 0x1122334455667788n],
  ["rbx", 0x99aabbccddeeff00n],
  ["rbp", 0xffffffff81234567n],
  ["r14", 0x1400000000000014n],
  ["r15", 0x1500000000000015n],
  ["gs_base", 0xffff888000abc000n],
]);

/** The vCPU whose registers the guest filled with known values, and those values; firmware and one-vCPU Linux guests
 * have none. */
export function knownRegisters(
  recipe: Recipe,
): { readonly vcpu: number; readonly values: ReadonlyMap<string, bigint> } | undefined {
  if (recipe.system === "firmware") return undefined;
  if (recipe.system !== "linux") return { vcpu: 0, values: nanoRegisters };
  return recipe.vcpus > 1 ? { vcpu: 1, values: spinnerRegisters } : undefined;
}
