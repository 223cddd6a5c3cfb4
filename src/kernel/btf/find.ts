import { PAGE_SIZE } from "../../core/address.ts";
import type { KernelReader } from "../reader.ts";
import type { KernelSymbols } from "../symbols.ts";
import { Btf } from "./btf.ts";
import { BTF_HEADER_BYTES, type BtfHeader, isProblem, readBtfHeader, TYPE_BYTES } from "./format.ts";

/** Distributions' of Linux 6 have 4 to 6 MiB. */
export const MAX_VMLINUX_BTF = 64 * 2 ** 20;
/** KERNEL_IMAGE_SIZE: no image is larger. */
const MAX_IMAGE_BYTES = 2 ** 30;
const CHUNK_BYTES = 2 ** 20;
/** What a missing entry of level 2 leaves unmapped. */
const LARGE_PAGE = 2 ** 21;
/** Magic, version 1, no flags. */
const MAGIC = Buffer.of(0x9f, 0xeb, 0x01, 0x00);
/** Places that may be a header; an image has a handful. */
const MAX_CANDIDATES = 1024;
/** Programs for BPF that are built into the kernel (bpf_preload) may carry BTF of their own, of some hundred types. */
const MIN_KERNEL_TYPE_BYTES = 1000 * TYPE_BYTES;

/** A run of virtual addresses. */
export interface VirtualRange {
  readonly virtual: bigint;
  /** Bytes. */
  readonly size: number;
}

/** Where a kernel's BTF may be: what its symbols say, else somewhere in its image. */
export interface BtfPlaces {
  readonly symbols?: Pick<KernelSymbols, "addressOf"> | undefined;
  readonly image?: VirtualRange | undefined;
}

/** A kernel's BTF and where it lies, or why there is none. */
export type KernelBtf = (VirtualRange & { readonly btf: Btf }) | MissingBtf;

export interface MissingBtf {
  readonly btf: undefined;
  /** A sentence without a full stop. */
  readonly reason: string;
}

/**
 * The BTF of a kernel built with CONFIG_DEBUG_INFO_BTF (5.2+): the bytes of its rodata from `__start_BTF` to
 * `__stop_BTF`, at most 64 MiB; without those symbols the largest in its image that begins with a header that makes
 * sense.
 */
export function btfOfKernel(reader: KernelReader, { symbols, image }: BtfPlaces): KernelBtf {
  const [start, stop] = ["__start_BTF", "__stop_BTF"].map((name) => symbols?.addressOf(name));
  if (start !== undefined && stop !== undefined) {
    const size = stop - start;
    if (size < BTF_HEADER_BYTES || size > MAX_VMLINUX_BTF)
      return missing("__start_BTF and __stop_BTF enclose no BTF");
    return readBtf(reader, { virtual: start, size: Number(size) });
  }
  if (image === undefined) return missing("the kernel has no symbol __start_BTF");
  const found = searchBtf(reader, image);
  return found === undefined ? missing("no BTF in the kernel's image") : readBtf(reader, found);
}

function readBtf(reader: KernelReader, range: VirtualRange): KernelBtf {
  const bytes = reader.bytes(range.virtual, range.size);
  if (bytes === undefined) return missing("the kernel's BTF is not all in this dump");
  const btf = new Btf("vmlinux", bytes);
  return btf.end > btf.start ? { ...range, btf } : missing(btf.problem?.message ?? "BTF without types");
}

const missing = (reason: string): MissingBtf => ({ btf: undefined, reason });

/** The largest BTF in a range: a header whose sections follow each other, and strings that begin and end with a NUL. */
function searchBtf(reader: KernelReader, range: VirtualRange): VirtualRange | undefined {
  let best: VirtualRange | undefined;
  let candidates = 0;
  for (const virtual of magics(reader, range)) {
    if (++candidates > MAX_CANDIDATES) break;
    const size = sizeOfBtfAt(reader, virtual);
    if (size !== undefined && size > (best?.size ?? 0)) best = { virtual, size };
  }
  return best;
}

function sizeOfBtfAt(reader: KernelReader, virtual: bigint): number | undefined {
  const bytes = reader.bytes(virtual, BTF_HEADER_BYTES);
  const header = bytes && readBtfHeader(bytes);
  if (header === undefined || isProblem(header) || !isPlausible(header)) return undefined;
  const { start, end } = header.strings;
  const isText = [start, end - 1].every((at) => reader.u8(virtual + BigInt(at)) === 0);
  return isText ? end : undefined;
}

/** Types first, strings last: a layout section, which 24 bytes of the header do not show, lies between. */
const isPlausible = ({ types, strings, layout }: BtfHeader): boolean =>
  types.start === layout.start &&
  types.end - types.start >= MIN_KERNEL_TYPE_BYTES &&
  strings.start >= types.end &&
  strings.end > strings.start &&
  strings.end <= MAX_VMLINUX_BTF;

/** Where the magic is in what is mapped and known of a range, its first GiB at most. */
function* magics(reader: KernelReader, { virtual, size }: VirtualRange): Generator<bigint> {
  const end = Math.min(size, MAX_IMAGE_BYTES);
  const buffer = Buffer.allocUnsafeSlow(CHUNK_BYTES + MAGIC.length - 1);
  for (let done = 0; done < end; ) {
    const from = virtual + BigInt(done);
    const known = buffer.subarray(0, reader.read(from, buffer.subarray(0, end - done)));
    for (let at = known.indexOf(MAGIC); at >= 0; at = known.indexOf(MAGIC, at + 1)) yield from + BigInt(at);
    done += known.length < buffer.length ? known.length : CHUNK_BYTES;
    if (known.length < buffer.length && done < end) done += unknownAt(reader, virtual + BigInt(done));
  }
}

/** Bytes from an address that is not mapped, or not in memory, to where the next that is may be. */
function unknownAt(reader: KernelReader, virtual: bigint): number {
  const mapping = reader.space.translate(virtual);
  const step = mapping.mapped || mapping.level < 2 ? PAGE_SIZE : LARGE_PAGE;
  return step - Number(virtual % BigInt(step));
}
