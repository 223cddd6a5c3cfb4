import { bytesText, hex, plural, printable, shellWord } from "../core/text.ts";
import type { OpenedVmcsInfo } from "../jobs/vmcsinfo.ts";
import type { ConvertResult } from "../jobs/vmcsinfo-write.ts";
import { isAccessRights } from "../vmx/access-rights.ts";
import { bytesOf, isPossibleEncoding, widthOf } from "../vmx/encoding.ts";
import type { RegionNote } from "../vmx/region-note.ts";
import { usable } from "../vmx/vmcsinfo/judge.ts";
import { agreements } from "../vmx/vmcsinfo/known.ts";
import { encodingText, nameOf, offsetText } from "../vmx/vmcsinfo/names.ts";
import { placesOf, type VmcsInfo, type VmcsInfoRecord } from "../vmx/vmcsinfo.ts";
import { alignedColumns } from "./columns.ts";

/** Every record, then what can be said of the whole. */
export function showText({ input, container, noteOffset, vcpuNotes = [], info }: OpenedVmcsInfo): string {
  const where = container === "note" ? `note at ${hex(noteOffset ?? 0)}: ` : "";
  const lines = [
    `${printable(input.path)}: ${where}VMCSINFO as ${info.label}, ${revisionText(info.revisionId)}, ${countText(info)}`,
    ...alignedColumns([
      ["encoding", "name", "width", "offset", "certainty", "raw"],
      ...info.records.map((record) => rowOf(record)),
    ]).map((line) => `  ${line}`),
    field("access rights", accessRightsText(info)),
    field("layout", agreementText(info)),
    ...problemLines(info),
    ...(vcpuNotes.length === 0 ? [] : [field("vCPUs", vcpuNotesText(vcpuNotes))]),
    `next: guestcore vmcsinfo attach DUMP --from ${shellWord(input.path)} -o OUT`,
  ];
  return `${lines.join("\n")}\n`;
}

const LABEL = 13;
const field = (label: string, text: string): string => `${label.padEnd(LABEL)} ${text}`;

const revisionText = (revisionId: number | undefined): string =>
  revisionId === undefined ? "no revision" : `revision ${hex(revisionId)}`;

/** `132 fields: 124 certain, 8 likely`; what nobody measured here counts as given. */
function countText({ records }: VmcsInfo): string {
  const counted = usable(records);
  const tally = new Map<string, number>();
  for (const record of counted) tally.set(stateOf(record), (tally.get(stateOf(record)) ?? 0) + 1);
  const parts = STATES.filter((state) => tally.has(state)).map((state) => `${tally.get(state)} ${state}`);
  return `${plural(counted.length, "field")}${parts.length === 0 ? "" : `: ${parts.join(", ")}`}`;
}

const STATES = ["certain", "likely", "ambiguous", "as given", "undecodable", "not available"] as const;

function stateOf({ offset, raw, certainty }: VmcsInfoRecord): (typeof STATES)[number] {
  if (offset !== undefined) return certainty ?? "as given";
  return raw === undefined ? "not available" : "undecodable";
}

const widthText = (encoding: number): string => (isPossibleEncoding(encoding) ? `${widthOf(encoding)}` : "?");

function rowOf(record: VmcsInfoRecord): string[] {
  const { encoding, offset, raw, accessRights } = record;
  const digits = 2 * bytesOf(encoding);
  return [
    encodingText(encoding),
    nameOf(encoding) ?? "?",
    widthText(encoding),
    offset === undefined ? "-" : offsetText(offset),
    stateOf(record),
    [raw === undefined ? "-" : hex(raw, digits), ...(accessRights === undefined ? [] : [accessRights])].join(
      " ",
    ),
  ];
}

function accessRightsText({ accessRights, records }: VmcsInfo): string {
  if (accessRights !== undefined) return `${accessRights.form}, by ${accessRights.source}`;
  const some = records.some(({ encoding, offset }) => offset !== undefined && isAccessRights(encoding));
  return some ? "stored in an unknown form: see --access-rights" : "none";
}

function agreementText(info: VmcsInfo): string {
  const [best] = agreements(placesOf(info.records));
  if (best === undefined || best.equal === 0) return "agrees with none of those known";
  const { layout, equal, shared } = best;
  return `agrees with ${layout.name} in ${equal} of ${plural(shared, "field")}`;
}

