import type { Unpacking } from "../core/memory.ts";
import { shellWord } from "../core/text.ts";
import type { LinuxImage } from "../kernel/linux.ts";
import type { VmcoreFormat } from "../vmcore/plan.ts";

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

/** The same for a kdump-compressed dump, which vmcore-dmesg does not read. */
function kdumpCommands(path: string, linux: LinuxImage | undefined, { note }: VmcoreTraits): string[] {
  const file = shellWord(path);
  const release = linux?.release?.value;
  if (release === undefined) return [`guestcore info ${file}`];
  const vmlinux = shellWord(`vmlinux-${release}`);
  const crash = `crash ${vmlinux} ${file}`;
  return note ? [crash, `drgn -c ${file} -s ${vmlinux}`] : [crash];
}

/** A file that was read, as the user named it. */
export interface Named {
  readonly path: string;
  readonly saving?: Unpacking | undefined;
}

/**
 * A command of guestcore on that file; standard input is saved first.
 * @param words further ones of the command, as the shell wants them
 */
export function onwardCommand(job: string, { path, saving }: Named, words: readonly string[]): string {
  const command = ["guestcore", job, shellWord(saving?.name ?? path), ...words].join(" ");
  return saving === undefined ? command : `${saving.command} && ${command}`;
}

/** What was written, and where; no path when nothing was. */
export interface Written {
  readonly path: string | undefined;
  readonly format: VmcoreFormat;
}

/** The commands that go on with a file that was written: none of standard output, nor of memory alone. */
export function nextCommands(
  { path, format }: Written,
  linux: LinuxImage | undefined,
  traits: VmcoreTraits,
): string[] {
  if (path === undefined || path === "-" || format === "raw" || format === "lime") return [];
  if (format === "elf") return openingCommands(path, linux, traits);
  if (format === "kdump") return kdumpCommands(path, linux, traits);
  return [`makedumpfile -R ${shellWord(`${path}.kdump`)} < ${shellWord(path)}`];
}

/** The same as the last lines of a summary. */
export function nextLines(written: Written, linux: LinuxImage | undefined, traits: VmcoreTraits): string[] {
  const [first, ...others] = nextCommands(written, linux, traits);
  if (first === undefined) return [];
  const symbols = written.format === "flat" ? undefined : symbolsHint(linux);
  return [
    `next: ${first}`,
    ...others.map((command) => `      ${command}`),
    ...(symbols === undefined ? [] : [`      (${symbols})`]),
  ];
}

/** Where vmlinux with debug symbols comes from, by the build-id that every distribution indexes. */
export const symbolsHint = (linux: LinuxImage | undefined): string | undefined =>
  linux?.buildId === undefined
    ? undefined
    : `debug symbols: debuginfod-find debuginfo ${linux.buildId.value}`;
