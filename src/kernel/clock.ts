import type { NamedKernel } from "./cpus.ts";
import { type KernelTypes, offsetOf } from "./types.ts";

/** What a kernel's clocks showed at its last tick. */
export interface KernelClock {
  /** Seconds since 1970 (CLOCK_REALTIME). */
  readonly time: number;
  /** Seconds since boot, suspended ones included (CLOCK_BOOTTIME). */
  readonly uptime: number | undefined;
}

const NANOSECONDS = 1_000_000_000n;
/** Members of tk_core are aligned to it. */
const ALIGN = 8;
/** 2200-01-01: clocks that show more are none, or not set. */
const LATEST = 7_258_118_400n;

/**
 * The kernel's timekeeper (kernel/time/timekeeping.c, 3.17+): `tk_core` holds a sequence counter, then it.
 * @returns undefined where it is not in memory, or shows no time
 */
export function readClock({ reader, symbols, types }: NamedKernel): KernelClock | undefined {
  const core = symbols.addressOf("tk_core");
  const offset = types && timekeeperOffset(types);
  if (core === undefined || offset === undefined) return undefined;
  const value = (member: string): bigint | undefined => {
    const at = offsetOf(types!, `timekeeper.${member}`);
    return at === undefined ? undefined : reader.u64(core + BigInt(offset + at));
  };
  const seconds = value("xtime_sec");
  if (seconds === undefined || seconds === 0n || seconds > LATEST) return undefined;
  const [monotonic, boot] = [value("ktime_sec"), value("offs_boot")];
  const suspended = boot === undefined ? undefined : BigInt.asIntN(64, boot) / NANOSECONDS;
  const uptime = monotonic === undefined || suspended === undefined ? undefined : monotonic + suspended;
  const isSane = uptime !== undefined && uptime >= 0n && uptime <= seconds;
  return { time: Number(seconds), uptime: isSane ? Number(uptime) : undefined };
}

/** `struct tk_data` since 6.13; before, a struct without a name: a seqcount (5.10+: of a raw spinlock) comes first. */
function timekeeperOffset(types: KernelTypes): number | undefined {
  const named = offsetOf(types, "tk_data.timekeeper");
  if (named !== undefined) return named;
  const size = types.sizeOf("seqcount_raw_spinlock_t") ?? types.sizeOf("seqcount_t");
  return size === undefined ? undefined : Math.ceil(size / ALIGN) * ALIGN;
}