/** So many are listed; the JSON has all of them. */
const MAX_LISTED = 40;

function problemLines({ problems }: VmcsInfo): string[] {
  if (problems.length === 0) return [field("problems", "none")];
  const lines = [field("problems", `${problems.length}`)];
  for (const { kind, message } of problems.slice(0, MAX_LISTED)) lines.push(`  ${kind}: ${message}`);
  if (problems.length > MAX_LISTED) lines.push(`  and ${problems.length - MAX_LISTED} more`);
  return lines;
}

/** `VMCS notes of vCPU 0 (0x2549000), 1 (0x25ff000)`. */
export function vcpuNotesText(notes: readonly RegionNote[]): string {
  const vcpus = notes.map(({ vcpu, address }) =>
    address === undefined ? `${vcpu}` : `${vcpu} (${hex(address)})`,
  );
  const incomplete = notes.every(({ complete }) => complete) ? "" : ", as old as their last write-back";
  return `${notes[0]?.owner} notes of vCPU ${vcpus.join(", ")}${incomplete}`;
}

export const vcpuNotesJson = (notes: readonly RegionNote[]) =>
  notes.map(({ owner, vcpu, address, complete, kept }) => ({
    owner,
    vcpu,
    address,
    complete,
    kvmRegisters: kept === undefined ? undefined : true,
  }));

/** `result` of guestcore/vmcsinfo/1; vmx/vmcsinfo/json.ts reads it back. */
export function vmcsInfoJson({ info, container, noteOffset, vcpuNotes = [] }: OpenedVmcsInfo) {
  const { form, label, revisionId, pattern, accessRights, records, problems } = info;
  return {
    form,
    label,
    container,
    noteOffset,
    revisionId,
    pattern,
    accessRights,
    fields: records.map(({ encoding, offset, raw, certainty, accessRights: stored }) => ({
      encoding: encodingText(encoding),
      name: nameOf(encoding),
      width: isPossibleEncoding(encoding) ? widthOf(encoding) : undefined,
      offset,
      raw,
      certainty,
      accessRights: stored,
    })),
    problems: problems.map(({ kind, encoding, message }) => ({
      kind,
      encoding: encoding === undefined ? undefined : encodingText(encoding),
      message,
    })),
    layouts: agreements(placesOf(records))
      .filter(({ equal }) => equal > 0)
      .map(({ layout, equal, shared }) => ({ name: layout.name, equal, shared })),
    vcpuNotes: vcpuNotes.length === 0 ? undefined : vcpuNotesJson(vcpuNotes),
  };
}

/** What was written, and in which form. */
export interface Product {
  readonly path: string;
  readonly to: string;
}

/** `vmcsinfo.txt: table, revision 0x2b, 132 fields`. */
export const sourceLine = ({ input, info }: OpenedVmcsInfo): string =>
  `${printable(input.path)}: ${info.label}, ${revisionText(info.revisionId)}, ${countText(info)}`;

/** What `convert` did. */
export function convertText({ opened, written }: ConvertResult, { path, to }: Product): string {
  const lines = [
    sourceLine(opened),
    `wrote ${printable(path)}: ${to}, ${bytesText(written.bytes.length)}`,
    ...leftOutLines(written.leftOut),
    ...(path === "-" ? [] : [`next: guestcore vmcsinfo show ${shellWord(path)}`]),
  ];
  return `${lines.join("\n")}\n`;
}

export function leftOutLines(leftOut: ConvertResult["written"]["leftOut"]): string[] {
  const names = leftOut.slice(0, MAX_LISTED).map(({ encoding, reason }) => {
    const name = nameOf(encoding);
    return `  not written: ${encodingText(encoding)}${name === undefined ? "" : ` ${name}`}: ${reason}`;
  });
  return leftOut.length > MAX_LISTED ? [...names, `  and ${leftOut.length - MAX_LISTED} more`] : names;
}

/** `result` of guestcore/vmcsinfo/1 with what was written. */
export const convertJson = ({ opened, written }: ConvertResult, { path, to }: Product) => ({
  ...vmcsInfoJson(opened),
  output: { path, to, size: written.bytes.length, leftOut: leftOutJson(written.leftOut) },
});

export const leftOutJson = (leftOut: ConvertResult["written"]["leftOut"]) =>
  leftOut.map(({ encoding, reason }) => ({
    encoding: encodingText(encoding),
    name: nameOf(encoding),
    reason,
  }));
