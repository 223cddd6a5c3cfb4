import type { JobContext } from "../core/job.ts";
import type { PhysicalMemory } from "../core/memory.ts";
import type { Warning } from "../core/warnings.ts";
import { isMachineDump, openDump } from "../dump/open.ts";
import { openProcessCore } from "../dump/process-core.ts";
import { NT_PRSTATUS } from "../elf/constants.ts";
import { decodePrstatus } from "../elf/core-notes.ts";
import type { Vcpu } from "../guest/guest.ts";
import { Vmcoreinfo } from "../kernel/vmcoreinfo.ts";
import { exitCodeName, isEntryFailure as isVmrunFailure } from "../svm/exit-codes.ts";
import { fieldValue as vmcbField } from "../svm/vmcb.ts";
import type { DumpedExit, DumpedVcpu, DumpFacts, ProcessEnd } from "../triage/dump/facts.ts";
import { basicReason, describeExitReason, isEntryFailure } from "../vmx/exit-reasons.ts";
import { fieldValue } from "../vmx/score.ts";
import { modeOf, privilegeOf } from "../x86/mode.ts";
import { decodeQemuCpuState } from "../x86/qemu-cpu-state.ts";
import type { X86State } from "../x86/state.ts";
import { isVmcore } from "./extract.ts";
import { readVcpus } from "./extract-host.ts";
import type { Block, GuestName, HostOptions } from "./host.ts";
import type { Input } from "./input.ts";
import { guestOfHost } from "./machine.ts";
import { endOf, guestOfCore } from "./triage-dump-core.ts";
import { loopAt } from "./triage-dump-loop.ts";

/** A machine that triage looks at. */
export interface TriagedMachine {
  /** What ended the process that ran it. */
  readonly end?: ProcessEnd | undefined;
  readonly of: DumpFacts["of"];
  readonly memory: PhysicalMemory;
  /** A note of the dump. */
  readonly vmcoreinfo: Vmcoreinfo | undefined;
  readonly states: readonly X86State[];
  readonly vcpus: readonly DumpedVcpu[];
}

/** CPUs that Linux supports on x86-64 (`MAXSMP`, arch/x86/Kconfig). */
const MAX_CPUS = 8192;
type Warn = (warnings: readonly Warning[]) => void;

/**
 * Opens the machine in a file with the states of its processors: the one that was dumped, a guest of it, or the guest
 * in the core of a qemu process.
 * @throws UnsupportedError, CorruptError for the input; UnavailableError for a guest that is not there
 */
export async function openTriaged(
  input: Input,
  { guest, host }: { readonly guest: GuestName | undefined; readonly host: HostOptions },
  warn: Warn,
  context: JobContext,
): Promise<TriagedMachine> {
  const { source, files } = input;
  if (!isMachineDump(source, files) && !isVmcore(source, files)) return await ofQemu(input, warn, context);
  if (guest !== undefined) return await ofGuest(input, guest, host, warn, context);
  const { memory, notes, cpus, warnings } = await openDump(source, files);
  warn(warnings);
  const desc = notes.find(({ name }) => name === "VMCOREINFO")?.desc;
  const noted = notes
    .filter(({ name }) => name === "QEMU")
    .slice(0, MAX_CPUS)
    .map((note) => decodeQemuCpuState(note.desc));
  const states = noted.filter((state) => state !== undefined);
  const registers = notes.filter(({ name, type }) => name === "CORE" && type === NT_PRSTATUS);
  const vcpus =
    cpus.length > 0
      ? cpus.map(({ index, state, halted, inGuest }) => ({
          ...ofState(memory, { index, state, halted, trust: "current" }, undefined),
          ...(inGuest === undefined ? {} : { where: "guest" as const, symbol: undefined }),
        }))
      : states.length > 0
        ? states.map((state, index) =>
            ofState(memory, { index, state, halted: undefined, trust: "current" }, undefined),
          )
        : registers.slice(0, MAX_CPUS).flatMap(({ desc: note }, index) => ofPrstatus(note, index) ?? []);
  return {
    of: "machine",
    memory,
    vmcoreinfo: desc && new Vmcoreinfo(desc),
    states:
      cpus.length > 0 ? cpus.filter((cpu) => cpu.inGuest === undefined).map(({ state }) => state) : states,
    vcpus,
  };
}

