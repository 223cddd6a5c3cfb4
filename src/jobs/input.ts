import type { JobContext } from "../core/job.ts";
import type { ByteSource } from "../core/memory.ts";
import type { Warning } from "../core/warnings.ts";
import { unpackIfCompressed } from "../io/compressed.ts";
import { type FileIdentity, FileSource } from "../io/file.ts";

/** A file opened for a job. */
export interface Input {
  readonly source: ByteSource;
  readonly identity: FileIdentity;
  readonly facts: {
    readonly path: string;
    /** Bytes of the file as it lies on disk under that name. */
    readonly size: number;
    /** Bytes the (decompressed) contents occupy on disk; less than their length when they are sparse. */
    readonly sizeOnDisk: number;
    /** Set when the file was compressed: how, and the length of its contents. */
    readonly unpacked: { readonly compression: string; readonly size: number } | undefined;
  };
  readonly warnings: readonly Warning[];
  close(): void;
}

/**
 * Opens a file by name; a gzip or zstd file is unpacked into a temporary one first.
 * @throws IoError, CorruptError
 */
export async function openInput(path: string, context: JobContext): Promise<Input> {
  const file = FileSource.open(path);
  const warnings: Warning[] = [];
  try {
    const unpacked = await unpackIfCompressed(
      file,
      { directories: context.temporaryDirectories },
      { ...context, warn: (warning) => warnings.push(warning) },
    );
    const source = unpacked?.source ?? file;
    return {
      source,
      identity: file.identity(),
      facts: {
        path,
        size: file.size,
        sizeOnDisk: source.sizeOnDisk(),
        unpacked:
          unpacked === undefined ? undefined : { compression: unpacked.compression, size: source.size },
      },
      warnings,
      close: () => {
        unpacked?.source.close();
        file.close();
      },
    };
  } catch (error) {
    file.close();
    throw error;
  }
}
