import { shellWord } from "../core/text.ts";
import type { LinuxImage } from "../kernel/linux.ts";

/** What the tools want of a vmcore. */
export interface VmcoreTraits {
  /** Whether VMCOREINFO is a note of the file. */
  readonly note: boolean;
  /** Whether p_vaddr of the segments is the kernel's direct map. */
  readonly kernelAddresses: boolean;
  /** Program headers. */
  readonly headers: number;
}

/** From here on e_phnum is PN_XNUM and the count in section header 0 (elf(5)), where not all tools look. */
const PN_XNUM = 0xffff;

/** The commands that open a vmcore, exact but for the path of vmlinux. */
export function openingCommands(
  path: string,
  linux: LinuxImage | undefined,
  { note, kernelAddresses, headers }: VmcoreTraits,
): string[] {
  const file = shellWord(path);
  const release = linux?.release?.value;
  if (release === undefined) return [`gdb -c ${file}`, `readelf -ln ${file}`];
  const vmlinux = shellWord(`vmlinux-${release}`);
  const crash = `crash ${vmlinux} ${file}`;
  // The others need VMCOREINFO as a note, and find their way by the segments' virtual addresses.
  if (!note || !kernelAddresses) return [crash];
  const drgn = `drgn -c ${file} -s ${vmlinux}`;
  if (headers >= PN_XNUM) return [crash, drgn];
  return [crash, drgn, `vmcore-dmesg ${file}`, `makedumpfile -c -d 31 ${file} ${shellWord(`${path}.kdump`)}`];
}

/** Where vmlinux with debug symbols comes from, by the build-id that every distribution indexes. */
export const symbolsHint = (linux: LinuxImage | undefined): string | undefined =>
  linux?.buildId === undefined
    ? undefined
    : `debug symbols: debuginfod-find debuginfo ${linux.buildId.value}`;
