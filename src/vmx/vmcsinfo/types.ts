import type { AccessRightsForm } from "../access-rights.ts";
import type { Certainty } from "../offset-pattern.ts";

/** The forms VMCSINFO is kept in; docs/formats.md describes each. `layout` is none: what a known layout says. */
export type VmcsInfoFormName =
  | "layout"
  | "json"
  | "rekall"
  | "v1"
  | "table"
  | "v2"
  | "array"
  | "sysfs-v3"
  | "sysfs-v4"
  | "sysfs-v5";

/**
 * What the 16-bit words of the region held when it was measured: codes of their offsets, as the 2012 patch set writes
 * (`offset-pattern.ts`), or the offsets themselves, as rekall's module does.
 */
export type WordPattern = "codes" | "offsets";

/** One field of VMCSINFO. */
export interface VmcsInfoRecord {
  readonly encoding: number;
  /** What VMREAD returned, where the form keeps it. */
  readonly raw: bigint | undefined;
  /** Bytes from the start of the region; undefined where the field is not available or the value cannot be decoded. */
  readonly offset: number | undefined;
  /** How this access-rights field is stored, where the record shows it. */
  readonly accessRights: AccessRightsForm | undefined;
  /** How sure the offset is; undefined where the form gives it without the value it was decoded from. */
  readonly certainty: Certainty | undefined;
}

export type VmcsInfoProblemKind =
  /** Several records of one field. */
  | "duplicate"
  /** Reserved bits, or an encoding the SDM assigns to no field. */
  | "unknown-encoding"
  /** A name that is no field's. */
  | "unknown-name"
  /** A value that is of no place in a region, or no number. */
  | "undecodable"
  /** A place that is not in a region. */
  | "out-of-range"
  /** Two fields on the same bytes. */
  | "overlap"
  /** Two columns of one record that do not go together. */
  | "contradiction"
  /** Access-rights fields that are stored in different ways. */
  | "mixed-access-rights";

export interface VmcsInfoProblem {
  readonly kind: VmcsInfoProblemKind;
  readonly encoding: number | undefined;
  /** One sentence; it may quote the input. */
  readonly message: string;
}

/** Where the fields of a VMCS region are, as someone measured or wrote it down. */
export interface VmcsInfo {
  readonly form: VmcsInfoFormName;
  /** The form in words, e.g. "v2 note". */
  readonly label: string;
  /** VMCS revision identifier; undefined where the form has none. */
  readonly revisionId: number | undefined;
  /** In the order of the input; the last record of an encoding counts. */
  readonly records: readonly VmcsInfoRecord[];
  /** What `raw` is a reading of; undefined where there is no raw value that shows it. */
  readonly pattern: WordPattern | undefined;
  /** How access rights are stored, and who says so. */
  readonly accessRights: { readonly form: AccessRightsForm; readonly source: string } | undefined;
  readonly problems: readonly VmcsInfoProblem[];
}

/** What the input does not say itself. */
export interface VmcsInfoOptions {
  /** How numbers without 0x are meant. */
  readonly numbers?: "hex" | "decimal" | undefined;
  /** How access rights are stored, for forms that do not say it. */
  readonly accessRights?: AccessRightsForm | undefined;
}

/** A file's or note's bytes, or a tree of small files: path → contents. */
export type VmcsInfoInput = Uint8Array | ReadonlyMap<string, string>;

/** The input in every way a form may look at it. */
export interface Sniffed {
  readonly bytes: Buffer;
  /** The bytes as text without trailing NULs; undefined where they are none. */
  readonly text: string | undefined;
  readonly tree: ReadonlyMap<string, string> | undefined;
}

/** What a form's reader gives; the rest of `VmcsInfo` follows from it. */
export interface Reading {
  readonly revisionId: number | undefined;
  readonly records: readonly VmcsInfoRecord[];
  readonly pattern?: WordPattern | undefined;
  /** Access-rights form of the whole, where the input says it. */
  readonly accessRights?: AccessRightsForm | undefined;
  readonly problems: readonly VmcsInfoProblem[];
}

/** A written note, table or array, and the fields it has no way to hold. */
export interface WrittenVmcsInfo {
  readonly bytes: Buffer;
  readonly leftOut: readonly { readonly encoding: number; readonly reason: string }[];
}

/** One form: how it is known, read and, where that is possible, written. */
export interface VmcsInfoForm {
  readonly name: VmcsInfoFormName;
  readonly label: string;
  readonly matches: (input: Sniffed) => boolean;
  /** @throws CorruptError, UsageError */
  readonly read: (input: Sniffed, options: VmcsInfoOptions) => Reading;
  readonly write?: (info: VmcsInfo) => WrittenVmcsInfo;
}

/** More than there are encodings without reserved bits would be needed for. */
export const MAX_RECORDS = 4096;
