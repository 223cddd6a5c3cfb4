import { latin1, u64, viewOf } from "../../core/bytes.ts";
import { CRASH_GUID, efiName } from "./names.ts";
import { joined, recordsOf } from "./payload.ts";
import type { Problem, StoreContents } from "./record.ts";

/**
 * Variables of EFI as firmware keeps them in flash: OVMF_VARS.fd is one firmware volume (UEFI PI, volume 3) with a variable
 * store (EDK II MdeModulePkg/Include/Guid/VariableFormat.h).
 */

const SIGNATURE_AT = 40;
const VOLUME_LENGTH_AT = 32;
const HEADER_LENGTH_AT = 48;
const STORE_HEADER = 28;
/** gEfiAuthenticatedVariableGuid and gEfiVariableGuid, their first 32 bits. */
const AUTHENTICATED = 0xaaf3_2c78;
const PLAIN = 0xddcf_3616;
const START_ID = 0x55aa;
/** A variable is there; it is there until its successor is; deleted, of either. */
const ADDED = 0x3f;
const IN_TRANSITION = 0x3e;
const DELETED = [0x3d, 0x3c];
const MAX_NAME = 512;
const MAX_VARIABLES = 65_536;
/** Firmware volumes begin at multiples of a flash block, at least of this. */
const VOLUME_STEP = 4096;

interface Form {
  readonly header: number;
  /** Where the lengths of name and data, and the GUID, are. */
  readonly sizes: number;
}
const FORMS: Readonly<Record<number, Form>> = {
  [AUTHENTICATED]: { header: 60, sizes: 36 },
  [PLAIN]: { header: 32, sizes: 8 },
};

/** Where firmware volumes with a variable store begin. */
function volumesOf(bytes: Uint8Array): number[] {
  const found: number[] = [];
  for (let at = 0; at + 128 <= bytes.length; at += VOLUME_STEP) {
    if (latin1(bytes.subarray(at + SIGNATURE_AT, at + SIGNATURE_AT + 4)) === "_FVH") found.push(at);
  }
  return found;
}

export const isEfiVolume = (bytes: Uint8Array): boolean => volumesOf(bytes).length > 0;

/** Reads the crash variables out of every variable store of a flash image. */
export function readEfiVolume(bytes: Uint8Array, source: string): StoreContents {
  function* parts(): Generator<StoreContents> {
    for (const at of volumesOf(bytes)) yield* readVolume(bytes, at, source);
  }
  return joined(parts());
}

function* readVolume(bytes: Uint8Array, at: number, source: string): Generator<StoreContents> {
  const view = viewOf(bytes);
  const end = Math.min(bytes.length, at + u64(view, at + VOLUME_LENGTH_AT));
  const store = at + view.getUint16(at + HEADER_LENGTH_AT, true);
  if (store + STORE_HEADER > end) return;
  const form = FORMS[view.getUint32(store, true)];
  if (form === undefined) return;
  const storeEnd = Math.min(end, store + view.getUint32(store + 16, true));
  yield* readVariables(bytes, store + STORE_HEADER, storeEnd, form, source);
}

function* readVariables(
  bytes: Uint8Array,
  from: number,
  end: number,
  { header, sizes }: Form,
  source: string,
): Generator<StoreContents> {
  const view = viewOf(bytes);
  let at = from;
  for (let count = 0; at + header <= end && count < MAX_VARIABLES; count++) {
    if (view.getUint16(at, true) !== START_ID) break;
    const nameSize = view.getUint32(at + sizes, true);
    const dataSize = view.getUint32(at + sizes + 4, true);
    const data = at + header + nameSize;
    if (data + dataSize > end) {
      yield { records: [], problems: [damaged(source, at)] };
      return;
    }
    if (guidAt(bytes, at + sizes + 8) === CRASH_GUID) {
      const name = ucs2(bytes, at + header, Math.min(nameSize, MAX_NAME));
      const erased = DELETED.includes(bytes[at + 2]!);
      const there = erased || bytes[at + 2] === ADDED || bytes[at + 2] === IN_TRANSITION;
      if (there) yield readVariable(name, bytes.subarray(data, data + dataSize), source, at, erased);
    }
    at = data + dataSize + (-(data + dataSize - from) & 3);
  }
}

/** A variable of LINUX_EFI_CRASH_GUID, by its name. */
function readVariable(
  name: string,
  data: Uint8Array,
  source: string,
  offset: number,
  erased: boolean,
): StoreContents {
  const named = efiName(name);
  if (named === undefined) return { records: [], problems: [] };
  const { type, backend, id, packed, time } = named;
  const facts = { source: `${source}:${name}`, backend, type, id, offset, time, erased };
  return recordsOf(facts, data, { packed });
}

const damaged = (source: string, offset: number): Problem => ({
  code: "TRI307",
  message: `${source}: a variable reaches beyond the end of its store: those behind it cannot be found`,
  source,
  offset,
});

const ucs2 = (bytes: Uint8Array, at: number, size: number): string =>
  Buffer.from(bytes.buffer, bytes.byteOffset + at, size - (size % 2))
    .toString("utf16le")
    .replace(/\0.*$/s, "");

/** A GUID as it is written: its first three fields are little-endian. */
export function guidAt(bytes: Uint8Array, at: number): string {
  const hex = (order: readonly number[]) =>
    order.map((i) => (bytes[at + i] ?? 0).toString(16).padStart(2, "0")).join("");
  const [a, b, c] = [hex([3, 2, 1, 0]), hex([5, 4]), hex([7, 6])];
  return `${a}-${b}-${c}-${hex([8, 9])}-${hex([10, 11, 12, 13, 14, 15])}`;
}
