import { naming, UnavailableError } from "../core/errors.ts";
import type { JobContext } from "../core/job.ts";
import { plural } from "../core/text.ts";
import type { Warning } from "../core/warnings.ts";
import { findCrash, type LoggedCrash } from "../kernel/crash-log.ts";
import { spaceOfVmcoreinfo } from "../kernel/kernel-tables.ts";
import { type KernelLog, readKernelLog } from "../kernel/printk.ts";
import { findVmcoreinfo } from "../kernel/vmcoreinfo-scan.ts";
import type { GuestName, HostOptions } from "./host.ts";
import { type Input, openInput } from "./input.ts";
import { type Machine, openMachine } from "./machine.ts";

export interface DmesgOptions {
  /** Number of a host's guest, whose log is wanted instead of the host's own. */
  readonly guest: GuestName | undefined;
  readonly host: HostOptions;
  /** Whether only what belongs to the last crash is wanted. */
  readonly followCrash?: boolean;
}

export interface DmesgResult {
  readonly input: Input["facts"];
  /** `uname -r` of the kernel whose log it is. */
  readonly release: string | undefined;
  readonly log: KernelLog;
  /** The last one that the log tells of. */
  readonly crash: LoggedCrash | undefined;
  readonly warnings: readonly Warning[];
}

/**
 * Reads the kernel log of a dumped machine, of a host's guest, or of the guest in the core of a qemu process.
 * @throws UnsupportedError, CorruptError for the input; UnavailableError when there is no log that can be read
 */
export function kernelLog(path: string, options: DmesgOptions, context: JobContext): Promise<DmesgResult> {
  return naming(path, async () => {
    const input = await openInput(path, context, options.host);
    const warnings: Warning[] = [];
    const warn = (found: readonly Warning[]) => {
      for (const warning of found) {
        warnings.push(warning);
        context.warn(warning);
      }
    };
    try {
      warn(input.warnings);
      const machine = await openMachine(input, options, warn, context);
      const { release, log } = await logOf(machine, context);
      if (log.lost > 0) {
        const message = `${plural(log.lost, "record")} of the kernel log cannot be read: the bytes are not in the dump, or damaged`;
        warn([{ code: "LOG001", message }]);
      }
      const crash = await findCrash(log.records, context.checkpoint);
      if (options.followCrash === true && crash === undefined) warn([NO_CRASH]);
      return { input: input.facts, release, log, crash, warnings };
    } finally {
      input.close();
    }
  });
}

const NO_CRASH: Warning = {
  code: "LOG002",
  message: "no line of the kernel log begins a crash: its last records are shown",
  hint: "without --follow-crash all of it is shown",
};

async function logOf(
  { memory, vmcoreinfo: noted, states }: Machine,
  { checkpoint }: JobContext,
): Promise<{ readonly release: string | undefined; readonly log: KernelLog }> {
  const vmcoreinfo = noted ?? (await findVmcoreinfo(memory, { states, checkpoint })).best?.vmcoreinfo;
  const space = vmcoreinfo && spaceOfVmcoreinfo(memory, vmcoreinfo);
  if (vmcoreinfo === undefined || space === undefined) {
    throw new UnavailableError("no VMCOREINFO of an x86-64 Linux kernel is in this dump", {
      hint: "it says where the kernel log is; crash finds the log with the kernel's vmlinux",
    });
  }
  return { release: vmcoreinfo.osrelease, log: await readKernelLog(memory, space, vmcoreinfo, checkpoint) };
}
