/** elfy 1.0.0 ships no types; this is the part of its Parser that `elf/header.ts` uses. */
declare module "elfy" {
  export interface RawHeader {
    readonly class: "32" | "64";
    readonly endian: "lsb" | "msb";
    readonly entry: number | bigint;
    readonly phoff: number | bigint;
    readonly shoff: number | bigint;
    readonly flags: number;
    readonly ehsize: number;
    readonly phentsize: number;
    readonly phnum: number;
    readonly shentsize: number;
    readonly shnum: number;
    readonly shstrndx: number;
  }
  export class Parser {
    /** "le" or "be" once a header was parsed. */
    readonly endian: "le" | "be" | null;
    parseHeader(bytes: Buffer): RawHeader;
    readUInt16(bytes: Buffer, offset: number): number;
    readUInt32(bytes: Buffer, offset: number): number;
    readUInt64(bytes: Buffer, offset: number): number | bigint;
  }
  const elfy: { readonly Parser: typeof Parser };
  export default elfy;
}
