import { latin1 } from "../core/bytes.ts";

/** Linux gives the text one page (`VMCOREINFO_BYTES`), at most 64 KiB on arm64 and ppc64. */
export const MAX_VMCOREINFO_BYTES = 65_536;

const RELEASE = /^\d+\.\d+[\x21-\x7e]*$/;
const BUILD_ID = /^(?:[0-9a-f]{2}){4,32}$/;
const HEX = /^(?:0x)?[0-9a-f]{1,16}$/i;
const NUMBER = /^(?:-?\d{1,20}|0x[0-9a-f]{1,16})$/i;

/**
 * What a kernel tells dump tools of itself: lines `KEY=VALUE` (Documentation/admin-guide/kdump/vmcoreinfo.rst).
 * Values are read when asked for; one that does not have its key's form counts as not there.
 */
export class Vmcoreinfo {
  /** The text as the kernel wrote it, at most `MAX_VMCOREINFO_BYTES`. */
  readonly text: string;
  readonly #values = new Map<string, string>();

  /** @param data the note's descriptor, the data page, or its text; what follows a NUL is ignored */
  constructor(data: Uint8Array | string) {
    const whole =
      typeof data === "string"
        ? data.slice(0, MAX_VMCOREINFO_BYTES)
        : latin1(data.subarray(0, MAX_VMCOREINFO_BYTES));
    const nul = whole.indexOf("\0");
    this.text = nul < 0 ? whole : whole.slice(0, nul);
    for (const line of this.text.split("\n")) {
      const equals = line.indexOf("=");
      if (equals <= 0) continue;
      const key = line.slice(0, equals);
      if (!this.#values.has(key)) this.#values.set(key, line.slice(equals + 1));
    }
  }

  /** In the order of the text. */
  get keys(): readonly string[] {
    return [...this.#values.keys()];
  }

  get(key: string): string | undefined {
    return this.#values.get(key);
  }

  /** `uname -r` of the kernel. */
  get osrelease(): string | undefined {
    const release = this.get("OSRELEASE");
    return release !== undefined && release.length <= 64 && RELEASE.test(release) ? release : undefined;
  }

  /** GNU build-id of vmlinux in hex (5.9+); undefined for the releases that print garbage there. */
  get buildId(): string | undefined {
    const id = this.get("BUILD-ID");
    return id === undefined || !BUILD_ID.test(id) || hasBrokenBuildId(this.osrelease) ? undefined : id;
  }

  /** By how much KASLR moved the kernel's virtual addresses (3.14+). */
  get kernelOffset(): bigint | undefined {
    return hexadecimal(this.get("KERNELOFFSET"));
  }

  /** x86-64: kernel text's physical address is its virtual one − 0xffffffff80000000 + this, which may be negative. */
  get physBase(): number | undefined {
    const base = this.number("phys_base");
    return base !== undefined && base > -(2n ** 52n) && base < 2n ** 52n ? Number(base) : undefined;
  }

  /** Seconds since 1970 when the kernel crashed; only a crashed kernel wrote it. */
  get crashTime(): number | undefined {
    return decimal(this.get("CRASHTIME"));
  }

  /** SYMBOL(name): a virtual address. */
  symbol(name: string): bigint | undefined {
    return hexadecimal(this.get(`SYMBOL(${name})`));
  }

  /** NUMBER(name): decimal, negative too, or with 0x. */
  number(name: string): bigint | undefined {
    const text = this.get(`NUMBER(${name})`);
    return text !== undefined && NUMBER.test(text) ? parseNumber(text) : undefined;
  }
}

const parseNumber = (text: string): bigint => (text.startsWith("-") ? -BigInt(text.slice(1)) : BigInt(text));

const hexadecimal = (text: string | undefined): bigint | undefined =>
  text !== undefined && HEX.test(text) ? BigInt(`0x${text.replace(/^0x/i, "")}`) : undefined;

const decimal = (text: string | undefined): number | undefined => {
  const value = text !== undefined && /^\d{1,15}$/.test(text) ? Number(text) : undefined;
  return value;
};

/**
 * Linux 905415ff3ffb (6.12, backported to stable kernels) made the kernel print a garbage BUILD-ID;
 * d4deb8242341 and "lib/buildid: Fix build ID parsing logic" cured it. The symptom cannot be seen in the value,
 * so the upstream versions between have to be listed; distributions that took either patch show no such version.
 */
function hasBrokenBuildId(release: string | undefined): boolean {
  const [major, minor, patch] = (/^(\d+)\.(\d+)\.(\d+)/.exec(release ?? "") ?? []).slice(1).map(Number);
  if (patch === undefined) return false;
  const [first, fixed] = BROKEN_BUILD_ID[`${major}.${minor}`] ?? [Number.POSITIVE_INFINITY, 0];
  return patch >= first && patch < fixed;
}

/** Branch → first broken and first cured patch level. */
const BROKEN_BUILD_ID: Readonly<Record<string, readonly [number, number]>> = {
  "6.11": [3, 10],
  "6.10": [14, Number.POSITIVE_INFINITY],
  "6.6": [55, 63],
  "6.1": [113, 119],
  "5.15": [168, Number.POSITIVE_INFINITY],
};
