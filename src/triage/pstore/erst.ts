import { u64big, viewOf } from "../../core/bytes.ts";
import { plausible } from "./names.ts";
import { joined, recordsOf } from "./payload.ts";
import type { Problem, RecordType, StoreContents } from "./record.ts";

/**
 * The backing file of QEMU's acpi-erst (hw/acpi/erst.c): slots of equal size, the first for a header and a map of which
 * record is in which slot. A record is a CPER record (UEFI, appendix N) as Linux's drivers/acpi/apei/erst.c writes it.
 */

/** "ERSTSTOR", as a little-endian number. */
const MAGIC = 0x524f_5453_5453_5245n;
const HEADER = 24;
const MIN_SLOT = 4096;
const MAX_SLOT = 2 ** 20;
const MAX_SLOTS = 2048;
const FREE = [0n, 0xffff_ffff_ffff_ffffn];

const CPER = 0x5245_5043;
const CPER_HEADER = 128;
const SECTION = 72;
const RECORD_LENGTH = 20;
const TIMESTAMP = 24;
const RECORD_ID = 96;
const SECTION_TYPE = CPER_HEADER + 16;

/** First 32 bits of the section types that Linux gives (include/linux/cper.h: CPER_SECTION_TYPE_DMESG, _DMESG_Z, _MCE). */
const SECTIONS: ReadonlyMap<number, { readonly type: RecordType; readonly packed: boolean }> = new Map([
  [0xc197_e04e, { type: "dmesg", packed: false }],
  [0x4f11_8707, { type: "dmesg", packed: true }],
  [0xfe08_ffbe, { type: "mce", packed: false }],
]);

export const isErst = (bytes: Uint8Array): boolean =>
  bytes.length >= HEADER && u64big(viewOf(bytes), 0) === MAGIC;

export const isCper = (bytes: Uint8Array): boolean =>
  bytes.length >= CPER_HEADER + SECTION &&
  viewOf(bytes).getUint32(0, true) === CPER &&
  viewOf(bytes).getUint32(6, true) === 0xffff_ffff;

/** Reads a backing file; records that the guest cleared are found where nothing was written over them. */
export function readErst(bytes: Uint8Array, source: string): StoreContents {
  const view = viewOf(bytes);
  const slot = view.getUint32(8, true);
  if (slot < MIN_SLOT || slot > MAX_SLOT) {
    const message = `${source}: the header of the ERST store says ${slot} bytes a record`;
    return { records: [], problems: [{ code: "TRI307", message, source, offset: 8 }] };
  }
  return joined(slotsOf(bytes, source, slot));
}

function* slotsOf(bytes: Uint8Array, source: string, slot: number): Generator<StoreContents> {
  const view = viewOf(bytes);
  const all = Math.ceil(bytes.length / slot);
  const count = Math.min(MAX_SLOTS, all);
  const message = `${source} has ${all} slots: only ${count} are looked at`;
  if (all > count) yield { records: [], problems: [{ code: "TRI308", message, source }] };
  for (let i = 1; i < count; i++) {
    const at = HEADER + 8 * i;
    const id = at + 8 <= Math.min(slot, bytes.length) ? u64big(view, at) : 0n;
    const free = FREE.includes(id);
    const record = bytes.subarray(i * slot, (i + 1) * slot);
    if (isCper(record)) yield readCper(record, `${source}:slot ${i}`, i * slot, free);
    else if (!free) {
      const what = `${source}: the record in slot ${i} is damaged: it does not begin as one`;
      yield { records: [], problems: [{ code: "TRI307", message: what, source, offset: i * slot }] };
    }
  }
}

/** Reads one CPER record. */
export function readCper(bytes: Uint8Array, source: string, offset: number, erased: boolean): StoreContents {
  const view = viewOf(bytes);
  const section = SECTIONS.get(view.getUint32(SECTION_TYPE, true));
  const facts = {
    source,
    backend: "erst",
    type: section?.type ?? ("unknown" as const),
    id: u64big(view, RECORD_ID),
    offset,
    time: plausible(u64big(view, TIMESTAMP)),
    erased,
  };
  const length = view.getUint32(RECORD_LENGTH, true);
  const start = view.getUint32(CPER_HEADER, true);
  const size = view.getUint32(CPER_HEADER + 4, true);
  const end = Math.min(bytes.length, length, start + size);
  if (section === undefined) return { records: [], problems: [] };
  if (start < CPER_HEADER + SECTION || end <= start) {
    return { records: [], problems: [damaged(source, offset)] };
  }
  const contents = recordsOf(facts, bytes.subarray(start, end), { packed: section.packed });
  if (end === start + size) return contents;
  return { records: contents.records, problems: [...contents.problems, damaged(source, offset)] };
}

const damaged = (source: string, offset: number): Problem => ({
  code: "TRI307",
  message: `${source}: the CPER record is damaged: its section does not lie within it`,
  source,
  offset,
});
