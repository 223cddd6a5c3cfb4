/**
 * VMCB pages written by the tables of APM Vol. 2 Appendix B, written down once more for the builder alone: offsets from
 * the start of the page, sizes in bytes.
 */
export const VMCB_LAYOUT = {
  interceptCr: [0x00, 4],
  interceptDr: [0x04, 4],
  interceptExceptions: [0x08, 4],
  intercept3: [0x0c, 4],
  intercept4: [0x10, 4],
  intercept5: [0x14, 4],
  iopm: [0x40, 8],
  msrpm: [0x48, 8],
  tscOffset: [0x50, 8],
  asid: [0x58, 4],
  tlbControl: [0x5c, 1],
  vIntr: [0x60, 8],
  interruptShadow: [0x68, 8],
  exitCode: [0x70, 8],
  exitInfo1: [0x78, 8],
  exitInfo2: [0x80, 8],
  exitIntInfo: [0x88, 8],
  npEnable: [0x90, 8],
  ghcb: [0xa0, 8],
  eventInj: [0xa8, 8],
  nCr3: [0xb0, 8],
  virtExt: [0xb8, 8],
  clean: [0xc0, 4],
  nRip: [0xc8, 8],
  fetched: [0xd0, 1],
  vmsa: [0x108, 8],
  hostUsage: [0x3e0, 8],
  cpl: [0x4cb, 1],
  efer: [0x4d0, 8],
  cr4: [0x548, 8],
  cr3: [0x550, 8],
  cr0: [0x558, 8],
  dr7: [0x560, 8],
  dr6: [0x568, 8],
  rflags: [0x570, 8],
  rip: [0x578, 8],
  rsp: [0x5d8, 8],
  sCet: [0x5e0, 8],
  rax: [0x5f8, 8],
  star: [0x600, 8],
  lstar: [0x608, 8],
  cstar: [0x610, 8],
  sfmask: [0x618, 8],
  kernelGsBase: [0x620, 8],
  sysenterCs: [0x628, 8],
  cr2: [0x640, 8],
  gPat: [0x668, 8],
} as const;
export type VmcbWord = keyof typeof VMCB_LAYOUT;

const SEGMENT_OFFSETS = {
  es: 0x400,
  cs: 0x410,
  ss: 0x420,
  ds: 0x430,
  fs: 0x440,
  gs: 0x450,
  gdtr: 0x460,
  ldtr: 0x470,
  idtr: 0x480,
  tr: 0x490,
} as const;
export type VmcbSegmentName = keyof typeof SEGMENT_OFFSETS;

export interface VmcbSegment {
  readonly selector?: number;
  readonly attrib?: number;
  readonly limit?: number;
  readonly base?: bigint;
}

export type VmcbSpec = Partial<Readonly<Record<VmcbWord, number | bigint>>> & {
  readonly segments?: Partial<Readonly<Record<VmcbSegmentName, VmcbSegment>>>;
  /** Bytes written over the page last: offset → byte. */
  readonly bytes?: Readonly<Record<number, number>>;
};

/** A page of 4096 bytes; what is not given is zero. */
export function vmcbPage({ segments = {}, bytes = {}, ...words }: VmcbSpec): Buffer {
  const page = Buffer.alloc(4096);
  const put = (at: number, size: number, value: number | bigint) => {
    let rest = BigInt.asUintN(8 * size, BigInt(value));
    for (let i = 0; i < size; i++) {
      page[at + i] = Number(rest & 0xffn);
      rest >>= 8n;
    }
  };
  for (const [name, value] of Object.entries(words)) {
    const [at, size] = VMCB_LAYOUT[name as VmcbWord];
    put(at, size, value as number | bigint);
  }
  for (const [name, segment] of Object.entries(segments)) {
    const at = SEGMENT_OFFSETS[name as VmcbSegmentName];
    put(at, 2, segment.selector ?? 0);
    put(at + 2, 2, segment.attrib ?? 0);
    put(at + 4, 4, segment.limit ?? 0);
    put(at + 8, 8, segment.base ?? 0n);
  }
  for (const [at, value] of Object.entries(bytes)) page[Number(at)] = value;
  return page;
}

