import { naming, UnavailableError, UnsupportedError, UsageError } from "../core/errors.ts";
import type { JobContext } from "../core/job.ts";
import type { ByteSource } from "../core/memory.ts";
import { plural, shellWord } from "../core/text.ts";
import type { Warning } from "../core/warnings.ts";
import { elfKind } from "../dump/elf-kind.ts";
import { identify } from "../dump/identify.ts";
import { type ElfFile, isElf, readElf } from "../elf/header.ts";
import { type Note, readNotes } from "../elf/notes.ts";
import { vcpuOfNote } from "../guest/from-notes.ts";
import { identitiesOf } from "../io/file.ts";
import { refuseToOverwrite } from "../io/output.ts";
import { type AddedNotes, addNotes } from "../vmcore/add-notes.ts";
import { encodeRegionNote, isRegionNote } from "../vmx/region-note.ts";
import { settleLayout } from "../vmx/settle.ts";
import {
  layoutOf,
  placesOf,
  VMCSINFO_NOTE,
  type VmcsInfoOptions,
  type WrittenVmcsInfo,
  writeVmcsInfo,
} from "../vmx/vmcsinfo.ts";
import type { GuestName, HostOptions } from "./host.ts";
import { type Input, openInput } from "./input.ts";
import { readVcpuRegions, type VcpuRegions } from "./vcpu-notes-write.ts";
import { isVmcsInfoNote, type OpenedVmcsInfo, openVmcsInfo } from "./vmcsinfo.ts";
import { guessesWarning, leftOutWarning, openOutput, writing } from "./vmcsinfo-write.ts";

export interface AttachOptions extends VmcsInfoOptions {
  readonly dump: string;
  /** File with VMCSINFO; may be left out with `vmcs`, whose layout is written then. */
  readonly from: string | undefined;
  /** Vmcore of the host, which the control blocks of a guest's vCPUs are taken from. */
  readonly vmcs?: string | undefined;
  /** Which guest of that host; undefined where there is one only. */
  readonly guest?: GuestName | undefined;
  /** How the host's vmcore is read; `from` is its VMCSINFO unless this names another layout. */
  readonly host?: HostOptions;
  readonly output: string;
  readonly to: "v1" | "v2" | "array";
  /** Whether notes of the kinds written that are there give way, and with VMCSs the VMCSINFO beside them. */
  readonly replace: boolean;
  readonly force: boolean;
}

export interface AttachResult {
  readonly input: Input["facts"];
  /** VMCSINFO and the note made of it; undefined for an AMD host, where none is needed. */
  readonly vmcsinfo: { readonly opened: OpenedVmcsInfo; readonly written: WrittenVmcsInfo } | undefined;
  /** Undefined without `vmcs`. */
  readonly regions: VcpuRegions | undefined;
  readonly added: AddedNotes;
  readonly warnings: readonly Warning[];
}

/**
 * Copies an ELF64 core or vmcore with VMCSINFO as one more note, and a process core with its vCPUs' control blocks too.
 * @throws UsageError when it has such notes already, or nothing to attach is named; UnavailableError when no field can
 * be written, or the host has no such guest; UnsupportedError for control blocks that do not go into a process core;
 * the others as addNotes and openHost
 */
export function attachVmcsInfo(options: AttachOptions, context: JobContext): Promise<AttachResult> {
  return naming(options.dump, () => attachNamed(options, context));
}

async function attachNamed(options: AttachOptions, context: JobContext): Promise<AttachResult> {
  const { dump, from, vmcs, guest, host = {}, output, to, force } = options;
  refuseNothing(options);
  const files = [dump, from, vmcs, host.vmcsinfo].filter((path) => path !== undefined);
  refuseToOverwrite(output, force, identitiesOf(files));
  const input = await openInput(dump, context);
  try {
    const { source } = input;
    if (!isElf(source)) throw noElf(source);
    const elf = readElf(source);
    const { notes, warnings: noteWarnings } = readNotes(source, elf);
    refuseExisting(elf, notes, options);
    if (from !== undefined) refuseVmcsInfo(notes, options);
    const given = from === undefined ? undefined : await openVmcsInfo(from, options, context);
    const regions =
      vmcs === undefined ? undefined : await readVcpuRegions(vmcs, guest, hostOptions(options), context);
    const opened = given ?? layoutUsed(regions);
    if (opened !== undefined) refuseVmcsInfo(notes, options);
    const written = opened && writeVmcsInfo(opened.info, to);
    if (opened !== undefined && placesOf(opened.info.records).size === 0) {
      throw new UnavailableError("there is no field of VMCSINFO that could be attached");
    }
    const warnings = [
      ...input.warnings,
      ...elf.warnings,
      ...noteWarnings,
      ...(opened?.warnings ?? []),
      ...(written === undefined ? [] : leftOutWarning(written, to)),
      ...(opened && written ? guessesWarning(opened.info, written, to, options) : []),
      ...(opened && regions ? unreadableRegions(regions, opened) : []),
    ];
    for (const warning of warnings) context.warn(warning);
    const read = [input.facts, regions?.input, given?.input].flatMap((facts) => facts?.identities ?? []);
    const added = await writing(
      openOutput(output, force, [...identitiesOf(files), ...read], context),
      (product) =>
        addNotes({
          source,
          elf,
          notes: [
            ...(regions?.notes.map(encodeRegionNote) ?? []),
            ...(written === undefined ? [] : [{ ...VMCSINFO_NOTE, desc: written.bytes }]),
          ],
          keep: keeping(notes, written !== undefined, regions !== undefined),
          output: product,
          context,
        }),
    );
    return {
      input: input.facts,
      vmcsinfo: opened && written && { opened, written },
      regions,
      added,
      warnings: [...(regions?.warnings ?? []), ...warnings],
    };
  } finally {
    input.close();
  }
}

