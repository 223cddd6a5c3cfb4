import { GuestcoreError, naming, UnavailableError } from "../core/errors.ts";
import type { JobContext } from "../core/job.ts";
import type { Warning } from "../core/warnings.ts";
import { listFiles } from "../io/directory.ts";
import { isDirectory } from "../io/tree.ts";
import type { Btf } from "../kernel/btf/btf.ts";
import { btfOfFile } from "../kernel/btf/file.ts";
import { BtfTypes } from "../kernel/btf/types.ts";
import type { KernelFiles, KernelParts } from "../kernel/open-kernel.ts";
import { readVmlinux } from "../kernel/vmlinux.ts";
import { openInput } from "./input.ts";

/** Files that describe a kernel, for what its memory does not hold. */
export interface KernelFileNames {
  /** With types: an ELF vmlinux or module, raw BTF, or a directory of them such as a copy of /sys/kernel/btf. */
  readonly btf?: string | undefined;
  /** ELF vmlinux with symbols. */
  readonly vmlinux?: string | undefined;
}

export interface OpenedKernelFiles {
  readonly files: KernelFiles;
  readonly warnings: readonly Warning[];
}

/** BTF of all files of a directory together: what all 4230 modules of Debian's 6.12 have, three times over. */
const MAX_DIRECTORY_BTF = 256 * 2 ** 20;
const BASE = /^vmlinux\b/;

/**
 * Reads the files named; compressed ones are unpacked.
 * @throws UnsupportedError, UnavailableError, CorruptError for a file that has none of it; IoError
 */
export async function openKernelFiles(
  { btf, vmlinux }: KernelFileNames,
  context: JobContext,
): Promise<OpenedKernelFiles> {
  const warnings: Warning[] = [];
  const types = btf === undefined ? undefined : await typesOf(btf, warnings, context);
  const symbols = vmlinux === undefined ? undefined : await reading(vmlinux, warnings, context, readVmlinux);
  return { files: { types, vmlinux: symbols }, warnings };
}

type Decode<T> = (source: Parameters<typeof readVmlinux>[0]) => T;

const reading = <T>(path: string, warnings: Warning[], context: JobContext, decode: Decode<T>): Promise<T> =>
  naming(path, async () => {
    const input = await openInput(path, context);
    try {
      warnings.push(...input.warnings);
      return decode(input.source);
    } finally {
      input.close();
    }
  });

async function typesOf(path: string, warnings: Warning[], context: JobContext): Promise<BtfTypes> {
  if (!isDirectory(path))
    return new BtfTypes(await reading(path, warnings, context, (file) => btfOfFile(file)));
  const names = listFiles(path);
  const base = names.find((name) => name === "vmlinux") ?? names.find((name) => BASE.test(name));
  if (base === undefined) {
    throw new UnavailableError(`${path} has no BTF of a kernel: no file vmlinux is in it`, {
      hint: "copy all of /sys/kernel/btf, or name a file",
    });
  }
  const kernel = await reading(`${path}/${base}`, warnings, context, (file) => btfOfFile(file));
  const modules: Btf[] = [];
  let room = MAX_DIRECTORY_BTF;
  for (const name of names) {
    if (BASE.test(name)) continue;
    await context.checkpoint();
    const module = await moduleOf(`${path}/${name}`, kernel, warnings, context);
    room -= module?.size ?? 0;
    if (room < 0) break;
    if (module !== undefined) modules.push(module);
  }
  return new BtfTypes(kernel, modules);
}

/** A file that has no types is none of a module; one whose types cannot be read is told. */
async function moduleOf(
  path: string,
  kernel: Btf,
  warnings: Warning[],
  context: JobContext,
): Promise<Btf | undefined> {
  try {
    return await reading(path, warnings, context, (file) => btfOfFile(file, kernel));
  } catch (error) {
    if (!(error instanceof GuestcoreError) || error.code === "io" || error.code === "interrupted")
      throw error;
    if (error.code !== "unsupported") {
      warnings.push({ code: "KRN008", message: `${path}: ${error.message}: its types are not used` });
    }
    return undefined;
  }
}

/** What has to be known of where a kernel's symbols and types come from, and what cures it. */
export function kernelPartsWarnings(
  parts: Pick<KernelParts, "missing" | "problems" | "refused" | "symbols" | "types">,
  { btf, vmlinux }: KernelFileNames,
): Warning[] {
  const { missing, refused, symbols, types, problems } = parts;
  const warnings = refusedWarnings(refused, { btf, vmlinux });
  if (missing.symbols !== undefined && (symbols === undefined || vmlinux === undefined)) {
    warnings.push({
      code: "KRN009",
      message: `the kernel's symbols are not all known: ${missing.symbols}`,
      hint: "--vmlinux FILE takes the symbols of its vmlinux instead",
    });
  }
  if (missing.types !== undefined && types === undefined) {
    warnings.push({
      code: "KRN010",
      message: `the kernel's types are not known: ${missing.types}`,
      hint: "kernels have them since 5.2, with CONFIG_DEBUG_INFO_BTF; --btf FILE takes those of a vmlinux, or of /sys/kernel/btf",
    });
  }
  for (const problem of problems) warnings.push({ code: "KRN011", message: `types of modules: ${problem}` });
  return warnings;
}

/** Files that are another kernel's. */
export function refusedWarnings(
  { vmlinux: symbols, types }: KernelParts["refused"],
  { btf, vmlinux }: KernelFileNames,
): Warning[] {
  const refused = [
    [vmlinux, symbols],
    [btf, types],
  ] as const;
  return refused.flatMap(([file, reason]) =>
    reason === undefined ? [] : [{ code: "KRN008", message: `${file} is not used: ${reason}` }],
  );
}
