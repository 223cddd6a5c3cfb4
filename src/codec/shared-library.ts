import { createRequire } from "node:module";

/** A function of a shared library. Buffers are passed as pointers to their bytes, in place. */
export type Foreign = (...args: readonly unknown[]) => number | bigint;

interface Koffi {
  load(path: string | null, options: { readonly deep: boolean }): { func(prototype: string): Foreign };
  sizeof(type: string): number;
  address(bytes: Uint8Array): bigint;
}

let koffi: Koffi | undefined | "unknown" = "unknown";

/** An optional dependency. */
function loadKoffi(): Koffi | undefined {
  try {
    return createRequire(import.meta.url)("koffi") as Koffi;
  } catch {
    // Not installed, or no build for this platform.
    return undefined;
  }
}

/**
 * Functions of the system's libraries by their C prototypes, through koffi.
 *
 * A library is bound to itself (RTLD_DEEPBIND), and what the process has itself comes first where `paths` begin with
 * null: Node carries a zlib and a zstd, and a library half of whose functions are taken from there crashes.
 * @param paths file names, tried in turn; null: the process
 * @param prototypes by the name they get here
 * @returns undefined where koffi, the library or a function is not there, or where `long` and pointers are not 64 bits
 */
export function foreign<Name extends string>(
  paths: readonly (string | null)[],
  prototypes: Readonly<Record<Name, string>>,
): Readonly<Record<Name, Foreign>> | undefined {
  if (koffi === "unknown") koffi = loadKoffi();
  if (koffi === undefined || koffi.sizeof("long") !== 8 || koffi.sizeof("void *") !== 8) return undefined;
  for (const path of paths) {
    try {
      const library = koffi.load(path, { deep: true });
      const functions: Partial<Record<Name, Foreign>> = {};
      for (const name in prototypes) functions[name] = library.func(prototypes[name]);
      return functions as Record<Name, Foreign>;
    } catch {
      // Not there.
    }
  }
  return undefined;
}

/** Where the bytes are; memory that lives as long as the address is used, and that nothing moves. */
export function addressOf(bytes: Buffer): bigint {
  if (typeof koffi !== "object") throw new Error("an address is of use to functions of libraries only");
  return koffi.address(bytes);
}

/** What C takes as `size_t *`: room for the output in, its length out. */
export class SizeCell {
  readonly pointer = new BigUint64Array(1);

  get value(): number {
    return Number(this.pointer[0]);
  }

  set value(value: number) {
    this.pointer[0] = BigInt(value);
  }
}
