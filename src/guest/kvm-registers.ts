import { alignDown, PAGE_SIZE } from "../core/address.ts";
import { viewOf } from "../core/bytes.ts";
import { type PhysicalMemory, readPhysical } from "../core/memory.ts";
import { hex } from "../core/text.ts";
import { presentChunks } from "../kernel/chunks.ts";
import {
  ARCH_REGISTERS_SIZE,
  type ArchRegisters,
  archRegistersAt,
  RSP_OFFSET,
} from "../kvm/arch-registers.ts";
import { fieldValue } from "../vmx/score.ts";
import { GENERAL_REGISTERS } from "../x86/state.ts";
import type { Vcpu } from "./guest.ts";
import { archOf, type HostVcpu } from "./host-guest.ts";
import { OWN_CR3 } from "./kvm-state.ts";
import type { VmcbBlock } from "./svm-blocks.ts";
import type { VmcsBlock } from "./vmx-blocks.ts";

/** Registers of KVM's own, and where they lay in the host's memory. */
interface Found {
  readonly address: number;
  readonly registers: ArchRegisters;
}

type Checkpoint = () => Promise<void>;

/** struct vcpu_vmx takes 7 to 16 KiB so far; the list of host MSRs lies behind its kvm_vcpu. */
const REACH = 16 * 1024;
/** Hits looked into while all of memory is searched. */
const MAX_HITS = 65_536;

/**
 * Completes registers with those that KVM keeps in struct kvm_vcpu, found without debug information: on Intel a VMCS
 * points into the structure (its MSR-load lists), on AMD memory is searched for the vCPU's RSP. What lies there must
 * have the vCPU's CR0 and CR4, and on Intel lie at one distance for all vCPUs of the host.
 */
export async function withKvmRegisters(
  host: PhysicalMemory,
  blocks: readonly HostVcpu<VmcsBlock | VmcbBlock>[],
  vcpus: readonly Vcpu[],
  checkpoint?: Checkpoint,
): Promise<Vcpu[]> {
  const isVmx = archOf({ vcpus: blocks }) === "vmx";
  const found = isVmx ? findBesideLists(host, blocks, vcpus) : await findByRsp(host, vcpus, checkpoint);
  return vcpus.map((vcpu) => {
    const own = isComplete(vcpu) ? undefined : found.get(vcpu.index);
    return own === undefined ? vcpu : completed(vcpu, own);
  });
}

function completed(vcpu: Vcpu, { address, registers }: Found): Vcpu {
  const { general, cr2, cr3, rip, ripIsNewer, rspIsNewer } = registers;
  const source = `kvm_vcpu.arch.regs at ${hex(address)}`;
  const { rsp, ...others } = general;
  const ownCr3 = vcpu.sources !== undefined && !Object.hasOwn(vcpu.sources, "cr3");
  const newer = {
    ...(ripIsNewer ? { rip } : {}),
    ...(rspIsNewer ? { rsp } : {}),
    ...(ownCr3 ? { cr3 } : {}),
  };
  const own = { ...others, cr2, ...newer };
  // What the control block holds of them (RAX and CR2 of a VMCB) is as new.
  const taken = Object.entries(own).filter(
    ([name]) => vcpu.state[name as keyof typeof own] === undefined || Object.hasOwn(newer, name),
  );
  const isSolved = (caveat: string) =>
    (ripIsNewer && /\bRIP\b/.test(caveat)) || (ownCr3 && caveat === OWN_CR3);
  return {
    ...vcpu,
    state: { ...vcpu.state, ...Object.fromEntries(taken) },
    sources: { ...vcpu.sources, ...Object.fromEntries(taken.map(([name]) => [name, source])) },
    caveats: (vcpu.caveats ?? []).filter((caveat) => !isSolved(caveat)),
  };
}

