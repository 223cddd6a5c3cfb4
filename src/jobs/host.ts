import { GuestcoreError, UnavailableError, UsageError } from "../core/errors.ts";
import type { JobContext } from "../core/job.ts";
import type { PhysicalMemory } from "../core/memory.ts";
import { plural, printable } from "../core/text.ts";
import type { Warning } from "../core/warnings.ts";
import { type MachineDump, openDump } from "../dump/open.ts";
import type { Note } from "../elf/notes.ts";
import { type Clustered, clusterBlocks } from "../guest/cluster.ts";
import { type ClassifiedBlock, classify, type HostGuest } from "../guest/host-guest.ts";
import { guestsOfBlocks, guestsOfKvm } from "../guest/kvm-guests.ts";
import type { HostCpu } from "../guest/running.ts";
import { type VmcbBlock, vmcbBlocks } from "../guest/svm-blocks.ts";
import { hostCandidates, type VmcsBlock, vmcsBlock } from "../guest/vmx-blocks.ts";
import { describeLinux, type LinuxImage } from "../kernel/linux.ts";
import { type LinuxKernel, type OpenedKernel, openKernel } from "../kernel/open-kernel.ts";
import { Vmcoreinfo } from "../kernel/vmcoreinfo.ts";
import { VmcoreinfoScanner } from "../kernel/vmcoreinfo-scan.ts";
import { withControlBlocks } from "../kvm/control-block.ts";
import { shownName } from "../kvm/owner.ts";
import { kvmVms } from "../kvm/vms.ts";
import { VmcbScanner } from "../svm/scan.ts";
import { readMemory } from "../vmcore/write.ts";
import type { VmcsLayout } from "../vmx/layout.ts";
import { VMCS_LAYOUTS } from "../vmx/layouts.ts";
import { settleScan, type VmcsScan, VmcsScanner, withLinkedShadows } from "../vmx/scan.ts";
import { fieldText } from "../vmx/vmcsinfo/names.ts";
import { layoutOf, type VmcsInfoOptions } from "../vmx/vmcsinfo.ts";
import { decodeQemuCpuState } from "../x86/qemu-cpu-state.ts";
import type { X86State } from "../x86/state.ts";
import type { DumpNaming, Input } from "./input.ts";
import { type KernelFileNames, openKernelFiles, refusedWarnings } from "./kernel-files.ts";
import { unknownLayoutWarnings } from "./unknown-layout.ts";
import { openLayout, openVmcsInfo, vmcsInfoOfNotes } from "./vmcsinfo.ts";

/** Whose control blocks are looked for. */
export type Virtualization = "vmx" | "svm";

export interface HostOptions extends VmcsInfoOptions, DumpNaming, KernelFileNames {
  /** File or directory with VMCSINFO, for a dump without the note. */
  readonly vmcsinfo?: string | undefined;
  /** Layout of the data base, or a file with one. */
  readonly layout?: string | undefined;
  /** Undefined: both. */
  readonly arch?: Virtualization | undefined;
}

export type Block = VmcsBlock | VmcbBlock;

/** By which layouts VMCSs were looked for. */
export interface LayoutChoice {
  readonly layouts: readonly VmcsLayout[];
  /** In words, e.g. "VMCSINFO note of the dump". */
  readonly source: string;
}

/** The dump of a host, and the guests in it. */
export interface HostDump {
  readonly memory: PhysicalMemory;
  readonly notes: readonly Note[];
  /** Of the host's processors, by number; of one that was in a guest it may be the guest's. */
  readonly cpus: readonly HostCpu[];
  /** The host's own kernel. */
  readonly linux: LinuxImage | undefined;
  /** The same as it explains itself by its symbols and types; undefined where it does not. */
  readonly kernel: LinuxKernel | undefined;
  /** Why KVM's own list of its VMs is not known. */
  readonly kvmUnknown: string | undefined;
  /** Whether the crashed kernel left the dump, which clears VMCSs first: then all of their state is in memory. */
  readonly kdump: boolean;
  readonly choice: LayoutChoice;
  readonly vmx: VmcsScan;
  /** Pages that looked like a VMCB at first; whether there were more VMCBs than are kept. */
  readonly svm: { readonly rejected: number; readonly overflowed: boolean };
  readonly guests: readonly HostGuest<Block>[];
  /** Every block that is of a guest of this host, ascending by address. */
  readonly blocks: readonly ClassifiedBlock<Block>[];
}

type Warn = (warnings: readonly Warning[]) => void;

/**
 * Opens the vmcore of a host and looks for VMCSs and VMCBs in all of its memory.
 * @throws UnsupportedError when it is no vmcore of x86-64; UsageError, CorruptError for the layout asked for
 */
