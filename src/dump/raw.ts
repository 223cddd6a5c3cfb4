import { PAGE_SIZE } from "../core/address.ts";
import { CorruptError } from "../core/errors.ts";
import type { ByteSource } from "../core/memory.ts";
import type { RamPiece } from "../core/ram-map.ts";
import { hex } from "../core/text.ts";
import type { Warning } from "../core/warnings.ts";
import { EM_X86_64 } from "../elf/constants.ts";
import type { MachineDump } from "./format.ts";
import { SegmentMemory, segmentsOf } from "./segment-memory.ts";

/**
 * Opens a raw image by the map that the user gives.
 * @throws CorruptError when the map says of nothing in the file what it is
 */
export function openRaw(source: ByteSource, map: readonly RamPiece[]): MachineDump {
  if (!map.some(({ offset }) => offset + PAGE_SIZE <= source.size)) {
    const begin = map[0] === undefined ? "is empty" : `begins at offset ${hex(map[0].offset)}`;
    throw new CorruptError(`the map ${begin}, and the image is ${source.size} bytes long`, {
      hint: "give START-END@OFFSET with the offset of START in the image",
    });
  }
  const end = map.reduce((last, { start, end, offset }) => Math.max(last, offset + (end - start)), 0);
  const warnings = end > source.size ? [cutImage(end, source.size)] : [];
  return {
    memory: new SegmentMemory(source, segmentsOf(map)),
    notes: [],
    cpus: [],
    machine: EM_X86_64,
    warnings,
  };
}

const cutImage = (end: number, size: number): Warning => ({
  code: "DMP024",
  message: `the map has memory up to offset ${hex(end)}, and the image is ${size} bytes long: what it ends before is missing`,
});
