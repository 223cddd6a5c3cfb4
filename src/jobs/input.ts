import { dirname, join } from "node:path";
import { GuestcoreError, naming, UnsupportedError, UsageError } from "../core/errors.ts";
import type { JobContext } from "../core/job.ts";
import type { ByteSource, Unpacking } from "../core/memory.ts";
import { layoutPieces, type RamMap, type RamPiece } from "../core/ram-map.ts";
import { bytesText } from "../core/text.ts";
import type { Warning } from "../core/warnings.ts";
import { cloudHypervisorPieces } from "../dump/cloud-hypervisor.ts";
import type { DumpFiles, UnpackedPart } from "../dump/format.ts";
import { type Compression, unpackIfCompressed } from "../io/compressed.ts";
import { type FileIdentity, FileSource } from "../io/file.ts";
import { openStandardInput } from "../io/standard-input.ts";
import { STANDARD_INPUT } from "../io/stream.ts";

/** What a user says of a dump beside its name. */
export interface DumpNaming {
  /** Further files of a dump in several. */
  readonly parts?: readonly string[] | undefined;
  /** Where a raw image keeps what. */
  readonly map?: RamMap | undefined;
}

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
  /** What opening the dump in it may need. */
  readonly files: DumpFiles;
  readonly facts: {
    readonly path: string;
    /** Of every file opened for it until now, whoever named it: nothing may be written to any of them. */
    readonly identities: readonly FileIdentity[];
    /** Bytes of the file as it lies on disk under that name. */
    readonly size: number;
    /** Bytes the (decompressed) contents occupy on disk; less than their length when they are sparse. */
    readonly sizeOnDisk: number;
    readonly unpacked: UnpackedFacts | undefined;
    /** Of what has no name to be read by again, as standard input: how to save it under one. */
    readonly saving?: Unpacking | undefined;
  };
  /** Bytes that the contents of every file opened for it until now occupy on disk. */
  readonly sizeOnDisk: number;
  /** False when unpacking found the file cut or damaged: bytes are missing at its end, or wrong. */
  readonly whole: boolean;
  readonly warnings: readonly Warning[];
  close(): void;
}

/**
 * Opens a file by name, "-" being standard input; a gzip or zstd file is unpacked into a temporary one first.
 * @throws IoError, CorruptError; UsageError when standard input is named more than once
 */
export async function openInput(path: string, context: JobContext, named: DumpNaming = {}): Promise<Input> {
  checkNames(path, named);
  const opened: OpenedFile[] = [];
  const close = () => {
    for (const file of opened) file.close();
  };
  try {
    const first = await openFile(path, context);
    opened.push(first);
    const parts: ByteSource[] = [];
    for (const part of named.parts ?? []) {
      const file = await openFile(part, context);
      opened.push(file);
      parts.push(file.source);
    }
    const beside = (name: string): ByteSource | undefined => {
      const file = openBeside(path, name);
      if (file === undefined) return undefined;
      opened.push({
        source: file,
        identity: file.identity(),
        sizeOnDisk: file.sizeOnDisk(),
        warnings: [],
        close: () => file.close(),
      });
      return file;
    };
    const unpack = async (packed: ByteSource): Promise<UnpackedPart | undefined> => {
      const part = await unpackPart(packed, context);
      if (part !== undefined) opened.push(part);
      return part;
    };
    const map = named.map && (await piecesOf(named.map, first.source, (file) => opened.push(file), context));
    return {
      source: first.source,
      files: {
        checkpoint: context.checkpoint,
        parts,
        beside,
        unpack,
        ...(map === undefined ? {} : { map }),
      },
      facts: {
        ...first.facts,
        get identities() {
          return opened.map(({ identity }) => identity);
        },
      },
      get sizeOnDisk() {
        return opened.reduce((total, file) => total + file.sizeOnDisk, 0);
      },
      whole: first.facts.unpacked?.whole ?? true,
      warnings: opened.flatMap(({ warnings }) => warnings),
      close,
    };
  } catch (error) {
    close();
    throw error;
  }
}

/** What was read from standard input is gone for a second reader. */
function checkNames(path: string, { parts = [] }: DumpNaming): void {
  if ([path, ...parts].filter((name) => name === STANDARD_INPUT).length < 2) return;
  throw new UsageError("standard input can be named once", { hint: "save what it has in a file first" });
}

/** state.json of a machine with hundreds of vCPUs has a few megabytes. */
const MAX_DESCRIPTION = 64 * 2 ** 20;

/** @throws UsageError, UnsupportedError, CorruptError for a map that does not go with the image */
async function piecesOf(
  map: RamMap,
  image: ByteSource,
  keep: (file: OpenedFile) => void,
  context: JobContext,
): Promise<readonly RamPiece[]> {
  if ("pieces" in map) return map.pieces;
  if ("layout" in map) return layoutPieces(map.layout, image.size);
  const file = await openFile(map.description, context);
  keep(file);
  return await naming(map.description, () => {
    const bytes = Buffer.alloc(Math.min(file.source.size, MAX_DESCRIPTION + 1));
    const text = bytes.toString("utf8", 0, file.source.read(0, bytes));
    if (bytes.length > MAX_DESCRIPTION) {
      throw new UnsupportedError(`a description of a machine of more than ${bytesText(MAX_DESCRIPTION)}`);
    }
    return cloudHypervisorPieces(text);
  });
}

interface OpenedFile {
  readonly source: ByteSource;
  readonly identity: FileIdentity;
  readonly sizeOnDisk: number;
  readonly warnings: readonly Warning[];
  close(): void;
}

async function openFile(
  path: string,
  context: JobContext,
): Promise<OpenedFile & { readonly facts: Omit<Input["facts"], "identities"> }> {
  const temporary = { directories: context.temporaryDirectories };
  const file = path === STANDARD_INPUT ? await openStandardInput(temporary, context) : FileSource.open(path);
  const warnings: Warning[] = [];
  try {
    const unpacked = await unpackIfCompressed(file, temporary, {
      ...context,
      warn: (warning) => warnings.push(warning),
    });
    const source = unpacked?.source ?? file;
    const sizeOnDisk = source.sizeOnDisk();
    return {
      source,
      identity: file.identity(),
      sizeOnDisk,
      warnings,
      facts: {
        path,
        size: file.size,
        sizeOnDisk,
        saving: file.unpacking,
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

/** What is compressed inside a file, whose warnings go to whoever asked. */
async function unpackPart(packed: ByteSource, context: JobContext): Promise<OpenedFile | undefined> {
  const warnings: Warning[] = [];
  const unpacked = await unpackIfCompressed(
    packed,
    { directories: context.temporaryDirectories },
    { ...context, warn: (warning) => warnings.push(warning) },
  );
  if (unpacked === undefined) return undefined;
  const { source } = unpacked;
  return {
    source,
    identity: source.identity(),
    sizeOnDisk: source.sizeOnDisk(),
    warnings,
    close: () => source.close(),
  };
}

/** A plain name is looked for in the folder of the dump; whatever is no regular file there is as nothing. */
function openBeside(path: string, name: string): FileSource | undefined {
  if (name === "" || name.includes("/") || name.includes("\0")) return undefined;
  try {
    const file = FileSource.open(join(dirname(path), name));
    if (file.isRegular) return file;
    file.close();
    return undefined;
  } catch (error) {
    if (error instanceof GuestcoreError) return undefined;
    throw error;
  }
}
