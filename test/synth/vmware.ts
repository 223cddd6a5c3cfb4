/** VMware state files, written from crash's and volatility's descriptions of them; nothing of src/. */

/** A value, of as many bytes as given. */
export function tag(name: string, indexes: readonly number[], value: Uint8Array): Buffer {
  return Buffer.concat([head(name, indexes, value.length), value]);
}

export const u32 = (value: number): Buffer => {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
};

export const u64 = (value: bigint): Buffer => {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(value);
  return bytes;
};

/** A value too long for its size to be in the tag: sizes in the file and in memory, padding, the bytes. */
export function block(
  name: string,
  indexes: readonly number[],
  bytes: Uint8Array,
  options: { readonly padding?: number; readonly compressed?: boolean; readonly size?: bigint } = {},
): Buffer {
  const { padding = 0, compressed = false, size = BigInt(bytes.length) } = options;
  const pad = Buffer.alloc(2);
  pad.writeUInt16LE(padding);
  return Buffer.concat([
    head(name, indexes, compressed ? 62 : 63),
    u64(size),
    u64(size),
    pad,
    Buffer.alloc(padding, 0xcc),
    bytes,
  ]);
}

function head(name: string, indexes: readonly number[], size: number): Buffer {
  return Buffer.concat([
    Buffer.from([(indexes.length << 6) | size, name.length]),
    Buffer.from(name, "latin1"),
    ...indexes.map(u32),
  ]);
}

const END = Buffer.alloc(2);

export interface VmwareGroup {
  readonly name: string;
  readonly tags: readonly Uint8Array[];
  /** Without its end mark. */
  readonly open?: boolean;
}

/** A state file; the groups follow the table in its order. */
export function buildState(groups: readonly VmwareGroup[], id = 0xbed2bed2): Buffer {
  const header = Buffer.concat([u32(id), u32(8), u32(groups.length)]);
  const table = Buffer.alloc(80 * groups.length);
  const bodies: Buffer[] = [];
  let at = header.length + table.length;
  for (const [i, { name, tags, open }] of groups.entries()) {
    const body = Buffer.concat(open === true ? tags : [...tags, END]);
    table.write(name, 80 * i, 63, "latin1");
    table.writeBigUInt64LE(BigInt(at), 80 * i + 64);
    table.writeBigUInt64LE(BigInt(body.length), 80 * i + 72);
    bodies.push(body);
    at += body.length;
  }
  return Buffer.concat([header, table, ...bodies]);
}

/** Page numbers: in the memory as it is stored, in the machine; and how many pages. */
export interface VmwareRegion {
  readonly stored: number;
  readonly page: number;
  readonly count: number;
}

export const regionTags = (regions: readonly VmwareRegion[]): Buffer[] => [
  tag("regionsCount", [], u32(regions.length)),
  ...regions.flatMap(({ stored, page, count }, i) => [
    tag("regionPageNum", [i], u32(stored)),
    tag("regionPPN", [i], u32(page)),
    tag("regionSize", [i], u32(count)),
  ]),
  tag("align_mask", [], u32(0xffff)),
];

/** In the order of the block "gpregs": RBP before RSP. */
export const VMWARE_GPREGS = [
  ...(["rax", "rcx", "rdx", "rbx", "rbp", "rsp", "rsi", "rdi"] as const),
  ...(["r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15"] as const),
];

export interface VmwareCpu {
  readonly general: Readonly<Record<(typeof VMWARE_GPREGS)[number], bigint>>;
  readonly rip: bigint;
  readonly rflags: bigint;
  /** CR0 to CR8. */
  readonly cr: readonly bigint[];
  readonly gdtr: { readonly limit: number; readonly base: bigint };
  readonly idtr: { readonly limit: number; readonly base: bigint };
  readonly halted?: boolean;
}

/** The group "cpu": a value for each register, or, as newer products do, blocks of them. */
export function cpuTags(cpus: readonly VmwareCpu[], blocks: boolean): Buffer[] {
  return [
    tag("cpu:numVCPUs", [], u32(cpus.length)),
    ...cpus.flatMap((cpu, i) => [
      tag("eflags", [i], u32(Number(cpu.rflags))),
      tag("rip", [i], u64(cpu.rip)),
      tag("eip", [i], u32(Number(cpu.rip & 0xffffffffn))),
      tag("halted", [i], Buffer.from([cpu.halted === true ? 1 : 0])),
      ...(blocks ? blocksOf(cpu, i) : valuesOf(cpu, i)),
    ]),
  ];
}

const blocksOf = ({ general, cr, gdtr, idtr }: VmwareCpu, i: number): Buffer[] => [
  block("gpregs", [i], Buffer.concat(VMWARE_GPREGS.map((name) => u64(general[name])))),
  block("CR64", [i], Buffer.concat(Array.from({ length: 9 }, (_, n) => u64(cr[n] ?? 0n)))),
  ...(
    [
      ["GDTR", gdtr],
      ["IDTR", idtr],
    ] as const
  ).map(([name, { limit, base }]) => block(name, [i], Buffer.concat([u32(limit).subarray(0, 2), u64(base)]))),
];

const valuesOf = ({ general, cr, gdtr, idtr }: VmwareCpu, i: number): Buffer[] => [
  ...VMWARE_GPREGS.map((name) => tag(name, [i], u64(general[name]))),
  ...cr
    .slice(0, 5)
    .flatMap((value, n) => [
      tag("CR64", [i, n], u64(value)),
      tag("CR", [i, n], u32(Number(value & 0xffffffffn))),
    ]),
  ...(
    [
      ["GDTR", gdtr],
      ["IDTR", idtr],
    ] as const
  ).flatMap(([name, { limit, base }]) => [
    tag(name, [i, 0], u32(limit).subarray(0, 2)),
    tag(name, [i, 1], u32(Number(base & 0xffffffffn))),
    tag(name, [i, 2], u32(Number(base >> 32n))),
  ]),
];
