import { UnsupportedError } from "../core/errors.ts";
import type { ByteSource } from "../core/memory.ts";
import { EM_X86_64, machineName } from "../elf/constants.ts";
import { FlattenedSource } from "../io/flattened.ts";
import { AVML } from "./avml.ts";
import { ELF } from "./elf.ts";
import { erasedWarnings } from "./eraseinfo.ts";
import { unflattened } from "./flattened.ts";
import { type DumpFiles, type DumpFormat, type MachineDump, refuseParts } from "./format.ts";
import { identify } from "./identify.ts";
import { KDUMP } from "./kdump.ts";
import { LIBVIRT_SAVE } from "./libvirt-save.ts";
import { LIME } from "./lime.ts";
import { MIGRATION } from "./migration.ts";
import { openRaw } from "./raw.ts";
import { SADUMP, SADUMP_MEDIA } from "./sadump.ts";
import { VMWARE, VMWARE_MEMORY } from "./vmware.ts";
import { XEN_CORE, XEN_CORE_OLD } from "./xen-core.ts";

export type { MachineDump } from "./format.ts";

/**
 * Every format that is read, in the order they are tried: a Xen core is an ELF file too; one that is known by a file's
 * name alone comes last.
 */
export const DUMP_FORMATS: readonly DumpFormat[] = [
  XEN_CORE,
  ELF,
  KDUMP,
  SADUMP,
  SADUMP_MEDIA,
  LIME,
  AVML,
  MIGRATION,
  LIBVIRT_SAVE,
  VMWARE,
  XEN_CORE_OLD,
  VMWARE_MEMORY,
];

/** Whether a file is in a format that only machines are dumped in; an ELF file may be the core of a process. */
export function isMachineDump(source: ByteSource, { map }: DumpFiles = {}): boolean {
  if (map !== undefined || FlattenedSource.matches(source)) return true;
  const format = DUMP_FORMATS.find(({ matches }) => matches(source));
  return format !== undefined && format !== ELF;
}

/**
 * Opens the dump of an x86-64 machine.
 * @throws UnsupportedError when it is none, or of another machine; CorruptError when its headers are damaged
 */
export async function openDump(source: ByteSource, files: DumpFiles = {}): Promise<MachineDump> {
  const dump = await openAnyDump(source, files);
  if (dump.machine !== EM_X86_64) {
    throw new UnsupportedError(
      `a dump of ${machineName(dump.machine)}: only those of x86-64 machines are read`,
    );
  }
  return dump;
}

/** `openDump`, of a machine of any kind. */
export async function openAnyDump(source: ByteSource, files: DumpFiles = {}): Promise<MachineDump> {
  if (files.map !== undefined) {
    refuseParts(files, {});
    return openRaw(source, files.map);
  }
  const file = await unflattened(source, files.checkpoint);
  const dump = await openPlain(file.source, files);
  return { ...dump, warnings: [...dump.warnings, ...erasedWarnings(dump.notes), ...file.warnings] };
}

async function openPlain(source: ByteSource, files: DumpFiles): Promise<MachineDump> {
  const format = DUMP_FORMATS.find(({ matches }) => matches(source));
  if (format !== undefined) {
    refuseParts(files, format);
    return await format.open(source, files);
  }
  const { phrase, advice } = identify(source);
  throw new UnsupportedError(`not a vmcore: ${phrase}`, { hint: advice });
}
