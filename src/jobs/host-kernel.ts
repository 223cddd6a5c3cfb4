import type { JobContext } from "../core/job.ts";
import type { PhysicalMemory } from "../core/memory.ts";
import type { Warning } from "../core/warnings.ts";
import { openDump } from "../dump/open.ts";
import type { Note } from "../elf/notes.ts";
import { describeLinux, type LinuxImage } from "../kernel/linux.ts";
import { type LinuxKernel, openKernel } from "../kernel/open-kernel.ts";
import { Vmcoreinfo } from "../kernel/vmcoreinfo.ts";
import { VmcoreinfoScanner } from "../kernel/vmcoreinfo-scan.ts";
import { readMemory } from "../vmcore/write.ts";
import type { Input } from "./input.ts";
import { type KernelFileNames, openKernelFiles, refusedWarnings } from "./kernel-files.ts";

/** A dumped machine and its kernel. */
export interface HostKernel {
  readonly memory: PhysicalMemory;
  readonly notes: readonly Note[];
  readonly linux: LinuxImage | undefined;
  readonly kernel: LinuxKernel | undefined;
  /** Why there is no `kernel`. */
  readonly reason: string | undefined;
  /** Whether the crashed kernel left the dump. */
  readonly kdump: boolean;
}

/**
 * Opens the dump of a machine and its own kernel; memory is searched for VMCOREINFO only where it is no note.
 * @param names files that stand in for symbols and types that are not in its memory
 * @throws UnsupportedError when it is no dump of a machine; UnavailableError, CorruptError, IoError for the files
 */
export async function openHostKernel(
  { source, files }: Input,
  names: KernelFileNames,
  warn: (warnings: readonly Warning[]) => void,
  context: JobContext,
): Promise<HostKernel> {
  const given = await openKernelFiles(names, context);
  warn(given.warnings);
  const { memory, notes, cpus, warnings } = await openDump(source, files);
  warn(warnings);
  const desc = notes.find(({ name }) => name === "VMCOREINFO")?.desc;
  const noted = desc && new Vmcoreinfo(desc);
  const states = cpus.filter(({ inGuest }) => inGuest === undefined).map(({ state }) => state);
  const vmcoreinfo = noted ?? (await searched(memory, new VmcoreinfoScanner(memory, { states }), context));
  const kdump = noted?.get("CRASHTIME") !== undefined;
  const linux = vmcoreinfo && (await describeLinux(memory, { vmcoreinfo, states: [] }, context.checkpoint));
  const opened = linux && openKernel(memory, { image: linux, vmcoreinfo, files: given.files });
  warn(refusedWarnings(opened?.refused ?? {}, names));
  const reason = opened === undefined ? "no Linux kernel was found" : opened.reason;
  return { memory, notes, linux, kernel: opened?.kernel, reason, kdump };
}

async function searched(
  memory: PhysicalMemory,
  scanner: VmcoreinfoScanner,
  context: JobContext,
): Promise<Vmcoreinfo | undefined> {
  await readMemory(memory, "scanning", context, (bytes, address) => scanner.scan(bytes, address));
  return scanner.result.best?.vmcoreinfo;
}
