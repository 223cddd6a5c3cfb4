import { printable } from "../../core/text.ts";
import { baseOf, numberIn } from "./numbers.ts";
import type {
  Reading,
  Sniffed,
  VmcsInfoForm,
  VmcsInfoOptions,
  VmcsInfoProblem,
  VmcsInfoRecord,
} from "./types.ts";

/**
 * Saved trees of the third to fifth patch set (June and July 2012): one file a field under `…/cpu/vmcs/`, named by the
 * encoding, with its offset inside; 0 where the kernel has none. The revision is in `vmcs_id` beside the folder (v4),
 * in `vmcs/id` (v5), or nowhere (v3, `/sys/devices/cpu`).
 */
const FIELD = /^(?:(.*)\/)?([0-9a-f]{4})$/i;

interface Tree {
  /** Where the fields are; "" for the top. */
  readonly folder: string;
  readonly fields: readonly (readonly [encoding: number, text: string])[];
  readonly id: string | undefined;
  readonly version: 3 | 4 | 5;
}

function treeOf({ tree: files }: Sniffed): Tree | undefined {
  if (files === undefined) return undefined;
  const folders = new Map<string, [number, string][]>();
  for (const [path, text] of files) {
    const [, folder = "", digits] = FIELD.exec(path) ?? [];
    if (digits === undefined) continue;
    const fields = folders.get(folder) ?? [];
    fields.push([Number.parseInt(digits, 16), text]);
    folders.set(folder, fields);
  }
  const [found] = [...folders].sort(([, a], [, b]) => b.length - a.length);
  if (found === undefined) return undefined;
  const [folder, fields] = found;
  const inside = files.get(folder === "" ? "id" : `${folder}/id`);
  const beside = folder === "" ? undefined : files.get(`${folder}_id`);
  const version = inside !== undefined ? 5 : beside !== undefined ? 4 : 3;
  return { folder, fields: fields.sort(([a], [b]) => a - b), id: inside ?? beside, version };
}

const sysfsForm = (version: Tree["version"]): VmcsInfoForm => ({
  name: `sysfs-v${version}`,
  label: `sysfs tree of v${version}`,
  matches: (input) => treeOf(input)?.version === version,
  read: (input, options) => readTree(treeOf(input)!, options),
});

export const SYSFS_V5 = sysfsForm(5);
export const SYSFS_V4 = sysfsForm(4);
export const SYSFS_V3 = sysfsForm(3);

function readTree({ fields, id, folder }: Tree, { numbers }: VmcsInfoOptions): Reading {
  const values = fields.map(([encoding, text]) => [encoding, firstLine(text)] as const);
  const revision = id === undefined ? undefined : firstLine(id);
  const all = [...values.map(([, text]) => text), ...(revision === undefined ? [] : [revision])];
  const base = baseOf(all, numbers);
  const problems: VmcsInfoProblem[] = [];
  const records = values.map(([encoding, text]): VmcsInfoRecord => {
    const offset = numberIn(text, base);
    if (offset === undefined)
      problems.push(noNumber(`${folder}/${encoding.toString(16).padStart(4, "0")}`, text, encoding));
    return {
      encoding,
      raw: undefined,
      offset: offset === 0 ? undefined : offset,
      accessRights: undefined,
      certainty: undefined,
    };
  });
  const revisionId = revision === undefined ? undefined : numberIn(revision, base);
  if (revision !== undefined && revisionId === undefined) problems.push(noNumber("the revision", revision));
  return { revisionId, records, problems };
}

/** tar pads a sysfs file with zeros to the size it claimed. */
const firstLine = (text: string): string => /^[^\n\0]*/.exec(text)![0].trim();

const noNumber = (what: string, text: string, encoding?: number): VmcsInfoProblem => ({
  kind: "undecodable",
  encoding,
  message: `${printable(what.replace(/^\//, ""))} holds "${printable(text.slice(0, 20))}", which is no number`,
});