/** Every place near its MSR-load list where a vCPU's registers may be; the distance that most vCPUs share is right. */
function findBesideLists(
  host: PhysicalMemory,
  blocks: readonly HostVcpu<VmcsBlock | VmcbBlock>[],
  vcpus: readonly Vcpu[],
): ReadonlyMap<number, Found> {
  const places = vcpus.map((vcpu) => {
    const block = blocks.find(({ index }) => index === vcpu.index)?.block;
    const list =
      block?.arch === "vmx" ? fieldValue(block.candidate.region, "VM_EXIT_MSR_LOAD_ADDR") : undefined;
    const near = list === undefined || list === 0n || list >= 1n << 52n ? undefined : Number(list);
    return { vcpu, near, found: near === undefined ? [] : registersNear(host, near, vcpu) };
  });
  const votes = new Map<number, number>();
  for (const { near, found } of places) {
    for (const { address, registers } of found) {
      const distance = address - (near ?? 0);
      votes.set(distance, (votes.get(distance) ?? 0) + 2 + (registers.sameCr3 ? 1 : 0));
    }
  }
  const [best] = [...votes].sort(([, a], [, b]) => b - a);
  const chosen = new Map<number, Found>();
  for (const { vcpu, near, found } of places) {
    const own = found.find(({ address }) => address - (near ?? 0) === best?.[0]);
    if (own !== undefined) chosen.set(vcpu.index, own);
  }
  return chosen;
}

function registersNear(host: PhysicalMemory, near: number, { state }: Vcpu): Found[] {
  const start = Math.max(0, alignDown(near, PAGE_SIZE) - REACH);
  const found: Found[] = [];
  // A page that is not in the dump ends a run; the structure is contiguous.
  for (let from = start; from < near; from += PAGE_SIZE) {
    const bytes = Buffer.alloc(PAGE_SIZE + ARCH_REGISTERS_SIZE);
    const known = readPhysical(host, from, bytes);
    const view = viewOf(bytes.subarray(0, known));
    for (let at = 0; at < PAGE_SIZE; at += 8) {
      const registers = archRegistersAt(view, at, state);
      if (registers !== undefined) found.push({ address: from + at, registers });
    }
  }
  return found;
}

/** AMD: RSP, RAX and RIP are in the VMCB too. A vCPU that never ran has nothing to be found by, and nothing to tell. */
async function findByRsp(
  host: PhysicalMemory,
  vcpus: readonly Vcpu[],
  checkpoint: Checkpoint | undefined,
): Promise<ReadonlyMap<number, Found>> {
  const wanted = vcpus.filter(({ state }) => (state.rsp ?? 0n) >> 12n !== 0n);
  if (wanted.length === 0) return new Map();
  // One byte a value of the low bits of RSP: nearly every word of memory ends here.
  const low = new Uint8Array(1 << 16);
  for (const { state } of wanted) low[Number(state.rsp! & 0xffffn)] = 1;
  const found = new Map<number, Found[]>();
  let hits = 0;
  for (const { address, bytes } of presentChunks(host, 0, Number.MAX_SAFE_INTEGER)) {
    for (const at of wordsEndingIn(bytes, low)) {
      const value = bytes.readBigUInt64LE(at);
      for (const vcpu of wanted.filter(({ state }) => state.rsp === value && hits < MAX_HITS)) {
        hits++;
        const own = registersAround(host, address + at, vcpu);
        if (own !== undefined) found.set(vcpu.index, [...(found.get(vcpu.index) ?? []), own]);
      }
    }
    await checkpoint?.();
  }
  // Two places that fit are one too many.
  return new Map(
    [...found].flatMap(([index, [own, ...others]]) => (others.length === 0 ? [[index, own!]] : [])),
  );
}

/** Offsets of the 8-byte words whose low 16 bits are marked. */
function* wordsEndingIn(bytes: Buffer, low: Uint8Array): Generator<number> {
  const words = new Uint16Array(bytes.buffer, bytes.byteOffset, bytes.length / 2);
  for (let i = 0; i < words.length; i += 4) if (low[words[i]!] !== 0) yield 2 * i;
}

function registersAround(host: PhysicalMemory, rspAt: number, { state }: Vcpu): Found | undefined {
  const bytes = Buffer.alloc(ARCH_REGISTERS_SIZE);
  const address = rspAt - RSP_OFFSET;
  if (address < 0 || readPhysical(host, address, bytes) < bytes.length) return undefined;
  const registers = archRegistersAt(viewOf(bytes), 0, state);
  if (registers === undefined || registers.general.rax !== state.rax) return undefined;
  return registers.rip === state.rip || registers.ripIsNewer ? { address, registers } : undefined;
}

/** Whether every general register of a vCPU is known. */
export const isComplete = ({ state }: Vcpu): boolean =>
  GENERAL_REGISTERS.every((name) => state[name] !== undefined);
