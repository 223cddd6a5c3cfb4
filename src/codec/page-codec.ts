/**
 * Decompresses one block.
 * @returns bytes written; undefined when it is damaged, cut, or does not fit into `output`
 */
export type Unpack = (input: Buffer, output: Buffer) => number | undefined;

/**
 * Compresses one block.
 * @returns bytes written; undefined when it does not fit into `output`: it did not become shorter
 */
export type Pack = (input: Buffer, output: Buffer) => number | undefined;

/** One implementation of a compression: with memory of its own, for blocks one after another. */
export interface PageCodec {
  readonly unpack: Unpack;
  readonly pack: Pack;
}
