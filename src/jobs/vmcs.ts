import { PAGE_SIZE } from "../core/address.ts";
import { naming, UnavailableError, UnsupportedError, UsageError } from "../core/errors.ts";
import type { JobContext } from "../core/job.ts";
import { hex } from "../core/text.ts";
import type { Warning } from "../core/warnings.ts";
import { type HostGuest, memoryOf } from "../guest/host-guest.ts";
import { WalkBudget } from "../guest/second-level.ts";
import type { VmcbBlock } from "../guest/svm-blocks.ts";
import { type DecodedVmcs, decodeVmcs } from "../vmx/decoded.ts";
import type { VmcsLayout } from "../vmx/layout.ts";
import { eferOfAreas, type MsrArea, msrAreasOf } from "../vmx/msr-area.ts";
import { decodeRegion, revisionOf, type VmcsRegion } from "../vmx/region.ts";
import type { VmcsCandidate } from "../vmx/scan.ts";
import { fieldValue } from "../vmx/score.ts";
import { type Block, type HostDump, type HostOptions, openHost } from "./host.ts";
import { type Input, openInput } from "./input.ts";

/** A VMCS that no processor of this host runs a vCPU by, and whose it is. */
export interface OtherVmcs {
  readonly candidate: VmcsCandidate;
  /** `shadow`: what VMREAD in a guest reads; `inner`: kept by a hypervisor in a guest. */
  readonly role: "shadow" | "inner";
  readonly guest: number | undefined;
  /** Guest-physical address of one in a guest's memory. */
  readonly guestAddress: number | undefined;
}

export interface VmcsListResult {
  readonly input: Input["facts"];
  readonly host: HostDump;
  readonly others: readonly OtherVmcs[];
  readonly warnings: readonly Warning[];
}

/**
 * Opens a host's vmcore for as long as `use` takes.
 * @throws UnsupportedError, CorruptError for the input; UsageError for a layout that is none
 */
export function withHost<T>(
  path: string,
  options: HostOptions,
  context: JobContext,
  use: (host: HostDump, facts: Pick<VmcsListResult, "input" | "warnings">) => T | Promise<T>,
): Promise<T> {
  return naming(path, async () => {
    const input = await openInput(path, context, options);
    const warnings: Warning[] = [];
    const warn = (found: readonly Warning[]) => {
      for (const warning of found) {
        warnings.push(warning);
        context.warn(warning);
      }
    };
    try {
      warn(input.warnings);
      const host = await openHost(input, options, warn, context);
      return await use(host, { input: input.facts, warnings });
    } finally {
      input.close();
    }
  });
}

/** Every VMCS and VMCB in a host's memory, and what each is. */
export const listVmcs = (path: string, options: HostOptions, context: JobContext): Promise<VmcsListResult> =>
  withHost(path, options, context, async (host, facts) => ({
    ...facts,
    host,
    others: await othersOf(host, context),
  }));

async function othersOf(host: HostDump, context: JobContext): Promise<OtherVmcs[]> {
  const own = new Set(host.blocks.map(({ block }) => block.address));
  const candidates = host.vmx.candidates.filter(({ address }) => !own.has(address));
  const inner = candidates.filter(({ layout, shadow }) => layout.kind === "nested" && !shadow);
  const linked = linksOf(host.guests);
  const places = await placesOf(host, inner, context);
  return candidates.map((candidate): OtherVmcs => {
    const { address, layout, shadow } = candidate;
    return layout.kind === "nested" && !shadow
      ? { candidate, role: "inner", guest: undefined, guestAddress: undefined, ...places.get(address) }
      : { candidate, role: "shadow", guest: linked.get(address), guestAddress: undefined };
  });
}

/** In whose memory, and where, VMCSs are that a hypervisor in a guest keeps, by host-physical address. */
async function placesOf(
  host: HostDump,
  inner: readonly VmcsCandidate[],
  { checkpoint }: JobContext,
): Promise<ReadonlyMap<number, { readonly guest: number; readonly guestAddress: number }>> {
  const places = new Map<number, { guest: number; guestAddress: number }>();
  const wanted = new Set(inner.map(({ address }) => address).sort((a, b) => a - b));
  const budget = new WalkBudget(host.memory);
  for (const guest of host.guests) {
    if (wanted.size === 0) break;
    const memory = await memoryOf(host, guest, { budget, checkpoint });
    for (const [address, guestAddress] of (await memory?.tables?.guestAddressesOf([...wanted], checkpoint)) ??
      []) {
      places.set(address, { guest: guest.id, guestAddress });
      wanted.delete(address);
    }
  }
  return places;
}

/** Where vCPUs' link pointers lead, shadow VMCSs, and of which guest the first is. */
function linksOf(guests: readonly HostGuest<Block>[]): ReadonlyMap<number, number> {
  const links = new Map<number, number>();
  for (const { id, vcpus } of guests) {
    for (const { block } of vcpus) {
      if (block?.arch !== "vmx") continue;
      const link = fieldValue(block.candidate.region, "VMCS_LINK_POINTER");
      if (link !== undefined && !links.has(Number(link))) links.set(Number(link), id);
    }
  }
  return links;
}

/** A control block decoded in full. */
export type ShownBlock =
  | {
      readonly arch: "vmx";
      readonly address: number;
      readonly region: VmcsRegion;
      readonly bytes: Buffer;
      readonly decoded: DecodedVmcs;
      readonly areas: readonly MsrArea[];
      /** "1:0" for vCPU 0 of guest 1. */
      readonly place: string | undefined;
    }
  | { readonly arch: "svm"; readonly block: VmcbBlock; readonly place: string | undefined };

