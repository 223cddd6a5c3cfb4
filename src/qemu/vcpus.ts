import { viewOf } from "../core/bytes.ts";
import { UnsupportedError } from "../core/errors.ts";
import type { ProcessMapping } from "../core/process.ts";
import type { X86State } from "../x86/state.ts";
import type { QemuAddressSpace } from "./address-space.ts";
import {
  CPU_STATE_HEAD,
  decodeCpuState,
  findOffsets,
  HEAD_32,
  HEAD_64,
  HEAD_64_APX,
  hasApxRegisters,
  isPaging,
  looksLikeCpuState,
} from "./cpu-state.ts";
import { OBJECT_PARENT, qomAncestry, qomType } from "./qom.ts";
import type { ProcessReader } from "./reader.ts";
import { findRunStates, type RunState } from "./run-state.ts";
import { type Checkpoint, wordScanner } from "./scan.ts";

/** A vCPU object holds its whole state: 16 to 50 KiB so far. */
const MAX_CPU_SIZE = 2 ** 20;
/** QEMU's limit for q35 is 4096 vCPUs. */
const MAX_VCPUS = 4096;
/** All vCPU objects together: 4096 of 64 KiB. */
const MAX_CPU_BYTES = 256 * 2 ** 20;
/** Words that look like a vCPU beside its AddressSpace: a handful each in a real heap. */
const MAX_TRIED = 16 * MAX_VCPUS;
/** How far behind the registers the fallback scan looks for the rest of the state, and how far in front. */
const STATE_SIZE = 16 * 1024;
const STATE_FRONT = 144;

export interface QemuVcpu {
  readonly index: number;
  /** Address of CPUX86State in the process. */
  readonly stateAddress: number;
  /** QOM type, e.g. "host-x86_64-cpu"; undefined when found by its registers alone. */
  readonly type: string | undefined;
  readonly state: X86State;
  /** Undefined when CPUState could not be read. */
  readonly run: RunState | undefined;
}

export interface QemuVcpus {
  readonly vcpus: readonly QemuVcpu[];
  /** How many vCPUs the machine has, where known; more than `vcpus.length` when some were not found. */
  readonly expected: number | undefined;
  /** QOM type of the machine, e.g. "pc-q35-7.2-machine". */
  readonly machineType: string | undefined;
  readonly warnings: readonly string[];
}

interface CpuObject {
  readonly index: number;
  readonly address: number;
  readonly type: string;
  readonly bytes: Buffer;
}

/**
 * Finds every vCPU through its AddressSpace: `cpu_address_space_init` (QEMU `system/physmem.c`) names it
 * "cpu-memory-INDEX" and stores {CPUState *cpu, AddressSpace *as} beside each other, so the word before a pointer to
 * the space is the vCPU. This works in every CPU mode and tells the index.
 */
export async function findVcpus(
  reader: ProcessReader,
  spaces: readonly QemuAddressSpace[],
  heap: readonly ProcessMapping[],
  checkpoint?: Checkpoint,
): Promise<QemuVcpus> {
  const byAddress = new Map<number, number>();
  for (const { name, address } of spaces) {
    const index = /^cpu-memory-(\d{1,4})$/.exec(name)?.[1];
    if (index !== undefined && byAddress.size < MAX_VCPUS) byAddress.set(address, Number(index));
  }
  const { objects, unplugged } = await findCpuObjects(reader, byAddress, heap, checkpoint);
  const machineType =
    objects.length === 0
      ? undefined
      : qomAncestry(reader, objects[0]!.address).find((name) => name.endsWith("-machine"));
  const located =
    objects.length > 0 ? locateStates(reader, objects) : await scanForStates(reader, heap, checkpoint);
  const vcpus = located.filter(({ run }) => run?.unplugged !== true);
  for (const { index, run } of located) if (run?.unplugged === true) unplugged.add(index);
  const live = new Set(byAddress.values());
  for (const index of unplugged) if (!vcpus.some((vcpu) => vcpu.index === index)) live.delete(index);
  return {
    vcpus,
    expected: live.size === 0 ? undefined : live.size,
    machineType,
    warnings:
      objects.length === 0 && vcpus.length > 0
        ? ["vCPUs were found by the shape of their registers alone and are in order of their address"]
        : [],
  };
}

async function findCpuObjects(
  reader: ProcessReader,
  spaces: ReadonlyMap<number, number>,
  heap: readonly ProcessMapping[],
  checkpoint: Checkpoint | undefined,
): Promise<{ objects: CpuObject[]; unplugged: Set<number> }> {
  const found = new Map<number, CpuObject>();
  const unplugged = new Set<number>();
  const tried = new Set<number>();
  let room = MAX_CPU_BYTES;
  const highs = new Set([...spaces.keys()].map((address) => Math.floor(address / 2 ** 32)));
  const visit = (words: Uint32Array): void => {
    for (let i = 2; i + 1 < words.length; i += 2) {
      const high = words[i + 1]!;
      if (!highs.has(high)) continue;
      const index = spaces.get(high * 2 ** 32 + words[i]!);
      if (index === undefined || found.has(index)) continue;
      const cpu = words[i - 1]! * 2 ** 32 + words[i - 2]!;
      if (tried.has(cpu) || tried.size > MAX_TRIED) continue;
      tried.add(cpu);
      const object = readCpuObject(reader, index, cpu, room);
      if (object === "unplugged") unplugged.add(index);
      else if (object !== undefined) {
        found.set(index, object);
        room -= object.bytes.length;
      }
    }
  };
  const scan = wordScanner(reader.image, 8, visit, checkpoint);
  for (const mapping of heap) {
    if (found.size === spaces.size) break;
    await scan(mapping);
  }
  return { objects: [...found.values()].sort((a, b) => a.index - b.index), unplugged };
}

