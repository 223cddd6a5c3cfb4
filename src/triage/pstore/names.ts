import { RECORD_TYPES, type RecordType } from "./record.ts";

/** What the name of a file says of the record in it. */
export interface NamedRecord {
  /** `mount`: of pstore's file system. `virtio`: of the host directory of virtio-pstore. `efi`: an EFI variable. */
  readonly form: "mount" | "virtio" | "efi";
  readonly type: RecordType;
  readonly backend: string;
  readonly id: bigint | undefined;
  /** Whether the name says that the record is packed. */
  readonly packed: boolean;
  /** Unix time in milliseconds, where the number tells it. */
  readonly time: number | undefined;
  /** Of EFI variables. */
  readonly part?: number;
}

const TYPES = [...RECORD_TYPES].sort((a, b) => b.length - a.length).join("|");
/** Linux fs/pstore/inode.c pstore_mkfile(); `type9-` until 5.0; console-ramoops had no number at first. */
const MOUNT = new RegExp(
  `^(${TYPES}|type\\d{1,3})-([A-Za-z][A-Za-z0-9_-]{0,40}?)(?:-(\\d{1,20}))?(\\.enc\\.z)?(?:\\.txt|\\.log)?$`,
);
/** to_filename() of virtio-pstore in QEMU and kvmtool: no backend. */
const VIRTIO = /^(dmesg|console|unknown)-(\d{1,20})(\.enc\.z)?$/;
/** LINUX_EFI_CRASH_GUID (include/linux/efi.h). */
export const CRASH_GUID = "cfc8fc79-be2e-4ddc-97f0-9f98bfe298a0";
/**
 * drivers/firmware/efi/efi-pstore.c: type, part, count, seconds, and whether it is packed; without the last before 3.12,
 * without the count before that.
 */
const EFI = /^dump-type(\d{1,3})-(\d{1,9})(?:-(-?\d{1,10}))?-(\d{1,19})(?:-([CD]))?(?:-([0-9a-fA-F-]{36}))?$/;

/** Of the name of an EFI variable, in efivarfs with its GUID behind it. */
export function efiName(name: string): NamedRecord | undefined {
  const match = EFI.exec(name);
  if (match === null) return undefined;
  const [, type, part, count, seconds, packed, guid] = match;
  if (guid !== undefined && guid.toLowerCase() !== CRASH_GUID) return undefined;
  // As efi_pstore makes the number of the file: generic_id().
  const id = (BigInt(seconds!) * 100n + BigInt(part!)) * 1000n + BigInt(count ?? 0);
  return {
    form: "efi",
    type: RECORD_TYPES[Number(type)] ?? "unknown",
    backend: "efi",
    id: BigInt.asUintN(64, id),
    packed: packed === "C",
    time: plausible(BigInt(seconds!)),
    part: Number(part),
  };
}

/** What a file's name says; undefined when it is no name of pstore's. */
export function nameOf(name: string): NamedRecord | undefined {
  const virtio = VIRTIO.exec(name);
  if (virtio !== null) {
    const [, type, id, packed] = virtio;
    return {
      form: "virtio",
      type: type as RecordType,
      backend: "virtio",
      id: BigInt(id!),
      packed: packed !== undefined,
      time: undefined,
    };
  }
  const mount = MOUNT.exec(name);
  if (mount === null) return efiName(name);
  const [, type, backend, number, packed] = mount;
  const id = number === undefined ? undefined : BigInt(number);
  return {
    form: "mount",
    type: RECORD_TYPES.find((known) => known === type) ?? "unknown",
    backend: backend!,
    id,
    packed: packed !== undefined,
    time: id === undefined ? undefined : timeOf(backend!, id),
  };
}

/** The number of a record tells when it was written: EFI's has the seconds in front, ERST's in its upper half. */
function timeOf(backend: string, id: bigint): number | undefined {
  if (/^efi/.test(backend)) return plausible(id / 100_000n);
  if (backend === "erst") return plausible(id >> 32n);
  return undefined;
}

const FROM = 946_684_800n;
const UNTIL = 7_258_118_400n;

/** Seconds of Unix time as milliseconds, from 2000 to 2200: a clock that was never set tells nothing. */
export const plausible = (seconds: bigint): number | undefined =>
  seconds >= FROM && seconds < UNTIL ? Number(seconds) * 1000 : undefined;
