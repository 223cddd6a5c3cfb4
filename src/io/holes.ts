import { type Foreign, foreign } from "../codec/shared-library.ts";
import type { SourceExtent } from "../core/memory.ts";

/** lseek(2) whence values (Linux `include/uapi/linux/fs.h`). */
const SEEK_DATA = 3;
const SEEK_HOLE = 4;

let seek: Foreign | undefined | "unknown" = "unknown";

/**
 * lseek(2) through koffi, an optional dependency: Node cannot ask where a file's holes are, and reading the holes of a
 * sparse core costs more than everything else (5 GiB of holes: 1.1 s of CPU and 5 GiB of page cache against 1 ms).
 * Without it everything is read.
 */
const loadSeek = (): Foreign | undefined =>
  foreign([null], { lseek: "int64_t lseek(int fd, int64_t offset, int whence)" })?.lseek;

/** Whether a hole begins at `offset`, and where it or the data ends; undefined where the system does not tell. */
export function holeAt(fd: number, offset: number, limit: number): SourceExtent | undefined {
  if (seek === "unknown") seek = loadSeek();
  if (seek === undefined || offset >= limit) return undefined;
  const data = Number(seek(fd, offset, SEEK_DATA));
  // ENXIO: no data behind, the rest is a hole. Other failures show in SEEK_HOLE as well.
  if (data < 0)
    return Number(seek(fd, offset, SEEK_HOLE)) === offset ? { hole: true, end: limit } : undefined;
  if (data > offset) return { hole: true, end: Math.min(data, limit) };
  const hole = Number(seek(fd, offset, SEEK_HOLE));
  return hole > offset ? { hole: false, end: Math.min(hole, limit) } : undefined;
}
