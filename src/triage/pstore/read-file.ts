import { viewOf } from "../../core/bytes.ts";
import { isArchive, readArchive } from "./archive.ts";
import { isEfiVolume, readEfiVolume } from "./efi-volume.ts";
import { isCper, isErst, readCper, readErst } from "./erst.ts";
import { type NamedRecord, nameOf } from "./names.ts";
import { isNvram, readNvram } from "./nvram.ts";
import { joined, recordsOf } from "./payload.ts";
import { isRamoops, readRamoops } from "./ramoops.ts";
import type { RamoopsParameters } from "./ramoops-layout.ts";
import { headerOf, type StoreContents } from "./record.ts";
import { unpackRecord } from "./unpack.ts";
import { readWire, type WireVersion } from "./wire.ts";
import { isZoneImage, readZoneImage } from "./zone.ts";

/** A file as a job read it. */
export interface PstoreFile {
  /** As it was named. */
  readonly path: string;
  readonly bytes: Uint8Array;
}

export interface PstoreOptions {
  /** How ramoops divided its region; found by looking where it is not said. */
  readonly ramoops?: RamoopsParameters | undefined;
  /** That files are buffers of virtio-pstore. */
  readonly wire?: WireVersion | undefined;
  /** Whether dumps that the guest deleted count as crashes. */
  readonly erased?: boolean | undefined;
}

export type StoreKind =
  | "pstore file"
  | "virtio-pstore file"
  | "EFI variable"
  | "record"
  | "systemd-pstore archive"
  | "ERST store"
  | "CPER record"
  | "EFI variable store"
  | "pstore zones"
  | "ramoops region"
  | "powerpc NVRAM"
  | "virtio-pstore buffer";

/** A store that was recognised, and what is in it. */
export interface ReadStore extends StoreContents {
  readonly kind: StoreKind;
  readonly named: NamedRecord | undefined;
}

/** Backends of Linux, and that of virtio-pstore's patches; other names are taken for one only when a dump is in the file. */
const BACKENDS = new Set([
  ...[
    "ramoops",
    "efi",
    "efi_pstore",
    "erst",
    "nvram",
    "pstore_blk",
    "pstore-blk",
    "pstore_zone",
    "mtdpstore",
  ],
  ...["virtio", "virtio_pstore", "virtio-pstore"],
]);
/** EFI_VARIABLE_NON_VOLATILE, _BOOTSERVICE_ACCESS and _RUNTIME_ACCESS, in front of what efivarfs shows. */
const ATTRIBUTES = 7;
/** UEFI has attributes up to this bit. */
const ATTRIBUTES_END = 0x100;

/**
 * Reads a store of any kind: by its name where that is one of pstore's, else by what is in it.
 * @returns undefined when it is none
 */
export function readStore(file: PstoreFile, options: PstoreOptions = {}): ReadStore | undefined {
  const { bytes, path } = file;
  if (options.wire !== undefined) {
    const contents = readWire(bytes, path, options.wire);
    return contents && { kind: "virtio-pstore buffer", named: undefined, ...contents };
  }
  return readNamed(file) ?? readUnnamed(bytes, path, options);
}

function readNamed({ path, bytes }: PstoreFile): ReadStore | undefined {
  const parts = path.split("/");
  // efivars of sysfs had a directory for each variable.
  const name = parts.at(-1) === "data" ? (parts.at(-2) ?? "") : parts.at(-1)!;
  const named = nameOf(name);
  if (named === undefined) return undefined;
  const { form, type, backend, id, time, packed } = named;
  const facts = { source: path, backend, type, id, time };
  if (form === "efi") {
    return { kind: "EFI variable", named, ...recordsOf(facts, withoutAttributes(bytes, name), { packed }) };
  }
  const kind = form === "virtio" ? "virtio-pstore file" : "pstore file";
  if (bytes.length === 0) return { kind, named, records: [], problems: [] };
  const contents = recordsOf(facts, bytes, { packed, appended: form === "virtio" });
  const isKnown = form === "virtio" || BACKENDS.has(backend);
  return isKnown || contents.records.some(({ header }) => header !== undefined)
    ? { kind, named, ...contents }
    : undefined;
}

function withoutAttributes(bytes: Uint8Array, name: string): Uint8Array {
  if (bytes.length < 4) return bytes;
  const attributes = viewOf(bytes).getUint32(0, true);
  const isNamedInFull = name.endsWith("298a0") && attributes < ATTRIBUTES_END;
  return attributes === ATTRIBUTES || isNamedInFull ? bytes.subarray(4) : bytes;
}

interface Reader {
  readonly kind: StoreKind;
  readonly matches: (bytes: Uint8Array, options: PstoreOptions) => boolean;
  readonly read: (bytes: Uint8Array, source: string, options: PstoreOptions) => StoreContents;
}

/** A new kind of store is one line here. */
const READERS: readonly Reader[] = [
  { kind: "systemd-pstore archive", matches: isArchive, read: readArchive },
  {
    kind: "record",
    matches: (bytes) => headerOf(bytes) !== undefined,
    read: (bytes, source) =>
      recordsOf({ source, backend: undefined, type: "dmesg" }, bytes, { appended: true }),
  },
  { kind: "ERST store", matches: isErst, read: readErst },
  { kind: "CPER record", matches: isCper, read: (bytes, source) => readCper(bytes, source, 0, false) },
  { kind: "EFI variable store", matches: isEfiVolume, read: readEfiVolume },
  { kind: "pstore zones", matches: isZoneImage, read: (bytes, source) => readZoneImage(bytes, source) },
  {
    kind: "ramoops region",
    matches: (bytes, { ramoops }) => isRamoops(bytes, ramoops),
    read: (bytes, source, { ramoops }) => readRamoops(bytes, source, ramoops),
  },
  { kind: "powerpc NVRAM", matches: isNvram, read: readNvram },
];

/** Largest file that is tried as one packed record, or one buffer. */
const MAX_SINGLE = 2 ** 17;

function readUnnamed(bytes: Uint8Array, source: string, options: PstoreOptions): ReadStore | undefined {
  let found: ReadStore | undefined;
  for (const { kind, matches, read } of READERS) {
    if (!matches(bytes, options)) continue;
    const contents = read(bytes, source, options);
    if (contents.records.length > 0) return { kind, named: undefined, ...contents };
    found ??= { kind, named: undefined, ...contents };
  }
  return found ?? readSingle(bytes, source);
}

/** A packed record under a name of its own, or a buffer of virtio-pstore. */
function readSingle(bytes: Uint8Array, source: string): ReadStore | undefined {
  if (bytes.length === 0 || bytes.length > MAX_SINGLE) return undefined;
  const wire = readWire(bytes, source);
  if (wire !== undefined) return { kind: "virtio-pstore buffer", named: undefined, ...wire };
  if (unpackRecord(bytes) === undefined) return undefined;
  const facts = { source, backend: undefined, type: "dmesg" } as const;
  return { kind: "record", named: undefined, ...joined([recordsOf(facts, bytes, { appended: true })]) };
}
