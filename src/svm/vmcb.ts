import { isZero, viewOf } from "../core/bytes.ts";
import type { Range } from "../core/ranges.ts";
import { SAVE_AREA, VMCB_FIELDS, VMCB_SIZE, type VmcbField, type VmcbFieldName } from "./fields.ts";

/** A decoded VMCB, or a page of a host save area, which has no control area. */
export interface Vmcb {
  readonly values: ReadonlyMap<VmcbFieldName, bigint>;
  /** Decode assist: instruction bytes at the fault, at most 15; empty after exits that bring none. */
  readonly instruction: Uint8Array;
  /** Whether the control area holds nothing but zeros. */
  readonly controlUnused: boolean;
  /** Whether the save area was read in SEV-ES's format: then it holds the *host's* state (APM Vol. 2 §15.35). */
  readonly hostState: boolean;
  /** Runs of bytes that are not zero and that no field covers, on 8-byte boundaries. */
  readonly uncovered: readonly Range[];
}

const NESTED_CTL = 0x90;
const SEV_ES_ENABLE = 1 << 2;
const INSTRUCTION = VMCB_FIELDS.find(({ name }) => name === "insn_bytes")!;

const GUEST_FORMAT = VMCB_FIELDS.filter(({ area }) => area !== "sev-es");

/**
 * Decodes a page.
 * @param bytes 4096 bytes
 */
export function decodeVmcb(bytes: Buffer): Vmcb {
  const view = viewOf(bytes);
  const controlUnused = isZero(bytes, 0, SAVE_AREA);
  const hostState = controlUnused || (view.getUint32(NESTED_CTL, true) & SEV_ES_ENABLE) !== 0;
  const fields = hostState ? VMCB_FIELDS : GUEST_FORMAT;
  const values = new Map<VmcbFieldName, bigint>();
  for (const field of fields) {
    const value = readField(view, field);
    if (value !== undefined) values.set(field.name, value);
  }
  const length = Math.min(Number(values.get("insn_len") ?? 0n), INSTRUCTION.size);
  const instruction = Uint8Array.from(bytes.subarray(INSTRUCTION.offset, INSTRUCTION.offset + length));
  return { values, instruction, controlUnused, hostState, uncovered: uncoveredRuns(bytes, fields) };
}

/** Value of a field; 0 where the page's format does not have it. */
export const fieldValue = (vmcb: Vmcb, name: VmcbFieldName): bigint => vmcb.values.get(name) ?? 0n;

/** `fieldValue` of a field of at most 4 bytes. */
export const fieldNumber = (vmcb: Vmcb, name: VmcbFieldName): number => Number(fieldValue(vmcb, name));

function readField(view: DataView, { offset, size }: VmcbField): bigint | undefined {
  if (size === 8) return view.getBigUint64(offset, true);
  if (size === 4) return BigInt(view.getUint32(offset, true));
  if (size === 2) return BigInt(view.getUint16(offset, true));
  return size === 1 ? BigInt(view.getUint8(offset)) : undefined;
}

const WORD = 8;

function uncoveredRuns(bytes: Buffer, fields: readonly VmcbField[]): Range[] {
  const rest = Buffer.from(bytes);
  for (const { offset, size } of fields) rest.fill(0, offset, offset + size);
  const runs: { start: number; end: number }[] = [];
  for (let at = 0; at < VMCB_SIZE; at += WORD) {
    if (isZero(rest, at, WORD)) continue;
    const last = runs.at(-1);
    if (last?.end === at) last.end = at + WORD;
    else runs.push({ start: at, end: at + WORD });
  }
  return runs;
}
