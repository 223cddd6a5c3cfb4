import { bytesText, plural, printable, shellWord } from "../core/text.ts";
import type { AttachResult } from "../jobs/vmcsinfo-attach.ts";
import {
  leftOutJson,
  leftOutLines,
  type Product,
  sourceLine,
  vcpuNotesJson,
  vcpuNotesText,
  vmcsInfoJson,
} from "./vmcsinfo.ts";

/** What `attach` did. */
export function attachText({ vmcsinfo, regions, added }: AttachResult, { path, to }: Product): string {
  const place =
    added.shift === 0
      ? "in room behind the notes"
      : `all behind the notes moved by ${bytesText(added.shift)}`;
  const parts = [
    bytesText(added.fileSize),
    ...(regions === undefined ? [] : [`${plural(regions.notes.length, `${regions.notes[0]?.owner} note`)}`]),
    ...(vmcsinfo === undefined
      ? []
      : [`VMCSINFO as ${to} note of ${bytesText(vmcsinfo.written.bytes.length)}`]),
    place,
  ];
  const next =
    regions === undefined ? `vmcsinfo show ${shellWord(path)}` : `extract ${shellWord(path)} -o OUT`;
  const lines = [
    ...(vmcsinfo === undefined ? [] : [sourceLine(vmcsinfo.opened)]),
    ...(regions === undefined
      ? []
      : [`${printable(regions.input.path)}: guest ${regions.guest}, ${vcpuNotesText(regions.notes)}`]),
    `wrote ${printable(path)}: ${parts.join(", ")}`,
    ...leftOutLines(vmcsinfo?.written.leftOut ?? []),
    `next: guestcore ${next}`,
  ];
  return `${lines.join("\n")}\n`;
}

/** `result` of guestcore/vmcsinfo/1 with what was written; without fields where no VMCSINFO was. */
export const attachJson = ({ vmcsinfo, regions, added }: AttachResult, { path, to }: Product) => ({
  ...(vmcsinfo === undefined ? {} : vmcsInfoJson(vmcsinfo.opened)),
  output: {
    path,
    to: vmcsinfo === undefined ? undefined : to,
    size: added.fileSize,
    leftOut: leftOutJson(vmcsinfo?.written.leftOut ?? []),
    notes: { offset: added.offset, size: added.size, shift: added.shift },
    guest: regions?.guest,
    vcpuNotes: regions === undefined ? undefined : vcpuNotesJson(regions.notes),
  },
});
