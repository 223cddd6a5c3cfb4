import type { JobContext } from "../core/job.ts";
import type { ByteSource, Unpacking } from "../core/memory.ts";
import type { Warning } from "../core/warnings.ts";
import { type Compression, unpackIfCompressed } from "../io/compressed.ts";
import { type FileIdentity, FileSource } from "../io/file.ts";

/** Of a file that was compressed. */
export interface UnpackedFacts {
  readonly compression: Compression;
  /** Length of the contents in bytes. */
  readonly size: number;
  /** Whether all of it is there, and right as far as checksums tell. */
  readonly whole: boolean;
  /** How to unpack it for other tools. */
  readonly unpacking: Unpacking | undefined;
}

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
    readonly unpacked: UnpackedFacts | undefined;
  };
  /** False when unpacking found the file cut or damaged: bytes are missing at its end, or wrong. */
  readonly whole: boolean;
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
          unpacked === undefined
            ? undefined
            : {
                compression: unpacked.compression,
                size: source.size,
                whole: unpacked.whole,
                unpacking: unpacked.source.unpacking,
              },
      },
      whole: unpacked?.whole ?? true,
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
