/**
 * The encoding of a VMCS field (Intel SDM Vol. 3C §25.11.2, Table 25-21): bit 0 access type (1: high half of a 64-bit
 * field), 9:1 index, 11:10 type, 12 reserved, 14:13 width, 31:15 reserved.
 */
export type FieldWidth = 16 | 32 | 64 | "natural";
export type FieldType = "control" | "read-only" | "guest" | "host";

const WIDTHS: readonly FieldWidth[] = [16, 64, 32, "natural"];
const TYPES: readonly FieldType[] = ["control", "read-only", "guest", "host"];
const RESERVED = 0xffff_9000;
const WIDTH_64 = 1;

const widthIndex = (encoding: number): number => (encoding >>> 13) & 3;

/** Whether an encoding has no reserved bit set and asks for a high half only of a 64-bit field. */
export const isPossibleEncoding = (encoding: number): boolean =>
  (encoding & RESERVED) === 0 && ((encoding & 1) === 0 || widthIndex(encoding) === WIDTH_64);

export const isHighEncoding = (encoding: number): boolean =>
  (encoding & 1) === 1 && widthIndex(encoding) === WIDTH_64;

export const widthOf = (encoding: number): FieldWidth => WIDTHS[widthIndex(encoding)]!;
export const typeOf = (encoding: number): FieldType => TYPES[(encoding >>> 10) & 3]!;

/** Bytes that VMREAD of the encoding returns on a processor with Intel 64: 2, 4 or 8. */
export function bytesOf(encoding: number): 2 | 4 | 8 {
  if (isHighEncoding(encoding)) return 4;
  const width = widthOf(encoding);
  return width === 16 ? 2 : width === 32 ? 4 : 8;
}
