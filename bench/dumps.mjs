// What the benches work on: real pages, and a vmcore of a chosen size made of them.
import { closeSync, openSync, readFileSync, readSync, rmSync, writeSync } from "node:fs";
import { join, resolve } from "node:path";

export const MIB = 2 ** 20;
export const PAGE = 4096;
const CHUNK = MIB;
const samples = join(resolve(import.meta.dirname, ".."), "samples");

/** Program headers of an ELF64 file: offset, physical address and size in the file of what is of this type. */
function segments(fd, type) {
  const header = Buffer.alloc(64);
  readSync(fd, header, 0, 64, 0);
  if (header.readUInt32BE(0) !== 0x7f454c46) throw new Error("not an ELF file");
  const table = Buffer.alloc(56 * header.readUInt16LE(56));
  readSync(fd, table, 0, table.length, Number(header.readBigUInt64LE(32)));
  const found = [];
  for (let at = 0; at < table.length; at += 56) {
    if (table.readUInt32LE(at) !== type) continue;
    const [offset, , address, size] = [8, 16, 24, 32].map((field) =>
      Number(table.readBigUInt64LE(at + field)),
    );
    found.push({ offset, address, size });
  }
  return found;
}

/** Where an ELF vmcore's memory is; what is mapped twice, once. */
export function memoryOf(path) {
  const fd = openSync(path, "r");
  const loads = segments(fd, 1).toSorted((a, b) => a.address - b.address || b.size - a.size);
  closeSync(fd);
  const ranges = [];
  let end = 0;
  for (const { offset, address, size } of loads) {
    const start = Math.max(end, address);
    if (start >= address + size) continue;
    end = address + size;
    ranges.push({ offset: offset + start - address, address: start, size: end - start });
  }
  return ranges;
}

/** Whether two ELF vmcores hold the same bytes where the first has memory in its file. */
export function sameMemory(left, right) {
  const theirs = memoryOf(right);
  const fds = [openSync(left, "r"), openSync(right, "r")];
  const buffers = fds.map(() => Buffer.alloc(CHUNK));
  const isSame = memoryOf(left).every(({ offset, address, size }) => {
    for (let done = 0; done < size; ) {
      const at = address + done;
      const range = theirs.find((range) => range.address <= at && at < range.address + range.size);
      if (range === undefined) return false;
      const length = Math.min(CHUNK, size - done, range.address + range.size - at);
      readSync(fds[0], buffers[0], 0, length, offset + done);
      readSync(fds[1], buffers[1], 0, length, range.offset + at - range.address);
      if (buffers[0].compare(buffers[1], 0, length, 0, length) !== 0) return false;
      done += length;
    }
    return true;
  });
  for (const fd of fds) closeSync(fd);
  return isSame;
}

/** A seeded generator (mulberry32), for the same dump in every run. */
function random(seed) {
  let state = seed;
  return (limit) => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return Math.floor((((t ^ (t >>> 14)) >>> 0) / 2 ** 32) * limit);
  };
}

/** Unpacks a sample that came with guestcore. */
async function sample(name, path) {
  const { unpackZstd } = await import("../dist/codec/zstd/unpack.js");
  const packed = readFileSync(join(samples, name));
  const fd = openSync(path, "w+");
  const source = { name, size: packed.length, read: (at, to) => packed.copy(to, 0, at, at + to.length) };
  const sink = {
    append: (bytes, start, end) => writeSync(fd, bytes, start, end - start),
    readBack: (at, to, start, end) => readSync(fd, to, start, end - start, at),
  };
  for (const _ of unpackZstd(source, sink));
  closeSync(fd);
  return path;
}

/**
 * Pages that are not zero, from all over an ELF core: the one named, else that of a qemu process in samples/.
 * @returns one buffer of at most `most` pages
 */
export async function realPages(folder, most, named) {
  const path = named ?? (await sample("nano-pc.core.zst", join(folder, "pages.core")));
  const fd = openSync(path, "r");
  const zeros = Buffer.alloc(PAGE);
  const pages = [];
  const chunk = Buffer.alloc(CHUNK);
  for (const { offset, size } of segments(fd, 1)) {
    for (let done = 0; done + PAGE <= size; ) {
      const length = readSync(fd, chunk, 0, Math.min(CHUNK, size - done), offset + done);
      for (let at = 0; at + PAGE <= length; at += PAGE) {
        if (chunk.compare(zeros, 0, PAGE, at, at + PAGE) !== 0)
          pages.push(Buffer.from(chunk.subarray(at, at + PAGE)));
      }
      if (length < PAGE) break;
      done += length;
    }
  }
  closeSync(fd);
  if (named === undefined) rmSync(path);
  const step = Math.max(1, pages.length / most);
  return Buffer.concat(
    Array.from({ length: Math.min(most, pages.length) }, (_, i) => pages[Math.floor(i * step)]),
  );
}