function refuseNothing({ from, vmcs, guest, host = {} }: AttachOptions): void {
  if (from === undefined && vmcs === undefined) {
    throw new UsageError("nothing to attach", {
      hint: "name VMCSINFO with --from, or the vmcore of a host with --vmcs",
    });
  }
  const { vmcsinfo, layout, arch } = host;
  const aboutHost = [guest, vmcsinfo, layout, arch].some((option) => option !== undefined);
  if (vmcs === undefined && aboutHost) {
    throw new UsageError("--guest, --vmcsinfo, --layout and --arch go with --vmcs", {
      hint: "VMCSINFO to attach is named with --from",
    });
  }
}

const hostOptions = ({ host = {}, from }: AttachOptions): HostOptions =>
  host.vmcsinfo === undefined && host.layout === undefined ? { ...host, vmcsinfo: from } : host;

/** The layout the host's VMCSs were found by, as if it had been given. */
const layoutUsed = (regions: VcpuRegions | undefined): OpenedVmcsInfo | undefined =>
  regions?.info && {
    input: regions.input,
    container: "layout",
    noteOffset: undefined,
    info: regions.info,
    warnings: [],
  };

/** VMCSs that the VMCSINFO attached beside them does not describe, as when it is another processor's. */
function unreadableRegions({ notes }: VcpuRegions, { info }: OpenedVmcsInfo): Warning[] {
  const vmcss = notes.filter(({ owner }) => owner === "VMCS");
  const layout = settleLayout(
    layoutOf(info),
    vmcss.map(({ bytes }) => bytes),
  );
  const lost = vmcss.filter((note) => typeof vcpuOfNote(note, [layout]) === "string");
  if (lost.length === 0) return [];
  const message = `${lost.length} of ${plural(vmcss.length, "VMCS", "VMCSs")} cannot be read by the VMCSINFO that is attached beside them`;
  return [
    { code: "VMN001", message, hint: "without --from the layout by which they were found is attached" },
  ];
}

/** Which notes stay. VMCSINFO beside VMCSs says where their fields are: it goes with them. */
function keeping(notes: readonly Note[], info: boolean, regions: boolean): (note: Note) => boolean {
  const dropInfo = info || (regions && notes.some(({ name }) => name === "VMCS"));
  return (note) => !((dropInfo && isVmcsInfoNote(note)) || (regions && isRegionNote(note)));
}

function refuseExisting(elf: ElfFile, notes: readonly Note[], options: AttachOptions): void {
  const { dump, vmcs, replace } = options;
  if (vmcs === undefined) return;
  if (elfKind(elf, notes) !== "process-core") {
    throw new UnsupportedError("the notes of vCPUs go into the core of a VMM's process, which this is not", {
      hint: "the core comes first, the vmcore of the host behind --vmcs",
    });
  }
  if (!replace && notes.some(isRegionNote)) {
    throw new UsageError(`${dump} has notes of vCPUs already`, {
      hint: `see them with guestcore info ${shellWord(dump)}, or pass --replace`,
    });
  }
}

/** Only where VMCSINFO is written: without --from that is known when the host's guest is, which may be AMD's. */
function refuseVmcsInfo(notes: readonly Note[], { dump, replace }: AttachOptions): void {
  if (!replace && notes.some(isVmcsInfoNote)) {
    throw new UsageError(`${dump} has a VMCSINFO note already`, {
      hint: `see it with guestcore vmcsinfo show ${shellWord(dump)}, or pass --replace`,
    });
  }
}

function noElf(source: ByteSource): UnsupportedError {
  const { phrase, advice } = identify(source);
  return new UnsupportedError(`notes can be added to ELF cores and vmcores only: ${phrase}`, {
    hint: advice,
  });
}
