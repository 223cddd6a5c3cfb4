import { resolve } from "node:path";
import { UsageError } from "../core/errors.ts";
import { type FileIdentity, identitiesOf } from "./file.ts";
import { OutputFile, refuseToOverwrite } from "./output.ts";

/** What a small file is written beside. */
export interface TextFileOptions {
  /** Whether an existing file is replaced. */
  readonly force: boolean;
  /** Files that must not be written to in any case. */
  readonly others: readonly string[];
  /** More of them, that no option named. */
  readonly inputs?: readonly FileIdentity[];
  /** The option that named it, for hints. */
  readonly option: string;
}

/**
 * Writes a small file whole or not at all, mode 0600; an existing one is kept unless `force`, others and
 * inputs in any case.
 * @throws UsageError when it exists; IoError when it cannot be written
 */
export const writeTextFile = (path: string, text: string | Uint8Array, options: TextFileOptions): void =>
  writePieces(path, [text], options);

/** The same of a text that is not there at once. */
export function writePieces(
  path: string,
  pieces: Iterable<string | Uint8Array>,
  options: TextFileOptions,
): void {
  const { force, others, inputs = [], option } = options;
  const file = OutputFile.create(path, { force, inputs: [...identitiesOf(others), ...inputs], option });
  try {
    let size = 0;
    for (const piece of pieces) {
      const bytes = Buffer.from(piece);
      file.write(bytes, 0, bytes.length, size);
      size += bytes.length;
    }
    file.finish(size);
  } catch (error) {
    file.abandon(false);
    throw error;
  }
}

/**
 * Finds out whether `writeTextFile` could begin, leaving nothing behind.
 * @throws UsageError, IoError
 */
export function probeTextFile(path: string, { force, others, option }: TextFileOptions): void {
  if (others.some((other) => resolve(other) === resolve(path))) {
    throw new UsageError(`${path} is named twice`, { hint: "give each report a file of its own" });
  }
  refuseToOverwrite(path, force, identitiesOf(others), option);
}