/** __START_KERNEL_map, and the direct map without KASLR. */
const KERNEL = 0xffff_ffff_8000_0000n;
const DIRECT = 0xffff_8880_0000_0000n;
/** Physical addresses: where the memory starts, and of the kernel's pages. */
const START = MIB;
const ROOT = 16 * MIB;
const [UPPER, LOWER, DATA] = [1, 2, 3].map((page) => ROOT + page * PAGE);
const symbol = (address) => (KERNEL + BigInt(address)).toString(16);

/** As little of a kernel as makedumpfile and drgn ask for: a name, flat memory, page tables of the image. */
const VMCOREINFO = [
  "OSRELEASE=6.1.0-bench",
  "PAGESIZE=4096",
  `SYMBOL(init_uts_ns)=${symbol(DATA)}`,
  "OFFSET(uts_namespace.name)=0",
  `SYMBOL(_stext)=${symbol(ROOT)}`,
  `SYMBOL(swapper_pg_dir)=${symbol(ROOT)}`,
  `SYMBOL(init_top_pgt)=${symbol(ROOT)}`,
  `SYMBOL(mem_map)=${symbol(DATA + 1024)}`,
  "SIZE(page)=64",
  "OFFSET(page.flags)=0",
  "OFFSET(page._refcount)=52",
  "OFFSET(page.mapping)=24",
  "NUMBER(phys_base)=0",
  "NUMBER(pgtable_l5_enabled)=0",
  "KERNELOFFSET=0",
  "",
].join("\n");

function kernelPages() {
  const pages = Buffer.alloc(4 * PAGE);
  const table = (page, index, value) => pages.writeBigUInt64LE(BigInt(value), page * PAGE + index * 8);
  table(0, 511, UPPER | 0x63);
  table(1, 510, LOWER | 0x63);
  for (let i = 0; i < 512; i++) table(2, i, (i * 2 * MIB) | 0xe3);
  pages.writeBigUInt64LE(DIRECT + BigInt(32 * MIB), 3 * PAGE + 1024);
  for (const [i, name] of ["Linux", "bench", "6.1.0-bench", "#1", "x86_64", ""].entries()) {
    pages.write(name, 3 * PAGE + 65 * i);
  }
  return pages;
}

const note = (name, type, contents) => {
  const bytes = Buffer.alloc(12 + roundUp(name.length + 1, 4) + roundUp(contents.length, 4));
  for (const [i, value] of [name.length + 1, contents.length, type].entries())
    bytes.writeUInt32LE(value, 4 * i);
  bytes.write(name, 12);
  Buffer.from(contents).copy(bytes, 12 + roundUp(name.length + 1, 4));
  return bytes;
};

const roundUp = (size, unit) => Math.ceil(size / unit) * unit;

/**
 * Writes an ELF vmcore of `mib` MiB: runs of zeros (three in ten), of real pages (six) and of noise (one), as heaps and
 * page caches leave them.
 */
export function makeVmcore(path, mib, pages) {
  const notes = Buffer.concat([note("CORE", 1, Buffer.alloc(336)), note("VMCOREINFO", 0, VMCOREINFO)]);
  const header = Buffer.alloc(PAGE);
  header.write("\x7fELF\x02\x01\x01", 0, "latin1");
  const half = { 16: 4, 18: 62, 20: 1, 52: 64, 54: 56, 56: 3 };
  for (const at in half) header.writeUInt16LE(half[at], Number(at));
  header.writeBigUInt64LE(64n, 32);
  const segment = (index, type, offset, virtual, physical, size) => {
    const at = 64 + 56 * index;
    header.writeUInt32LE(type, at);
    for (const [i, value] of [offset, virtual, physical, size, size].entries()) {
      header.writeBigUInt64LE(BigInt(value), at + 8 + 8 * i);
    }
  };
  segment(0, 4, 512, 0, 0, notes.length);
  segment(1, 1, PAGE + ROOT - START, KERNEL + BigInt(ROOT), ROOT, 4 * PAGE);
  segment(2, 1, PAGE, DIRECT + BigInt(START), START, mib * MIB);
  notes.copy(header, 512);
  const fd = openSync(path, "w");
  writeSync(fd, header, 0, PAGE, 0);
  writeBulk(fd, PAGE, mib, pages);
  writeSync(fd, kernelPages(), 0, 4 * PAGE, PAGE + ROOT - START);
  closeSync(fd);
}

function writeBulk(out, start, mib, pages) {
  const below = random(1);
  const chunk = Buffer.alloc(CHUNK);
  for (let done = 0; done < mib; done++) {
    for (let at = 0; at < CHUNK; ) {
      const end = Math.min(CHUNK, at + PAGE * (1 + below(64)));
      const kind = below(10);
      if (kind < 3) chunk.fill(0, at, end);
      else if (kind < 9) pages.copy(chunk, at, PAGE * below(pages.length / PAGE - 64), pages.length);
      else for (let word = at; word < end; word += 4) chunk.writeUInt32LE(below(2 ** 32), word);
      at = end;
    }
    writeSync(out, chunk, 0, CHUNK, start + done * CHUNK);
  }
}
