/** One access to an I/O port or a device register, as a trace has it. */
export interface PortAccess {
  readonly direction: "read" | "write";
  readonly port: number;
  /** Bytes. */
  readonly size: number;
  readonly value: bigint;
  /** Of the memory region, where the trace has it. */
  readonly region?: string;
}

/** pvpanic's port (QEMU hw/misc/pvpanic-isa.c), and where qemucalls are looked for. */
export const PVPANIC_PORT = 0x505;

/** Bits of pvpanic (Linux include/uapi/misc/pvpanic.h, QEMU include/standard-headers/misc/pvpanic.h). */
export const PVPANIC_BITS = { panicked: 1n, crashLoaded: 2n, shutdown: 4n } as const;

/** ftrace and perf: include trace event kvm_pio (Linux arch/x86/kvm/trace.h). */
const KVM_PIO =
  /kvm_pio: pio_(read|write) at 0x([0-9a-f]{1,4}) size ([124]) count \d{1,9} val 0x([0-9a-f]{1,16})/;
/** QEMU softmmu/trace-events: cpu_in, cpu_out. */
const CPU_IO = /\bcpu_(in|out) addr 0x([0-9a-f]{1,8})\(([bwl])\) value (\d{1,20})/;
/** QEMU softmmu/trace-events: memory_region_ops_read, memory_region_ops_write; the name came with 5.2. */
const REGION =
  /\bmemory_region_ops_(read|write) cpu -?\d{1,5} mr \S{1,20} addr 0x([0-9a-f]{1,16}) value 0x([0-9a-f]{1,16}) size ([1248])(?: name '([^']{0,100})')?/;
const SIZES: Readonly<Record<string, number>> = { b: 1, w: 2, l: 4 };

/** The access that a line of an I/O trace tells of. */
export function portAccessOf(line: string): PortAccess | undefined {
  if (line.includes("kvm_pio")) {
    const found = KVM_PIO.exec(line);
    if (found === null) return undefined;
    const [, direction, port, size, value] = found;
    return access(direction === "read", Number(`0x${port}`), Number(size), BigInt(`0x${value}`));
  }
  if (line.includes("cpu_in") || line.includes("cpu_out")) {
    const found = CPU_IO.exec(line);
    if (found === null) return undefined;
    const [, direction, port, size, value] = found;
    return access(direction === "in", Number(`0x${port}`), SIZES[size!]!, BigInt(value!));
  }
  if (!line.includes("memory_region_ops_")) return undefined;
  const found = REGION.exec(line);
  if (found === null) return undefined;
  const [, direction, address, value, size, region] = found;
  const port = Number(`0x${address}`);
  return {
    ...access(direction === "read", port, Number(size), BigInt(`0x${value}`)),
    ...(region && { region }),
  };
}

const access = (read: boolean, port: number, size: number, value: bigint): PortAccess => ({
  direction: read ? "read" : "write",
  port,
  size,
  value,
});

/** What an access to pvpanic means. */
export interface PvpanicAccess {
  /** Bits that the guest wrote; undefined for a read. */
  readonly told: "panicked" | "crash-loaded" | "shutdown" | "nothing known" | undefined;
  /** Events that the device offers, of a read. */
  readonly offered: number | undefined;
}

/** Whether an access is to pvpanic, and what it says; of a byte only, for the port is that of qemucalls too. */
export function pvpanicAccessOf({
  direction,
  port,
  size,
  value,
  region,
}: PortAccess): PvpanicAccess | undefined {
  const named = region?.startsWith("pvpanic") === true;
  if (!named && (port !== PVPANIC_PORT || size !== 1 || region !== undefined)) return undefined;
  if (direction === "read") return { told: undefined, offered: Number(value & 0xffn) };
  // QEMU looks at "panicked" first and leaves the rest alone: hw/misc/pvpanic.c, handle_event.
  if ((value & PVPANIC_BITS.panicked) !== 0n) return { told: "panicked", offered: undefined };
  if ((value & PVPANIC_BITS.crashLoaded) !== 0n) return { told: "crash-loaded", offered: undefined };
  if ((value & PVPANIC_BITS.shutdown) !== 0n) return { told: "shutdown", offered: undefined };
  return { told: "nothing known", offered: undefined };
}

/** A call of the qemucall proposal of 2012. */
export interface Qemucall {
  readonly index: bigint;
  /** Arguments 1 to N that were latched, in order; one that never was is undefined. */
  readonly arguments: readonly (bigint | undefined)[];
}

/** Registers that are kept; the proposal has no bound. */
const MAX_REGISTERS = 16;

/**
 * The qemucall port protocol as Anthony Liguori sketched it in 2012, never merged: 32-bit registers PORT, PORT+1, … of which
 * register 0 reads a magic value and, written, invokes a call; register 1 reads the supported features; registers 1 to N,
 * written, latch its arguments. "PORT+1" can be read as a port number or as the index of a 4-byte register: `stride` 1 or 4.
 */
export class QemucallReader {
  readonly port: number;
  /** Learnt from the first access beside the base port. */
  stride: 1 | 4 | undefined;
  magic: bigint | undefined;
  features: bigint | undefined;
  #latches: (bigint | undefined)[] = [];

  constructor(port: number = PVPANIC_PORT, stride?: 1 | 4) {
    this.port = port;
    this.stride = stride;
  }

  /** @returns the call that an access makes */
  push({ direction, port, size, value }: PortAccess): Qemucall | undefined {
    if (size !== 4) return undefined;
    const index = this.#register(port);
    if (index === undefined) return undefined;
    if (direction === "read") {
      if (index === 0) this.magic = value;
      if (index === 1) this.features = value;
      return undefined;
    }
    if (index > 0) {
      while (this.#latches.length < index) this.#latches.push(undefined);
      this.#latches[index - 1] = value;
      return undefined;
    }
    const call = { index: value, arguments: this.#latches };
    // Whether latches outlive a call is not said; a call with those of the one before would be misread.
    this.#latches = [];
    return call;
  }

  #register(port: number): number | undefined {
    const distance = port - this.port;
    if (distance === 0) return 0;
    if (distance < 0 || distance > 4 * MAX_REGISTERS) return undefined;
    // The first register is PORT+1 in one reading and PORT+4 in the other.
    this.stride ??= distance % 4 === 0 ? 4 : 1;
    if (distance % this.stride !== 0) return undefined;
    const index = distance / this.stride;
    return index <= MAX_REGISTERS ? index : undefined;
  }
}
