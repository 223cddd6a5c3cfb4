import { closeSync, fstatSync, openSync, readSync, statSync } from "node:fs";
import { attempt } from "./file.ts";

const CHUNK = 2 ** 18;
/** How long a file that has not grown is left alone; milliseconds. */
const PAUSE = 100;

/**
 * Reads a file that grows, from its beginning: again when it was cut (`copytruncate`), or when another has its name.
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
  const open = () => attempt(`cannot open ${path}`, () => openSync(path, "r"), where);
  const buffer = Buffer.alloc(CHUNK);
  let fd = open();
  try {
    for (let offset = 0; ; ) {
      const got = attempt(`cannot read ${path}`, () => readSync(fd, buffer, 0, CHUNK, offset), where);
      offset += got;
      if (got > 0) yield buffer.subarray(0, got);
      if (isOver()) return;
      if (got === 0) {
        const change = changeOf(path, fd, offset);
        if (change !== undefined) {
          // A line that was cut off is none of the next log's.
          if (offset > 0) yield NEWLINE;
          offset = 0;
        }
        if (change === "another") {
          const next = open();
          closeSync(fd);
          fd = next;
        }
      }
      if (got < CHUNK) await new Promise((resolve) => setTimeout(resolve, PAUSE));
      await checkpoint();
    }
  } finally {
    closeSync(fd);
  }
}

const NEWLINE = Buffer.from("\n");

/** What became of a file that was read to its end; while nothing has its name, more may come. */
function changeOf(path: string, fd: number, offset: number): "cut" | "another" | undefined {
  const stat = fstatSync(fd);
  const named = statSync(path, { throwIfNoEntry: false });
  if (named !== undefined && (named.ino !== stat.ino || named.dev !== stat.dev)) return "another";
  return stat.size < offset ? "cut" : undefined;
}
