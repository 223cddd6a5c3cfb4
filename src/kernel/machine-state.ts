import { cString } from "../core/bytes.ts";
import { type KernelClock, readClock } from "./clock.ts";
import { type Cpus, MAX_CPUS, type NamedKernel, readCpus, runningTasks } from "./cpus.ts";
import { taintLetters } from "./taints.ts";
import { offsetOf } from "./types.ts";

/** What a kernel's variables say of the machine; undefined is what they do not tell. */
export interface MachineState {
  readonly nodeName: string | undefined;
  /** `uname -v`: when it was built, and by whom. */
  readonly version: string | undefined;
  /** As the boot loader gave it, Latin-1. */
  readonly commandLine: string | undefined;
  readonly clock: KernelClock | undefined;
  readonly cpus: Cpus;
  /** task_struct that each processor runs, by its number. */
  readonly running: ReadonlyMap<number, bigint>;
  /** The processor that panicked. */
  readonly panicCpu: number | undefined;
  /** "" of a kernel that is not tainted. */
  readonly taints: string | undefined;
}

/** COMMAND_LINE_SIZE of x86. */
const MAX_COMMAND_LINE = 2048;
/** __NEW_UTS_LEN and its NUL; struct new_utsname has six such texts (include/uapi/linux/utsname.h). */
const UTS_FIELD = 65;
const UTS = { sysname: 0, nodename: 1, version: 3, fields: 6 } as const;

/** Reads what `kernel`'s variables say of the machine it ran. */
export function readMachineState(kernel: NamedKernel): MachineState {
  const { reader, symbols } = kernel;
  const cpus = readCpus(kernel);
  const pointer = addressAt(kernel, "saved_command_line");
  const mask = symbols.addressOf("tainted_mask");
  const taints = mask === undefined ? undefined : reader.u64(mask);
  return {
    ...utsOf(kernel),
    commandLine: pointer === undefined ? undefined : reader.text(pointer, MAX_COMMAND_LINE)?.trim(),
    clock: readClock(kernel),
    cpus,
    running: runningTasks(kernel, cpus.online ?? cpus.possible ?? []),
    panicCpu: panicCpuOf(kernel),
    taints: taints === undefined ? undefined : taintLetters(taints),
  };
}

function addressAt({ reader, symbols }: NamedKernel, symbol: string): bigint | undefined {
  const at = symbols.addressOf(symbol);
  return (at === undefined ? undefined : reader.u64(at)) || undefined;
}

/** `panic_cpu` (4.5+) and x86's `crashing_cpu`, which are −1 until there is one. */
function panicCpuOf({ reader, symbols }: NamedKernel): number | undefined {
  for (const name of ["panic_cpu", "crashing_cpu"]) {
    const at = symbols.addressOf(name);
    const cpu = at === undefined ? undefined : reader.i32(at);
    if (cpu !== undefined && cpu >= 0 && cpu < MAX_CPUS) return cpu;
  }
  return undefined;
}

function utsOf({ reader, symbols, types }: NamedKernel): Pick<MachineState, "nodeName" | "version"> {
  const nothing = { nodeName: undefined, version: undefined };
  const namespace = symbols.addressOf("init_uts_ns");
  const offset = types && offsetOf(types, "uts_namespace.name");
  if (namespace === undefined || offset === undefined) return nothing;
  const bytes = reader.bytes(namespace + BigInt(offset), UTS.fields * UTS_FIELD);
  const field = (index: number) => bytes && cString(bytes, index * UTS_FIELD, UTS_FIELD);
  if (field(UTS.sysname) !== "Linux") return nothing;
  return { nodeName: field(UTS.nodename), version: field(UTS.version) };
}
