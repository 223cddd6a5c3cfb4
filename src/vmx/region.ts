import { viewOf } from "../core/bytes.ts";
import type { Range } from "../core/ranges.ts";
import { isAccessRights, loadAccessRights } from "./access-rights.ts";
import { bytesOf, isHighEncoding } from "./encoding.ts";
import { REGION_HEADER, REGION_SIZE, storedBytes, type VmcsLayout } from "./layout.ts";

const SHADOW_INDICATOR = 0x8000_0000;
const REVISION_MASK = 0x7fff_ffff;

/** A VMCS region decoded by a layout. Values are what VMREAD would return. */
export interface VmcsRegion {
  readonly layout: VmcsLayout;
  /** Bits 30:0 of the first dword. */
  readonly revisionId: number;
  /** Bit 31: only ever the target of a VMCS link pointer (SDM Vol. 3C §25.10). */
  readonly shadow: boolean;
  /** VMX-abort indicator (SDM Vol. 3C §28.7); 0 unless a VM exit failed. */
  readonly abort: number;
  /** Encoding → value. Halves of 64-bit fields are joined: no high encodings. */
  readonly values: ReadonlyMap<number, bigint>;
  /** Encoding → the place its bytes were taken from. */
  readonly places: ReadonlyMap<number, Range>;
}

export const revisionOf = (bytes: Uint8Array): number => viewOf(bytes).getUint32(0, true) & REVISION_MASK;

/** Whether a region is a shadow VMCS. */
export const isShadow = (bytes: Uint8Array): boolean =>
  (viewOf(bytes).getUint32(0, true) & SHADOW_INDICATOR) !== 0;

/**
 * Decodes a region.
 * @param bytes 4096 bytes
 */
export function decodeRegion(bytes: Uint8Array, layout: VmcsLayout): VmcsRegion {
  const view = viewOf(bytes);
  const values = new Map<number, bigint>();
  const places = new Map<number, Range>();
  for (const [encoding, offset] of layout.fields) {
    if (isHighEncoding(encoding) && layout.fields.has(encoding - 1)) continue;
    const size = storedBytes(layout, encoding);
    if (offset < REGION_HEADER || offset + size > Math.min(REGION_SIZE, bytes.length)) continue;
    const value = valueAt(view, encoding, offset, layout);
    if (value === undefined) continue;
    values.set(encoding, value);
    places.set(encoding, { start: offset, end: offset + size });
  }
  const head = view.getUint32(0, true);
  return {
    layout,
    revisionId: head & REVISION_MASK,
    shadow: isShadow(bytes),
    abort: view.getUint32(4, true),
    values,
    places,
  };
}

function valueAt(view: DataView, encoding: number, offset: number, layout: VmcsLayout): bigint | undefined {
  if (isAccessRights(encoding)) {
    const { accessRights: form } = layout;
    if (form === undefined) return undefined;
    const stored = form === "packed" ? view.getUint16(offset, true) : view.getUint32(offset, true);
    return BigInt(loadAccessRights(stored, form));
  }
  const bytes = bytesOf(encoding);
  if (bytes === 2) return BigInt(view.getUint16(offset, true));
  if (bytes === 4) return BigInt(view.getUint32(offset, true));
  // Layouts that keep the halves apart list both.
  const high = layout.fields.get(encoding + 1) ?? offset + 4;
  if (high + 4 > view.byteLength) return undefined;
  return (BigInt(view.getUint32(high, true)) << 32n) | BigInt(view.getUint32(offset, true));
}

/** Runs of bytes that are not zero and that no field of the layout covers, on 4-byte boundaries. */
export function uncoveredRuns(bytes: Uint8Array, region: VmcsRegion): Range[] {
  const covered = new Uint8Array(bytes.length);
  covered.fill(1, 0, REGION_HEADER);
  for (const { start, end } of region.places.values()) covered.fill(1, start, end);
  const runs: { start: number; end: number }[] = [];
  for (let at = 0; at + 4 <= bytes.length; at += 4) {
    let open = false;
    for (let i = at; i < at + 4; i++) open ||= covered[i] === 0 && bytes[i] !== 0;
    if (!open) continue;
    const last = runs.at(-1);
    if (last?.end === at) last.end = at + 4;
    else runs.push({ start: at, end: at + 4 });
  }
  return runs;
}