export async function openHost(
  input: Input,
  options: HostOptions,
  warn: Warn,
  context: JobContext,
): Promise<HostDump> {
  const dump = await openDump(input.source, input.files);
  const { memory, notes } = dump;
  warn(dump.warnings);
  const chosen = await chooseLayouts(notes, options, warn, context);
  const { files, warnings } = await openKernelFiles(options, context);
  warn(warnings);
  const noted = vmcoreinfoOf(notes);
  const cpus = cpusOf(dump);
  const search =
    noted === undefined ? new VmcoreinfoScanner(memory, { states: hostStates(cpus) }) : undefined;
  const { vmx: scanned, svm } = await scan(memory, chosen, search, options.arch, context);
  const vmcoreinfo = noted ?? search?.result.best?.vmcoreinfo;
  const linux =
    vmcoreinfo === undefined
      ? undefined
      : await describeLinux(memory, { vmcoreinfo, states: [] }, context.checkpoint);
  const vmx = withLinkedShadows(memory, settleScan(scanned));
  const choice = settledChoice(chosen, vmx);
  if (vmx.candidates.length > 0) warn(guessWarnings(choice));
  const vmcss = hostCandidates(memory, vmx.candidates);
  const paging = {
    levels: linux?.pagingLevels?.value === 5 ? (5 as const) : (4 as const),
    encryptionMask: vmcoreinfo?.number("sme_mask") ?? 0n,
  };
  const found: Block[] = [
    ...vmcss.map((candidate) => vmcsBlock(memory, candidate)),
    ...vmcbBlocks(memory, svm.candidates, paging),
  ];
  const { clusters, others } = await clusterBlocks(memory, found, context.checkpoint);
  const opened = linux === undefined ? undefined : openKernel(memory, { image: linux, vmcoreinfo, files });
  if (opened !== undefined) warn(refusedWarnings(opened.refused, options));
  const kernel = opened?.kernel;
  await context.checkpoint();
  const blocks = new Set(found.map(({ address }) => address));
  const kvm = kernel && withControlBlocks(kernel, await kvmVms(kernel, context.checkpoint), blocks);
  const { guests, others: outside } =
    kvm === undefined || kvm.vms.length === 0
      ? { guests: guestsOfBlocks(clusters), others }
      : guestsOfKvm(kvm, clusters, others);
  if (kernel !== undefined && options.arch !== "svm") warn(unknownLayoutWarnings(memory, kernel, guests));
  return {
    memory,
    notes,
    cpus,
    linux,
    kernel,
    kvmUnknown: kvm === undefined ? silenceOf(opened) : kvm.problem,
    kdump: noted?.get("CRASHTIME") !== undefined,
    choice,
    vmx,
    svm: { rejected: svm.rejected, overflowed: svm.overflowed },
    guests,
    blocks: classify(guests, outside as readonly Clustered<Block>[]),
  };
}

/** Why a kernel does not tell of its VMs, with what cures it. */
function silenceOf(opened: OpenedKernel | undefined): string {
  if (opened === undefined) return "no Linux kernel was found";
  const { reason = "", lacks } = opened;
  if (lacks === undefined) return reason;
  return `${reason}: ${lacks === "types" ? "--btf takes its types" : "--vmlinux takes its symbols"} from a file`;
}

/** As notes or as the format keeps them. */
function cpusOf({ cpus, notes }: MachineDump): readonly HostCpu[] {
  if (cpus.length > 0) return cpus;
  return notes
    .filter(({ name }) => name === "QEMU")
    .map(({ desc }) => decodeQemuCpuState(desc))
    .filter((cpu) => cpu !== undefined)
    .map((state) => ({ state }));
}

const hostStates = (cpus: readonly HostCpu[]): X86State[] =>
  cpus.filter(({ inGuest }) => inGuest === undefined).map(({ state }) => state);

function vmcoreinfoOf(notes: readonly Note[]): Vmcoreinfo | undefined {
  const desc = notes.find(({ name }) => name === "VMCOREINFO")?.desc;
  return desc === undefined ? undefined : new Vmcoreinfo(desc);
}

/** What the user names, else the dump's own VMCSINFO where it can be read, else every layout known. */
async function chooseLayouts(
  notes: readonly Note[],
  options: HostOptions,
  warn: Warn,
  context: JobContext,
): Promise<LayoutChoice> {
  const { vmcsinfo, layout } = options;
  if (vmcsinfo !== undefined) {
    const opened = await openVmcsInfo(vmcsinfo, options, context);
    warn(opened.warnings);
    return only(layoutOf(opened.info), vmcsinfo);
  }
  if (layout !== undefined) {
    const opened = await openLayout(layout, options, context);
    warn(opened.opened?.warnings ?? []);
    const choice = only(opened.layout, `--layout ${layout}`);
    // A revision identifier does not identify a layout; the user may.
    return { ...choice, layouts: [...choice.layouts, { ...choice.layouts[0]!, revisionId: undefined }] };
  }
  const noted = notedOrWarned(notes, options, warn);
  if (noted === undefined) return { layouts: VMCS_LAYOUTS, source: "the layouts known" };
  warn(noted.warnings);
  return only(layoutOf(noted.info), "the dump's VMCSINFO note");
}