async function ofQemu({ source }: Input, warn: Warn, context: JobContext): Promise<TriagedMachine> {
  const core = openProcessCore(source);
  const end = endOf(core);
  const { memory, vcpus } = await guestOfCore(source, core, end, warn, context);
  return {
    of: "qemu",
    end,
    memory,
    vmcoreinfo: undefined,
    states: vcpus.map(({ state }) => state),
    vcpus: vcpus.map((vcpu) => ofState(memory, vcpu, undefined)),
  };
}

async function ofGuest(
  input: Input,
  wanted: GuestName,
  options: HostOptions,
  warn: Warn,
  context: JobContext,
): Promise<TriagedMachine> {
  const { host, guest, found } = await guestOfHost(input, wanted, options, warn, context);
  const exits = new Map(guest.vcpus.map(({ index, block }) => [index, block && exitOf(block)]));
  const vcpus = readVcpus(host, guest);
  return {
    of: "guest",
    memory: found.memory,
    vmcoreinfo: undefined,
    states: vcpus.map(({ state }) => state),
    vcpus: vcpus.map((vcpu) => ofState(found.memory, vcpu, exits.get(vcpu.index))),
  };
}

const TRIPLE_FAULT = 2;
/** Activity state 2 (Intel SDM Vol. 3C §25.4.2). */
const SHUTDOWN = 2n;
/** VMEXIT_SHUTDOWN (AMD APM Vol. 2 Appendix C). */
const VMEXIT_SHUTDOWN = 0x7fn;

/** Why a vCPU last left the guest, by its control block. */
function exitOf(block: Block): DumpedExit | undefined {
  if (block.arch === "svm") {
    const code = vmcbField(block.vmcb, "exit_code");
    return {
      text: exitCodeName(code) ?? `0x${code.toString(16)}`,
      entryFailure: isVmrunFailure(code),
      tripleFault: code === VMEXIT_SHUTDOWN,
    };
  }
  const { region } = block.candidate;
  const reason = fieldValue(region, "VM_EXIT_REASON");
  const isShutDown = fieldValue(region, "GUEST_ACTIVITY_STATE") === SHUTDOWN;
  if (reason === undefined) {
    return isShutDown
      ? { text: "activity state shutdown", entryFailure: false, tripleFault: true }
      : undefined;
  }
  const { text } = describeExitReason(reason);
  const failed = isEntryFailure(reason);
  const tripleFault = isShutDown || (!failed && basicReason(reason) === TRIPLE_FAULT);
  return { text, entryFailure: failed, tripleFault };
}

function ofState(
  memory: PhysicalMemory,
  { index, state, halted, trust }: Pick<Vcpu, "index" | "state" | "halted" | "trust">,
  exit: DumpedExit | undefined,
): DumpedVcpu {
  const mode = modeOf(state);
  const where = mode === "real" || mode === "protected" ? mode : privilegeOf(state) === 3 ? "user" : "kernel";
  return {
    index,
    rip: state.rip,
    rflags: state.rflags,
    where,
    halted,
    symbol: undefined,
    loop: loopAt(memory, state),
    exit,
    current: trust === "current",
    idt: state.idt.base,
  };
}

/** What kdump and NT_PRSTATUS have: no control registers, no interrupt table. */
function ofPrstatus(desc: Buffer, index: number): DumpedVcpu | undefined {
  const status = decodePrstatus(desc);
  if (status === undefined) return undefined;
  const { rip, rflags, cs } = status.registers;
  // A CPU that did not answer has a note of zeros.
  if (rip === 0n) return undefined;
  return {
    index,
    rip,
    rflags,
    where: (cs & 3n) === 3n ? "user" : "kernel",
    halted: undefined,
    symbol: undefined,
    loop: undefined,
    exit: undefined,
    current: true,
    idt: undefined,
  };
}
