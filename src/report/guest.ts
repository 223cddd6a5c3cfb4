import { bytesText, hex, hex64, hexAddress, plural, printable } from "../core/text.ts";
import type { Vcpu } from "../guest/guest.ts";
import type { LinuxImage } from "../kernel/linux.ts";
import type { VmcoreinfoSearch } from "../kernel/vmcoreinfo-scan.ts";
import { modeOf, privilegeOf } from "../x86/mode.ts";
import { GENERAL_REGISTERS, SEGMENT_REGISTERS } from "../x86/state.ts";

/** `kernel  rip ffffffffa6e592eb  cr3 00000000047c6000  halted`. */
export const stateParts = ({
  state,
  halted,
  sources,
}: Pick<Vcpu, "state" | "halted" | "sources">): string[] => [
  (isModeKnown(sources) ? whereRuns(state) : "?").padEnd(9),
  `rip ${hex64(state.rip).slice(2)}`,
  `cr3 ${hex64(state.cr3).slice(2)}`,
  ...(halted === true ? ["halted"] : []),
];

/** `vcpu0  kernel  rip ffffffffa6e592eb  cr3 00000000047c6000  halted`. */
export function vcpuLine(vcpu: Vcpu, width: number): string {
  const { index, trust } = vcpu;
  const parts = [`vcpu${index}`.padEnd(width), ...stateParts(vcpu)];
  if (trust === "may-be-stale") parts.push("may be stale");
  if (trust === "partly-stale") parts.push("partly stale");
  return parts.join("  ");
}

/** What has to be known of registers, a line for all vCPUs that it is of. */
export function caveatLines(vcpus: readonly Vcpu[]): string[] {
  const found = new Map<string, number[]>();
  for (const { index, caveats = [] } of vcpus) {
    for (const caveat of caveats) found.set(caveat, [...(found.get(caveat) ?? []), index]);
  }
  return [...found].map(([caveat, indexes]) => `note: vcpu ${indexes.join(", ")}: ${caveat}`);
}

/** Where registers are told one by one, CS may not be among them. */
const isModeKnown = (sources: Vcpu["sources"]): boolean =>
  sources === undefined || !Object.hasOwn(sources, "rip") || Object.hasOwn(sources, "cs");

function whereRuns(state: Vcpu["state"]): string {
  const mode = modeOf(state);
  if (mode === "real" || mode === "protected") return mode;
  return privilegeOf(state) === 3 ? "user" : "kernel";
}

const OWN_REGISTERS = ["rip", "rflags", "cr0", "cr2", "cr3", "cr4", "efer", "kernelGsBase"] as const;

/** Registers the source does not hold are null. */
export const vcpuJson = ({ index, state, source, trust, halted, sources, system, fpu, caveats }: Vcpu) => ({
  index,
  mode: modeOf(state),
  cpl: privilegeOf(state),
  halted,
  source,
  trust,
  registers: Object.fromEntries(
    [...GENERAL_REGISTERS, ...OWN_REGISTERS].map((name) => [name, state[name] ?? null]),
  ),
  sources,
  system,
  floatingPoint: fpu !== undefined,
  caveats,
  segments: Object.fromEntries(
    SEGMENT_REGISTERS.map((name) => {
      const { selector, base, limit, flags } = state.segments[name];
      return [name, { selector, base, limit, flags }];
    }),
  ),
  gdt: state.gdt,
  idt: state.idt,
});

/** One line on the kernel found inside, or on none. */
export function kernelLine(
  linux: LinuxImage | undefined,
  search: VmcoreinfoSearch | undefined,
  missing = 0,
): string {
  const at = search?.best === undefined ? undefined : `VMCOREINFO at ${hex(search.best.address)}`;
  if (linux === undefined) {
    if (at !== undefined) return at;
    return missing === 0
      ? "no Linux kernel found in the guest"
      : `no Linux kernel found in what is there; ${bytesText(missing)} are missing`;
  }
  const parts = [`Linux ${printable(linux.release?.value ?? "of unknown release")}`];
  const kaslr = linux.kaslrOffset?.value;
  if (kaslr !== undefined) parts.push(kaslr === 0n ? "no KASLR offset" : `KASLR +${hex(kaslr)}`);
  if (linux.pagingLevels !== undefined) parts.push(`${linux.pagingLevels.value}-level paging`);
  // Where it was not looked for it may be there.
  if (search !== undefined) parts.push(at ?? "no VMCOREINFO");
  return parts.join(", ");
}

/** What the kernel's address space looks like, for those who need the numbers. */
export function kernelDetail(linux: LinuxImage): string {
  const parts: string[] = [];
  if (linux.pageOffset !== undefined) parts.push(`page_offset ${hex64(linux.pageOffset.value)}`);
  if (linux.physBase !== undefined) parts.push(`phys_base ${signedHex(linux.physBase.value)}`);
  if (linux.text !== undefined) {
    const { virtual, physical, size } = linux.text.value;
    parts.push(`image ${hex64(virtual)} at ${hex(physical)}, ${bytesText(size)}`);
  }
  return parts.join(", ");
}

export const signedHex = (value: number): string => (value < 0 ? `-${hex(-value)}` : hex(value));

export function kernelJson(linux: LinuxImage | undefined, search: VmcoreinfoSearch | undefined) {
  const vmcoreinfo = search?.best?.vmcoreinfo;
  return {
    linux:
      linux === undefined
        ? null
        : {
            architecture: linux.architecture,
            release: linux.release,
            buildId: linux.buildId,
            pagingLevels: linux.pagingLevels,
            root: linux.root,
            kaslrOffset: linux.kaslrOffset,
            physBase: linux.physBase,
            pageOffset: linux.pageOffset,
            text: linux.text,
          },
    vmcoreinfo:
      vmcoreinfo === undefined
        ? null
        : {
            addresses: search?.hits.map(({ address, form }) => ({ address, form })),
            keys: Object.fromEntries(vmcoreinfo.keys.map((key) => [key, vmcoreinfo.get(key)])),
          },
  };
}

/** A block of guest-physical memory: range, size, source and what is said of it. */
export const rangeLine = (
  { start, end, source, sourceOffset }: { start: number; end: number; source: string; sourceOffset: number },
  width: number,
  rest: string,
): string =>
  [
    `${hexAddress(start)}-${hexAddress(end)}`,
    bytesText(end - start).padStart(10),
    `${printable(source)}+${hex(sourceOffset)}`.padEnd(width),
    rest,
  ].join("  ");

export const vcpuCount = (count: number): string => plural(count, "vCPU");

/** Width of the source column, e.g. of "pc.ram+0x100000". */
export const sourceWidthOf = (ranges: readonly { source: string; sourceOffset: number }[]): number =>
  ranges.reduce(
    (widest, { source, sourceOffset }) =>
      Math.max(widest, printable(source).length + 1 + hex(sourceOffset).length),
    0,
  );