export interface VmcsShowResult {
  readonly input: Input["facts"];
  readonly shown: readonly ShownBlock[];
  readonly warnings: readonly Warning[];
}

/**
 * Decodes control blocks of a host's dump.
 * @param wanted each GUEST:VCPU or an address in hexadecimal, of a block or of any page
 * @throws UsageError when one is neither; UnavailableError when there is no such vCPU or page
 */
export const showVmcs = (
  path: string,
  wanted: readonly string[],
  options: HostOptions,
  context: JobContext,
): Promise<VmcsShowResult> =>
  withHost(path, options, context, (host, facts) => ({
    ...facts,
    shown: wanted.map((name) => shownBlock(host, name)),
  }));

/** One side of a comparison. */
export interface DiffSide<B extends ShownBlock> {
  /** As the user named it. */
  readonly name: string;
  readonly shown: B;
}

interface DiffOf<B extends ShownBlock> {
  readonly arch: B["arch"];
  readonly input: Input["facts"];
  readonly first: DiffSide<B>;
  readonly second: DiffSide<B>;
  readonly warnings: readonly Warning[];
}

/** Two control blocks of one kind. */
export type VmcsDiffResult =
  | DiffOf<Extract<ShownBlock, { arch: "vmx" }>>
  | DiffOf<Extract<ShownBlock, { arch: "svm" }>>;

/**
 * Decodes two control blocks of a host's dump to be compared.
 * @throws as showVmcs; UnsupportedError for a VMCS and a VMCB
 */
export async function diffVmcs(
  path: string,
  names: readonly [string, string],
  options: HostOptions,
  context: JobContext,
): Promise<VmcsDiffResult> {
  const { shown, ...facts } = await showVmcs(path, names, options, context);
  const [one, other] = shown;
  const sides = <B extends ShownBlock>(a: B, b: B) => ({
    ...facts,
    first: { name: names[0], shown: a },
    second: { name: names[1], shown: b },
  });
  if (one?.arch === "vmx" && other?.arch === "vmx") return { arch: "vmx", ...sides(one, other) };
  if (one?.arch === "svm" && other?.arch === "svm") return { arch: "svm", ...sides(one, other) };
  throw new UnsupportedError(
    `one of ${names.join(" and ")} is a VMCS, the other a VMCB: they have no field in common`,
    { hint: "guestcore vmcs list says what each is" },
  );
}

function shownBlock(host: HostDump, name: string): ShownBlock {
  const vcpu = /^(\d{1,6}):(\d{1,6})$/.exec(name);
  if (vcpu !== null) return shown(host, vcpuNamed(host, Number(vcpu[1]), Number(vcpu[2])));
  if (!/^(0x)?[0-9a-f]{1,13}$/i.test(name)) {
    throw new UsageError(`"${name}" is neither GUEST:VCPU nor an address`, {
      hint: "guestcore vmcs list prints both, for example 1:0 and 0x000002549000",
    });
  }
  const address = Number.parseInt(name.replace(/^0x/i, ""), 16);
  const block = host.blocks.find((classified) => classified.block.address === address)?.block;
  return block === undefined ? pageAt(host, address) : shown(host, block);
}

function vcpuNamed({ guests }: HostDump, guest: number, index: number): Block {
  const found = guests.find(({ id }) => id === guest)?.vcpus.find((vcpu) => vcpu.index === index);
  if (found?.block === undefined) {
    const what = found === undefined ? "there is no vCPU" : "the control block was not found of vCPU";
    throw new UnavailableError(`${what} ${index} of guest ${guest} in this dump`, {
      hint: "guestcore vmcs list prints those that there are",
    });
  }
  return found.block;
}

function shown(host: HostDump, block: Block): ShownBlock {
  const classified = host.blocks.find((other) => other.block === block);
  const place = classified?.vcpu === undefined ? undefined : `${classified.guest}:${classified.vcpu}`;
  if (block.arch === "svm") return { arch: "svm", block, place };
  const { region, bytes } = block.candidate;
  return { ...decoded(host, block.address, region, bytes), place };
}

/** A page that is no candidate, decoded all the same: by the layout of its revision, else the first. */
function pageAt(host: HostDump, address: number): ShownBlock {
  const bytes = Buffer.alloc(PAGE_SIZE);
  const state = address % PAGE_SIZE === 0 ? host.memory.readPage(address, bytes) : "absent";
  if (state === "absent" || state === "excluded") {
    throw new UnavailableError(`there is no page at ${hex(address)} in this dump`, {
      hint: "a VMCS begins at a page; guestcore vmcs list prints all that were found",
    });
  }
  return { ...decoded(host, address, decodeRegion(bytes, layoutFor(host, bytes)), bytes), place: undefined };
}

/** That of a VMCS found with the same revision, for several layouts share one; else the first known for it. */
function layoutFor({ vmx, choice: { layouts } }: HostDump, bytes: Buffer): VmcsLayout {
  const revision = revisionOf(bytes);
  const found = vmx.candidates.find((candidate) => revisionOf(candidate.bytes) === revision)?.layout;
  return found ?? layouts.find(({ revisionId }) => revisionId === revision) ?? layouts[0]!;
}

function decoded(host: HostDump, address: number, region: VmcsRegion, bytes: Buffer) {
  const areas = msrAreasOf(host.memory, region);
  const found = decodeVmcs(region, undefined, eferOfAreas(areas));
  return { arch: "vmx" as const, address, region, bytes, decoded: found, areas };
}