function readCpuObject(
  reader: ProcessReader,
  index: number,
  address: number,
  room: number,
): CpuObject | "unplugged" | undefined {
  const type = qomType(reader, address);
  if (type === undefined || !type.name.endsWith("-cpu")) return undefined;
  if (!/-(x86_64|i386)-cpu$/.test(type.name)) {
    throw new UnsupportedError(`the guest is not x86: its vCPUs are of type ${type.name}`);
  }
  if (!(type.instanceSize > CPU_STATE_HEAD && type.instanceSize <= MAX_CPU_SIZE)) return undefined;
  // QEMU leaks what it unplugs; its place in the composition tree is gone.
  if (reader.u64(address + OBJECT_PARENT) === 0) return "unplugged";
  if (type.instanceSize > room) return undefined;
  const bytes = reader.bytes(address, type.instanceSize);
  return bytes === undefined ? undefined : { index, address, type: type.name, bytes };
}

/**
 * CPUX86State lies at one distance from the start of every vCPU object; the registers' shape tells which. A vCPU
 * whose registers have no such shape there is left out.
 */
function locateStates(reader: ProcessReader, objects: readonly CpuObject[]): QemuVcpu[] {
  const views = objects.map((object) => viewOf(object.bytes));
  const narrow = objects.every(({ type }) => type.endsWith("-i386-cpu"));
  const shape = narrow ? HEAD_32 : HEAD_64;
  const size = Math.min(...views.map((view) => view.byteLength));
  let best = { distance: 0, fitting: 0, paging: 0 };
  for (let distance = 0; distance + CPU_STATE_HEAD <= size; distance += 8) {
    const fitting = views.filter((view) => looksLikeCpuState(view, distance, shape));
    if (fitting.length === 0 || fitting.length < best.fitting) continue;
    const paging = fitting.filter((view) => isPaging(view, distance, shape)).length;
    if (fitting.length > best.fitting || paging > best.paging) {
      best = { distance, fitting: fitting.length, paging };
    }
  }
  const sound = objects.filter(
    (_, i) => best.fitting > 0 && looksLikeCpuState(views[i]!, best.distance, shape),
  );
  if (sound.length === 0) return [];
  const isHost = (address: number) => reader.isWritable(address);
  const soundViews = sound.map(({ bytes }) => viewOf(bytes));
  const head = !narrow && hasApxRegisters(soundViews, best.distance, isHost) ? HEAD_64_APX : shape;
  const distance = best.distance - (head.eip - shape.eip);
  const states = sound.map(({ bytes }) => viewOf(bytes.subarray(distance)));
  const offsets = findOffsets(states, head);
  const runStates = findRunStates(
    sound.map(({ index }, i) => ({ index, view: soundViews[i]! })),
    distance,
  );
  return sound.map((object, i) => ({
    index: object.index,
    stateAddress: object.address + distance,
    type: object.type,
    state: decodeCpuState(states[i]!, offsets),
    run: runStates?.[i],
  }));
}

/**
 * The last resort where QEMU's lists are not in the core: every place in the heap that is the state of a processor in
 * long mode. Misses vCPUs in other modes, and orders them by address.
 */
async function scanForStates(
  reader: ProcessReader,
  heap: readonly ProcessMapping[],
  checkpoint: Checkpoint | undefined,
): Promise<QemuVcpu[]> {
  const hits: number[] = [];
  const visit = (words: Uint32Array, base: number): void => {
    const view = new DataView(words.buffer, words.byteOffset, words.byteLength);
    for (let at = 0; at + CPU_STATE_HEAD <= view.byteLength; at += 8) {
      const fits = looksLikeCpuState(view, at, HEAD_64) && isPaging(view, at, HEAD_64);
      if (fits && hits.length < MAX_VCPUS) hits.push(base + at);
    }
  };
  const scan = wordScanner(reader.image, CPU_STATE_HEAD, visit, checkpoint);
  for (const mapping of heap) await scan(mapping);
  const unique = [...new Set(hits)].sort((a, b) => a - b);
  const read = unique
    .map((at) => ({ at, bytes: readAround(reader, at) }))
    .filter(({ bytes }) => bytes.length >= STATE_FRONT + CPU_STATE_HEAD);
  const views = read.map(({ bytes }) => viewOf(bytes));
  // A copy that lies elsewhere in the heap may have lost what is in front; most of the states are whole.
  const isHost = (address: number) => reader.isWritable(address);
  const wide = views.filter((view) => hasApxRegisters([view], STATE_FRONT, isHost)).length * 2 > views.length;
  const head = wide ? HEAD_64_APX : HEAD_64;
  const shift = head.eip - HEAD_64.eip;
  const states = read.map(({ bytes }) => viewOf(bytes.subarray(STATE_FRONT - shift)));
  const offsets = findOffsets(states, head);
  return read.map(({ at }, index) => ({
    index,
    stateAddress: at - shift,
    type: undefined,
    state: decodeCpuState(states[index]!, offsets),
    run: undefined,
  }));
}

/** The bytes from `STATE_FRONT` in front of an address on, as many as there are. */
function readAround(reader: ProcessReader, address: number): Buffer {
  const target = Buffer.alloc(STATE_FRONT + STATE_SIZE);
  return target.subarray(0, reader.image.read(address - STATE_FRONT, target));
}
