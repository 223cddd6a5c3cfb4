/**
 * Cores made to waste time or memory: every list in them is within its bounds, what comes of two of them is not. One
 * writable mapping holds the structures of a QEMU as small as a reader believes in.
 */

const BASE = 0x7f00_0000_0000;
/** MemoryRegion: ram, ram_block, owner; RAMBlock: mr and what follows it; where `name` is. */
const REGION = { ram: 41, block: 56, owner: 64, name: 232, size: 400 } as const;
const BLOCK_MR = 16;
/** AddressSpace: name, root, current_map; where the list entry is. */
const SPACE = { name: 16, root: 24, view: 32, link: 40, size: 128 } as const;
const RAM = 0x1_0000_0000;
const PAGE = 4096;

type Segment = readonly [
  vaddr: number,
  offset: number | undefined,
  filesz: number,
  memsz: number,
  paddr: number,
];

/** Memory that grows; addresses are the process's. */
class Arena {
  used = PAGE;
  #bytes = Buffer.alloc(2 ** 20);

  alloc(size: number): number {
    const at = Math.ceil(this.used / 16) * 16;
    this.used = at + size;
    while (this.used > this.#bytes.length)
      this.#bytes = Buffer.concat([this.#bytes, Buffer.alloc(this.#bytes.length)]);
    return BASE + at;
  }
  put64(address: number, value: number): void {
    this.#bytes.writeBigUInt64LE(BigInt(value), address - BASE);
  }
  put32(address: number, value: number): void {
    this.#bytes.writeUInt32LE(value, address - BASE);
  }
  put8(address: number, value: number): void {
    this.#bytes[address - BASE] = value;
  }
  fill(address: number, size: number, value: number): void {
    this.#bytes.fill(value, address - BASE, address - BASE + size);
  }
  text(value: string): number {
    const at = this.alloc(value.length + 1);
    this.#bytes.write(value, at - BASE, "latin1");
    return at;
  }
  bytes(): Buffer {
    return this.#bytes.subarray(0, Math.ceil(this.used / PAGE) * PAGE);
  }
}

class Qemu {
  readonly arena = new Arena();
  readonly #classes = new Map<string, number>();
  readonly system = this.region({ name: "system", ram: false });

  /** A QOM object's class. */
  classOf(name: string, instanceSize = 64): number {
    const known = this.#classes.get(name);
    if (known !== undefined) return known;
    const type = this.arena.alloc(32);
    this.arena.put64(type, this.arena.text(name));
    this.arena.put64(type + 16, instanceSize);
    const own = this.arena.alloc(16);
    this.arena.put64(own, type);
    this.#classes.set(name, own);
    return own;
  }

  region({
    name = "r",
    ram = true,
    owner = 0,
  }: {
    name?: string;
    ram?: boolean;
    owner?: number;
  } = {}): number {
    const region = this.arena.alloc(REGION.size);
    this.arena.put64(region, this.classOf("memory-region"));
    if (ram) this.arena.put8(region + REGION.ram, 1);
    this.arena.put64(region + REGION.name, this.arena.text(name));
    this.arena.put64(region + REGION.owner, owner);
    return region;
  }

  block(region: number, host: number, size: number, idstr: string): void {
    const block = this.arena.alloc(424);
    const at = block + BLOCK_MR;
    this.arena.put64(at, region);
    this.arena.put64(at + 8, host);
    this.arena.put64(at + 32, size);
    this.arena.put64(at + 40, size);
    for (const [i, byte] of Buffer.from(idstr).entries()) this.arena.put8(at + 60 + i, byte);
    this.arena.put64(region + REGION.block, block);
  }

  space(name: string, view: number): number {
    const space = this.arena.alloc(SPACE.size);
    this.arena.put64(space + SPACE.name, this.arena.text(name));
    this.arena.put64(space + SPACE.root, this.system);
    this.arena.put64(space + SPACE.view, view);
    return space;
  }

  view(ranges: readonly (readonly [region: number, offset: number, start: number, size: number])[]): number {
    const view = this.arena.alloc(64);
    const array = this.arena.alloc(64 * ranges.length);
    this.arena.put64(view + 24, array);
    this.arena.put32(view + 32, ranges.length);
    this.arena.put32(view + 36, ranges.length);
    for (const [i, [region, offset, start, size]] of ranges.entries()) {
      const at = array + i * 64;
      this.arena.put64(at, region);
      this.arena.put64(at + 8, offset);
      this.arena.put64(at + 16, start);
      this.arena.put64(at + 32, size);
    }
    return view;
  }