/** The dump's own VMCSINFO; one that cannot be read is told, and is as none. */
function notedOrWarned(
  notes: readonly Note[],
  options: VmcsInfoOptions,
  warn: Warn,
): ReturnType<typeof vmcsInfoOfNotes> {
  try {
    return vmcsInfoOfNotes(notes, options);
  } catch (error) {
    if (!(error instanceof GuestcoreError)) throw error;
    const message = `the dump's own VMCSINFO note cannot be read (${error.message}): VMCSs are looked for by the layouts known`;
    const hint = "name what describes the host's processor with --vmcsinfo or --layout";
    warn([{ code: "VMI008", message, hint }]);
    return undefined;
  }
}

/**
 * A host's processors have one layout, that of a hypervisor's where the host is itself a guest; hypervisors in its
 * guests may keep VMCSs in their own.
 */
const only = (layout: VmcsLayout, source: string): LayoutChoice => {
  const own: VmcsLayout = layout.kind === "nested" ? { ...layout, kind: "processor" } : layout;
  const inner = VMCS_LAYOUTS.filter(({ kind, name }) => kind === "nested" && name !== layout.name);
  return { layouts: [own, ...inner], source };
};

/** The layouts as the VMCSs found by them settled what they left open. */
function settledChoice({ layouts, source }: LayoutChoice, { candidates }: VmcsScan): LayoutChoice {
  const settled = new Map(candidates.map(({ layout }) => [layout.name, layout]));
  return { layouts: layouts.map((layout) => settled.get(layout.name) ?? layout), source };
}

/** Tells of access rights whose place is one of several. */
export function guessWarnings({ layouts }: Pick<LayoutChoice, "layouts">): Warning[] {
  return layouts.flatMap(({ guessed }): Warning[] => {
    if (guessed === undefined || guessed.size === 0) return [];
    const names = [...guessed.keys()].map(fieldText).join(", ");
    const message = `the places of ${plural(guessed.size, "field")} are guesses (${names}): attributes of segments may be wrong`;
    return [{ code: "VMI009", message, hint: "VMCSINFO as a table of offsets says where they are for sure" }];
  });
}

/** Reads all of the host's memory once; `search` looks for VMCOREINFO on the way. */
async function scan(
  memory: PhysicalMemory,
  { layouts }: LayoutChoice,
  search: VmcoreinfoScanner | undefined,
  arch: Virtualization | undefined,
  context: JobContext,
): Promise<{ vmx: VmcsScan; svm: VmcbScanner }> {
  const vmx = new VmcsScanner(arch === "svm" ? [] : layouts);
  const svm = new VmcbScanner();
  await readMemory(memory, "scanning", context, (bytes, address) => {
    vmx.scan(bytes, address);
    if (arch !== "vmx") svm.scan(bytes, address);
    search?.scan(bytes, address);
  });
  return { vmx: vmx.result, svm };
}

/** A guest's number, or the name that its VMM was given; where it was given none, the VMM's. */
export type GuestName = number | string;

/** @throws UnavailableError when the host has no such guest; UsageError when none is named and there are several */
export function pickGuest(host: HostDump, wanted: GuestName | undefined): HostGuest<Block> {
  const { guests } = host;
  const [only] = guests;
  if (only === undefined) {
    throw new UnavailableError("no guest was found in this vmcore", {
      hint: `a guest's own vmcore opens as it is; ${noGuestHint(host, "FILE")}`,
    });
  }
  if (wanted === undefined && guests.length === 1) return only;
  const named = guests.filter(({ vm }) => vm?.owner !== undefined && shownName(vm.owner) === wanted);
  const guest =
    guests.find(({ id }) => String(id) === String(wanted)) ?? (named.length === 1 ? named[0] : undefined);
  if (guest !== undefined) return guest;
  const what = named.length > 1 ? `${named.length} guests called ${wanted}` : `no guest ${wanted}`;
  const hint = `choose one with --guest: ${guests.map(namedGuest).join(", ")}; guestcore guests lists them`;
  if (wanted === undefined) throw new UsageError(`this host has ${guests.length} guests`, { hint });
  throw new UnavailableError(`this host has ${what}`, { hint });
}

/** `2 (db1)`. */
function namedGuest({ id, vm }: HostGuest<Block>): string {
  const name = vm?.owner && shownName(vm.owner);
  return name === undefined ? String(id) : `${id} (${printable(name)})`;
}

/** What to do where a host shows no guest. */
export function noGuestHint({ blocks, choice }: HostDump, file: string): string {
  if (blocks.length > 0) {
    return `control blocks of none are there: guestcore vmcs list ${file} says why they are not of this host`;
  }
  if (choice.layouts.length < VMCS_LAYOUTS.length) {
    return `by ${choice.source} there is no VMCS; is it the layout of this host's processor?`;
  }
  return "on an Intel processor whose VMCS layout is not known, give it with --vmcsinfo or --layout; guestcore vmcs layout infer finds it out where KVM had guests";
}