const KERNEL_SEGMENTS = {
  cs: { selector: 0x10, attrib: 0xa9b, limit: 0xffff_ffff },
  ss: { selector: 0x18, attrib: 0xc93, limit: 0xffff_ffff },
  gs: { base: 0xffff_8880_0123_4000n },
  gdtr: { limit: 0x7f, base: 0xffff_fe00_0000_1000n },
  ldtr: { attrib: 0x82 },
  idtr: { limit: 0xfff, base: 0xffff_fe00_0000_0000n },
  tr: { selector: 0x40, attrib: 0x8b, limit: 0x4087, base: 0xffff_fe00_0000_3000n },
} as const satisfies VmcbSpec["segments"];

const LONG_MODE = {
  efer: 0x1d01,
  cr0: 0x8005_0033,
  cr3: 0x123_4000,
  cr4: 0x35_06f0,
  dr6: 0xffff_0ff0,
  dr7: 0x400,
  rflags: 0x246,
  rip: 0xffff_ffff_8123_4567n,
  rsp: 0xffff_c900_0001_3eb0n,
  gPat: 0x0407_0506_0007_0106n,
} as const;

/** A Linux vCPU that halted, as KVM keeps it. */
export const haltedVcpu = (over: VmcbSpec = {}): VmcbSpec => ({
  interceptCr: 0x0010_0010,
  interceptDr: 0x00ff_00ff,
  interceptExceptions: 0x0006_0042,
  intercept3: 0xbd4c_8027,
  intercept4: 0x6e7f,
  iopm: 0x110_0000,
  msrpm: 0x120_0000,
  tscOffset: -0x1234_5678,
  asid: 5,
  vIntr: 0x0100_0001,
  exitCode: 0x78,
  npEnable: 1,
  nCr3: 0x5_6789_a000,
  clean: 0x8000_0df7,
  ...LONG_MODE,
  rax: 0xffff_ffff_8111_1111n,
  star: 0x0023_0010_0000_0000n,
  lstar: 0xffff_ffff_8200_0080n,
  cstar: 0xffff_ffff_8200_1980n,
  sfmask: 0x25_7fd5,
  kernelGsBase: 0x7fff_1234_5000n,
  sysenterCs: 0x10,
  cr2: 0x7f12_3456_7890n,
  segments: { ...KERNEL_SEGMENTS, ...over.segments },
  ...withoutSegments(over),
});

const withoutSegments = ({ segments: _, ...rest }: VmcbSpec): VmcbSpec => rest;

/** What a processor's host save area holds after it ran the VMCB at `vmcb`. */
export const hostSaveArea = (vmcb: number): VmcbSpec => ({
  ...LONG_MODE,
  gPat: 0,
  rax: vmcb,
  lstar: 0xffff_ffff_9280_0080n,
  segments: KERNEL_SEGMENTS,
});

/** A vCPU that waits for its SIPI and never ran. */
export const resetVcpu = (over: VmcbSpec = {}): VmcbSpec => ({
  intercept3: 0xbd4c_8027,
  intercept4: 0x6e7f,
  iopm: 0x110_0000,
  msrpm: 0x130_0000,
  npEnable: 1,
  efer: 0x1000,
  cr0: 0x6000_0010,
  dr6: 0xffff_0ff0,
  dr7: 0x400,
  rflags: 2,
  rip: 0xfff0,
  gPat: 0x0007_0406_0007_0406n,
  segments: {
    cs: { selector: 0xf000, attrib: 0x9b, limit: 0xffff, base: 0xffff_0000n },
    ldtr: { attrib: 0x82, limit: 0xffff },
    tr: { attrib: 0x8b, limit: 0xffff },
    gdtr: { limit: 0xffff },
    idtr: { limit: 0xffff },
  },
  ...over,
});

/** What KVM runs a guest's guest with: VMSAVE goes to the vCPU's first VMCB. */
export const nestedVcpu = (over: VmcbSpec = {}): VmcbSpec => {
  const { gs: _gs, tr: _tr, ldtr: _ldtr, ...segments } = KERNEL_SEGMENTS;
  const {
    star: _s,
    lstar: _l,
    cstar: _c,
    sfmask: _m,
    kernelGsBase: _k,
    sysenterCs: _y,
    ...rest
  } = haltedVcpu();
  return { ...rest, nCr3: 0x6_0000_1000, msrpm: 0x140_0000, ...over, segments };
};