  core(more: readonly Segment[] = [], notes: Buffer = PRPSINFO): Buffer {
    const bytes = this.arena.bytes();
    return coreOf(notes, [[BASE, undefined, bytes.length, bytes.length, 0], ...more], bytes);
  }
}

/** An ELF core; segments without an offset hold `bytes`. */
function coreOf(notes: Buffer, segments: readonly Segment[], bytes: Buffer): Buffer {
  const notesAt = 64 + 56 * (segments.length + 1);
  const bytesAt = Math.ceil((notesAt + notes.length) / PAGE) * PAGE;
  const core = Buffer.alloc(bytesAt + bytes.length);
  core.write("\x7fELF\x02\x01\x01", 0, "latin1");
  core.writeUInt16LE(4, 16);
  core.writeUInt16LE(62, 18);
  core.writeUInt32LE(1, 20);
  core.writeBigUInt64LE(64n, 32);
  for (const [at, value] of [
    [52, 64],
    [54, 56],
    [56, segments.length + 1],
  ] as const)
    core.writeUInt16LE(value, at);
  const programs: Segment[] = [[0, notesAt, notes.length, notes.length, 0], ...segments];
  for (const [i, [vaddr, offset, filesz, memsz, paddr]] of programs.entries()) {
    const at = 64 + 56 * i;
    core.writeUInt32LE(i === 0 ? 4 : 1, at);
    core.writeUInt32LE(6, at + 4);
    for (const [j, value] of [offset ?? bytesAt, vaddr, paddr, filesz, memsz, PAGE].entries()) {
      core.writeBigUInt64LE(BigInt(value), at + 8 + 8 * j);
    }
  }
  notes.copy(core, notesAt);
  bytes.copy(core, bytesAt);
  return core;
}

function note(name: string, type: number, desc: Buffer): Buffer {
  const length = 12 + Math.ceil((name.length + 1) / 4) * 4;
  const bytes = Buffer.alloc(length + Math.ceil(desc.length / 4) * 4);
  for (const [i, word] of [name.length + 1, desc.length, type].entries()) bytes.writeUInt32LE(word, 4 * i);
  bytes.write(name, 12, "latin1");
  desc.copy(bytes, length);
  return bytes;
}

const PRPSINFO = note("CORE", 3, Buffer.alloc(136));

/** RAMBlocks of 32 TiB, each of which lies in all of as many mappings. */
export function blocksTimesMappings(blocks: number, mappings: number): Buffer {
  const qemu = new Qemu();
  const ranges = Array.from({ length: blocks }, (_, i) => {
    const region = qemu.region();
    qemu.block(region, RAM, 2 ** 45, `b${i}`);
    return [region, 0, i * PAGE, PAGE] as const;
  });
  qemu.space("memory", qemu.view(ranges));
  return qemu.core(Array.from({ length: mappings }, (_, i) => [RAM + i * 2 * PAGE, 0, 0, PAGE, 0] as const));
}

/** vCPUs that share their bytes and say that they have 1 MiB each. */
export function vcpusTimesSize(vcpus: number): Buffer {
  const qemu = new Qemu();
  const { arena } = qemu;
  const region = qemu.region();
  qemu.block(region, RAM, PAGE, "pc.ram");
  const view = qemu.view([[region, 0, 0, PAGE]]);
  let last = qemu.space("memory", view);
  const spaces = Array.from({ length: vcpus }, (_, i) => {
    const space = qemu.space(`cpu-memory-${i}`, view);
    arena.put64(last + SPACE.link, space);
    arena.put64(space + SPACE.link + 8, last + SPACE.link);
    last = space;
    return space;
  });
  const type = qemu.classOf("x-x86_64-cpu", 2 ** 20);
  const pairs = arena.alloc(16 * vcpus);
  const cpus = arena.alloc(64 * vcpus + 2 ** 20 + PAGE);
  for (const [i, space] of spaces.entries()) {
    arena.put64(cpus + 64 * i, type);
    arena.put64(cpus + 64 * i + 32, BASE + 8);
    arena.put64(pairs + 16 * i, cpus + 64 * i);
    arena.put64(pairs + 16 * i + 8, space);
  }
  return qemu.core();
}

/** A heap that shows the same MiB again and again, in which no vCPU is to be found. */
export function endlessHeap(mappings: number): Buffer {
  const qemu = new Qemu();
  const region = qemu.region();
  qemu.block(region, RAM, PAGE, "pc.ram");
  qemu.space("memory", qemu.view([[region, 0, 0, PAGE]]));
  qemu.arena.alloc(2 ** 20);
  const size = qemu.arena.bytes().length;
  return qemu.core(
    Array.from(
      { length: mappings },
      (_, i) => [2 ** 40 + i * 2 * size, undefined, size, 2 * size, 0] as const,
    ),
  );
}

/** An NT_AUXV of distinct types. */
export function longAuxv(entries: number): Buffer {
  const words = BigUint64Array.from({ length: 2 * entries }, (_, i) =>
    i % 2 === 0 ? BigInt(1000 + i) : 0xffff_ffff_ffff_0000n + BigInt(i),
  );
  return new Qemu().core([], Buffer.concat([PRPSINFO, note("CORE", 6, Buffer.from(words.buffer))]));
}

/** virtio-mem of which every other block is plugged, shown by FlatRanges of its last pages, or of all of it each. */
export function pluggedTimesRanges(bits: number, ranges: number, whole: boolean): Buffer {
  const qemu = new Qemu();
  const { arena } = qemu;
  const owner = arena.alloc(64);
  arena.put64(owner, qemu.classOf("memory-backend-ram"));
  const device = arena.alloc(256);
  arena.put64(device, qemu.classOf("virtio-mem", 256));
  const bitmap = arena.alloc(bits / 8);
  arena.fill(bitmap, bits / 8, 0x55);
  arena.put32(device + 64, bits);
  arena.put64(device + 72, bitmap);
  arena.put64(device + 80, owner);
  const size = bits * 2 ** 20;
  const region = qemu.region({ owner });
  qemu.block(region, RAM, size, "vm0");
  arena.put64(region + REGION.name + 16, device);
  const last = size - ranges * PAGE;
  const shown = Array.from({ length: ranges }, (_, i) =>
    whole ? ([region, 0, i * size, size] as const) : ([region, last + i * PAGE, i * PAGE, PAGE] as const),
  );
  qemu.space("memory", qemu.view(shown));
  return qemu.core();
}

/** virtio-mem devices whose managers are large objects full of pointers that lead nowhere. */
export function managersTimesPointers(devices: number): Buffer {
  const qemu = new Qemu();
  const { arena } = qemu;
  const owner = arena.alloc(64);
  arena.put64(owner, qemu.classOf("memory-backend-ram"));
  const manager = arena.alloc(64 * 1024);
  for (let at = 0; at < 64 * 1024; at += 8) arena.put64(manager + at, owner);
  arena.put64(manager, qemu.classOf("ram-discard-manager", 64 * 1024));
  for (let at = 8; at < 40; at += 8) arena.put64(owner + at, owner);
  const ranges = Array.from({ length: devices }, (_, i) => {
    const region = qemu.region({ owner });
    qemu.block(region, RAM, 2 ** 30, `vm${i}`);
    for (let at = 8; at < 80; at += 8) arena.put64(region + REGION.name + at, manager);
    return [region, 0, i * PAGE, PAGE] as const;
  });
  qemu.space("memory", qemu.view(ranges));
  return qemu.core();
}

/** A tree of small regions, then of regions that cover all of them. */
export function regionsTimesRegions(small: number, covering: number): Buffer {
  const qemu = new Qemu();
  const { arena, system } = qemu;
  const place = (region: number, size: number, address: number, terminates: boolean) => {
    const at = region + REGION.name;
    arena.put64(at - 120, size);
    arena.put64(at - 104, address);
    arena.put8(at - 78, 1);
    arena.put8(at - 80, terminates ? 1 : 0);
    return region;
  };
  place(system, 2 ** 50, 0, false);
  let link = system + REGION.name - 48;
  const add = (size: number, address: number): number => {
    const region = place(qemu.region(), size, address, true);
    arena.put64(link, region);
    link = region + REGION.name - 32;
    return region;
  };
  const first = add(PAGE, 0);
  for (let i = 1; i < small; i++) add(PAGE, i * 2 * PAGE);
  for (let i = 0; i < covering; i++) add(2 ** 40, 0);
  qemu.block(first, RAM, PAGE, "b");
  qemu.space("memory", qemu.view([[first, 0, 0, PAGE]]));
  return qemu.core();
}

/** AddressSpaces called "memory" whose root is no region "system". */
export function spacesTimesNames(spaces: number): Buffer {
  const qemu = new Qemu();
  const { arena } = qemu;
  const name = arena.text("memory");
  const other = qemu.region({ name: "other" });
  for (let at = 160; at < 360; at += 8) arena.put64(other + at, name);
  const at = arena.alloc(24 * spaces);
  for (let i = 0; i < spaces; i++) {
    for (const [j, word] of [name, other, other].entries()) arena.put64(at + 24 * i + 8 * j, word);
  }
  return qemu.core();
}

/** A vmcore with as many NT_PRSTATUS notes. */
export function manyCpus(cpus: number): Buffer {
  const desc = Buffer.from(Uint8Array.from({ length: 336 }, (_, i) => i));
  const one = note("CORE", 1, desc);
  const notes = Buffer.concat(Array.from({ length: cpus }, () => one));
  return coreOf(notes, [[0, undefined, PAGE, PAGE, PAGE]], Buffer.alloc(PAGE));
}

/** A vmcore whose memory is VMCOREINFO notes of 64 KiB, of keys as short as can be. */
export function vmcoreinfoTimesKeys(notes: number): Buffer {
  let text = "OSRELEASE=6.1.0\nSYMBOL(swapper_pg_dir)=ffffffff81000000\n";
  for (let i = 0; text.length < 65_530; i++) text += `${i.toString(16)}=\n`;
  const one = note("VMCOREINFO", 0, Buffer.from(text.slice(0, 65_536)));
  const page = Buffer.alloc(Math.ceil(one.length / PAGE) * PAGE);
  one.copy(page);
  const memory = Buffer.concat(Array.from({ length: notes }, () => page));
  return coreOf(Buffer.alloc(0), [[0, undefined, memory.length, memory.length, PAGE]], memory);
}

/** A vmcore whose segments show the same MiB again and again. */
export function aliases(segments: number): Buffer {
  const size = 2 ** 20;
  const loads = Array.from(
    { length: segments },
    (_, i) => [0, undefined, size, size, PAGE + i * size] as const,
  );
  return coreOf(Buffer.alloc(0), loads, Buffer.alloc(size, 0x5a));
}
