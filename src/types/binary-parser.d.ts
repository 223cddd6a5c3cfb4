/**
 * binary-parser's own typings are not reachable under `nodenext` (its exports map omits them);
 * this declares the part of its public API that the project uses.
 */
declare module "binary-parser" {
  interface StringOptions {
    length?: number;
    encoding?: string;
    stripNull?: boolean;
    zeroTerminated?: boolean;
  }
  interface ArrayOptions {
    type: string | Parser;
    length: number;
  }
  export class Parser {
    endianness(order: "little" | "big"): this;
    uint8(name: string): this;
    int8(name: string): this;
    uint16(name: string): this;
    uint32(name: string): this;
    int32(name: string): this;
    uint64(name: string): this;
    int64(name: string): this;
    string(name: string, options: StringOptions): this;
    buffer(name: string, options: { length: number }): this;
    array(name: string, options: ArrayOptions): this;
    nest(name: string, options: { type: Parser }): this;
    seek(bytes: number): this;
    parse(bytes: Uint8Array): unknown;
  }
}
