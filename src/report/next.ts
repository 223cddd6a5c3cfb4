import { shellWord } from "../core/text.ts";
import type { LinuxImage } from "../kernel/linux.ts";

/** The commands that open a vmcore, exact but for the path of vmlinux. */
export function openingCommands(
  path: string,
  linux: LinuxImage | undefined,
  kernelAddresses = true,
): string[] {
  const file = shellWord(path);
  const release = linux?.release?.value;
  if (release === undefined) return [`gdb -c ${file}`, `readelf -ln ${file}`];
  const vmlinux = shellWord(`vmlinux-${release}`);
  // The others need VMCOREINFO as a note, and find their way by the segments' virtual addresses.
  if (!kernelAddresses) return [`crash ${vmlinux} ${file}`];
  return [
    `crash ${vmlinux} ${file}`,
    `drgn -c ${file} -s ${vmlinux}`,
    `vmcore-dmesg ${file}`,
    `makedumpfile -c -d 31 ${file} ${shellWord(`${path}.kdump`)}`,
  ];
}

/** Where vmlinux with debug symbols comes from, by the build-id that every distribution indexes. */
export const symbolsHint = (linux: LinuxImage | undefined): string | undefined =>
  linux?.buildId === undefined
    ? undefined
    : `debug symbols: debuginfod-find debuginfo ${linux.buildId.value}`;
