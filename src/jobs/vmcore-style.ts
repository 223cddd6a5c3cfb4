import { UnsupportedError, UsageError } from "../core/errors.ts";
import type { PageStorage } from "../core/memory.ts";
import { canPack } from "../io/page-job.ts";
import type { VmcoreFormat } from "../vmcore/plan.ts";
import type { KdumpStyle } from "../vmcore/write.ts";

/** In which form a vmcore is wanted. */
export interface VmcoreStyle {
  readonly format: VmcoreFormat;
  /** Of the formats that compress pages; zlib where it is not said. */
  readonly compress?: PageStorage | undefined;
  /** makedumpfile's -d, of the same formats: 0 stores every page of zeros, 1 (the default) one for all. */
  readonly dumpLevel?: 0 | 1 | undefined;
}

/**
 * How pages are stored; undefined for formats that store them as they are.
 * @param path of the output, "-" for standard output
 * @throws UsageError for what the format has not; UnsupportedError for a codec that is not to be had here
 */
export function kdumpStyleOf(
  style: VmcoreStyle,
  path: string | undefined,
): Omit<KdumpStyle, "dumpLevel"> | undefined {
  const { format, compress, dumpLevel } = style;
  if (format !== "kdump" && format !== "flat") {
    const option = compress === undefined ? "-d" : "--compress";
    if (compress === undefined && dumpLevel === undefined) return undefined;
    throw new UsageError(`${option} is of --format kdump and flat only`, {
      hint: "in the others pages are stored as they are, and zeros take no room",
    });
  }
  if (format === "kdump" && path === "-") {
    throw new UsageError("a kdump-compressed dump is not written in order, as a pipe would need it", {
      hint: "--format flat is its form for a pipe: makedumpfile -R and crash read it",
    });
  }
  const codec = compress ?? "zlib";
  if (!canPack(codec)) {
    throw new UnsupportedError(`nothing here compresses with ${codec}`, {
      hint: "Node.js does from 22.15 on, and libzstd does; or choose another: --compress zlib",
    });
  }
  return { codec, shareZeros: dumpLevel !== 0 };
}
