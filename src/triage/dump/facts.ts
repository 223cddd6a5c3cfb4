/** What a dump tells of its machine, as far as triage cares; whoever opened it fills it in. */

/** One processor of the machine. */
export interface DumpedVcpu {
  readonly index: number;
  /** Undefined where not even that is known. */
  readonly rip: bigint | undefined;
  readonly rflags: bigint | undefined;
  /** `user` and `kernel` are of long and protected mode with paging. */
  readonly where: "user" | "kernel" | "real" | "protected" | "guest" | "unknown";
  /** Waiting in HLT; undefined where the dump does not tell. */
  readonly halted: boolean | undefined;
  /** `symbol+0x10`, where the kernel's symbols are known. */
  readonly symbol: string | undefined;
  /** What the instructions at RIP do for ever, by their bytes. */
  readonly loop: "jump to itself" | "halt for ever" | undefined;
  /** Why it last left the guest, of a host's guest. */
  readonly exit: DumpedExit | undefined;
  /** Whether its registers are of the moment of the dump. */
  readonly current: boolean;
  /** Base of its interrupt descriptor table. */
  readonly idt: bigint | undefined;
}

/** Of a VMCS or VMCB. */
export interface DumpedExit {
  readonly text: string;
  readonly entryFailure: boolean;
  readonly tripleFault: boolean;
}

/** A line of the kernel's log. */
export interface LoggedLine {
  /** Nanoseconds since boot. */
  readonly time: bigint;
  /** May have several lines. */
  readonly text: string;
}

/** A VMCS or VMCB that the kernel of a host printed. */
export interface PrintedBlock {
  readonly kind: "vmcs" | "vmcb";
  readonly line: number;
  /** The line in front that says why. */
  readonly cause: string | undefined;
  /** The exit reason in words, and rules of VM entry that are broken. */
  readonly reason: string | undefined;
  readonly broken: readonly string[];
}

/** How a process came to its core. */
export interface ProcessEnd {
  /** Name of the program, as the kernel cuts it. */
  readonly name: string;
  readonly signal: number;
  /** Who sent it: the kernel upon a fault, the process itself, another one, or that is not said. */
  readonly by: "fault" | "itself" | "another" | undefined;
  /** The process that sent it; 0 of one outside of the container. */
  readonly sender: number | undefined;
  /** The address that a fault is about. */
  readonly address: bigint | undefined;
}

export interface DumpFacts {
  /** How the dump is named in evidence. */
  readonly source: string;
  /** Whether it is of a machine, of a guest in its host's memory, or of the guest of a qemu process. */
  readonly of: "machine" | "guest" | "qemu";
  /** `uname -r`; undefined where no Linux kernel was found. */
  readonly release: string | undefined;
  /** Whether an x86 Linux kernel was found at all. */
  readonly isLinux: boolean;
  /** Oldest first; undefined where it cannot be read, and why. */
  readonly log: readonly LoggedLine[] | undefined;
  readonly logProblem: string | undefined;
  /** Index into `log` of the first line of the last crash, and the line that says what happened. */
  readonly crash: { readonly index: number; readonly title: string } | undefined;
  readonly panicCpu: number | undefined;
  /** "" of a kernel that is not tainted. */
  readonly taints: string | undefined;
  /** Seconds since 1970, as the crashed kernel noted it: then kdump took over. */
  readonly crashTime: number | undefined;
  /** Whether a crash kernel was loaded; undefined where the kernel does not tell. */
  readonly crashKernel: boolean | undefined;
  readonly vcpus: readonly DumpedVcpu[];
  /** Of a core of QEMU that a signal made; undefined where it was taken of a process that went on. */
  readonly end: ProcessEnd | undefined;
  readonly printed: readonly PrintedBlock[];
}
