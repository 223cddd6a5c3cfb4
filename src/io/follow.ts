import { closeSync, openSync, readSync } from "node:fs";
import { attempt } from "./file.ts";

const CHUNK = 2 ** 18;
/** How long a file that has not grown is left alone; milliseconds. */
const PAUSE = 100;

/**
 * Reads a file that grows, from its beginning.
 * @param checkpoint called while it does not grow; what it throws ends the reading
 * @param isOver whether to stop waiting for more
 * @throws IoError when it cannot be read
 */
export async function* followFile(
  path: string,
  checkpoint: () => Promise<void>,
  isOver: () => boolean,
): AsyncGenerator<Buffer> {
  const where = { file: path };
  const fd = attempt(`cannot open ${path}`, () => openSync(path, "r"), where);
  const buffer = Buffer.alloc(CHUNK);
  try {
    for (let offset = 0; ; ) {
      const got = attempt(`cannot read ${path}`, () => readSync(fd, buffer, 0, CHUNK, offset), where);
      offset += got;
      if (got > 0) yield buffer.subarray(0, got);
      if (isOver()) return;
      if (got < CHUNK) await new Promise((resolve) => setTimeout(resolve, PAUSE));
      await checkpoint();
    }
  } finally {
    closeSync(fd);
  }
}
